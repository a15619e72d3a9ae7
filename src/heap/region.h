/* region.h: where an arena's bytes come from: contiguous ranges, and nothing about the chunks in them.
 *
 *   BRK   a span of the program break: grows while nobody else moves the break, shrinks while we are the last
 *   MMAP  a mapping that stands in where the break can't grow; fixed
 *   HEAP  heap_size bytes aligned to heap_size, reserved without access, made usable from the start in growing steps
 *
 *   start <= clean <= end <= limit      [start, end) usable, [end, limit) reserved
 *   all bytes of [clean, end) read as zero: nobody was given them since they came from the system
 *
 * The descriptions live in a pool outside the regions, where no overflow of a block reaches. All functions need the owner arena's lock.
 * SPDX-License-Identifier: MIT */
#ifndef HEAP_REGION_H
#define HEAP_REGION_H

#include "base/base.h"
#include "seemalloc.h"

#define HEAP_SIZE_MAX (sizeof(void *) == 8 ? MIB(64) : MIB(1))
#define REGION_MMAP_MIN MIB(1)
#define REGION_POOL KIB(16) /* of descriptions beyond the first, a mapping each */

struct region {
    struct region *next; /* of the same arena, newest first */
    char *start, *end, *limit;
    char *clean;
    enum seemalloc_region_kind kind;
};
extern struct region *region_free, *region_pools; /* descriptions that nobody uses, and where most are; for readers from outside */

/* The main arena grows: extends `last` (may be NULL) or opens a new region, by at least `need` bytes if *extended, else of at least
 * `fresh` bytes; `pad` more if they can be had. NULL: no memory. */
struct region *region_grow_main(struct region *last, size_t need, size_t fresh, size_t pad, bool *extended);

/* The same for another arena's heaps. */
struct region *region_grow_heap(struct region *last, size_t need, size_t fresh, size_t pad, bool *extended);

/* Gives [new_end, end) back as far as the system allows. True if the region now ends at new_end; false if it still ends where it did (the
 * pages may have gone back all the same: `clean` tells). new_end is a multiple of the page size away from 0. */
bool region_shrink(struct region *region, char *new_end);

/* The region will not grow any more: what it only reserved goes back. */
void region_fix(struct region *region);

/* Returns the whole region to the system and its description to the pool. False, and nothing has changed, if the system refuses, or the
 * region is a span of the break. */
bool region_close(struct region *region);

/* In a forked child: the pool's lock, if a thread that did not come along held it, is free again; at most one description is lost. */
void region_fork_child(void);

/* Calls visit for each mapping that descriptions lie in. */
void region_walk_books(void (*visit)(const void *start, size_t size, void *arg), void *arg);

/* The size of a heap that is made for many arenas under the present RLIMIT_AS: 64 MiB or less, at least 1 MiB. */
size_t region_heap_size(void);

#endif
