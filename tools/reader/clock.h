/* clock.h: a clock of the system in nanoseconds. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_CLOCK_H
#define SEEMALLOC_READER_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_of(clockid_t id) {
    struct timespec time;
    clock_gettime(id, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

#endif
