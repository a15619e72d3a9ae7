/* t18.c: T18. Fast bins: chunks up to max_fast (128, M_MXFAST) are freed into them unmerged, P untouched, and reused first; at certain
 * moments they are merged and moved to the unsorted bin.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <malloc.h>

static void unmerged(void) {
    char *a = get_filled(56), *b = get_filled(56), *c = get_filled(56), *d = get_filled(56);
    uintptr_t chunk_b = (uintptr_t)b - 16, chunk_c = (uintptr_t)c - 16;
    get_filled(24);
    put(a);
    put(b);
    put(c);
    look();
    CHECK_EQ("a is in a fast bin", state_of(a), SEEMALLOC_FAST);
    CHECK_EQ("b is in a fast bin", state_of(b), SEEMALLOC_FAST);
    CHECK_EQ("c is in a fast bin", state_of(c), SEEMALLOC_FAST);
    CHECK_EQ("the number of the fast bin for 64 bytes, from 0", bin_of(a), 64 / 16 - 2);
    CHECK_EQ("neighbours, but each has its own size: a", view_of(a)->size, 64);
    CHECK_EQ("b", view_of(b)->size, 64);
    CHECK_EQ("c", view_of(c)->size, 64);
    CHECK("P of b is untouched", raw_flags(chunk_b) & SEEMALLOC_FLAG_P);
    CHECK("P of c is untouched", raw_flags(chunk_c) & SEEMALLOC_FLAG_P);
    CHECK("P of d is untouched", raw_flags((uintptr_t)d - 16) & SEEMALLOC_FLAG_P);
    CHECK_EQ("nothing is in the unsorted bin", views_in(SEEMALLOC_UNSORTED), 0);
    CHECK_PTR("the last freed is reused first", get(56), c);
    CHECK_PTR("then the one before", get(50), b);
    CHECK_PTR("then the first", get(41), a);
}

/* Frees a chunk of this size in the middle of the heap: does it go into a fast bin? */
static int is_fast(size_t size) {
    void *mem = get_guarded(size);
    put(mem);
    look();
    enum seemalloc_state state = state_of(mem);
    CHECK("it is fast or in the unsorted bin", state == SEEMALLOC_FAST || state == SEEMALLOC_UNSORTED);
    if (state == SEEMALLOC_FAST) CHECK_EQ("the number of its fast bin", bin_of(mem), size / 16 - 2);
    CHECK_PTR("it is reused", get(request_of(size)), mem);
    return state == SEEMALLOC_FAST;
}

static void limit(void) {
    for (size_t size = 32; size <= 128; size += 16) CHECK("chunks of 32 to 128 bytes are fast", is_fast(size));
    CHECK("144 are not", !is_fast(144));
    CHECK_EQ("mallopt(M_MXFAST, 64)", mallopt(M_MXFAST, 64), 1);
    CHECK("64 are fast", is_fast(64));
    CHECK("80 are not", !is_fast(80));
    CHECK_EQ("mallopt(M_MXFAST, 160)", mallopt(M_MXFAST, 160), 1);
    CHECK("160 are fast", is_fast(160));
    CHECK("176 are not", !is_fast(176));
    CHECK_EQ("mallopt(M_MXFAST, 161) is refused", mallopt(M_MXFAST, 161), 0);
    CHECK_EQ("mallopt(M_MXFAST, 0)", mallopt(M_MXFAST, 0), 1);
    CHECK("32 are not fast any more", !is_fast(32));
}

static void reused_first(void) {
    CHECK_EQ("fast bins off", mallopt(M_MXFAST, 0), 1);
    void *small = get_guarded(96), *unsorted = get_guarded(96), *fast = get_guarded(96);
    put(small);
    sort_bins();
    CHECK_EQ("one in a small bin", state_of(small), SEEMALLOC_SMALL);
    put(unsorted);
    CHECK_EQ("fast bins on", mallopt(M_MXFAST, 128), 1);
    put(fast);
    look();
    CHECK_EQ("one in the unsorted bin", state_of(unsorted), SEEMALLOC_UNSORTED);
    CHECK_EQ("one in a fast bin", state_of(fast), SEEMALLOC_FAST);
    CHECK_PTR("a request takes the fast one first", get(88), fast);
    CHECK_PTR("then the one in the small bin", get(88), small);
    CHECK_PTR("then the one in the unsorted bin", get(88), unsorted);
}

/* Ten fast neighbours between two blocks in use. */
static char *ten_fast(void) {
    char *mem[10];
    get_filled(24);
    for (size_t i = 0; i < 10; i++) mem[i] = get_filled(request_of(112));
    get_filled(24);
    for (size_t i = 0; i < 10; i++) put(mem[(i * 3 + 1) % 10]);
    look();
    texts_quiet = 1;
    for (size_t i = 0; i < 10; i++) {
        CHECK_PTR("they are neighbours", mem[i], mem[0] + i * 112);
        CHECK_EQ("each is in a fast bin", state_of(mem[i]), SEEMALLOC_FAST);
    }
    texts_quiet = 0;
    return mem[0];
}

static void merged(const char *what, char *first, int sorted) {
    texts_say("%s", what);
    look();
    const struct view *v = view_of(first);
    REQUIRE("a chunk is there", v);
    CHECK_EQ("fast chunks left", views_in(SEEMALLOC_FAST), 0);
    CHECK_EQ("the ten are one", v->size, 10 * 112);
    CHECK_EQ("the one after it knows", raw(v->end)->prev_size, 10 * 112);
    if (sorted)
        CHECK_EQ("it went through the unsorted bin into its own", v->bin, 65);
    else
        CHECK_EQ("it is in the unsorted bin", v->bin, 1);
}

static void by_large_request(void) {
    char *first = ten_fast();
    get_filled(1000); /* chunk 1008: still small */
    look();
    CHECK_EQ("a small request leaves them", views_in(SEEMALLOC_FAST), 10);
    get_filled(request_of(1200));
    merged("a large request that they don't fit", first, 1);
}

static void by_large_request_that_fits(void) {
    char *first = ten_fast();
    CHECK_PTR("a large request is served from what the fast chunks become", get(request_of(10 * 112)), first);
}

static void by_large_free(void) {
    void *large = get_guarded(KIB(64)), *below = get_guarded(KIB(64) - 16);
    char *first = ten_fast();
    put(below);
    look();
    CHECK_EQ("a free of less than 64 KiB leaves them", views_in(SEEMALLOC_FAST), 10);
    put(large);
    merged("a free of 64 KiB", first, 0);
    CHECK_EQ("as is what was freed", bin_of(large), 1);
}

static void by_merging_free(void) {
    void *half = get_filled(request_of(KIB(40))), *other = get_guarded(KIB(40));
    char *first = ten_fast();
    put(half);
    look();
    CHECK_EQ("a free of 40 KiB leaves them", views_in(SEEMALLOC_FAST), 10);
    put(other);
    merged("a second one that merges to 80 KiB", first, 0);
}

static void by_trim(void) {
    char *first = ten_fast();
    malloc_trim(0);
    merged("malloc_trim", first, 0);
}

static void with_neighbours(void) {
    /* A free chunk before, fast ones, the top after: all of it becomes top. */
    get_filled(24);
    char *before = get_filled(request_of(2000)), *a = get_filled(56), *b = get_filled(56);
    put(before);
    put(a);
    put(b);
    look();
    CHECK("the fast chunks lie between a free chunk and the top", is_binned(view_of(before)) && view_next(view_of(b)) == view_top(0));
    CHECK("and the top has P = 1", view_top(0)->flags & SEEMALLOC_FLAG_P);
    malloc_trim(0);
    look();
    CHECK_EQ("fast chunks left", views_in(SEEMALLOC_FAST), 0);
    CHECK_PTR("all of it is top", view_top(0)->mem, before);
}

int main(int argc, char **argv) {
    (void)argc;
    static const struct texts_part parts[] = {
        {"unmerged", unmerged},
        {"limit", limit},
        {"reused first", reused_first},
        {"large request", by_large_request},
        {"fits", by_large_request_that_fits},
        {"large free", by_large_free},
        {"merging free", by_merging_free},
        {"trim", by_trim},
        {"neighbours", with_neighbours},
    };
    texts_parts(texts_begin(argv, "T18", NO_CACHE), NO_CACHE, parts, COUNT_OF(parts));
    return texts_end();
}
