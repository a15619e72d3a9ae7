/* t13.c: T13. A hole: 40 K, 50 K, 60 K allocated, the first freed: not at the top, so nothing goes back. Which block pins it can be read
 * from the heap: it is the one in use below the top.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

/* The chunk in use that lies highest: all below it is kept from going back to the system. */
static const struct view *pin(void) {
    const struct view *found = NULL;
    look();
    for (size_t i = 0; i < view_count; i++)
        if (views[i].kind == SEEMALLOC_REGION_BRK && views[i].state == SEEMALLOC_IN_USE) found = &views[i];
    return found;
}

int main(int argc, char **argv) {
    (void)argc;
    texts_begin(argv, "T13", NO_CACHE_NO_SLIDING);
    void *a = get_filled(KIB(40)), *b = get_filled(KIB(50)), *c = get_filled(KIB(60));
    uintptr_t start = (uintptr_t)a - 16, brk0 = brk_now();
    size_t pages = pages_resident(start, brk0), hole = chunk_of(KIB(40));
    look();
    CHECK("the three lie one after the other, below the top",
          view_of(a)->end == view_of(b)->chunk && view_of(b)->end == view_of(c)->chunk && view_next(view_of(c)) == view_top(0));

    struct seemalloc_stats before = stats_now();
    put(a);
    struct seemalloc_stats after = stats_now();
    CHECK_EQ("the first freed: system calls", calls_all_between(&before, &after), 0);
    CHECK_PTR("brk stays", brk_now(), brk0);
    CHECK_EQ("resident pages stay", pages_resident(start, brk0), pages);
    const struct view *p = pin();
    CHECK("a hole in a bin", view_of(a) && is_binned(view_of(a)));
    CHECK_EQ("of its size", view_of(a)->size, hole);
    REQUIRE("something pins it", p);
    CHECK_PTR("the third block pins it", p->mem, c);

    /* Freeing another that does not pin: the hole grows, nothing goes back. */
    put(b);
    p = pin();
    CHECK("the holes merge", view_of(a) && is_binned(view_of(a)) && !view_of(b));
    CHECK_EQ("40 K and 50 K", view_of(a)->size, hole + chunk_of(KIB(50)));
    CHECK_PTR("brk stays", brk_now(), brk0);
    CHECK_EQ("resident pages stay", pages_resident(start, brk0), pages);
    CHECK("the third still pins all", p && p->mem == (uintptr_t)c);

    /* The pin freed: all of it is at the top, 150 K, and goes back. */
    before = stats_now();
    put(c);
    after = stats_now();
    CHECK("nothing pins any more", !pin());
    CHECK_PTR("all is top", view_top(0) ? view_top(0)->chunk : 0, start);
    CHECK_EQ("one call", calls_between(&before, &after, SEEMALLOC_CALL_BRK_TRIM), 1);
    CHECK("brk goes down", brk_now() < brk0);
    CHECK("resident pages drop", pages_resident(start, brk_now()) < pages);

    /* In another order: the pin first, and the block below it becomes the pin. */
    a = get_filled(KIB(40));
    b = get_filled(KIB(50));
    c = get_filled(KIB(60));
    put(a);
    put(c);
    p = pin();
    CHECK("with the third freed the second pins the hole", p && p->mem == (uintptr_t)b);
    CHECK("which is still there", view_of(a) && is_binned(view_of(a)) && view_of(a)->size == hole);
    put(b);
    CHECK("with the second freed nothing does", !pin());

    /* The command says it in its seventh picture, where D keeps B in the heap. */
    const char *shown = texts_tool("story");
    if (shown) {
        const char *seventh = strstr(shown, "free(B)"), *eighth = strstr(shown, "free(D)");
        const char *pinned = seventh ? strstr(seventh, "D lies above") : NULL;
        CHECK("the command says which block pins the hole", pinned && eighth && pinned < eighth);
    }
    return texts_end();
}
