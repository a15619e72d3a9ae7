/* purge.c: gives the whole pages inside free chunks back to the system.
 *
 * First the unsorted bin is gone through: what has whole pages is sorted, the rest turns once round. Then the sorted bins, from the largest size down;
 * one chunk and one system call in each critical section. A chunk that was purged carries a flag until it changes, so it is not purged again.
 * SPDX-License-Identifier: MIT */
#include "arena/arena.h"

#include "conf/conf.h"
#include "os/os.h"
#include "os/report.h"

struct pages {
    char *start, *end; /* whole pages behind the links of a free chunk and before its end; none if start >= end */
};

static struct pages pages_of(const struct chunk *chunk) {
    size_t page = os_page_size();
    return (struct pages){(char *)align_up((size_t)(chunk + 1), page), (char *)align_down((size_t)chunk + chunk_size(chunk), page)};
}

/* Ends when the first one that stayed is the oldest again; at the latest after as many as there are in all bins. */
static bool sort_those_with_pages(struct arena *arena) {
    const struct chunk *first = NULL;
    size_t left = SIZE_MAX;
    while (left != 0) {
        if (!arena_enter(arena)) return false;
        left = min_size(left, arena->bins.count);
        for (unsigned step = 0; step < ARENA_STEP && left != 0; step++, left--) {
            struct chunk *chunk = bin_is_empty(&arena->bins, BIN_UNSORTED) ? NULL : bin_last_unsorted(&arena->bins);
            if (chunk == NULL || chunk == first) {
                left = 0;
                break;
            }
            struct pages pages = pages_of(chunk);
            if (pages.start < pages.end) {
                bin_sort_last(&arena->bins);
                continue;
            }
            bin_remove(&arena->bins, chunk, BIN_UNSORTED_LINE);
            bin_insert_unsorted(&arena->bins, chunk);
            if (first == NULL) first = chunk;
        }
        lock_leave(&arena->lock);
    }
    return true;
}

/* Purges the next chunk of bin *index or a lower one down to `least` that is at most *size large and was not purged; false at the end. Of a size
 * the first is looked at and the second, which is purged if any but the first is not: those that are done go to the end, new ones come second. */
static bool purge_next(struct arena *arena, unsigned *index, unsigned least, size_t *size, bool *any) {
    for (unsigned step = 0; step < ARENA_STEP; step++) {
        struct chunk *head = bin_head_at_most(&arena->bins, *index, *size), *chunk = head;
        if (head == NULL) {
            if (*index == least) return false;
            --*index;
            *size = SIZE_MAX;
            continue;
        }
        *size = chunk_size(head);
        if (chunk_head(chunk) & FLAG_PURGED) chunk = bin_second_of_size(&arena->bins, head);
        if (chunk == NULL || (chunk_head(chunk) & FLAG_PURGED)) {
            *size -= CHUNK_ALIGN;
            continue;
        }
        struct pages pages = pages_of(chunk);
        if (pages.start < pages.end) *any |= os_discard(pages.start, (size_t)(pages.end - pages.start), SEEMALLOC_CALL_MADVISE_PURGE);
        chunk_set(chunk, *size, (uint32_t)(chunk_head(chunk) & FLAG_MASK) | FLAG_PURGED, TAG_BINNED | arena->id);
        if (chunk != head) bin_move_to_end(&arena->bins, *index, head, chunk);
        return true;
    }
    return true;
}

/* At most as many chunks as there are at the start: others may go on adding. */
static bool purge(struct arena *arena) {
    if (!sort_those_with_pages(arena)) return false;
    unsigned index = BIN_LAST, least = bin_index(os_page_size());
    size_t most = SIZE_MAX, size = SIZE_MAX;
    bool any = false, more = true;
    for (size_t round = 0; more && round < most; round++) {
        if (!arena_enter(arena)) break;
        if (round == 0) most = arena->bins.count + BIN_COUNT;
        more = purge_next(arena, &index, least, &size, &any);
        lock_leave(&arena->lock);
    }
    return any;
}

bool arena_trim(struct arena *arena, size_t pad, bool purge_holes) {
    if (!arena_merge_all(arena)) return false;
    bool any = purge_holes && purge(arena);
    if (!arena_enter(arena)) return any;
    size_t before = arena->system_bytes;
    uint64_t events = load_relaxed(&os_counters.calls[SEEMALLOC_CALL_MADVISE_TRIM]);
    arena_trim_top(arena, 0, pad);
    any |= arena->system_bytes < before || load_relaxed(&os_counters.calls[SEEMALLOC_CALL_MADVISE_TRIM]) != events;
    lock_leave(&arena->lock);
    return any;
}
