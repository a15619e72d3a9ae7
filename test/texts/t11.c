/* t11.c: T11. The nine pictures: start; A = 30 K; B = 40 K; C = 200 K (mmap); D = 100 K; free C; free B; free D (merge with B); trim.
 * Each state is checked: sizes, states, brk, resident pages, faults, system calls.
 *
 * With M_TRIM_THRESHOLD at 128 KiB pictures 8 and 9 are one call: free(D) merges and trims. The program plays that. Its second part
 * raises the threshold before free(D), so that picture 8 can be looked at, and then asks for the trim.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <malloc.h>

static struct seemalloc_stats stats0;
static uint64_t faults0;
static uintptr_t heap_start, brk0;
static size_t resident0;

/* What one step did. */
static struct seemalloc_stats stats1;
static uint64_t faults1;
static uintptr_t brk1;
static size_t resident1; /* pages of the heap */

static void before_step(void) {
    stats0 = stats_now();
    brk0 = brk_now();
    resident0 = pages_resident(heap_start, brk0);
    faults0 = minor_faults();
}

static void after_step(const char *picture) {
    faults1 = minor_faults() - faults0;
    stats1 = stats_now();
    brk1 = brk_now();
    resident1 = pages_resident(heap_start, brk1);
    look();
    texts_say("%s: brk %+ld, resident pages of the heap %zu (%+ld), faults %llu, system calls %llu", picture, (long)(brk1 - brk0),
              resident1, (long)resident1 - (long)resident0, (unsigned long long)faults1,
              (unsigned long long)calls_all_between(&stats0, &stats1));
    CHECK_EQ("brk is at a page border", brk1 % page_size, 0);
    CHECK_EQ("heap bytes are those between its start and brk", stats1.heap_bytes, view_count ? brk1 - heap_start : 0);
}

/* All that a step called: grow, trim, map, unmap. */
static void calls(unsigned grow, unsigned trim, unsigned map, unsigned unmap) {
    CHECK_EQ("brk up", calls_between(&stats0, &stats1, SEEMALLOC_CALL_BRK_GROW), grow);
    CHECK_EQ("brk down", calls_between(&stats0, &stats1, SEEMALLOC_CALL_BRK_TRIM), trim);
    CHECK_EQ("mmap", calls_between(&stats0, &stats1, SEEMALLOC_CALL_MMAP_BLOCK), map);
    CHECK_EQ("munmap", calls_between(&stats0, &stats1, SEEMALLOC_CALL_MUNMAP_BLOCK), unmap);
    CHECK_EQ("system calls in all", calls_all_between(&stats0, &stats1), grow + trim + map + unmap);
}

/* A block in the heap: in use, of this size, right after the one before. */
static void in_heap(void *mem, size_t request, uintptr_t start) {
    const struct view *v = view_of(mem);
    REQUIRE("the walk knows the block", v);
    CHECK_EQ("in use", v->state, SEEMALLOC_IN_USE);
    CHECK_EQ("its chunk's size", v->size, chunk_of(request));
    CHECK_PTR("its place", v->chunk, start);
}

/* The top begins there and ends at brk. */
static void top_from(uintptr_t start) {
    const struct view *top = view_top(0);
    REQUIRE("there is a top", top);
    CHECK_PTR("the top begins", top->chunk, start);
    CHECK_PTR("the top ends at brk", top->end, brk1);
}

/* Physical memory reaches from the heap's start to the last byte that was handed out (and the header of what follows). */
static void resident_up_to(uintptr_t end) { CHECK_EQ("resident pages of the heap", resident1, pages_spanned(heap_start, end + 16)); }

/* First touches cost one fault each; the library may touch a page or two of its own books. */
static void faulted(size_t pages) { CHECK_IN("minor faults: one for each page touched first", faults1, pages, pages + 3); }

static void play(int to_picture_8) {
    const size_t a_size = chunk_of(KIB(30)), b_size = chunk_of(KIB(40)), d_size = chunk_of(KIB(100)), pad = KIB(128);

    /* 1: start. */
    heap_start = kernel_view().start_brk;
    before_step();
    after_step("1 start");
    CHECK_PTR("brk is at start_brk", brk1, heap_start);
    CHECK_EQ("chunks", view_count, 0);
    CHECK_EQ("resident pages of the heap", resident1, 0);
    calls(0, 0, 0, 0);

    /* 2: A = 30 K: brk goes up by more, the rest is top. */
    before_step();
    char *a = get(KIB(30));
    fill(a, KIB(30), 'A');
    after_step("2 A = 30 K");
    uintptr_t a_at = (uintptr_t)a - 16;
    CHECK_IN("A is at the start of the heap", a_at, heap_start, heap_start + 16);
    in_heap(a, KIB(30), a_at);
    top_from(a_at + a_size);
    CHECK_IN("brk went up by A and M_TOP_PAD", brk1 - brk0, a_size + pad, a_size + pad + 2 * page_size);
    resident_up_to(a_at + a_size);
    faulted(resident1);
    calls(1, 0, 0, 0);

    /* 3: B = 40 K: from the top. */
    before_step();
    char *b = get(KIB(40));
    fill(b, KIB(40), 'B');
    after_step("3 B = 40 K");
    uintptr_t b_at = a_at + a_size;
    in_heap(a, KIB(30), a_at);
    in_heap(b, KIB(40), b_at);
    top_from(b_at + b_size);
    CHECK_PTR("brk stays", brk1, brk0);
    resident_up_to(b_at + b_size);
    CHECK_EQ("minor faults: one for each page touched first", faults1, resident1 - resident0);
    calls(0, 0, 0, 0);

    /* 4: C = 200 K: a mapping of its own. */
    size_t virtual0 = virtual_bytes();
    before_step();
    char *c = get(KIB(200));
    fill(c, KIB(200), 'C');
    after_step("4 C = 200 K");
    const struct view *v = view_of(c);
    REQUIRE("the walk knows C", v);
    CHECK_EQ("C is mapped", v->state, SEEMALLOC_MAPPED);
    CHECK("with M", v->flags & SEEMALLOC_FLAG_M);
    CHECK_EQ("outside the heap", v->region_start >= heap_start && v->region_start < brk1, 0);
    uintptr_t c_start = v->region_start, c_end = v->region_end;
    CHECK_EQ("C's pages", (c_end - c_start) / page_size, round_up(KIB(200) + 16, page_size) / page_size);
    CHECK_EQ("resident pages of C", pages_resident(c_start, c_end), pages_spanned(c_start, (uintptr_t)c + KIB(200)));
    CHECK_IN("virtual memory has grown by C", virtual_bytes() - virtual0, c_end - c_start, c_end - c_start + MIB(1));
    CHECK_PTR("brk stays", brk1, brk0);
    CHECK_EQ("resident pages of the heap stay", resident1, resident0);
    faulted((c_end - c_start) / page_size);
    top_from(b_at + b_size);
    calls(0, 0, 1, 0);

    /* 5: D = 100 K: the top is too small, brk goes up again. */
    size_t old_top = view_top(0)->size;
    CHECK("the top is too small for D", old_top < d_size + 32);
    before_step();
    char *d = get(KIB(100));
    fill(d, KIB(100), 'D');
    after_step("5 D = 100 K");
    uintptr_t d_at = b_at + b_size;
    in_heap(a, KIB(30), a_at);
    in_heap(b, KIB(40), b_at);
    in_heap(d, KIB(100), d_at);
    top_from(d_at + d_size);
    CHECK_IN("brk went up by what D lacks and M_TOP_PAD", brk1 - brk0, d_size + pad - old_top, d_size + pad - old_top + 2 * page_size);
    resident_up_to(d_at + d_size);
    CHECK_EQ("minor faults: one for each page touched first", faults1, resident1 - resident0);
    calls(1, 0, 0, 0);
    size_t virtual5 = virtual_bytes();

    /* 6: free C: gone, virtually and physically. */
    before_step();
    put(c);
    after_step("6 free C");
    CHECK("the walk does not know C any more", !view_of(c));
    CHECK("nothing is mapped there", !is_readable((uintptr_t)c));
    CHECK_EQ("virtual memory has dropped by C", virtual5 - virtual_bytes(), c_end - c_start);
    CHECK_PTR("brk stays", brk1, brk0);
    CHECK_EQ("resident pages of the heap stay", resident1, resident0);
    CHECK_EQ("the thresholds have not slid", stats1.trim_threshold, KIB(128));
    calls(0, 0, 0, 1);

    /* 7: free B: a hole below D, nothing goes back. */
    before_step();
    put(b);
    after_step("7 free B");
    in_heap(a, KIB(30), a_at);
    in_heap(d, KIB(100), d_at);
    v = view_of(b);
    REQUIRE("B's chunk is still there", v);
    CHECK("B is free, in a bin", is_binned(v));
    CHECK_EQ("with its size", v->size, b_size);
    CHECK_EQ("D knows that the chunk before is free", view_of(d)->flags & SEEMALLOC_FLAG_P, 0);
    CHECK_EQ("and how large it is", view_of(d)->prev_size, b_size);
    CHECK_PTR("brk stays", brk1, brk0);
    CHECK_EQ("resident pages of the heap stay", resident1, resident0);
    CHECK_EQ("faults", faults1, 0);
    calls(0, 0, 0, 0);

    /* 8: free D: B and D are one free piece of 140 K, and, being next to the top, part of it. */
    size_t top7 = view_top(0)->size;
    uintptr_t brk7 = brk1;
    size_t resident7 = resident1;
    if (to_picture_8) {
        CHECK_EQ("the trim threshold raised for the moment", mallopt(M_TRIM_THRESHOLD, (int)MIB(1)), 1);
        before_step();
        put(d);
        after_step("8 free D");
        in_heap(a, KIB(30), a_at);
        CHECK("no chunk starts at D any more", !view_of(d));
        top_from(b_at);
        CHECK_EQ("B, D and the top are one", view_top(0)->size, b_size + d_size + top7);
        CHECK_IN("of which 140 K were in use", b_size + d_size, KIB(140), KIB(140) + 64);
        CHECK_PTR("brk stays", brk1, brk0);
        CHECK_EQ("resident pages of the heap stay", resident1, resident0);
        CHECK_EQ("faults", faults1, 0);
        calls(0, 0, 0, 0);
        before_step();
        CHECK_EQ("malloc_trim(128 KiB) released something", malloc_trim(KIB(128)), 1);
        after_step("9 trim");
    } else {
        before_step();
        put(d);
        after_step("8 and 9 free D and trim");
        CHECK("no chunk starts at D any more", !view_of(d));
    }

    /* 9: trim: brk goes down, and what lay above is gone. */
    in_heap(a, KIB(30), a_at);
    CHECK_EQ("chunks: A and the top", view_count, 2);
    top_from(b_at);
    CHECK("brk went down", brk1 < brk7);
    CHECK_EQ("one call", calls_between(&stats0, &stats1, SEEMALLOC_CALL_BRK_TRIM), 1);
    calls(0, 1, 0, 0);
    CHECK_IN("at most M_TOP_PAD stays at the top", view_top(0)->size, 32, pad + 2 * page_size);
    CHECK_EQ("nothing above the new brk is in memory", pages_resident(brk1, brk7), 0);
    CHECK("nor in the address space", !is_readable(brk7 - 1));
    CHECK("resident pages have dropped", resident1 < resident7);
    CHECK_IN("resident pages", resident1, pages_spanned(heap_start, b_at + 16), (brk1 - heap_start) / page_size);
    CHECK("A is as it was", filled(a, KIB(30), 'A'));
}

int main(int argc, char **argv) {
    (void)argc;
    const char *part = texts_begin(argv, "T11", NO_CACHE_NO_SLIDING);
    int second = !strcmp(part, "picture 8");
    play(second);
    if (!second) {
        const char *const set[] = {"SEEMALLOC_CONF=" NO_CACHE_NO_SLIDING, NULL};
        texts_again("picture 8", set);
        /* The command plays the same nine. */
        const char *shown = texts_tool("story");
        static const char *const pictures[] = {"\n 1  start",
                                               "\n 2  A = malloc(30 K)",
                                               "\n 3  B = malloc(40 K)",
                                               "\n 4  C = malloc(200 K)",
                                               "\n 5  D = malloc(100 K)",
                                               "\n 6  free(C)",
                                               "\n 7  free(B)",
                                               "\n 8  free(D)",
                                               "\n 9  trim"};
        for (size_t i = 0; shown && i < COUNT_OF(pictures); i++) {
            shown = strstr(shown, pictures[i]);
            if (!CHECK("the command plays the nine pictures in order", shown != NULL)) texts_say("     missing:%s", pictures[i] + 1);
        }
    }
    return texts_end();
}
