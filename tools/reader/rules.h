/* rules.h: the library's arithmetic of sizes, which no table in the process holds: bins, size classes, chunk sizes. Those of this version of the library,
 * from its own headers. Sizes are chunk sizes in bytes. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_RULES_H
#define SEEMALLOC_READER_RULES_H

#include <stdbool.h>
#include <stdint.h>

/* The chunk size that serves a request of `bytes`. */
uint64_t rules_request(uint64_t bytes);

/* The bin of a size; and the sizes of a bin, `last` being UINT64_MAX in the last one. False: no size belongs into the bin. */
unsigned rules_bin(uint64_t size);
bool rules_bin_range(unsigned bin, uint64_t *first, uint64_t *last);

/* The class that a request takes blocks from, and the one that a block goes into; beyond all classes where there is none. */
unsigned rules_class_above(uint64_t size);
unsigned rules_class_below(uint64_t size);
uint64_t rules_class_size(unsigned size_class);

/* A cache of a class that missed: how many blocks it may hold from then on. */
struct rules_widen {
    unsigned size_class, limit; /* blocks now */
    int64_t net, held, ceiling; /* as the descriptor says */
    uint64_t reserved, reserved_small, budget, swing, idle, tcache_count;
    bool is_drained;      /* watched because it only frees */
    bool is_arena_shared; /* with another cache */
};
unsigned rules_widened(const struct rules_widen *widen);

/* How many larger classes are tried where a class has no block; and whether idle blocks of so many bytes, of such classes, go home before one of the heaps
 * grows. */
unsigned rules_larger(unsigned size_class, uint64_t idle, int64_t ceiling);
bool rules_idle_goes_home(uint64_t bytes, uint64_t heaps);

/* Whether the class has no magazine and gets none: requests go straight to the arena. */
bool rules_stays_closed(const struct rules_widen *widen);

/* How many blocks a miss asks the arena for, at a limit that is not 0; and before that the depot. */
unsigned rules_batch(unsigned size_class, unsigned limit);
unsigned rules_parked_batch(unsigned limit);

/* The smallest rest that is cut off a chunk from which `size` bytes are taken. */
uint64_t rules_least_rest(uint64_t size);

/* Whether an arena with so much free lends to others before they grow; and how many are asked. */
bool rules_lends(uint64_t free_bytes, uint64_t system_bytes);
unsigned rules_lenders(void);

/* Whether so much lies unmerged that all of it is merged before the arena grows; whether so much lies in fast bins that merging them goes over the whole
 * arena. */
bool rules_merges_all(uint64_t unmerged, uint64_t system_bytes);
bool rules_sweeps(uint64_t fast_bytes, uint64_t system_bytes);
unsigned rules_sort_rounds(void);

/* Sizes of chunks that small requests in a row may be cut from the last remainder for; from there on fast bins are merged first. */
uint64_t rules_small_limit(void);
uint64_t rules_index_limit(void); /* the best fit of chunks below this is found by size, above it bin by bin */

/* How much may lie unmerged before what arrives in the inbox is merged; and whether so much is parked that it goes home before an arena grows for a chunk of
 * `size`. */
uint64_t rules_unmerged_room(uint64_t system_bytes);
bool rules_empties_depot(uint64_t parked, uint64_t heaps, uint64_t arenas, uint64_t size);

/* The largest chunk that goes into a fast bin, 0: none does; `all`: from an inbox. */
uint64_t rules_fast_most(uint64_t mxfast, bool all);

unsigned rules_step(void);           /* chunks that one critical section merges at most, and as many that it sorts */
uint64_t rules_tend_every(void);     /* ns between two looks of a thread at what may go back */
uint64_t rules_threshold_most(void); /* how far the threshold slides; mappings of larger blocks may be kept when those are freed */

#endif
