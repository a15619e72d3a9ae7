/* move.h: pages of a hole become those of a new block.
 *
 * Where a large block is about to get pages anew, and as much as it brings shall go back from holes, the kernel moves the pages from there to here instead
 * (mremap with MREMAP_DONTUNMAP, since Linux 5.7): about 10 ns a page, where one that goes back and one that comes take 2 µs together.
 *
 * The kernel keeps where a page was first, so what was moved is a mapping of its own unless it lies beside its old neighbours. A table knows these ranges: it
 * bounds what they may add to the process's mappings, and tells how far a move may go, for before Linux 6.17 it must not cross a border between mappings.
 * What goes back out of such a range is mapped anew and joins what lies around it.
 *
 * Locks: the table has one of the last rank; an arena's lock may be held. Thread-safe. SPDX-License-Identifier: MIT */
#ifndef HEAP_MOVE_H
#define HEAP_MOVE_H

#include "heap/chunk.h"
#include "os/os.h"

#define MOVE_RANGES 32 /* in the table */

/* That moves may add to the process's mappings at a time: fewer where more arenas have theirs. */
#define MOVE_MAPPINGS_MOST 24
#define MOVE_MAPPINGS_LEAST 8
#define MOVE_MAPPINGS_ARENA 6 /* fewer for each but the main one */

/* Moves pages of `from`, its first ones or its last (`last`), to the start of `to`: as many as both have, or as lie in one mapping. Both are whole pages that the
 * caller alone uses, and the page behind `from` is the allocator's as well. What *to held is gone; what was moved away reads as zero. `calls`: how many system
 * calls it may make; with one, the place of pages that are moved again stays a mapping of its own. Returns bytes: 0 if it would be less than `least`, there are
 * too many mappings already, or the system does not do it. */
size_t move_pages(struct span from, bool last, struct span to, size_t least, unsigned calls);

/* As os_discard, for what may have been moved; refused where memory is locked. */
bool move_discard(struct span span, enum seemalloc_call reason);

/* [from, to) is not the allocator's any more. */
void move_forget(const void *from, const void *to);

void move_fork_child(void);

#endif
