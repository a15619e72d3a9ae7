/* t09.c: T9. Free neighbours merge: 40 K and 100 K make 140 K.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

static void merged(const char *what, void *lower, void *upper, size_t size, void *after) {
    look();
    const struct view *v = view_of(lower);
    texts_say("%s", what);
    REQUIRE("a chunk starts where the lower one did", v);
    CHECK("it is free", is_binned(v));
    CHECK_EQ("its size is the sum", v->size, size);
    CHECK("no chunk starts where the upper one did", !view_of(upper));
    CHECK_PTR("it ends at the neighbour that is in use", v->end, (uintptr_t)after - 16);
    CHECK_EQ("whose P is clear", view_of(after)->flags & SEEMALLOC_FLAG_P, 0);
    CHECK_EQ("and whose prev_size is the sum", view_of(after)->prev_size, size);
    size_t free_chunks = 0;
    for (size_t i = 0; i < view_count; i++) free_chunks += is_binned(&views[i]);
    CHECK_EQ("free chunks in bins", free_chunks, 1);
}

int main(int argc, char **argv) {
    (void)argc;
    texts_begin(argv, "T9", NO_CACHE_NO_SLIDING);
    void *below = get_filled(KIB(30)), *b = get_filled(KIB(40)), *d = get_filled(KIB(100)), *above = get_filled(KIB(30));
    size_t sum = chunk_of(KIB(40)) + chunk_of(KIB(100));
    CHECK_IN("40 K and 100 K make 140 K", sum, KIB(140), KIB(140) + 32);
    look();
    CHECK("the two are neighbours, between blocks in use",
          view_of(b)->end == view_of(d)->chunk && view_of(below)->end == view_of(b)->chunk);
    uintptr_t brk0 = brk_now();

    struct seemalloc_stats before = stats_now();
    put(b);
    look();
    CHECK_EQ("the first alone: its own size", view_of(b)->size, chunk_of(KIB(40)));
    CHECK("free", is_binned(view_of(b)));
    put(d);
    struct seemalloc_stats after = stats_now();
    merged("B, then D (with the free one before it)", b, d, sum, above);
    CHECK_EQ("merging: system calls", calls_all_between(&before, &after), 0);
    CHECK_PTR("brk", brk_now(), brk0);

    /* A request that neither could serve is served by the two together. */
    void *e = get_filled(KIB(120));
    CHECK_PTR("120 K fit where 40 K and 100 K were", e, b);
    CHECK_PTR("brk", brk_now(), brk0);
    put(e);
    merged("freed again", b, d, sum, above);

    /* The other way round. */
    void *b2 = get_filled(KIB(40)), *d2 = get_filled(request_of(chunk_of(KIB(100))));
    CHECK("the same places again", b2 == b && d2 == d);
    put(d2);
    put(b2);
    merged("D, then B (with the free one after it)", b, d, sum, above);

    /* Three of them, the middle one last. */
    b2 = get_filled(KIB(40));
    void *m = get_filled(KIB(20)), *rest = get_filled(request_of(sum - chunk_of(KIB(40)) - chunk_of(KIB(20))));
    CHECK("three in the same place", b2 == b && (char *)m == (char *)b + chunk_of(KIB(40)));
    put(b2);
    put(rest);
    look();
    CHECK("two holes beside one in use", is_binned(view_of(b2)) && is_binned(view_of(rest)) && state_of(m) == SEEMALLOC_IN_USE);
    put(m);
    merged("both neighbours at once", b, rest, sum, above);
    CHECK("the blocks around them are as they were", filled(below, KIB(30), 0xA5) && filled(above, KIB(30), 0xA5));
    return texts_end();
}
