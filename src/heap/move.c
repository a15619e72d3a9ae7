/* move.c: see move.h. SPDX-License-Identifier: MIT */
#include "heap/move.h"

#include <string.h>

#include "os/lock.h"

struct range {
    uintptr_t from, to;
    uintptr_t shift; /* how much farther on its pages were first, modulo the address space: neighbours of the same shift are one mapping */
};

struct ranges {
    unsigned count;
    struct range at[MOVE_RANGES]; /* ascending */
};

static struct lock move_lock = {.rank = RANK_META};
static struct ranges move_known; /* its count is read without the lock as well */

static void append(struct ranges *ranges, bool *fits, uintptr_t from, uintptr_t to, uintptr_t shift) {
    struct range *last = ranges->count != 0 ? &ranges->at[ranges->count - 1] : NULL;
    if (from >= to) return;
    if (last != NULL && last->to == from && last->shift == shift) {
        last->to = to;
    } else if (ranges->count < MOVE_RANGES) {
        ranges->at[ranges->count++] = (struct range){from, to, shift};
    } else {
        *fits = false;
    }
}

/* *after becomes `before` with [from, to) as what was moved by `shift`; 0: as what lies where it was first. False: not all of it has room. */
static bool with_range(const struct ranges *before, struct ranges *after, uintptr_t from, uintptr_t to, uintptr_t shift) {
    bool fits = true, placed = shift == 0;
    after->count = 0;
    for (unsigned i = 0; i < before->count; i++) {
        const struct range *range = &before->at[i];
        append(after, &fits, range->from, min_size(range->to, from), range->shift);
        if (!placed && range->to > from) {
            append(after, &fits, from, to, shift);
            placed = true;
        }
        append(after, &fits, max_size(range->from, to), range->to, range->shift);
    }
    if (!placed) append(after, &fits, from, to, shift);
    return fits;
}

/* Each range is one, and what lies behind it, up to the next, another. */
static unsigned mappings_of(const struct ranges *ranges) {
    unsigned mappings = 0;
    for (unsigned i = 0; i < ranges->count; i++) {
        mappings += 1 + (i + 1 == ranges->count || ranges->at[i + 1].from != ranges->at[i].to);
    }
    return mappings;
}

static unsigned mappings_most(void) {
    uint32_t others = load_relaxed(&seal.arenas) - 1;
    if (others > (MOVE_MAPPINGS_MOST - MOVE_MAPPINGS_LEAST) / MOVE_MAPPINGS_ARENA) return MOVE_MAPPINGS_LEAST;
    return MOVE_MAPPINGS_MOST - others * MOVE_MAPPINGS_ARENA;
}

static void set_ranges(const struct ranges *ranges) {
    memcpy(move_known.at, ranges->at, ranges->count * sizeof *ranges->at);
    store_relaxed(&move_known.count, ranges->count);
}

/* As much of a span's start or end as lies in one mapping as far as is known, and how that was shifted. */
static struct span in_one(struct span span, bool last, uintptr_t *shift) {
    uintptr_t from = (uintptr_t)span.from, to = (uintptr_t)span.to;
    *shift = 0;
    for (unsigned i = 0; i < move_known.count; i++) {
        const struct range *range = &move_known.at[last ? move_known.count - 1 - i : i];
        if (range->to <= from || range->from >= to) continue;
        bool at_edge = last ? range->to >= to : range->from <= from;
        if (at_edge) *shift = range->shift;
        if (last) {
            from = max_size(from, at_edge ? range->from : range->to);
        } else {
            to = min_size(to, at_edge ? range->to : range->from);
        }
        break;
    }
    return (struct span){(char *)from, (char *)to};
}

/* A fresh mapping over [from, to) joins its neighbours. */
static bool renew(const struct ranges *without, uintptr_t from, uintptr_t to, enum seemalloc_call reason) {
    if (!os_renew((void *)from, to - from, reason)) return false;
    set_ranges(without);
    return true;
}

size_t move_pages(struct span from, bool last, struct span to, size_t least, unsigned calls) {
    size_t size = min_size(span_size(from), span_size(to));
    if (size < least || !lock_enter(&move_lock)) return 0;
    if (last) from.from = from.to - size;
    from.to = from.from + size;
    uintptr_t shift, target = (uintptr_t)to.from;
    from = in_one(from, last, &shift);
    size = span_size(from);
    uintptr_t source = (uintptr_t)from.from, further = shift + source - target;
    bool renews = shift != 0 && calls > 1 && !load_relaxed(&os_names);
    struct ranges before = move_known, after;
    bool fits = size >= least && (!renews || with_range(&move_known, &before, source, source + size, 0)) &&
                with_range(&before, &after, target, target + size, further) && mappings_of(&after) <= mappings_most();
    if (!fits || !os_move(from.from, to.from, size)) {
        size = 0;
    } else if (!renews || !renew(&after, source, source + size, SEEMALLOC_CALL_MADVISE_PURGE)) {
        /* Where the pages were stays as it was, but that they are gone. */
        if (with_range(&move_known, &after, target, target + size, further)) set_ranges(&after);
    }
    lock_leave(&move_lock);
    return size;
}

bool move_discard(struct span span, enum seemalloc_call reason) {
    if (!os_discard(span.from, span_size(span), reason)) return false;
    if (load_relaxed(&move_known.count) == 0 || load_relaxed(&os_names) || !lock_enter(&move_lock)) return true;
    uintptr_t shift;
    struct ranges after;
    bool apart = span_size(in_one(span, false, &shift)) != span_size(span) || shift != 0;
    if (apart && with_range(&move_known, &after, (uintptr_t)span.from, (uintptr_t)span.to, 0) &&
        mappings_of(&after) <= mappings_of(&move_known))
        renew(&after, (uintptr_t)span.from, (uintptr_t)span.to, reason);
    lock_leave(&move_lock);
    return true;
}

void move_forget(const void *from, const void *to) {
    if (load_relaxed(&move_known.count) == 0 || !lock_enter(&move_lock)) return; /* what stays in the table costs room there, no more */
    struct ranges after;
    with_range(&move_known, &after, (uintptr_t)from, (uintptr_t)to, 0);
    set_ranges(&after);
    lock_leave(&move_lock);
}

/* A table that was just changing may be wrong, which costs moves and mappings, no more. */
void move_fork_child(void) {
    if (lock_settle_in_child(&move_lock)) store_relaxed(&move_lock.word, LOCK_FREE);
}
