/* purge.c: gives the whole pages inside free chunks back to the system.
 *
 * First what may have pages is sorted. Then the sorted bins are gone through, from the largest size down, a chunk or a part of one at a time: under the lock it
 * is taken out of its bin and sealed as `purging`; the system is called without the lock; and who enters the arena next, mostly the same thread, puts the
 * chunk back, merged with what came free beside it. A chunk that was purged carries a flag until it changes, so it is not purged again. Mappings stay whole.
 *
 * What goes back by itself is what nobody needed: the least that lay free in a window of time. SPDX-License-Identifier: MIT */
#include "arena/arena.h"

#include <string.h>

#include "conf/conf.h"
#include "heap/move.h"
#include "heap/retain.h"
#include "os/os.h"
#include "os/report.h"

/* Of a chunk in one call; dense, the system takes 0.1 ms or more for it. Twice as much after each call that was short: a chunk may be many GiB of which
 * hardly any was ever touched. */
#define PURGE_PART_LEAST MIB(1)
#define PURGE_PART_MOST MIB(1024)
#define PURGE_SHORT 50000u /* ns */
#define AWAIT_MOST 200000u /* ns */
#define WAITS_MOST 50
#define HOLE_LEAST KIB(64) /* that makes up for growth */
#define MOVE_SHARE 50      /* of what was once needed is moved at least: each piece may be a mapping of its own */
#define UNMOVED_MOST 8     /* chunks of which nothing can be moved, in a pass */
#define TEND_LEAST KIB(64) /* of the top, and of what is held */
#define REGRET_WINDOWS 32  /* what went back within one to two times so many of them counts for regret, */
#define REGRET_SHARE 32    /* if this share of it is wanted again in one */
#define PATIENCE_MOST 64   /* windows, where the faults cost this share of the time: */
#define DEAR_SHARE 100
#define FAULT_BYTES 8    /* that faults bring in a nanosecond: 0.5 µs for a page of 4 KiB */
#define PATIENCE_CHEAP 4 /* else */

/* Whole pages behind the links of a free chunk and before its end; none if from >= to. */
static struct span pages_of(const struct chunk *chunk) {
    size_t page = os_page_size();
    return (struct span){(char *)align_up((size_t)(chunk + 1), page), (char *)align_down((size_t)chunk + chunk_size(chunk), page)};
}

/* Which of them it has not, as it says: written over, that must not lead beyond its own pages. */
static struct span clean_pages(const struct chunk *chunk) {
    struct span pages = pages_of(chunk), clean = chunk_clean(chunk, chunk_size(chunk));
    bool good =
        clean.from >= pages.from && clean.to <= pages.to && (((uintptr_t)clean.from | (uintptr_t)clean.to) & (os_page_size() - 1)) == 0;
    return good ? clean : (struct span){NULL, NULL};
}

/* Of the pages that are left the next `most` bytes, beside those that went back. */
static struct span part_of(struct span pages, struct span clean, size_t most) {
    if (clean.from == clean.to) return (struct span){pages.from, pages.from + min_size(span_size(pages), most)};
    if (clean.from > pages.from) return (struct span){clean.from - min_size((size_t)(clean.from - pages.from), most), clean.from};
    if (clean.to >= pages.to) return (struct span){clean.to, clean.to};
    return (struct span){clean.to, clean.to + min_size((size_t)(pages.to - clean.to), most)};
}

/* --- one chunk ------------------------------------------------------------------------------------------------------------------------------- */

static void take_for_purge(struct arena *arena, struct chunk *chunk) {
    size_t size = chunk_size(chunk);
    arena_take_out(arena, chunk, ARENA_LIST_LINE);
    chunk_set(chunk, size, FLAG_P | arena->flag_a, TAG_PURGING | arena->id);
    chunk_set_p(chunk_at(chunk, size), true);
    arena->purging = chunk;
    arena->purged = clean_pages(chunk);
    arena->purging_clean = span_size(chunk_clean(chunk, size));
    store_relaxed(&arena->purge_state, PURGE_BUSY);
}

void arena_put_back(struct arena *arena) {
    struct chunk *chunk = arena->purging;
    struct span clean = arena->purged;
    uint64_t head = chunk_head(chunk);
    size_t size = head_size(head);
    arena->purging = NULL;
    arena->purging_clean = 0;
    store_relaxed(&arena->purge_state, PURGE_NONE);
    if (UNLIKELY(head_tag(head, chunk) != (TAG_PURGING | arena->id))) {
        fatal("corrupted size vs. prev_size", "free chunk at %p: its header 0x%lx was overwritten while its pages went back to the system",
              (void *)chunk, (unsigned long)head);
    }
    uint32_t tag = arena_check_behind(arena, chunk, size, "corrupted size vs. prev_size");
    struct chunk *next = chunk_at(chunk, size);
    if (!(head & FLAG_P) || next == arena->top || (tag & TAG_STATE) == TAG_BINNED) {
        chunk_set(chunk, size, (head & FLAG_P) | arena->flag_a, TAG_IN_USE | arena->id);
        arena_merge_clean(arena, chunk, clean);
        return;
    }
    struct span pages = pages_of(chunk);
    chunk_set(chunk, size, FLAG_P | arena->flag_a, arena->bins.binned);
    chunk->clean_from = clean.from;
    chunk->clean_to = clean.to;
    next->prev_size = size;
    chunk_set_p(next, false);
    bin_insert_sorted(&arena->bins, chunk);
    if (clean.from <= pages.from && clean.to >= pages.to) bin_note_purged(&arena->bins, chunk);
    arena_count_clean(arena);
}

bool arena_await_purged(struct arena *arena, size_t size, bool *lost_lock) {
    if (arena->purging == NULL || chunk_size(arena->purging) < size) return false;
    uint32_t busy = PURGE_BUSY;
    if (cas_acquire(&arena->purge_state, &busy, PURGE_WAITED)) busy = PURGE_WAITED;
    lock_leave(&arena->lock);
    if (busy == PURGE_WAITED) prim_wait(&arena->purge_state, PURGE_WAITED, AWAIT_MOST);
    *lost_lock = !arena_enter(arena);
    return !*lost_lock;
}

/* --- a pass ---------------------------------------------------------------------------------------------------------------------------------- */

/* Goes over the sorted bins: sizes up to `size` of bin `index`, down to bin `least`. */
struct pass {
    unsigned index, least;
    size_t size;
    size_t enough;     /* bytes that shall go back */
    size_t gone;       /* that did */
    size_t part;       /* in one call */
    size_t least_move; /* 0, or pages move instead, so many bytes at a time at least, */
    struct span into;  /* there, until it is full */
    unsigned unmoved;  /* chunks that had to be left: those pages lie in small pieces, mostly */
    unsigned waits;    /* for others who purge */
    bool refused;      /* the system said no (locked in memory, say), or the lock could not be had: over */
};

/* The next chunk that was not purged; NULL at the end, or (*more) after enough steps. Of a size the first is looked at and the second, which is purged if
 * any but the first is not: those that are done go to the end, new ones come second. */
static struct chunk *next_unpurged(struct arena *arena, struct pass *pass, bool *more) {
    for (unsigned step = 0; step < ARENA_STEP; step++) {
        struct chunk *head = bin_head_at_most(&arena->bins, pass->index, pass->size), *chunk = head;
        if (head == NULL) {
            *more = pass->index != pass->least;
            if (!*more) return NULL;
            pass->index--;
            pass->size = SIZE_MAX;
            continue;
        }
        pass->size = chunk_size(head);
        if (chunk_head(chunk) & FLAG_PURGED) chunk = bin_second_of_size(&arena->bins, head);
        if (chunk == NULL || (chunk_head(chunk) & FLAG_PURGED) || pass->size < arena->bins.paged_least) {
            pass->size -= CHUNK_ALIGN;
            continue;
        }
        struct span pages = pages_of(chunk), clean = clean_pages(chunk);
        if (pages.from < pages.to && span_size(part_of(pages, clean, SIZE_MAX)) != 0) return chunk;
        bin_note_purged(&arena->bins, chunk);
    }
    return NULL;
}

/* Purges a chunk, or a part of it; false at the end. */
static bool purge_next(struct arena *arena, struct pass *pass) {
    bool more = true;
    if (!arena_enter(arena)) {
        pass->refused = true;
        return false;
    }
    if (arena->purging != NULL) { /* somebody else is at it */
        bool gone;
        arena_await_purged(arena, 0, &gone);
        if (!gone) lock_leave(&arena->lock);
        pass->refused = gone || ++pass->waits == WAITS_MOST; /* that thread may be stopped */
        return !pass->refused;
    }
    struct chunk *chunk = next_unpurged(arena, pass, &more);
    if (chunk == NULL) {
        lock_leave(&arena->lock);
        return more;
    }
    take_for_purge(arena, chunk);
    size_t left = pass->enough - pass->gone, wanted = left < pass->part ? align_up(left, os_page_size()) : pass->part;
    if (pass->least_move != 0) wanted = span_size(pass->into);
    struct span clean = arena->purged, part = part_of(pages_of(chunk), clean, wanted);
    lock_leave(&arena->lock);
    bool done;
    if (pass->least_move != 0) {
        bool last = part.to == clean.from;
        size_t moved = move_pages(part, last, pass->into, pass->least_move, 2);
        pass->into.from += moved;
        part = last ? (struct span){part.to - moved, part.to} : (struct span){part.from, part.from + moved};
        done = moved != 0;
        if (!done) pass->size = chunk_size(chunk) - CHUNK_ALIGN; /* the next smaller one */
    } else {
        uint64_t before = os_clock();
        done = move_discard(part, SEEMALLOC_CALL_MADVISE_PURGE);
        if (span_size(part) == pass->part) {
            pass->part = os_clock() - before < PURGE_SHORT ? min_size(2 * pass->part, PURGE_PART_MOST) : PURGE_PART_LEAST;
        }
    }
    if (done) {
        if (part.to != clean.from) arena->purged.to = part.to;
        if (part.from != clean.to || clean.from == clean.to) arena->purged.from = part.from;
        pass->gone += span_size(part);
    }
    pass->refused = !done && (pass->least_move == 0 || ++pass->unmoved == UNMOVED_MOST);
    if (exchange_acq_rel(&arena->purge_state, PURGE_OVER) == PURGE_WAITED) prim_wake(&arena->purge_state, INT32_MAX);
    if (arena_enter(arena)) lock_leave(&arena->lock);
    return !pass->refused;
}

/* Sorts what the unsorted bin holds now: all of it, or only what may have whole pages; the rest turns round once, until the first that stayed is the oldest
 * again. */
static bool sort(struct arena *arena, bool all, uint64_t deadline) {
    const struct chunk *first = NULL;
    for (size_t left = SIZE_MAX; left != 0;) {
        if (os_clock() >= deadline || !arena_enter(arena)) return false;
        left = min_size(left, arena->bins.count);
        for (unsigned step = 0; step < ARENA_STEP && left != 0; step++, left--) {
            struct chunk *chunk = bin_is_empty(&arena->bins, BIN_UNSORTED) ? NULL : bin_last_unsorted(&arena->bins);
            if (chunk == NULL || chunk == first) {
                left = 0;
                break;
            }
            if (all || chunk_size(chunk) >= arena->bins.paged_least) {
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

/* Purges chunks until enough bytes are gone or the deadline is reached; no more rounds than what is there at the start may need: others may go on
 * adding. False if it was cut short. */
static bool go_on(struct arena *arena, struct pass *pass, uint64_t deadline) {
    size_t most = load_relaxed(&arena->bins.count) + load_relaxed(&arena->bins.bytes) / PURGE_PART_LEAST + BIN_COUNT;
    bool in_time = true;
    for (bool more = true; more && most != 0 && pass->gone < pass->enough && in_time; most--) {
        more = purge_next(arena, pass);
        in_time = deadline == UINT64_MAX || os_clock() < deadline;
    }
    return !pass->refused && in_time;
}

static struct pass pass_from(size_t most_size, size_t least, size_t enough) {
    return (struct pass){
        .index = bin_index(most_size), .least = bin_index(least), .size = most_size, .enough = enough, .part = PURGE_PART_LEAST};
}

/* Of sizes from `least` to `most_size`; what went back is added to *gone. */
static bool purge(struct arena *arena, size_t least, size_t most_size, size_t enough, size_t *gone) {
    if (most_size < least) return true;
    if (!sort(arena, false, UINT64_MAX)) return false;
    struct pass pass = pass_from(most_size, least, enough);
    bool through = go_on(arena, &pass, UINT64_MAX);
    *gone += pass.gone;
    return through;
}

/* --- for growth ------------------------------------------------------------------------------------------------------------------------------ */

/* What was touched last at the top. */
static size_t move_from_top(struct arena *arena, size_t least, struct span *into) {
    size_t page = os_page_size();
    struct region *region = arena->top_region;
    char *touched = (char *)arena->top + arena_touched_top(arena), *first = (char *)align_up((size_t)(arena->top + 1), page);
    char *last = (char *)align_down((size_t)touched, page);
    if (last == region->end) last -= page; /* move_pages wants a page behind */
    if (first >= last) return 0;
    size_t moved = move_pages((struct span){first, last}, true, *into, least, 1);
    if (moved == 0) return 0;
    into->from += moved;
    memset(last, 0, (size_t)(touched - last));
    region->clean = last - moved;
    return moved;
}

/* From the largest holes, for few of them: each piece may be a mapping of its own. */
static size_t move_from_holes(struct arena *arena, size_t least, struct span into) {
    if (span_size(into) < least || !sort(arena, false, UINT64_MAX)) return 0;
    struct pass pass = pass_from(SIZE_MAX, least, span_size(into));
    pass.into = into;
    pass.least_move = least;
    go_on(arena, &pass, UINT64_MAX);
    return pass.gone;
}

/* The top first, for it is cut last. */
static bool make_up_from_top(struct arena *arena, size_t surplus, size_t least, size_t *gone, struct span *into) {
    if (!arena_enter(arena)) return false;
    if (arena_touched_top(arena) >= least) *gone = move_from_top(arena, least, into);
    size_t left = surplus - min_size(surplus, *gone), before = arena_touched_top(arena);
    if (before > HOLE_LEAST && left != 0) {
        arena_trim_top(arena, 0, max_size(conf_get(CONF_TOP_PAD), before > left ? before - left : 0));
        size_t after = arena_touched_top(arena);
        if (after < before) *gone += before - after;
    }
    lock_leave(&arena->lock);
    return true;
}

void arena_make_up(struct arena *arena, struct span into) {
    size_t surplus = load_relaxed(&arena->surplus), least = max_size(HOLE_LEAST, load_relaxed(&arena->needed) / MOVE_SHARE), gone = 0;
    if (surplus < HOLE_LEAST) surplus = 0;
    store_relaxed(&arena->surplus, 0);
    if (surplus == 0 && span_size(into) < least) return;
    if (!make_up_from_top(arena, surplus, least, &gone, &into)) return;
    gone += move_from_holes(arena, least, into);
    if (gone < surplus && !purge(arena, HOLE_LEAST, surplus - gone, surplus - gone, &gone)) return;
    if (gone < surplus / 2 && !purge(arena, HOLE_LEAST, SIZE_MAX, surplus - gone, &gone)) return;
    if (!arena_enter(arena)) return;
    if (gone != 0) arena->regret = max_size(arena->regret, arena_much(arena));
    arena->debt -= min_size(arena->debt, gone);
    if (gone < surplus / 2) store_relaxed(&arena->needed, arena->needed + (surplus - gone)); /* not to try in vain each time */
    lock_leave(&arena->lock);
}

/* --- by itself ------------------------------------------------------------------------------------------------------------------------------- */

/* What experience says is soon wanted again stays until `patience` windows went by without regret. Memory that is wanted every few windows soon stays. */
static void learn(struct tend *tend, uint64_t now, uint64_t window) {
    if (tend->windows++ % REGRET_WINDOWS == 0) {
        tend->given[1] = tend->given[0];
        tend->given[0] = 0;
    }
    size_t given = tend->given[0] + tend->given[1];
    if (tend->reused >= max_size(TEND_LEAST, given / REGRET_SHARE) && given != 0) {
        size_t most = min_size(conf_get(CONF_RETAIN_MAX), footprint_spare());
        tend->hold = min_size(min_size(tend->hold + tend->reused, given), most);
        bool dear = tend->reused / FAULT_BYTES > (tend->windows - tend->regret) * window / DEAR_SHARE;
        unsigned patience = min_unsigned(2 * tend->patience + 1, dear ? PATIENCE_MOST : PATIENCE_CHEAP);
        tend->patience = max_unsigned(tend->patience, patience);
        tend->hold_until = now + tend->patience * window;
        tend->regret = tend->windows;
    } else if (now >= tend->hold_until) {
        tend->hold = 0;
    }
    if (tend->windows - tend->regret >= 2 * REGRET_WINDOWS) {
        tend->regret = tend->windows;
        tend->patience /= 2;
    }
    tend->reused = 0;
}

/* The lock is held. What lay idle for the whole window is due; the top's part goes back at once. True if backlogs lay untouched as well. */
static bool end_window(struct arena *arena, uint64_t now, uint64_t window) {
    struct tend *tend = &arena->tend;
    size_t touched = arena_touched_top(arena), top = min_size(arena->top_low, touched),
           holes = min_size(arena->bins.dirty_low, arena->bins.dirty);
    size_t fast = arena->fast_bytes, old = min_size(arena->fast_low, fast);
    if (window == 0) top = touched, holes = arena->bins.dirty, old = fast;
    if (!conf_slides()) top = 0; /* then what may lie at the top is the user's affair */
    learn(tend, now, window);
    size_t due = top + holes > tend->hold ? top + holes - tend->hold : 0, from_top = min_size(due, top);
    if (from_top >= TEND_LEAST) {
        size_t before = arena->system_bytes;
        arena_trim_top(arena, 0, touched - from_top);
        if (arena->system_bytes < before) {
            tend->regrow += before - arena->system_bytes;
            tend->given[0] += before - arena->system_bytes;
        }
    }
    store_relaxed(&tend->due, due - from_top);
    size_t left[3] = {arena->bins.dirty, arena_touched_top(arena), arena_uncoalesced(arena)};
    store_relaxed(&tend->is_still, memcmp(left, tend->left, sizeof left) == 0 && tend->hold == 0);
    memcpy(tend->left, left, sizeof left);
    tend->at_bin = 0;
    store_relaxed(&tend->window, now);
    arena->bins.dirty_low = arena->bins.dirty;
    arena->top_low = arena_touched_top(arena);
    arena->fast_low = fast;
    return 2 * old > fast || load_relaxed(&arena->inbox) != NULL || arena->inbox_rest != NULL;
}

static bool is_still(const struct arena *arena) { return load_relaxed(&arena->tend.is_still) && load_relaxed(&arena->tend.due) == 0; }

bool arena_tend(struct arena *arena, uint64_t now, uint64_t budget) {
    size_t decay = conf_get(CONF_DECAY);
    uint64_t window = decay * (uint64_t)1000000, due;
    if (decay > INT64_MAX / 1000000 / REGRET_WINDOWS) return true;
    if (load_relaxed(&arena->lock.word) != LOCK_FREE) return load_relaxed(&arena->lock.word) == LOCK_ABANDONED;
    if ((int64_t)(now - load_relaxed(&arena->tend.window)) >= (int64_t)window) {
        if (!arena_enter(arena)) return false;
        bool old = (int64_t)(now - arena->tend.window) >= (int64_t)window && end_window(arena, now, window);
        lock_leave(&arena->lock);
        if (old && !arena_merge_all(arena)) return false;
    }
    due = load_relaxed(&arena->tend.due);
    if (due == 0) return is_still(arena);
    uint64_t deadline = os_clock() + budget;
    struct pass pass = pass_from(SIZE_MAX, arena->bins.paged_least, due);
    if (!arena_enter(arena)) return false;
    bool begun = arena->tend.at_bin != 0;
    if (begun) pass.index = arena->tend.at_bin, pass.size = arena->tend.at_size;
    lock_leave(&arena->lock);
    if (!begun && !sort(arena, true, deadline)) return false;
    go_on(arena, &pass, deadline);
    bool in_time = os_clock() < deadline;
    if (!arena_enter(arena)) return false;
    arena->tend.given[0] += pass.gone;
    arena->tend.at_bin = pass.index;
    arena->tend.at_size = pass.size;
    /* Gone through, what is left has no whole pages; refused by the system, the next window will tell. */
    store_relaxed(&arena->tend.due, in_time || pass.gone >= due ? 0 : due - pass.gone);
    lock_leave(&arena->lock);
    return is_still(arena);
}

/* --- on demand ------------------------------------------------------------------------------------------------------------------------------- */

bool arena_trim(struct arena *arena, size_t pad, bool purge_holes) {
    if (!arena_merge_all(arena)) return false;
    size_t purged = 0;
    if (purge_holes) purge(arena, arena->bins.paged_least, SIZE_MAX, SIZE_MAX, &purged);
    bool any = purged != 0;
    if (!arena_enter(arena)) return any;
    size_t before = arena->system_bytes;
    uint64_t events = load_relaxed(&os_counters.calls[SEEMALLOC_CALL_MADVISE_TRIM]);
    arena_trim_top(arena, 0, pad);
    any |= arena->system_bytes < before || load_relaxed(&os_counters.calls[SEEMALLOC_CALL_MADVISE_TRIM]) != events;
    lock_leave(&arena->lock);
    return any;
}

COLD void arena_give_back(struct arena *arena) {
    arena_trim(arena, 0, true);
    if (!arena_enter(arena)) return;
    arena_trim_whole_top(arena);
    lock_leave(&arena->lock);
}
