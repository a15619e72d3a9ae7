/* workload.h: what the workloads share: a generator, threads, and the line in which each says what it did.
 *
 * A workload is a program of its own that takes its size as arguments, does the same operations on every allocator (its random numbers are fixed), touches
 * what it allocates, and prints one line. It is timed from outside, by bench/run.
 * SPDX-License-Identifier: MIT */
#ifndef BENCH_WORKLOAD_H
#define BENCH_WORKLOAD_H

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static inline uint32_t rng_next(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (uint32_t)(*state >> 16);
}

static inline uint64_t rng_seed(uint64_t n) { return (n + 1) * 0x9E3779B97F4A7C15u; }

/* A number below n, without a division. */
static inline uint32_t rng_below(uint64_t *state, uint32_t n) { return (uint32_t)(((uint64_t)rng_next(state) * n) >> 32); }

static inline void rng_shuffle(uint64_t *state, void **blocks, size_t count) {
    for (size_t i = count; i > 1; i--) {
        size_t k = rng_below(state, (uint32_t)i);
        void *block = blocks[k];
        blocks[k] = blocks[i - 1];
        blocks[i - 1] = block;
    }
}

/* Sizes from `least` to `most`, small ones more often: each doubling is as frequent as the next. */
static inline size_t rng_log_size(uint64_t *state, size_t least, size_t most) {
    size_t base = least;
    unsigned doublings = 0;
    while ((base << (doublings + 1)) <= most) doublings++;
    base <<= rng_below(state, doublings + 1);
    size_t size = base + (size_t)(((unsigned __int128)rng_next(state) * base) >> 32);
    return size > most ? most : size;
}

static inline void *must(void *p) {
    if (!p) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return p;
}

static inline long argument(int argc, char **argv, int i, long otherwise) { return argc > i ? atol(argv[i]) : otherwise; }

static inline pthread_t thread_start(void *(*run)(void *), void *arg) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, arg)) {
        fprintf(stderr, "no thread\n");
        exit(1);
    }
    return thread;
}

/* The last line of every workload: operations, a sum over what was read back (the same on every allocator), and whose malloc it was. */
static inline int report(const char *what, uint64_t operations, uint64_t sum) {
    void *(*volatile fn)(size_t) = malloc;
    Dl_info info;
    void *address;
    memcpy(&address, (void *)&fn, sizeof address);
    const char *file = dladdr(address, &info) && info.dli_fname ? info.dli_fname : "?";
    const char *slash = strrchr(file, '/');
    printf("%s: %llu operations, sum %llu, malloc from %s\n", what, (unsigned long long)operations, (unsigned long long)sum,
           slash ? slash + 1 : file);
    return 0;
}

#endif
