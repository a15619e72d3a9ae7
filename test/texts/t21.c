/* t21.c: T21. malloc's way: fast bin; small bin of that size; (large: consolidate); unsorted; large bin best fit, split, rest to unsorted;
 * next larger bin; top; brk or mmap. A large request that fits nowhere first makes the allocator merge the small fragments that lie about.
 *
 * Each part lays out a heap in which two neighbouring steps could serve the request, and looks which one did.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <malloc.h>

static void fast_before_small(void) {
    mallopt(M_MXFAST, 0);
    void *small = get_guarded(96);
    put(small);
    sort_bins();
    mallopt(M_MXFAST, 128);
    void *fast = get(88);
    CHECK_PTR("no fast chunk: the small bin serves", fast, small);
    void *other = get_guarded(96);
    mallopt(M_MXFAST, 0);
    put(other);
    sort_bins();
    mallopt(M_MXFAST, 128);
    put(fast);
    look();
    CHECK("one fast, one in the small bin", state_of(fast) == SEEMALLOC_FAST && state_of(other) == SEEMALLOC_SMALL);
    CHECK_PTR("the fast bin comes first", get(88), fast);
    CHECK_PTR("then the small bin", get(88), other);
}

static void small_before_unsorted(void) {
    void *small = get_guarded(256), *unsorted = get_guarded(256), *passed = get_guarded(512);
    put(small);
    sort_bins();
    put(passed);
    put(unsorted);
    CHECK_PTR("the small bin of that size comes before the unsorted bin", get(request_of(256)), small);
    look();
    CHECK_EQ("which was not looked at: nothing was sorted", state_of(passed), SEEMALLOC_UNSORTED);
    CHECK_EQ("the other exact fit still is there", state_of(unsorted), SEEMALLOC_UNSORTED);
    CHECK_PTR("it is next", get(request_of(256)), unsorted);
    look();
    CHECK_EQ("what was passed is sorted", state_of(passed), SEEMALLOC_SMALL);
}

static void fragments(void) {
    /* 100 fast chunks side by side, 12800 bytes in pieces of 128. */
    enum { N = 100 };
    static char *mem[N];
    for (size_t i = 0; i < N; i++) mem[i] = get_filled(request_of(128));
    get_filled(24);
    for (size_t i = 0; i < N; i++) put(mem[i]);
    look();
    CHECK_EQ("all are fast", views_in(SEEMALLOC_FAST), N);

    /* A small request that no bin fits leaves them. */
    void *small = get(request_of(1008));
    look();
    CHECK_EQ("a small request merges nothing", views_in(SEEMALLOC_FAST), N);
    CHECK("it came from the top", (char *)small > mem[N - 1]);

    /* A large one is served from what they become. A pass merges a bounded number of chunks, so what one request gets is bounded too. */
    uintptr_t end = brk_now();
    struct seemalloc_stats before = stats_now();
    char *large = get_filled(request_of(4096));
    struct seemalloc_stats after = stats_now();
    CHECK("a large request is served from the merged fragments", large >= mem[0] && large + 4096 <= mem[N - 1] + 128);
    CHECK_EQ("without a system call", calls_all_between(&before, &after), 0);
    CHECK_PTR("brk stays", brk_now(), end);
    /* And, request by request, all of them are merged. */
    for (int i = 0; i < 2; i++) get_filled(request_of(20000));
    look();
    CHECK_EQ("none is left in fast bins", views_in(SEEMALLOC_FAST), 0);
    size_t found = 0;
    const struct view *v = view_of(large);
    for (v = view_next(v); v && is_binned(v); v = view_next(v)) found += v->size;
    const struct view *first = view_of(mem[0]);
    if (first && is_binned(first)) found += first->size;
    CHECK_EQ("what the large request left of them is free and whole", found, N * 128 - 4096);
}

static void fragments_before_growth(void) {
    /* The same where neither bins nor top could serve it: merging comes before brk. */
    enum { N = 60 };
    static char *mem[N];
    mallopt(M_TOP_PAD, 0);
    for (size_t i = 0; i < N; i++) mem[i] = get_filled(request_of(128));
    get_filled(24);
    look();
    if (view_top(0)->size > 2000) get_filled(request_of(view_top(0)->size - 1024) & ~(size_t)15);
    for (size_t i = 0; i < N; i++) put(mem[i]);
    look();
    CHECK("the top is too small for it", view_top(0)->size < 7680);
    CHECK_EQ("all are fast", views_in(SEEMALLOC_FAST), N);
    uintptr_t end = brk_now();
    struct seemalloc_stats before = stats_now();
    char *large = get_filled(request_of(7680));
    struct seemalloc_stats after = stats_now();
    CHECK_PTR("a large request takes all of them, merged", large, mem[0]);
    CHECK_EQ("without a system call", calls_all_between(&before, &after), 0);
    CHECK_PTR("brk stays", brk_now(), end);
}

static void unsorted_before_large(void) {
    void *sorted = get_guarded(2000), *unsorted = get_guarded(2000);
    put(sorted);
    sort_bins();
    put(unsorted);
    CHECK_PTR("an exact fit in the unsorted bin comes before the large bin", get(request_of(2000)), unsorted);
    look();
    CHECK_EQ("the sorted one is untouched", state_of(sorted), SEEMALLOC_LARGE);
}

static void best_fit(void) {
    char *mem[4];
    static const size_t sizes[] = {3520, 3136, 3264, 3376};
    for (size_t i = 0; i < 4; i++) mem[i] = get_guarded(sizes[i]);
    for (size_t i = 0; i < 4; i++) put(mem[i]);
    sort_bins();
    for (size_t i = 0; i < 4; i++) CHECK_EQ("all are in one large bin", bin_of(mem[i]), 97);
    char *got = get(request_of(3152));
    CHECK_PTR("the smallest that fits is taken", got, mem[2]);
    look();
    CHECK_EQ("it was split", view_of(got)->size, 3152);
    const struct view *rest = view_next(view_of(got));
    REQUIRE("the rest is free", rest && is_binned(rest));
    CHECK_EQ("112 bytes", rest->size, 112);
    CHECK_EQ("in the unsorted bin", rest->bin, 1);

    got = get(request_of(3280));
    CHECK_PTR("the next: the smallest that fits", got, mem[3]);
    look();
    CHECK_EQ("96 bytes, less than 1/32 of the request, come along", view_of(got)->size, 3376);
    CHECK_PTR("a smaller request takes the smallest", get(request_of(3136)), mem[1]);
    CHECK_PTR("and then what is left", get(request_of(3136)), mem[0]);
}

static void next_bin(void) {
    char *far = get_guarded(40000), *near = get_guarded(5008), *nearer = get_guarded(4992), *below = get_guarded(2000);
    put(far);
    put(near);
    put(nearer);
    put(below);
    sort_bins();
    look();
    uintptr_t top_before = view_top(0)->chunk;
    char *got = get(request_of(3008));
    CHECK_PTR("its own bin is empty: the smallest chunk of the next larger bin that has one", got, nearer);
    look();
    CHECK_EQ("split", view_of(got)->size, 3008);
    const struct view *rest = view_next(view_of(got));
    REQUIRE("the rest is free", rest && is_binned(rest));
    char *rest_mem = (char *)rest->mem;
    CHECK_EQ("its size", rest->size, 4992 - 3008);
    CHECK_EQ("in the unsorted bin", rest->bin, 1);
    CHECK_PTR("the top was not asked", view_top(0)->chunk, top_before);

    /* For a small request as well. */
    sort_bins();
    look();
    top_before = view_top(0)->chunk;
    got = get(request_of(160));
    CHECK_PTR("a small request: the smallest chunk of the next larger bin", got, rest_mem);
    look();
    CHECK_PTR("the top was not asked", view_top(0)->chunk, top_before);
}

static void small_from_larger_small(void) {
    char *next = get_guarded(256), *far = get_guarded(512);
    put(far);
    put(next);
    sort_bins();
    char *got = get(request_of(160));
    CHECK_PTR("the next larger small bin serves a small request", got, next);
    look();
    const struct view *rest = view_next(view_of(got));
    REQUIRE("the rest is free", rest && is_binned(rest));
    CHECK_EQ("its size", rest->size, 96);
}

static void top_then_system(void) {
    char *hole = get_guarded(8000);
    put(hole);
    look();
    uintptr_t top_before = view_top(0)->chunk, end = brk_now();
    struct seemalloc_stats before = stats_now();
    char *from_top = get(request_of(9008));
    struct seemalloc_stats after = stats_now();
    CHECK_PTR("what no bin fits is cut from the top", (uintptr_t)from_top - 16, top_before);
    CHECK_EQ("without a system call", calls_all_between(&before, &after), 0);

    /* brk, for what the top can't serve and is below the threshold. */
    look();
    size_t left = view_top(0)->size;
    before = stats_now();
    char *grown = get(request_of(KIB(126)));
    after = stats_now();
    CHECK("the top was too small", left < KIB(126));
    CHECK_EQ("brk", calls_between(&before, &after, SEEMALLOC_CALL_BRK_GROW), 1);
    CHECK_EQ("and nothing else", calls_all_between(&before, &after), 1);
    CHECK("brk went up", brk_now() > end);

    /* mmap, from the threshold on; only where nothing free fits: neither hole nor top. */
    before = stats_now();
    char *mapped = get(KIB(200));
    after = stats_now();
    CHECK_EQ("200 KiB: mmap", calls_between(&before, &after, SEEMALLOC_CALL_MMAP_BLOCK), 1);
    CHECK_EQ("and nothing else", calls_all_between(&before, &after), 1);
    put(mapped);

    /* So does a free chunk of the heap. */
    CHECK("the block from the heap was had", grown != NULL);
    CHECK_PTR("the hole is filled first", get_filled(request_of(8000)), hole);
    char *low = get_filled(KIB(120)), *high = get_filled(KIB(120));
    get_filled(24);
    put(low);
    put(high);
    look();
    CHECK("there is a free chunk of 240 KiB", view_of(low) && is_binned(view_of(low)) && view_of(low)->size >= KIB(240));
    before = stats_now();
    char *fits = get_filled(KIB(200));
    after = stats_now();
    CHECK_PTR("200 KiB that a free chunk fits come from there", fits, low);
    CHECK_EQ("without a system call", calls_all_between(&before, &after), 0);
    look();
    CHECK_EQ("not mapped", state_of(fits), SEEMALLOC_IN_USE);
}

int main(int argc, char **argv) {
    (void)argc;
    static const struct texts_part parts[] = {
        {"fast before small", fast_before_small},
        {"small before unsorted", small_before_unsorted},
        {"fragments", fragments},
        {"fragments before growth", fragments_before_growth},
        {"unsorted before large", unsorted_before_large},
        {"best fit", best_fit},
        {"next bin", next_bin},
        {"larger small bin", small_from_larger_small},
        {"top, then the system", top_then_system},
    };
    texts_parts(texts_begin(argv, "T21", NO_CACHE_NO_SLIDING), NO_CACHE_NO_SLIDING, parts, COUNT_OF(parts));
    return texts_end();
}
