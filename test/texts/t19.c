/* t19.c: T19. The unsorted bin buffers freed and merged chunks: a later request looks there first, takes an exact fit, and otherwise sorts
 * what it passes into its bin.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

/* Where a chunk is now. */
static void is(const char *what, void *mem, size_t size, enum seemalloc_state state, int bin) {
    const struct view *v = view_of(mem);
    texts_say("%s", what);
    REQUIRE("the walk knows the chunk", v);
    CHECK_EQ("its size", v->size, size);
    CHECK_EQ("its state", v->state, state);
    CHECK_EQ("its bin", v->bin, bin);
}

static void freed(void) {
    /* Freed chunks of whatever size are in bin 1, newest at the head. */
    static const size_t sizes[] = {160, 512, 1008, 1024, 2000, 40000};
    void *mem[COUNT_OF(sizes)];
    uintptr_t ring[16];
    for (size_t i = 0; i < COUNT_OF(sizes); i++) mem[i] = get_guarded(sizes[i]);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) put(mem[i]);
    look();
    for (size_t i = 0; i < COUNT_OF(sizes); i++) is("freed", mem[i], sizes[i], SEEMALLOC_UNSORTED, 1);
    CHECK_EQ("chunks in the ring", ring_of((uintptr_t)mem[0] - 16, ring, COUNT_OF(ring)), COUNT_OF(sizes));
    for (size_t i = 0; i < COUNT_OF(sizes); i++) CHECK_PTR("the ring, oldest first", ring[COUNT_OF(sizes) - 1 - i], (uintptr_t)mem[i] - 16);
}

static void merged(void) {
    /* A merged chunk is there as well, also if what it was merged from had been sorted. */
    char *first = get_filled(request_of(2000)), *second = get_guarded(1008);
    put(first);
    sort_bins();
    is("the first, sorted", first, 2000, SEEMALLOC_LARGE, 79);
    put(second);
    look();
    is("merged with the second: unsorted", first, 3008, SEEMALLOC_UNSORTED, 1);
    CHECK("no chunk starts at the second", !view_of(second));
}

static void exact(void) {
    /* Oldest first: two that don't fit are passed and sorted, the third fits, the fourth is not reached. */
    void *small = get_guarded(512), *large = get_guarded(4000), *fits = get_guarded(3008), *after = get_guarded(2000),
         *fits_small = get_guarded(256);
    put(small);
    put(large);
    put(fits);
    put(after);
    void *mem = get(request_of(3008));
    CHECK_PTR("an exact fit is taken", mem, fits);
    look();
    is("passed", small, 512, SEEMALLOC_SMALL, 32);
    is("passed, though it is large enough", large, 4000, SEEMALLOC_LARGE, 98);
    is("not reached", after, 2000, SEEMALLOC_UNSORTED, 1);
    CHECK_EQ("the exact fit was not cut", view_of(mem)->size, 3008);
    CHECK_EQ("it is in use", state_of(mem), SEEMALLOC_IN_USE);

    /* For small requests the same. */
    put(fits_small);
    CHECK_PTR("a small exact fit", get(request_of(256)), fits_small);
    look();
    is("the one before it was passed", after, 2000, SEEMALLOC_LARGE, 79);
}

static void nothing_fits(void) {
    static const size_t sizes[] = {160, 512, 1008, 1024, 2000, 40000};
    static const int bins[] = {10, 32, 63, 64, 79, 119};
    void *mem[COUNT_OF(sizes)];
    for (size_t i = 0; i < COUNT_OF(sizes); i++) mem[i] = get_guarded(sizes[i]);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) put(mem[i]);
    look();
    uintptr_t top = view_top(0)->chunk;
    void *large = get_filled(50000);
    look();
    CHECK_PTR("a request that none fits comes from the top", (uintptr_t)large - 16, top);
    for (size_t i = 0; i < COUNT_OF(sizes); i++)
        is("passed by it", mem[i], sizes[i], sizes[i] < 1024 ? SEEMALLOC_SMALL : SEEMALLOC_LARGE, bins[i]);
}

static void first(void) {
    /* It is looked at before the large bins: of two exact fits the one not yet sorted is taken. */
    void *sorted = get_guarded(2000), *unsorted = get_guarded(2000);
    put(sorted);
    sort_bins();
    put(unsorted);
    CHECK_PTR("the unsorted one is taken first", get(request_of(2000)), unsorted);
    CHECK_PTR("then the one in the large bin", get(request_of(2000)), sorted);
}

int main(int argc, char **argv) {
    (void)argc;
    static const struct texts_part parts[] = {
        {"freed", freed}, {"merged", merged}, {"exact", exact}, {"nothing fits", nothing_fits}, {"first", first},
    };
    texts_parts(texts_begin(argv, "T19", NO_CACHE), NO_CACHE, parts, COUNT_OF(parts));
    return texts_end();
}
