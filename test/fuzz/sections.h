/* sections.h: included before every source of the engine in fuzz_bytes: its variables go into sections of their own, which can be put back as
 * they were, so that every input meets a fresh heap. A key for thread exit is made once and kept. SPDX-License-Identifier: MIT */
#ifndef FUZZ_SECTIONS_H
#define FUZZ_SECTIONS_H

#include <pthread.h>

int fuzz_key_create(pthread_key_t *key, void (*function)(void *));
#define pthread_key_create fuzz_key_create

#pragma clang section bss = "engine_bss" data = "engine_data"

#endif
