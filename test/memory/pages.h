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

/* Pages of the heap and of mapped blocks that are resident, by /proc/self/pagemap. */
size_t pages_resident(void);

/* Of what the last pages_resident saw: mappings of ours that the rule allows, and what lay where, as a line. */
size_t pages_vmas_allowed(void);
void pages_print_states(void);

/* Mappings that the process has. */
size_t pages_vmas(void);

/* Pages that hold a byte of these blocks. To be called once for all: pages that two groups share count twice. */
size_t pages_live(const struct block *const *groups, const size_t *counts, unsigned n);

uint64_t pages_random(uint64_t *state);
void pages_shuffle(struct block *blocks, size_t count, uint64_t *random);
double pages_now(void); /* seconds */

#endif
