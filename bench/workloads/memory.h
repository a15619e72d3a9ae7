/* memory.h: what the memory workloads share: a fixed rate of work, the light work of a process that has little to do, and the look from outside at its end.
 *
 * How much memory a process holds is a question of time as well: so the work of these programs is counted in operations, each at its own moment, and
 * every allocator has the same to do in the same time.
 * SPDX-License-Identifier: MIT */
#ifndef BENCH_MEMORY_H
#define BENCH_MEMORY_H

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "workload.h"

static inline struct timespec pace_start(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now;
}

/* Sleeps till the next moment, `nanoseconds` (less than a second) after the last one; not at all if that is over. */
static inline void pace_wait(struct timespec *next, long nanoseconds) {
    next->tv_nsec += nanoseconds;
    if (next->tv_nsec >= 1000000000) next->tv_sec++, next->tv_nsec -= 1000000000;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL) == EINTR) {}
}

/* What a server does that waits for requests: each millisecond twenty blocks of 16 bytes to 2 KiB come and go. Adds what it read back to *sum. */
static inline void work_lightly(uint64_t *state, long milliseconds, uint64_t *sum) {
    enum { BLOCKS = 20 };
    unsigned char *blocks[BLOCKS];
    struct timespec next = pace_start();
    for (long at = 0; at < milliseconds; at++) {
        for (int i = 0; i < BLOCKS; i++) {
            size_t size = 16 + rng_below(state, 2033);
            blocks[i] = memset(must(malloc(size)), i, size);
        }
        for (int i = 0; i < BLOCKS; i++) {
            *sum += *blocks[i];
            free(blocks[i]);
        }
        pace_wait(&next, 1000000);
    }
}

/* The quiet end of a workload is over, and nothing was freed for the exit yet: bench/measure may look at the process, which waits as long. Alone it goes on. */
static inline void look(void) {
    const char *number = getenv("BENCH_LOOK");
    char byte = 0;
    if (!number) return;
    if (write(atoi(number), &byte, 1) == 1 && read(atoi(number), &byte, 1) == 1) return;
    fprintf(stderr, "nobody looks\n");
    exit(1);
}

#endif
