/* pages.h: counting the heap's pages from inside, for programs that run with the library preloaded or linked. SPDX-License-Identifier: MIT */
#ifndef PAGES_H
#define PAGES_H

#include <stddef.h>
#include <stdint.h>

#include "seemalloc.h"

struct block {
    char *mem;
    size_t size;
};

/* Memory that is not the heap's. */
void *pages_map(size_t bytes);

/* seemalloc_walk; must succeed. */
void pages_walk(int (*visit)(const struct seemalloc_chunk *chunk, void *arg), void *arg);

void pages_stats(struct seemalloc_stats *stats); /* seemalloc_get_stats; must succeed */

/* Pages of the heap and of mapped blocks that are resident. */
size_t pages_of_heap(void);

/* What lay where when pages_of_heap was called last, as a line. */
void pages_print_states(void);

/* Mappings that can be the allocator's: anonymous, no thread's stack and no library's zeroed data; the program's own count as well. And what they are for. */
struct vmas {
    size_t found, heaps, blocks, caches, arenas; /* caches of live threads */
};
struct vmas pages_vmas(void);

/* The allocator may have 32, two for each heap, two for each live cache and one for each mapped block. */
size_t pages_vmas_allowed(struct vmas vmas);

/* Pages that hold a byte of these blocks. To be called once for all: pages that two groups share count twice. */
size_t pages_live(const struct block *const *groups, const size_t *counts, unsigned n);

uint64_t pages_random(uint64_t *state);
void pages_shuffle(struct block *blocks, size_t count, uint64_t *random);
double pages_now(void); /* seconds */

#endif
