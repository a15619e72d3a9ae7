/* t03.c: T3. brk and sbrk move one pointer, the end of the heap; sbrk(0) reads it; the kernel maps whole pages.
 * The program moves the break itself, beside the allocator, as any program may.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <unistd.h>

int main(int argc, char **argv) {
    (void)argc;
    texts_begin(argv, "T3", NO_CACHE);
    struct kernel_view k = kernel_view();
    struct mapping m;

    /* One pointer, moved by bytes. */
    char *start = sbrk(0);
    CHECK_PTR("sbrk(0) reads and does not move", sbrk(0), start);
    CHECK_PTR("sbrk(100) returns the old end", sbrk(100), start);
    CHECK_PTR("sbrk(0) then reads the new one", sbrk(0), start + 100);
    CHECK_PTR("another 5000 bytes: the old end", sbrk(5000), start + 100);
    uintptr_t end = (uintptr_t)start + 5100;
    CHECK_PTR("the end has moved by what was asked, to the byte", sbrk(0), end);

    /* The kernel maps whole pages. */
    uintptr_t mapped_end = round_up(end, page_size);
    REQUIRE("what lies below the end is mapped", mapping_of(end - 1, &m));
    CHECK_PTR("mapped up to the end of the page", m.end, mapped_end);
    CHECK_EQ("a whole number of pages", (m.end - m.start) % page_size, 0);
    fill(start, mapped_end - (uintptr_t)start, 0x33); /* the rest of the last page can be written too */
    CHECK("the last byte of the last page can be used", is_readable(mapped_end - 1));
    CHECK("the byte behind it can't", !is_readable(mapped_end));

    /* brk sets the same pointer that sbrk moves. */
    CHECK_EQ("brk(start + 100)", brk(start + 100), 0);
    CHECK_PTR("sbrk(0) reads what brk set", sbrk(0), start + 100);
    CHECK_PTR("down again by sbrk(-100): the old end", sbrk(-100), start + 100);
    CHECK_PTR("and the new one", sbrk(0), start);
    CHECK("a page that the break left is gone", !is_readable(round_up((uintptr_t)start + 1, page_size)));

    /* The allocator's heap lies below the same pointer and moves it. */
    void *first = get_filled(KIB(40));
    uintptr_t brk1 = brk_now();
    look();
    const struct view *v = view_of(first);
    REQUIRE("the walk knows the block", v);
    CHECK("malloc moved the break up", brk1 > (uintptr_t)start);
    CHECK_EQ("by whole pages", brk1 % page_size, 0);
    CHECK_PTR("the heap ends where the break is", v->region_end, brk1);
    CHECK_IN("the heap begins where it was", v->region_start, k.start_brk, (uintptr_t)start + page_size);
    REQUIRE("the kernel shows a heap", mapping_of((uintptr_t)first, &m));
    CHECK_PTR("the kernel's [heap] ends there too", m.end, brk1);

    struct seemalloc_stats before = stats_now();
    void *blocks[6];
    for (size_t i = 0; i < COUNT_OF(blocks); i++) blocks[i] = get_filled(KIB(100));
    uintptr_t brk2 = brk_now();
    struct seemalloc_stats after = stats_now();
    CHECK("more of them moved it further", brk2 > brk1);
    CHECK_EQ("whole pages again", (brk2 - brk1) % page_size, 0);
    CHECK_IN("each move is one call", calls_between(&before, &after, SEEMALLOC_CALL_BRK_GROW), 1, 6);
    CHECK_EQ("the heap has grown by as much as the break", after.heap_bytes - before.heap_bytes, brk2 - brk1);
    look();
    v = view_of(blocks[5]);
    CHECK("all in one piece", v && v->region_end == brk2);

    /* Somebody else moves it: those bytes are not ours, and we go on above them. */
    char *foreign = sbrk(100);
    CHECK_PTR("a foreign sbrk starts at the heap's end", foreign, brk2);
    fill(foreign, 100, 0x77);
    void *more[8];
    for (size_t i = 0; i < COUNT_OF(more); i++) more[i] = get_filled(KIB(100));
    look();
    CHECK("the foreign bytes are untouched", filled(foreign, 100, 0x77));
    texts_quiet = 1;
    for (size_t i = 0; i < view_count; i++)
        CHECK("no chunk overlaps the foreign bytes", views[i].end <= (uintptr_t)foreign || views[i].chunk >= (uintptr_t)foreign + 100);
    texts_quiet = 0;
    v = view_top(0);
    REQUIRE("there is a top", v);
    CHECK("the heap went on above them", v->chunk > (uintptr_t)foreign);
    CHECK_PTR("and ends at the break again", v->region_end, brk_now());
    for (size_t i = 0; i < COUNT_OF(more); i++) put(more[i]);
    for (size_t i = 0; i < COUNT_OF(blocks); i++) put(blocks[i]);
    put(first);
    look();
    CHECK("freeing all leaves the foreign bytes alone", filled(foreign, 100, 0x77));
    CHECK("the break stays above them", brk_now() >= (uintptr_t)foreign + 100);
    CHECK_EQ("nothing is left in use", views_in(SEEMALLOC_IN_USE), 0);
    return texts_end();
}
