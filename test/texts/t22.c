/* t22.c: T22. free's way: mmapped → unmap; small → fast bin; else merge with free neighbours; next to the top → into the top; otherwise →
 * unsorted bin; trim if the top is large.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

static void nothing(void) {
    void *mem = get_filled(100);
    look();
    size_t count = view_count;
    put(NULL);
    look();
    CHECK_EQ("free(NULL) changes nothing", view_count, count);
    put(mem);
}

static void mapped(void) {
    void *mem = get_filled(KIB(200));
    struct seemalloc_stats before = stats_now();
    put(mem);
    struct seemalloc_stats after = stats_now();
    CHECK_EQ("a mapped block: munmap", calls_between(&before, &after, SEEMALLOC_CALL_MUNMAP_BLOCK), 1);
    CHECK_EQ("and nothing else", calls_all_between(&before, &after), 1);
    CHECK("it is gone", !is_readable((uintptr_t)mem));
    look();
    CHECK("from the walk too", !view_of(mem));
}

static void small(void) {
    /* Next to the top. */
    char *last = get_filled(40);
    look();
    CHECK("a small chunk next to the top", view_next(view_of(last)) == view_top(0));
    put(last);
    look();
    CHECK_EQ("goes into a fast bin", state_of(last), SEEMALLOC_FAST);

    /* A free neighbour before, one after: a small chunk merges with neither. */
    char *before = get_filled(request_of(512)), *mem = get_filled(56), *after = get_guarded(512);
    put(before);
    put(after);
    put(mem);
    look();
    CHECK_EQ("a small chunk goes into a fast bin, here too", state_of(mem), SEEMALLOC_FAST);
    CHECK_EQ("unmerged: its size", view_of(mem)->size, 64);
    CHECK_EQ("the one before keeps its size", view_of(before)->size, 512);
    CHECK_EQ("the one after keeps its size", view_of(after)->size, 512);
}

/* Frees `mem` between neighbours, some of which are free, and looks what it became. */
static void merging(int free_before, int free_after) {
    char *before = get_filled(request_of(512)), *mem = get_filled(request_of(1040)), *after = get_guarded(2000);
    texts_say("the chunk before is %s, the one after %s", free_before ? "free" : "in use", free_after ? "free" : "in use");
    /* Sorted, so that they are taken out of bins, not out of the unsorted bin. */
    if (free_before) put(before);
    if (free_after) put(after);
    sort_bins();
    put(mem);
    look();
    char *start = free_before ? before : mem;
    size_t size = 1040 + (free_before ? 512u : 0) + (free_after ? 2000u : 0);
    const struct view *v = view_of(start);
    REQUIRE("the free chunk is known", v);
    CHECK_EQ("it is in the unsorted bin", v->state, SEEMALLOC_UNSORTED);
    CHECK_EQ("with what was free around it", v->size, size);
    CHECK_EQ("and foot", raw(v->end)->prev_size, size);
    CHECK_EQ("nothing else is free", views_in(SEEMALLOC_UNSORTED) + views_in(SEEMALLOC_SMALL) + views_in(SEEMALLOC_LARGE), 1);
    CHECK_PTR("it is handed out as one", get(request_of(size)), start);
}

static void merge_none(void) { merging(0, 0); }
static void merge_before(void) { merging(1, 0); }
static void merge_after(void) { merging(0, 1); }
static void merge_both(void) { merging(1, 1); }

static void into_top(void) {
    char *a = get_filled(request_of(512)), *b = get_filled(request_of(1040));
    look();
    size_t top_size = view_top(0)->size;
    CHECK("b is next to the top", view_next(view_of(b)) == view_top(0));
    put(b);
    look();
    CHECK_PTR("b becomes part of the top", view_top(0)->mem, b);
    CHECK_EQ("which grows by it", view_top(0)->size, top_size + 1040);
    CHECK_EQ("nothing is in the unsorted bin", views_in(SEEMALLOC_UNSORTED), 0);
    b = get_filled(request_of(1040));
    put(a);
    look();
    CHECK_EQ("a, below b in use, goes to the unsorted bin", state_of(a), SEEMALLOC_UNSORTED);
    put(b);
    look();
    CHECK_PTR("b merges with a before it, and both with the top", view_top(0)->mem, a);
    CHECK_EQ("which has all", view_top(0)->size, top_size + 512 + 1040);
    CHECK_EQ("nothing is in the unsorted bin", views_in(SEEMALLOC_UNSORTED), 0);
}

static void trim(void) {
    char *keep = get_filled(request_of(1040));
    static char *mem[5];
    for (size_t i = 0; i < COUNT_OF(mem); i++) mem[i] = get_filled(KIB(60));
    uintptr_t end = brk_now();
    struct seemalloc_stats before = stats_now();
    put(mem[4]);
    put(mem[3]);
    struct seemalloc_stats after = stats_now();
    CHECK_EQ("120 K at the top: system calls", calls_all_between(&before, &after), 0);
    CHECK_PTR("brk stays", brk_now(), end);
    put(mem[2]);
    before = after;
    after = stats_now();
    CHECK_EQ("180 K at the top: trimmed by one call", calls_between(&before, &after, SEEMALLOC_CALL_BRK_TRIM), 1);
    CHECK("brk goes down", brk_now() < end);

    /* However much is free elsewhere, only the top is trimmed. */
    char *hole = get_filled(KIB(100)), *more = get_filled(KIB(100)), *last = get_filled(KIB(30));
    end = brk_now();
    before = stats_now();
    put(hole);
    put(more);
    after = stats_now();
    CHECK_EQ("200 K in the middle: system calls", calls_all_between(&before, &after), 0);
    CHECK_PTR("brk stays", brk_now(), end);
    look();
    CHECK_EQ("in the unsorted bin", state_of(hole), SEEMALLOC_UNSORTED);
    CHECK("all others are as they were",
          filled(keep, request_of(1040), 0xA5) && filled(last, KIB(30), 0xA5) && filled(mem[0], KIB(60), 0xA5));
}

int main(int argc, char **argv) {
    (void)argc;
    static const struct texts_part parts[] = {
        {"nothing", nothing},
        {"mapped", mapped},
        {"small", small},
        {"merge none", merge_none},
        {"merge before", merge_before},
        {"merge after", merge_after},
        {"merge both", merge_both},
        {"into the top", into_top},
        {"trim", trim},
    };
    texts_parts(texts_begin(argv, "T22", NO_CACHE_NO_SLIDING), NO_CACHE_NO_SLIDING, parts, COUNT_OF(parts));
    return texts_end();
}
