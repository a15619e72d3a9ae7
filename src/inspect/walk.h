/* walk.h: every chunk, seen from inside. The same walk serves statistics, malloc_info, the public seemalloc_walk and the checker.
 * Reads everything, changes nothing. SPDX-License-Identifier: MIT */
#ifndef INSPECT_WALK_H
#define INSPECT_WALK_H

#include "arena/arena.h"
#include "seemalloc.h"

/* Blocks whose seal says "in use" but that are free, and chunks in the unsorted bin: mem | state, sorted. */
struct marks {
    uintptr_t *entry;
    size_t count, capacity;
    bool failed; /* there was no memory for all of them */
};

void marks_add(struct marks *marks, const void *mem, enum seemalloc_state state);
void marks_sort(struct marks *marks);
void marks_free(struct marks *marks);
/* The state that `mem` is marked with, or `otherwise`. Sorted marks only. */
enum seemalloc_state marks_find(const struct marks *marks, const void *mem, enum seemalloc_state otherwise);

/* Adds what is in magazines, and (lock held) what an arena's lists hold. */
void marks_add_caches(struct marks *marks);
void marks_add_arena(struct marks *marks, struct arena *arena);

/* What seemalloc_stats holds, for one arena, and its free chunks by bin; fast = free but unmerged. */
struct bin_sum {
    size_t from, to, total, count;
};
struct heap_sum {
    size_t bytes[SEEMALLOC_STATE_COUNT], count[SEEMALLOC_STATE_COUNT];
    struct bin_sum bin[BIN_COUNT], fast[BIN_COUNT];
    size_t system_bytes, system_peak, reserved_bytes, heaps;
};

/* Adds an arena's chunks to *sum (zeroed by the caller). False if there was no memory for the marks. */
bool heap_sum_arena(struct arena *arena, struct heap_sum *sum);

#endif
