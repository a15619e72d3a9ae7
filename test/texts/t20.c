/* t20.c: T20. Top chunk: at the end of the heap, serves what no bin can, grows by brk. Mmapped chunks: in no bin. Last remainder: the rest of
 * the last split, which small requests are cut from next.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

static void top(void) {
    void *hole = get_guarded(2000);
    look();
    const struct view *t = view_top(0);
    REQUIRE("there is a top", t);
    CHECK("it is the last chunk of the heap", !view_next(t));
    CHECK_PTR("it ends at brk", t->end, brk_now());
    CHECK_EQ("it is in no bin", t->bin, -1);
    CHECK_EQ("there is one", views_in(SEEMALLOC_TOP), 1);

    /* What a bin can serve does not come from it; what no bin can does. */
    put(hole);
    uintptr_t at = t->chunk;
    CHECK_PTR("a request that a free chunk can serve", get(request_of(2000)), hole);
    look();
    CHECK_PTR("leaves the top alone", view_top(0)->chunk, at);
    put(hole);
    void *larger = get_filled(request_of(2016));
    look();
    CHECK_PTR("a larger one is cut from its start", (uintptr_t)larger - 16, at);
    CHECK_PTR("and the top starts behind it", view_top(0)->chunk, at + 2016);

    /* It grows by brk, where it stands. */
    get_filled(KIB(60));
    look();
    struct seemalloc_stats before = stats_now();
    uintptr_t end = brk_now();
    at = view_top(0)->chunk;
    void *rest = get_filled(request_of(view_top(0)->size));
    struct seemalloc_stats after = stats_now();
    look();
    CHECK_EQ("a request of the top's whole size: brk calls", calls_between(&before, &after, SEEMALLOC_CALL_BRK_GROW), 1);
    CHECK_PTR("it is cut from where the top was", (uintptr_t)rest - 16, at);
    CHECK("brk went up", brk_now() > end);
    CHECK_PTR("the top ends there", view_top(0)->end, brk_now());
    CHECK_EQ("there still is one", views_in(SEEMALLOC_TOP), 1);
    put(rest);
    look();
    CHECK_PTR("freed, it is top again", view_top(0)->chunk, at);
}

static void mapped(void) {
    void *blocks[3];
    for (size_t i = 0; i < 3; i++) blocks[i] = get_filled(KIB(200 + i));
    look();
    CHECK_EQ("mapped chunks", views_in(SEEMALLOC_MAPPED), 3);
    for (size_t i = 0; i < 3; i++) CHECK_EQ("a mapped chunk is in no bin", bin_of(blocks[i]), -1);
    put(blocks[1]);
    look();
    size_t binned = 0;
    for (size_t i = 0; i < view_count; i++) binned += is_binned(&views[i]);
    CHECK_EQ("one freed: it is gone", views_in(SEEMALLOC_MAPPED), 2);
    CHECK_EQ("and in no bin either", binned, 0);
    struct seemalloc_stats before = stats_now();
    blocks[1] = get(KIB(201));
    struct seemalloc_stats after = stats_now();
    CHECK_EQ("the next of that size is mapped anew", calls_between(&before, &after, SEEMALLOC_CALL_MMAP_BLOCK), 1);
}

static void last_remainder(void) {
    /* A sorted free chunk is split for a small request: the rest is the last remainder, in the unsorted bin. */
    char *hole = get_guarded(8000);
    put(hole);
    sort_bins();
    CHECK_EQ("the hole is in a large bin", state_of(hole), SEEMALLOC_LARGE);
    look();
    uintptr_t top_before = view_top(0)->chunk;
    char *at = hole;
    CHECK_PTR("a small request is cut from it", get(request_of(112)), at);
    at += 112;
    look();
    const struct view *v = only_in(SEEMALLOC_LAST_REMAINDER);
    REQUIRE("there is one last remainder", v);
    CHECK_PTR("the rest of the split", v->mem, at);
    CHECK_EQ("its size", v->size, 8000 - 112);
    CHECK_EQ("it is in the unsorted bin", v->bin, 1);

    /* Small requests in a row are cut from it, and lie side by side. */
    size_t left = 8000 - 112;
    for (size_t size = 144; size < 1024; size += 160) {
        CHECK_PTR("the next small request is cut from it", get(request_of(size)), at);
        at += size;
        left -= size;
        look();
        v = only_in(SEEMALLOC_LAST_REMAINDER);
        REQUIRE("there is one last remainder", v);
        CHECK_PTR("the last remainder follows", v->mem, at);
        CHECK_EQ("its size", v->size, left);
    }
    CHECK_PTR("all that time the top stood still", view_top(0)->chunk, top_before);
}

static void before_bins(void) {
    /* Once it is sorted, or has company in the unsorted bin, the last remainder is a free chunk like others: the best fit is taken. */
    char *better = get_guarded(1040), *fits = get_guarded(1040), *hole = get_guarded(8000);
    put(hole);
    sort_bins();
    char *first = get(request_of(512));
    CHECK_PTR("a small request splits the only free chunk", first, hole);
    put(better);
    sort_bins();
    CHECK_EQ("a better fit is in its bin", bin_of(better), 64);
    CHECK_EQ("the last remainder is sorted as well", bin_of(first + 512), 105);
    CHECK_PTR("the best fit is taken", get(request_of(1008)), better);

    CHECK_PTR("the rest of the hole is split", get(request_of(960)), first + 512);
    look();
    char *rest = first + 512 + 960;
    CHECK_EQ("the rest of that is the last remainder", state_of(rest), SEEMALLOC_LAST_REMAINDER);
    CHECK_EQ("in the unsorted bin", bin_of(rest), 1);
    put(fits);
    CHECK_PTR("with others in the unsorted bin the best fit is taken", get(request_of(1008)), fits);
}

static void preferred(void) {
    /* Alone in the unsorted bin, it is cut even where a bin holds a chunk that would fit better. */
    char *hole = get_guarded(8000), *better = get_guarded(1008);
    put(better);
    put(hole);
    sort_bins();
    CHECK_EQ("a chunk of 1008 is in its bin", bin_of(better), 63);
    char *first = get(request_of(1008));
    CHECK_PTR("an exact fit in a small bin comes first of all", first, better);
    put(better);
    sort_bins();
    first = get_filled(request_of(1024));
    CHECK_PTR("(a large request splits the hole)", first, hole);
    sort_bins();
    char *small = get(request_of(512));
    CHECK_PTR("512 bytes come from the better fit", small, better);
    look();
    CHECK_EQ("its rest is the last remainder", state_of(better + 512), SEEMALLOC_LAST_REMAINDER);
    CHECK_PTR("the next small request is cut from that", get(request_of(240)), better + 512);
    look();
    CHECK_EQ("and its rest is the last remainder", state_of(better + 752), SEEMALLOC_LAST_REMAINDER);
    CHECK_EQ("256 bytes", view_of(better + 752)->size, 256);
    CHECK_PTR("one that it can't serve is cut from elsewhere", get(request_of(304)), hole + 1024);
    look();
    CHECK_EQ("what is left there is the last remainder then", state_of(hole + 1024 + 304), SEEMALLOC_LAST_REMAINDER);
    CHECK_EQ("what was it before is sorted into its bin", bin_of(better + 752), 16);
    CHECK_PTR("which a request of less would fit better; the last remainder serves it all the same", get(request_of(240)),
              hole + 1024 + 304);
}

static void large_splits(void) {
    /* The rest of a large request's split goes to the unsorted bin, but small requests are not cut from it by preference. */
    char *hole = get_guarded(8000);
    put(hole);
    sort_bins();
    CHECK_PTR("a large request splits the hole", get(request_of(2000)), hole);
    look();
    const struct view *v = view_of(hole + 2000);
    REQUIRE("the rest is known", v);
    CHECK_EQ("the rest is in the unsorted bin", v->bin, 1);
    CHECK_EQ("not as last remainder", v->state, SEEMALLOC_UNSORTED);
}

int main(int argc, char **argv) {
    (void)argc;
    static const struct texts_part parts[] = {
        {"top", top},
        {"mapped", mapped},
        {"last remainder", last_remainder},
        {"before bins", before_bins},
        {"preferred", preferred},
        {"large splits", large_splits},
    };
    texts_parts(texts_begin(argv, "T20", NO_CACHE_NO_SLIDING), NO_CACHE_NO_SLIDING, parts, COUNT_OF(parts));
    return texts_end();
}
