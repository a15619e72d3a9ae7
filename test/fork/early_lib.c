/* early_lib.c: a library that registers fork handlers in its constructor, before the preloaded allocator's own constructor runs, and allocates in all of
 * them: its prepare handler runs after the allocator's, its parent and child handlers before.
 * SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

extern atomic_int early_prepared, early_parent, early_child;
atomic_int early_prepared, early_parent, early_child;

static void use_heap(unsigned seed) {
    void *blocks[64];
    for (unsigned i = 0; i < 64; i++) {
        size_t size = (seed * 31 + i * 97) % 5000 + 1;
        if (i == 63) size = 150000; /* a mapping */
        blocks[i] = malloc(size);
        if (!blocks[i]) abort();
        memset(blocks[i], (int)i, size);
    }
    for (unsigned i = 0; i < 64; i++) {
        if (*(unsigned char *)blocks[i] != i) abort();
        free(blocks[i]);
    }
}

static void prepare(void) { use_heap((unsigned)atomic_fetch_add(&early_prepared, 1)); }

static void parent(void) { use_heap((unsigned)atomic_fetch_add(&early_parent, 1)); }

static void child(void) { use_heap((unsigned)atomic_fetch_add(&early_child, 1)); }

__attribute__((constructor)) static void begin(void) {
    free(malloc(100));
    pthread_atfork(prepare, parent, child);
}
