/* purge.c: gives the whole pages inside free chunks back to the system.
 *
 * First the unsorted bin is gone through: what has whole pages is sorted, the rest turns once round. Then the sorted bins, from the largest size down;
 * a part of one chunk and one system call in each critical section. A chunk that was purged carries a flag until it changes, so it is not purged again.
 * SPDX-License-Identifier: MIT */
#include "arena/arena.h"

#include "conf/conf.h"
#include "os/os.h"

/* Of a chunk in one critical section; dense, the system takes 0.1 ms or more for it. Twice as much after each call that was short: a chunk may be many
 * GiB of which hardly any was ever touched. */
#define PURGE_PART MIB(1)
#define PURGE_MOST MIB(1024)
#define PURGE_SHORT 50000u /* ns */
#define PURGE_LONG 200000u /* of calls, then whoever waits comes first for: */
#define PURGE_PAUSE 100000u
#define HOLE_LEAST KIB(64) /* that makes up for growth */

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

/* Where a pass over the sorted bins is: sizes up to `size` of bin `index`, down to bin `least`. Of a chunk that was begun, and that is still the same if
 * its header is, the pages before `next` are done. */
struct pass {
    unsigned index, least;
    size_t size;
    const struct chunk *begun;
    uint64_t head;
    char *next;
    size_t gone;     /* bytes that went back */
    size_t part;     /* bytes in one call */
    uint64_t burden; /* ns in calls since others were let in */
};

/* A part of the chunk's pages. True if nothing is left to do with it. */
static bool purge_part(struct pass *pass, const struct chunk *chunk) {
    struct pages pages = pages_of(chunk);
    uint64_t head = chunk_head(chunk);
    char *from = chunk == pass->begun && head == pass->head ? pass->next : pages.start;
    if (from >= pages.end) return true;
    size_t bytes = min_size((size_t)(pages.end - from), pass->part);
    pass->begun = NULL;
    uint64_t before = os_clock();
    bool done = os_discard(from, bytes, SEEMALLOC_CALL_MADVISE_PURGE);
    uint64_t took = os_clock() - before;
    if (bytes == pass->part) pass->part = took < PURGE_SHORT ? min_size(2 * bytes, PURGE_MOST) : PURGE_PART;
    if (done) pass->gone += bytes;
    pass->burden += took;
    if (!done) pass->size -= CHUNK_ALIGN; /* locked in memory, say: another pass will try again */
    if (!done || from + bytes == pages.end) return done;
    pass->begun = chunk;
    pass->head = head;
    pass->next = from + bytes;
    return false;
}

/* Purges a part of the next chunk that was not purged; false at the end. Of a size the first is looked at and the second, which is purged if any but
 * the first is not: those that are done go to the end, new ones come second. */
static bool purge_next(struct arena *arena, struct pass *pass) {
    for (unsigned step = 0; step < ARENA_STEP; step++) {
        struct chunk *head = bin_head_at_most(&arena->bins, pass->index, pass->size), *chunk = head;
        if (head == NULL) {
            if (pass->index == pass->least) return false;
            pass->index--;
            pass->size = SIZE_MAX;
            continue;
        }
        pass->size = chunk_size(head);
        if (chunk_head(chunk) & FLAG_PURGED) chunk = bin_second_of_size(&arena->bins, head);
        if (chunk == NULL || (chunk_head(chunk) & FLAG_PURGED)) {
            pass->size -= CHUNK_ALIGN;
            continue;
        }
        if (purge_part(pass, chunk)) {
            bin_note_purged(&arena->bins, chunk);
            if (chunk != head) bin_move_to_end(&arena->bins, pass->index, head, chunk);
        }
        return true;
    }
    return true;
}

/* Lets the lock go, and from time to time those who wait for it, fork above all, have it. */
static void leave_to_others(struct arena *arena, struct pass *pass) {
    bool waited = (load_relaxed(&arena->lock.word) & LOCK_WAITED) && pass->burden >= PURGE_LONG;
    lock_leave(&arena->lock);
    if (!waited) return;
    uint32_t never = 0;
    prim_wait(&never, 0, PURGE_PAUSE);
    pass->burden = 0;
}

/* Purges chunks, whole ones, until `enough` bytes are gone, which are added to *gone; no more rounds than what is there at the start may need: others may
 * go on adding. False if the lock could not be had. */
static bool purge(struct arena *arena, size_t least, size_t most_size, size_t enough, size_t *gone) {
    if (most_size < least) return true;
    if (!sort_those_with_pages(arena)) return false;
    struct pass pass = {.index = bin_index(most_size), .least = bin_index(least), .size = most_size, .part = PURGE_PART};
    size_t most = SIZE_MAX;
    bool more = true, entered = true;
    for (size_t round = 0; more && round < most && (pass.gone < enough || pass.begun != NULL); round++) {
        entered = arena_enter(arena);
        if (!entered) break;
        if (round == 0) most = arena->bins.count + arena->bins.bytes / PURGE_PART + BIN_COUNT;
        more = purge_next(arena, &pass);
        leave_to_others(arena, &pass);
    }
    *gone += pass.gone;
    return entered;
}

/* The top first, for it is cut last. */
static bool make_up_from_top(struct arena *arena, size_t surplus, size_t *gone) {
    if (!arena_enter(arena)) return false;
    size_t before = arena_touched_top(arena);
    if (before > HOLE_LEAST) arena_trim_top(arena, 0, max_size(conf_get(CONF_TOP_PAD), before > surplus ? before - surplus : 0));
    size_t after = arena_touched_top(arena);
    if (after < before) *gone += before - after;
    lock_leave(&arena->lock);
    return true;
}

void arena_make_up(struct arena *arena) {
    size_t surplus = load_relaxed(&arena->surplus), gone = 0;
    if (surplus < HOLE_LEAST) return;
    store_relaxed(&arena->surplus, 0);
    if (!make_up_from_top(arena, surplus, &gone)) return;
    if (gone < surplus && !purge(arena, HOLE_LEAST, surplus - gone, surplus - gone, &gone)) return;
    if (gone < surplus / 2 && !purge(arena, HOLE_LEAST, SIZE_MAX, surplus - gone, &gone)) return;
    if (!arena_enter(arena)) return;
    arena->debt -= min_size(arena->debt, gone);
    if (gone < surplus / 2) store_relaxed(&arena->needed, arena->needed + (surplus - gone)); /* not to try in vain each time */
    lock_leave(&arena->lock);
}

bool arena_trim(struct arena *arena, size_t pad, bool purge_holes) {
    if (!arena_merge_all(arena)) return false;
    size_t purged = 0;
    if (purge_holes) purge(arena, os_page_size(), SIZE_MAX, SIZE_MAX, &purged);
    bool any = purged != 0;
    if (!arena_enter(arena)) return any;
    size_t before = arena->system_bytes;
    uint64_t events = load_relaxed(&os_counters.calls[SEEMALLOC_CALL_MADVISE_TRIM]);
    arena_trim_top(arena, 0, pad);
    any |= arena->system_bytes < before || load_relaxed(&os_counters.calls[SEEMALLOC_CALL_MADVISE_TRIM]) != events;
    lock_leave(&arena->lock);
    return any;
}
