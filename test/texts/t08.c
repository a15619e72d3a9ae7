/* t08.c: T8. A block freed in the middle of the heap is not returned to the system, because there is one brk; it is kept, and a later
 * request that fits gets it back, without system call and without page fault.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

static void *taken(size_t request, void *expected, const char *what) {
    struct seemalloc_stats before = stats_now();
    uintptr_t brk0 = brk_now();
    uint64_t faults = minor_faults();
    void *mem = get(request);
    fill(mem, request, 0x5A);
    faults = minor_faults() - faults;
    struct seemalloc_stats after = stats_now();
    texts_say("%s", what);
    CHECK_PTR("it gets the freed block", mem, expected);
    CHECK_EQ("system calls", calls_all_between(&before, &after), 0);
    CHECK_EQ("page faults", faults, 0);
    CHECK_PTR("brk", brk_now(), brk0);
    return mem;
}

int main(int argc, char **argv) {
    (void)argc;
    texts_begin(argv, "T8", NO_CACHE_NO_SLIDING);
    put(get_filled(100));
    void *a = get_filled(KIB(40)), *b = get_filled(KIB(50)), *c = get_filled(KIB(60));
    look();
    const struct view *v = view_of(b);
    REQUIRE("the walk knows the block", v);
    uintptr_t start = v->chunk, end = v->end, brk0 = brk_now();
    size_t pages = pages_resident(start, end), resident = resident_bytes(), virtual = virtual_bytes();
    CHECK_EQ("all pages of the block are there", pages, pages_spanned(start, end));
    CHECK("the block lies below brk, with one in use between", end < brk0 && state_of(c) == SEEMALLOC_IN_USE && view_of(c)->chunk == end);

    struct seemalloc_stats before = stats_now();
    put(b);
    struct seemalloc_stats after = stats_now();
    CHECK_EQ("free: system calls", calls_all_between(&before, &after), 0);
    CHECK_PTR("brk stays", brk_now(), brk0);
    CHECK_EQ("virtual memory stays", virtual_bytes(), virtual);
    CHECK_EQ("physical memory stays", resident_bytes(), resident);
    CHECK_EQ("the block's pages stay", pages_resident(start, end), pages);
    look();
    v = view_of(b);
    REQUIRE("the chunk is still known", v);
    CHECK("it is kept, free", is_binned(v));
    CHECK_PTR("with the same borders", v->end, end);

    b = taken(KIB(50), b, "the same size again");
    put(b);
    b = taken(KIB(20), b, "a smaller one");
    look();
    v = view_next(view_of(b));
    CHECK("the rest stays free", v && is_binned(v) && v->end == end);
    put(b);
    look();
    CHECK_PTR("put together again when freed", view_of(b) ? view_of(b)->end : 0, end);

    /* One that does not fit comes from elsewhere. */
    void *d = get_filled(KIB(50) + 100);
    look();
    CHECK("a larger one does not get it", d != b && view_of(d)->chunk >= view_of(c)->end);
    CHECK("the hole is still there", view_of(b) && is_binned(view_of(b)) && view_of(b)->end == end);

    /* As often as one likes. */
    before = stats_now();
    uint64_t faults = minor_faults();
    for (int i = 0; i < 1000; i++) {
        char *mem = get((size_t)(1000 + i * 50));
        fill(mem, (size_t)(1000 + i * 50), i);
        put(mem);
    }
    faults = minor_faults() - faults;
    after = stats_now();
    CHECK_EQ("1000 blocks of up to 50 KB, one after the other: system calls", calls_all_between(&before, &after), 0);
    CHECK_EQ("page faults", faults, 0);
    CHECK("the neighbours are as they were", filled(a, KIB(40), 0xA5) && filled(c, KIB(60), 0xA5));
    return texts_end();
}
