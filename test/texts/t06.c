/* t06.c: T6. A request below 128 KiB comes from the heap; if nothing free fits, brk goes up by more than asked (M_TOP_PAD), and the rest
 * stays in the top.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <malloc.h>

/* A request that can't be served from what is free: one growth, and the rest of it is top. */
static void *grow(size_t request, size_t pad) {
    look();
    const struct view *top = view_top(0);
    size_t old_top = top ? top->size : 0;
    REQUIRE("the top is too small for it", old_top < chunk_of(request));
    struct seemalloc_stats before = stats_now();
    uintptr_t brk0 = brk_now();
    void *mem = get_filled(request);
    uintptr_t brk1 = brk_now();
    struct seemalloc_stats after = stats_now();
    texts_say("%zu bytes, pad %zu: brk +%zu", request, pad, (size_t)(brk1 - brk0));
    CHECK_EQ("brk calls", calls_between(&before, &after, SEEMALLOC_CALL_BRK_GROW), 1);
    CHECK_EQ("all system calls", calls_all_between(&before, &after), 1);
    CHECK_EQ("brk goes up by whole pages", (brk1 - brk0) % page_size, 0);
    CHECK_IN("by what the top lacked and M_TOP_PAD", brk1 - brk0, chunk_of(request) - old_top + pad,
             chunk_of(request) - old_top + pad + 2 * page_size);
    look();
    const struct view *v = view_of(mem);
    top = view_top(0);
    REQUIRE("the block and the top are there", v && top);
    CHECK_EQ("the block is in the heap", v->kind, SEEMALLOC_REGION_BRK);
    CHECK_EQ("its chunk has the size of the request", v->size, chunk_of(request));
    CHECK_PTR("the top follows it", top->chunk, v->end);
    CHECK_PTR("the top reaches to brk", top->end, brk1);
    CHECK_IN("what was taken beyond the request is in the top", top->size, pad, pad + 2 * page_size);
    return mem;
}

int main(int argc, char **argv) {
    (void)argc;
    texts_begin(argv, "T6", NO_CACHE_NO_SLIDING);
    CHECK_EQ("the threshold for mappings is 128 KiB", stats_now().mmap_threshold, KIB(128));
    look();
    CHECK_EQ("chunks in the heap before the first request", view_count, 0);
    CHECK_PTR("brk is at start_brk", brk_now(), kernel_view().start_brk);

    void *a = grow(KIB(30), KIB(128));
    CHECK_IN("the heap begins at start_brk", views[0].region_start, kernel_view().start_brk, kernel_view().start_brk + 16);

    /* What the top can serve comes from it, and brk stays. */
    size_t left = view_top(0)->size;
    uintptr_t at = view_top(0)->chunk, brk0 = brk_now();
    struct seemalloc_stats before = stats_now();
    for (size_t request = 1; request < KIB(32); request = request * 2 + 7) {
        void *mem = get_filled(request);
        at += chunk_of(request);
        left -= chunk_of(request);
        texts_quiet = 1;
        CHECK_PTR("the block was cut from the top's lower end", (uintptr_t)mem + chunk_of(request) - 16, at);
        texts_quiet = 0;
    }
    struct seemalloc_stats after = stats_now();
    look();
    CHECK_EQ("requests that the top can serve: system calls", calls_all_between(&before, &after), 0);
    CHECK_PTR("brk stays", brk_now(), brk0);
    CHECK_EQ("the top has shrunk by exactly their chunks", view_top(0)->size, left);

    /* The next that does not fit makes brk go up again. */
    void *b = grow(KIB(100), KIB(128));
    void *c = get_filled(131048);
    look();
    CHECK_EQ("131048 bytes (chunk 131056) is the largest request below the threshold: in the heap", state_of(c), SEEMALLOC_IN_USE);

    /* Nothing free fits is a condition: with a hole that does, brk stays. */
    brk0 = brk_now();
    put(b);
    before = stats_now();
    b = get_filled(KIB(100));
    after = stats_now();
    CHECK_EQ("a request that a free chunk fits: system calls", calls_all_between(&before, &after), 0);
    CHECK_PTR("brk stays", brk_now(), brk0);

    /* M_TOP_PAD decides how much more. */
    CHECK_EQ("mallopt(M_TOP_PAD, 0)", mallopt(M_TOP_PAD, 0), 1);
    void *d = grow(KIB(50), 0);
    CHECK_EQ("mallopt(M_TOP_PAD, 1 MiB)", mallopt(M_TOP_PAD, (int)MIB(1)), 1);
    void *e = grow(KIB(50), MIB(1));
    look();
    CHECK_EQ("mapped blocks: none of these was", views_in(SEEMALLOC_MAPPED), 0);
    put(a);
    put(b);
    put(c);
    put(d);
    put(e);
    return texts_end();
}
