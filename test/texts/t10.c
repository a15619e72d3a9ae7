/* t10.c: T10. When the free memory at the top exceeds 128 KiB (M_TRIM_THRESHOLD), the heap is trimmed: brk goes down.
 * What counts is memory that was handed out: the untouched rest of the last growth costs nothing and is no reason to trim.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <malloc.h>

#define STEP KIB(20)
#define STEPS 80

/* Lays blocks of 20 K and frees them from the upper end, until brk goes down or all are free. Returns the touched free bytes at the top
 * at which it went down (0: never), in *last the most at which it did not. */
static size_t free_downwards(size_t *last) {
    static void *blocks[STEPS];
    void *keep = get_filled(KIB(30));
    size_t fell_at = 0;
    for (size_t i = 0; i < STEPS; i++) blocks[i] = get_filled(STEP);
    look();
    REQUIRE("the last block lies below the top", view_next(view_of(blocks[STEPS - 1])) == view_top(0));
    uintptr_t brk0 = brk_now(), high = view_top(0)->chunk;
    *last = 0;
    texts_quiet = 1;
    for (size_t i = STEPS; i-- > 0;) {
        struct seemalloc_stats before = stats_now();
        uintptr_t start = (uintptr_t)blocks[i] - 16;
        put(blocks[i]);
        struct seemalloc_stats after = stats_now();
        uintptr_t brk1 = brk_now();
        look();
        CHECK_PTR("what is freed next to the top becomes top", view_top(0)->chunk, start);
        CHECK_PTR("which ends at brk", view_top(0)->end, brk1);
        if (fell_at) continue; /* the rest is freed without a claim */
        size_t touched = high - start;
        if (brk1 == brk0) {
            CHECK_EQ("no trim, no call", calls_all_between(&before, &after), 0);
            *last = touched;
            continue;
        }
        texts_quiet = 0;
        fell_at = touched;
        texts_say("with %zu free bytes at the top that were in use, brk went down by %zu", touched, (size_t)(brk0 - brk1));
        CHECK("brk went down", brk1 < brk0);
        CHECK_EQ("by whole pages", (brk0 - brk1) % page_size, 0);
        CHECK_EQ("by one call", calls_between(&before, &after, SEEMALLOC_CALL_BRK_TRIM), 1);
        CHECK_EQ("and no other", calls_all_between(&before, &after), 1);
        CHECK_EQ("what was given back is gone from memory", pages_resident(round_up(brk1, page_size), brk0), 0);
        CHECK("and from the address space", !is_readable(brk0 - 1));
        struct mapping m;
        REQUIRE("the kernel shows a heap", mapping_of((uintptr_t)keep, &m));
        CHECK_PTR("which ends at the new brk", m.end, brk1);
        CHECK("what stays at the top is below the threshold",
              pages_resident(view_top(0)->chunk, brk1) * page_size <= after.trim_threshold + 2 * page_size);
        CHECK_IN("the top keeps M_TOP_PAD at most", view_top(0)->size, 32, KIB(128) + 2 * page_size);
        texts_quiet = 1;
    }
    texts_quiet = 0;
    CHECK("the block below is as it was", filled(keep, KIB(30), 0xA5));
    put(keep);
    return fell_at;
}

int main(int argc, char **argv) {
    (void)argc;
    texts_begin(argv, "T10", NO_CACHE_NO_SLIDING);
    size_t last, fell_at;
    CHECK_EQ("the threshold", stats_now().trim_threshold, KIB(128));

    /* An untouched top is no reason to trim, however large. */
    CHECK_EQ("mallopt(M_TOP_PAD, 1 MiB)", mallopt(M_TOP_PAD, (int)MIB(1)), 1);
    void *a = get_filled(KIB(30)), *b = get_filled(KIB(70));
    uintptr_t brk0 = brk_now();
    look();
    CHECK("a megabyte of top", view_top(0)->size >= MIB(1) - KIB(128));
    put(b);
    CHECK_PTR("brk stays when 70 K are freed below it", brk_now(), brk0);
    CHECK_EQ("mallopt(M_TOP_PAD, 128 KiB)", mallopt(M_TOP_PAD, (int)KIB(128)), 1);
    put(a);

    fell_at = free_downwards(&last);
    CHECK_IN("128 KiB: not trimmed with", last, 5 * chunk_of(STEP), KIB(128) + page_size);
    CHECK_IN("128 KiB: trimmed with", fell_at, KIB(128) - page_size, 7 * chunk_of(STEP));

    CHECK_EQ("mallopt(M_TRIM_THRESHOLD, 512 KiB)", mallopt(M_TRIM_THRESHOLD, (int)KIB(512)), 1);
    CHECK_EQ("the threshold", stats_now().trim_threshold, KIB(512));
    fell_at = free_downwards(&last);
    CHECK_IN("512 KiB: not trimmed with", last, 24 * chunk_of(STEP), KIB(512) + page_size);
    CHECK_IN("512 KiB: trimmed with", fell_at, KIB(512) - page_size, 26 * chunk_of(STEP));

    CHECK_EQ("mallopt(M_TRIM_THRESHOLD, -1)", mallopt(M_TRIM_THRESHOLD, -1), 1);
    fell_at = free_downwards(&last);
    CHECK_EQ("-1: never trimmed", fell_at, 0);

    /* By request at any time. */
    brk0 = brk_now();
    CHECK_EQ("malloc_trim(0) released something", malloc_trim(0), 1);
    CHECK("brk goes down", brk_now() < brk0);
    look();
    CHECK("little is left of the top", view_top(0) == NULL || view_top(0)->size <= 2 * page_size);
    return texts_end();
}
