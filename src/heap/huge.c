/* huge.c: see huge.h. SPDX-License-Identifier: MIT */
#include "heap/huge.h"

#include <string.h>

#include "heap/retain.h"
#include "os/lock.h"

#define UNIT_PAGES (HUGE_SIZE / KIB(4))
#define UNITS_MOST 8u  /* huge pages of a block that are looked at, */
#define SAMPLES 8u     /* and how many pages of each are read */
#define DENSE_SHARE 16 /* of what is looked at less may be missing */
#define FIRST_SHARE 2  /* of what is proved for the first time there is so much credit more */
#define DOUBT_LEAST MIB(32)
#define DOUBT_MOST (SIZE_MAX / 4)
#define REST_TIME 500000000u /* ns */

/* From the first advised block in it to the last, and the huge pages that two neighbours share: multiples of HUGE_SIZE; 0, 0: an empty place. */
struct huge_span {
    uintptr_t from, to;
    bool advised; /* else withdrawn: the kernel keeps it apart from what lies beside it all the same */
};

static struct lock huge_lock = {.rank = RANK_META};
static struct huge_span spans[HUGE_SPANS];
static bool stale; /* atomic: something was to be forgotten while the lock could not be had */
uint32_t huge_spans;

/* Relaxed atomics. */
static size_t credit;
static size_t unproved;    /* bytes that were handed out beyond it, and not freed since */
static size_t doubt;       /* bytes that must be proved before there is credit */
static size_t doubt_next;  /* after the next block that was not written all over */
static uint64_t last_used; /* when a large block was handed out on credit */
static bool ever_advised;

static bool system_asks(void) {
    static uint32_t answer; /* 0: not asked yet; 1: yes */
    if (load_relaxed(&answer) == 0) {
        char text[64];
        long length = prim_read_file("/sys/kernel/mm/transparent_hugepage/enabled", text, sizeof text - 1);
        text[length > 0 ? length : 0] = '\0';
        store_relaxed(&answer, strstr(text, "[madvise]") != NULL ? 1 : 2);
    }
    return load_relaxed(&answer) == 1;
}

static bool is_wanted(void) {
    return conf_thp() == THP_DEFAULT && os_page_size() == KIB(4) && load_relaxed(&os_counters.limit) == 0 && system_asks();
}

/* --- proof -------------------------------------------------------------------------------------------------------------------------------------- */

static bool is_zero(const char *page) {
    const uint64_t *word = (const uint64_t *)(uintptr_t)page;
    for (size_t i = 0; i < KIB(4) / sizeof *word; i++) {
        if (word[i] != 0) return false;
    }
    return true;
}

/* Its pages are there; and since a huge page brings them all, of those that are read hardly one is zero. */
static bool is_dense(const char *from, size_t units) {
    size_t looks = min_size(units, UNITS_MOST), missing = 0, zero = 0;
    bool huge = load_relaxed(&ever_advised); /* else nothing of the program's is read */
    unsigned char pages[UNIT_PAGES];
    for (size_t i = 0; i < looks; i++) {
        const char *unit = from + units * i / looks * HUGE_SIZE;
        if (!os_resident(unit, HUGE_SIZE, pages)) return false;
        for (size_t page = 0; page < UNIT_PAGES; page++) missing += !(pages[page] & 1);
        for (size_t page = 0; huge && page < UNIT_PAGES; page += UNIT_PAGES / SAMPLES) {
            zero += (pages[page] & 1) && is_zero(unit + page * KIB(4));
        }
        if (missing > looks * UNIT_PAGES / DENSE_SHARE || zero > looks * SAMPLES / DENSE_SHARE) return false;
    }
    return true;
}

static void note_sparse(void) {
    size_t more = max_size(load_relaxed(&doubt_next), DOUBT_LEAST);
    store_relaxed(&doubt, more);
    store_relaxed(&doubt_next, min_size(2 * more, DOUBT_MOST));
    store_relaxed(&credit, 0);
    store_relaxed(&unproved, 0);
    huge_withdraw();
}

static void note_dense(size_t bytes) {
    size_t doubted = load_relaxed(&doubt), before = load_relaxed(&unproved), first = min_size(before, bytes);
    store_relaxed(&unproved, before - first);
    if (doubted != 0) {
        store_relaxed(&doubt, doubted - min_size(doubted, bytes));
        return;
    }
    footprint_note();
    size_t peak = load_relaxed(&footprint_peak), most = peak + peak / FIRST_SHARE;
    store_relaxed(&credit, min_size(load_relaxed(&credit) + bytes + first / FIRST_SHARE, most));
}

void huge_note_freed(const void *from, const void *to) {
    const char *inside = (const char *)align_up((size_t)from, HUGE_SIZE), *end = (const char *)align_down((size_t)to, HUGE_SIZE);
    if (inside >= end || !is_wanted()) return;
    if (is_dense(inside, (size_t)(end - inside) / HUGE_SIZE)) {
        note_dense((size_t)((const char *)to - (const char *)from));
    } else {
        note_sparse();
    }
}

/* Whether all of `bytes` could be had on credit. */
static bool spend_credit(size_t bytes) {
    if (bytes < HUGE_BLOCK || !is_wanted()) return false;
    size_t have = load_relaxed(&credit), part = min_size(have, bytes);
    store_relaxed(&credit, have - part);
    store_relaxed(&unproved, load_relaxed(&unproved) + bytes - part);
    if (part < bytes) return false;
    store_relaxed(&ever_advised, true);
    store_relaxed(&last_used, os_clock());
    return true;
}

void huge_note_growth(size_t before, size_t after) {
    if (after > before && after >= HUGE_BLOCK) spend_credit(before < HUGE_BLOCK ? after : after - before);
}

/* --- advice ------------------------------------------------------------------------------------------------------------------------------------- */

static bool enter_table(void) {
    if (!lock_enter(&huge_lock)) return false;
    if (LIKELY(!load_relaxed(&stale))) return true;
    store_relaxed(&stale, false);
    memset(spans, 0, sizeof spans);
    store_relaxed(&huge_spans, 0);
    return true;
}

static void leave_table(void) {
    uint32_t advised = 0;
    for (unsigned i = 0; i < HUGE_SPANS; i++) advised += spans[i].advised;
    store_relaxed(&huge_spans, advised);
    lock_leave(&huge_lock);
}

/* The place of a span that holds [from, to) from now on, and those that it touches or is one huge page away from; NULL: there is none, or nothing to do. */
static struct huge_span *span_with(uintptr_t from, uintptr_t to) {
    struct huge_span *place = NULL, *empty = NULL;
    for (unsigned i = 0; i < HUGE_SPANS; i++) {
        struct huge_span *span = &spans[i];
        if (span->to == 0) empty = span;
        if (span->to == 0 || from > span->to + HUGE_SIZE || span->from > to + HUGE_SIZE) continue;
        if (span->advised && span->from <= from && span->to >= to) return NULL;
        from = min_size(span->from, from);
        to = max_size(span->to, to);
        *span = (struct huge_span){0};
        place = span;
    }
    if (place == NULL) place = empty;
    if (place != NULL) *place = (struct huge_span){from, to, true};
    return place;
}

void huge_note_new(void *from, void *to) {
    uintptr_t inside = align_up((size_t)from, HUGE_SIZE), end = align_down((size_t)to, HUGE_SIZE);
    if (!spend_credit((size_t)((char *)to - (char *)from)) || inside >= end || !enter_table()) return;
    struct huge_span *span = span_with(inside, end);
    if (span != NULL) os_advise_huge((void *)span->from, span->to - span->from, true);
    leave_table();
}

/* Wholly, or it would be several mappings. */
void huge_note_mapping(void *start, size_t length, bool fresh) {
    if (spend_credit(length) && fresh) os_advise_huge(start, length, true);
}

void huge_forget(const void *from, const void *to) {
    uintptr_t low = align_down((size_t)from, HUGE_SIZE);
    if (!lock_enter(&huge_lock)) {
        store_relaxed(&stale, true);
        return;
    }
    for (unsigned i = 0; i < HUGE_SPANS; i++) {
        struct huge_span *span = &spans[i];
        if (span->to <= low || span->from >= (uintptr_t)to) continue;
        span->to = low;
        if (span->from >= low) *span = (struct huge_span){0};
    }
    leave_table();
}

void huge_withdraw(void) {
    for (unsigned i = 0; i < HUGE_SPANS && huge_is_on(); i++) {
        if (!enter_table()) return;
        if (spans[i].advised) os_advise_huge((void *)spans[i].from, spans[i].to - spans[i].from, false);
        spans[i].advised = false;
        leave_table();
    }
}

void huge_tend(uint64_t now) {
    if (huge_is_on() && (int64_t)(now - load_relaxed(&last_used)) >= (int64_t)REST_TIME) huge_withdraw();
}

void huge_fork_child(void) {
    if (!lock_settle_in_child(&huge_lock)) return;
    store_relaxed(&huge_lock.word, LOCK_FREE);
    store_relaxed(&stale, true);
}
