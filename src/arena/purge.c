/* purge.c: gives memory inside free chunks back to the system.
 *
 * A few chunks at a time leave their bin and count as in use, so that nobody takes them or merges with them; without the lock their whole pages go
 * back; then they come home through the inbox, as blocks that were freed. SPDX-License-Identifier: MIT */
#include "arena/arena.h"

#include "conf/conf.h"
#include "os/os.h"
#include "os/report.h"

/* A chunk that is in no bin leaves with those that are being purged, if it has a whole page. */
static bool takes(struct arena *arena, struct chunk *chunk) {
    size_t size = chunk_size(chunk), page = os_page_size();
    if (align_up((size_t)(chunk + 1), page) >= align_down((size_t)chunk + size, page)) return false;
    chunk_set(chunk, size, FLAG_P | arena->flag_a, TAG_IN_USE | arena->id);
    chunk_set_p(chunk_next(chunk), true);
    store_relaxed(&arena->purging[arena->purging_count], chunk_mem(chunk));
    store_relaxed(&arena->purging_count, arena->purging_count + 1);
    return true;
}

/* From the oldest of the unsorted bin. Those that stay go round to its front, so that it is in the same order when all were met: when the *first of
 * them is the oldest again, or at the latest when *left is 0. */
static void take_unsorted(struct arena *arena, size_t *left, const struct chunk **first) {
    for (unsigned step = 0; step < ARENA_STEP && *left != 0 && arena->purging_count < PURGE_STEP; step++, --*left) {
        bool empty = bin_is_empty(&arena->bins, BIN_UNSORTED);
        if (empty || bin_last_unsorted(&arena->bins) == *first) {
            *left = 0;
            return;
        }
        struct chunk *remainder = arena->last_remainder, *chunk = bin_last_unsorted(&arena->bins);
        arena_take_out(arena, chunk, BIN_UNSORTED_LINE);
        if (takes(arena, chunk)) continue;
        bin_insert_unsorted(&arena->bins, chunk);
        arena->last_remainder = remainder;
        if (*first == NULL) *first = chunk;
    }
}

/* From the largest of the highest bin that has any; *index is where to go on, below `least` no chunk has a whole page. One without goes to the unsorted
 * bin, as those that were purged do. */
static void take_largest(struct arena *arena, unsigned *index, unsigned least) {
    for (unsigned step = 0; step < ARENA_STEP && *index >= least && arena->purging_count < PURGE_STEP;) {
        if (bin_is_empty(&arena->bins, *index)) {
            --*index;
            continue;
        }
        struct chunk *chunk = bin_chunk(&arena->bins, *index)->fd;
        if (UNLIKELY(!bins_owns(&arena->bins, chunk))) {
            fatal(ARENA_LIST_LINE, "bin %u leads to %p, which is not a free chunk", *index, (void *)chunk);
        }
        arena_take_out(arena, chunk, ARENA_LIST_LINE);
        if (!takes(arena, chunk)) bin_insert_unsorted(&arena->bins, chunk);
        step++;
    }
}

static void bring_home(struct arena *arena) {
    unsigned n = arena->purging_count;
    void *mem[PURGE_STEP];
    for (unsigned i = 0; i < n; i++) mem[i] = arena->purging[i];
    store_relaxed(&arena->purging_count, 0);
    arena_send(arena, mem, n, &n);
}

/* All whole pages in free chunks. Chunks come back unsorted, so each is met once. */
static bool purge(struct arena *arena) {
    const void *nobody = NULL;
    if (!cas_acq_rel(&arena->purger, &nobody, lock_self())) return false; /* another thread is at it */
    size_t page = os_page_size(), unsorted = SIZE_MAX;
    unsigned index = BIN_LAST, least = bin_index(page);
    const struct chunk *first = NULL;
    bool any = false;
    while (unsorted != 0 || index >= least) {
        if (!arena_enter(arena)) break;
        if (unsorted != 0) {
            unsorted = min_size(unsorted, arena->bins.count);
            take_unsorted(arena, &unsorted, &first);
        } else {
            take_largest(arena, &index, least);
        }
        lock_leave(&arena->lock);
        for (unsigned i = 0; i < arena->purging_count; i++) {
            struct chunk *chunk = chunk_of(arena->purging[i]);
            size_t from = align_up((size_t)(chunk + 1), page), to = align_down((size_t)chunk + chunk_size(chunk), page);
            any |= os_discard((void *)from, to - from, SEEMALLOC_CALL_MADVISE_PURGE);
        }
        if (arena->purging_count != 0) bring_home(arena);
    }
    store_release(&arena->purger, NULL);
    return any;
}

void arena_purge_fork_child(struct arena *arena) {
    if (arena->purger == NULL || arena->purger == lock_self()) return;
    bring_home(arena);
    arena->purger = NULL;
}

bool arena_trim(struct arena *arena, size_t pad, bool purge_holes) {
    if (!arena_merge_all(arena)) return false;
    bool any = purge_holes && purge(arena);
    if (purge_holes && !arena_merge_all(arena)) return any;
    if (!arena_enter(arena)) return any;
    size_t before = arena->system_bytes;
    uint64_t events = load_relaxed(&os_counters.calls[SEEMALLOC_CALL_MADVISE_TRIM]);
    arena_trim_top(arena, 0, pad);
    any |= arena->system_bytes < before || load_relaxed(&os_counters.calls[SEEMALLOC_CALL_MADVISE_TRIM]) != events;
    lock_leave(&arena->lock);
    return any;
}
