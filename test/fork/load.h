/* load.h: threads that allocate without pause, with tables of their live blocks that a forked child can check and free.
 *
 * A block is in a table only while it is whole: it is entered after it was filled and taken out before it is freed. So a child that
 * is forked at any moment finds only good blocks, and loses at most one per thread.
 * SPDX-License-Identifier: MIT */
#ifndef TEST_FORK_LOAD_H
#define TEST_FORK_LOAD_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "watch.h"
#include "../kernel.h"
#include "../programs/probe.h"

enum { LOAD_THREADS = 8, LOAD_BLOCKS = 400 };

struct load_block {
    uint32_t size;
    uint32_t mark; /* what every byte of data is, and a check that the header was not overwritten */
    unsigned char data[];
};

typedef _Atomic(struct load_block *) load_slot;
static load_slot load_table[LOAD_THREADS][LOAD_BLOCKS];
static atomic_int load_stop;
static atomic_ulong load_operations;

static inline unsigned load_random(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Mostly small, some medium, a few with a mapping of their own (LOAD_LARGE 0: none; filling them takes time, in which a fork loses them). */
#ifndef LOAD_LARGE
#define LOAD_LARGE 1
#endif
static inline size_t load_size(unsigned *state) {
    unsigned r = load_random(state);
    if (LOAD_LARGE && r % 512 == 0) return 140000 + r % 50000;
    if (r % 16 == 0) return r % 12000;
    return r % 500;
}

static inline struct load_block *load_make(unsigned *state) {
    size_t size = load_size(state);
    struct load_block *b = load_random(state) % 8 ? malloc(sizeof *b + size) : calloc(1, sizeof *b + size);
    if (!b) abort();
    b->size = (uint32_t)size;
    b->mark = load_random(state) & 255;
    memset(b->data, (int)b->mark, size);
    return b;
}

static inline void load_drop(struct load_block *b) {
    for (uint32_t i = 0; i < b->size; i += i + 64 < b->size ? 61 : 1)
        if (b->data[i] != b->mark) {
            watch_check(0, "byte %u of %u of a block at %p was overwritten", i, b->size, (void *)b);
            return;
        }
    free(b);
}

/* Called by every thread of load after each operation. */
static void load_hook(void);

static void *load_run(void *arg) {
    unsigned number = (unsigned)(uintptr_t)arg, state = number * 77 + 5;
    while (!atomic_load_explicit(&load_stop, memory_order_relaxed)) {
        for (int i = 0; i < 64; i++) {
            /* One in four goes to a neighbour's table, so that blocks are freed by other threads. */
            unsigned other = load_random(&state) % 4 == 0 ? load_random(&state) % LOAD_THREADS : number;
            load_slot *slot = &load_table[other][load_random(&state) % LOAD_BLOCKS];
            struct load_block *old = atomic_exchange(slot, NULL);
            if (old) load_drop(old);
            struct load_block *none = NULL, *made = load_make(&state);
            if (!atomic_compare_exchange_strong(slot, &none, made)) load_drop(made);
            load_hook();
        }
        atomic_fetch_add(&load_operations, 64);
        nanosleep(&(struct timespec){.tv_nsec = 150000}, NULL); /* leaves the forking thread its share of few processors */
    }
    return NULL;
}

static pthread_t load_threads[LOAD_THREADS];

static inline void load_start(int count) {
    for (int i = 0; i < count; i++)
        if (pthread_create(&load_threads[i], NULL, load_run, (void *)(intptr_t)i)) abort();
}

static inline void load_end(int count) {
    atomic_store(&load_stop, 1);
    for (int i = 0; i < count; i++) pthread_join(load_threads[i], NULL);
    atomic_store(&load_stop, 0);
}

/* Frees all that the tables hold; in a child also what belonged to threads that are gone. */
static inline void load_clear(void) {
    for (int t = 0; t < LOAD_THREADS; t++)
        for (int i = 0; i < LOAD_BLOCKS; i++) {
            struct load_block *b = atomic_exchange(&load_table[t][i], NULL);
            if (b) load_drop(b);
        }
}

/* Allocates and frees `count` blocks with their contents checked. */
static inline void load_burst(int count, unsigned seed) {
    enum { MOST = 512 };
    struct load_block *blocks[MOST];
    if (count > MOST) count = MOST;
    for (int i = 0; i < count; i++) blocks[i] = load_make(&seed);
    for (int i = 0; i < count; i++) load_drop(blocks[i]);
}

#endif
