/* header.c: chunk headers that the program overwrote: by one byte from the block before, wholly, forged; found by free and realloc of the
 * block, by its neighbour's free, by the malloc that would use it. Mapped blocks and the top included.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "abuse.h"
#include <malloc.h>
#include <string.h>

#define POINTER "free(): invalid pointer"
#define SIZE "free(): invalid size"
#define NEXT_FAST "free(): invalid next size (fast)"
#define NEXT_NORMAL "free(): invalid next size (normal)"
#define PREV_SIZE "corrupted size vs. prev_size"
#define PREV_SIZE_CONSOLIDATING "corrupted size vs. prev_size while consolidating"
#define REALLOC "realloc(): invalid pointer"
#define REALLOC_NEXT "realloc(): invalid next size"
#define MUNMAP "munmap_chunk(): invalid pointer"
#define MREMAP "mremap_chunk(): invalid pointer"
#define TOP_SIZE "malloc(): corrupted top size"
#define UNSORTED_SIZE "malloc(): invalid size (unsorted)"
#define UNSORTED_NEXT "malloc(): invalid next size (unsorted)"
#define UNSORTED_PREV "malloc(): mismatching next->prev_size (unsorted)"
#define UNSORTED_LINKS "malloc(): unsorted double linked list corrupted"
#define SMALL_LINKS "malloc(): smallbin double linked list corrupted"
#define LINKS "corrupted double-linked list"
#define LINKS_NEXT "corrupted double-linked list (not small)"

static void *b[4]; /* neighbours in address order */

static void make(size_t request, int count) { adjacent(request, b, count); }

/* Writes n bytes past the end of b[0]: they land in the header of b[1]. */
static void overflow(size_t n, int value) { memset((char *)b[0] + malloc_usable_size(b[0]), value, n); }

/* One byte that differs from what is there. */
static void overflow_one(unsigned char value) {
    unsigned char *p = (unsigned char *)b[0] + malloc_usable_size(b[0]);
    *p = *p == value ? (unsigned char)(value ^ 0x10) : value;
}

/* ---- the block itself ---- */

static void one_byte_free(void) {
    make(24, 2);
    overflow_one(0x41);
    about(b[1]);
    give(b[1]);
}

static void null_byte_free(void) {
    make(200, 2);
    overflow_one(0);
    about(b[1]);
    give(b[1]);
}

static void one_byte_free_medium(void) {
    make(9000, 2);
    overflow_one(0x41);
    about(b[1]);
    give(b[1]);
}

/* Each of the eight bytes is covered, whichever is hit. */
static void byte_n_free(int n, unsigned char flip) {
    make(200, 2);
    ((unsigned char *)head_of(b[1]))[n] ^= flip;
    about(b[1]);
    give(b[1]);
}

static void byte_1(void) { byte_n_free(1, 1); }

static void byte_2(void) { byte_n_free(2, 0x10); }

static void byte_3(void) { byte_n_free(3, 0x80); }

static void byte_4(void) { byte_n_free(4, 1); }

static void byte_5(void) { byte_n_free(5, 0x80); }

static void byte_6(void) { byte_n_free(6, 0x55); }

static void byte_7(void) { byte_n_free(7, 0x2a); }

static void all_ones(void) {
    make(200, 2);
    overflow(8, 0xff);
    about(b[1]);
    give(b[1]);
}

static void zeros(void) {
    make(200, 2);
    overflow(8, 0);
    about(b[1]);
    give(b[1]);
}

static void classic_size(void) {
    make(200, 2);
    *head_of(b[1]) = 0xd1;
    about(b[1]);
    give(b[1]);
}

/* The size doubled, the seal kept: what an overflow of two bytes does. */
static void forged_size_larger(void) {
    make(200, 4);
    *head_of(b[1]) += 0xd0;
    about(b[1]);
    give(b[1]);
}

static void forged_size_smaller(void) {
    make(200, 2);
    *head_of(b[1]) -= 0x80;
    about(b[1]);
    give(b[1]);
}

static void forged_p(void) {
    make(200, 2);
    *head_of(b[1]) ^= 1;
    about(b[1]);
    give(b[1]);
}

static void forged_m(void) {
    make(200, 2);
    *head_of(b[1]) ^= 2;
    about(b[1]);
    give(b[1]);
}

static void forged_a(void) {
    make(200, 2);
    *head_of(b[1]) ^= 4;
    about(b[1]);
    give(b[1]);
}

/* The neighbour's true header: right size, right flags, right secrets, wrong address. */
static void neighbours_header(void) {
    make(200, 3);
    if ((*head_of(b[1]) & 0xffffffffffff) != (*head_of(b[2]) & 0xffffffffffff)) not_reached("the blocks differ in size or flags");
    if (*head_of(b[1]) == *head_of(b[2])) not_reached("both seals are the same by chance");
    *head_of(b[2]) = *head_of(b[1]);
    about(b[2]);
    give(b[2]);
}

static void one_byte_realloc(size_t request, size_t larger) {
    make(request, 2);
    overflow_one(0x41);
    about(b[1]);
    retake(b[1], larger);
}

static void realloc_grow(void) { one_byte_realloc(24, 1000); }

static void realloc_shrink(void) { one_byte_realloc(5000, 100); }

static void realloc_same(void) { one_byte_realloc(200, 200); }

static void realloc_forged_size(void) {
    make(200, 4);
    *head_of(b[1]) += 0xd0;
    about(b[1]);
    retake(b[1], 380);
}

/* realloc looks at the next chunk to grow into it. */
static void realloc_next_broken(void) {
    make(2000, 3);
    overflow_one(0x41);
    about(b[1]);
    about(b[0]);
    retake(b[0], 3000);
    give(b[1]);
}

/* ---- realloc of what was freed ---- */

static void realloc_freed(size_t request, size_t larger) {
    make(request, 3);
    about(b[1]);
    give(b[1]);
    retake(b[1], larger);
}

static void realloc_freed_grow(void) { realloc_freed(100, 1000); }

static void realloc_freed_shrink(void) { realloc_freed(100, 50); }

static void realloc_freed_same(void) { realloc_freed(100, 100); }

static void realloc_binned_grow(void) { realloc_freed(2000, 3000); }

static void realloc_binned_shrink(void) { realloc_freed(2000, 100); }

static void realloc_merged(void) {
    make(2000, 3);
    about(b[1]);
    give(b[0]);
    give(b[1]);
    retake(b[1], 3000);
}

static void realloc_mapped_freed(void) {
    void *p = take((size_t)64 << 20);
    about(p);
    give(p);
    retake(p, (size_t)80 << 20);
}

/* ---- the neighbour's free ---- */

static void neighbour_normal(void) {
    make(2000, 3);
    overflow_one(0x41);
    about(b[0]);
    about(b[1]);
    give(b[0]);
}

static void neighbour_normal_wiped(void) {
    make(2000, 3);
    overflow(8, 0);
    about(b[0]);
    about(b[1]);
    give(b[0]);
}

static void neighbour_fast(void) {
    make(40, 3);
    overflow_one(0x81);
    about(b[0]);
    about(b[1]);
    give(b[0]);
}

/* A write after free at the very end of a free chunk: the size it repeats there for the chunk after it. */
static void foot_forged(void) {
    make(2000, 3);
    give(b[0]);
    head_of(b[1])[-1] += 0x20;
    about(b[1]);
    about(b[0]);
    give(b[1]);
}

static void foot_zero(void) {
    make(2000, 3);
    give(b[0]);
    head_of(b[1])[-1] = 0;
    about(b[1]);
    about(b[0]);
    give(b[1]);
}

static void foot_huge(void) {
    make(2000, 3);
    give(b[0]);
    head_of(b[1])[-1] = 0x7fffffff0000;
    about(b[1]);
    about(b[0]);
    give(b[1]);
}

static void foot_before_heap(void) {
    make(2000, 3);
    give(b[0]);
    head_of(b[1])[-1] = (uint64_t)1 << 40;
    about(b[1]);
    about(b[0]);
    give(b[1]);
}

/* The foot leads exactly to a block in use: only its seal says that it is none to merge with. */
static void foot_to_used(void) {
    make(2000, 4);
    give(b[1]);
    head_of(b[2])[-1] = 2 * chunk_bytes(2000);
    about(b[2]);
    about(b[0]);
    about(b[1]);
    give(b[2]);
}

/* A free chunk's own header is broken (overflow from the block before it), then its neighbours are freed. */
static void free_chunk_broken_next_free(void) {
    make(2000, 4);
    give(b[1]);
    overflow_one(0x41);
    about(b[1]);
    about(b[2]);
    give(b[2]);
}

static void free_chunk_broken_prev_free(void) {
    make(2000, 4);
    give(b[1]);
    overflow_one(0x41);
    about(b[0]);
    about(b[1]);
    give(b[0]);
}

/* ... or it is about to be used. */
static void free_chunk_broken_malloc(void) {
    make(2000, 4);
    give(b[1]);
    overflow_one(0x41);
    about(b[1]);
    take(2000);
}

static void free_chunk_grown_malloc(void) {
    make(2000, 4);
    give(b[1]);
    *head_of(b[1]) += 2000;
    about(b[1]);
    take(3900);
    take(2000);
}

static void free_chunk_broken_in_small(void) {
    make(400, 4);
    give(b[1]);
    take(3000);
    overflow_one(0x41);
    about(b[1]);
    take(400);
}

static void free_chunk_broken_in_large(void) {
    make(4000, 4);
    give(b[1]);
    take(9000);
    overflow_one(0x41);
    about(b[1]);
    take(4000);
}

/* ---- the top ---- */

static void *before_top(struct seemalloc_chunk *top, size_t request) {
    /* Nothing free elsewhere may serve what the case asks for, so the last block lies before the top. */
    for (int i = 0; i < 64; i++) {
        void *p = take(request);
        if (!find_state(SEEMALLOC_TOP, top)) not_reached("there is no top");
        if ((char *)p + malloc_usable_size(p) + 8 == (const char *)top->mem) return p;
    }
    not_reached("no block lies before the top");
}

static void top_forged(uint64_t head, bool keep_seal, size_t request) {
    struct seemalloc_chunk top;
    void *p = before_top(&top, 2000);
    uint64_t *h = head_of((void *)top.mem);
    *h = keep_seal ? (*h & ~(uint64_t)0xffffffffffff) | head : head;
    about(top.mem);
    about(p);
    /* Less than the true top, and more. */
    take(request);
    take(request);
}

static void top_zero(void) { top_forged(0, false, 3000); }

static void top_small(void) { top_forged(0x41, true, 3000); }

static void top_huge(void) { top_forged(~(uint64_t)0, false, 3000); }

static void top_larger(void) { top_forged(0x1000001, true, 100000); }

static void top_huge_medium(void) { top_forged(0xfffffffffff1, true, 100000); }

static void top_one_byte(void) {
    struct seemalloc_chunk top;
    char *p = before_top(&top, 2000);
    p[malloc_usable_size(p)] ^= 0x20;
    about(top.mem);
    about(p);
    take(60000);
    take(60000);
    take(60000);
}

static void top_broken_neighbour_free(void) {
    struct seemalloc_chunk top;
    char *p = before_top(&top, 2000);
    *head_of((void *)top.mem) ^= 0x1000;
    about(top.mem);
    about(p);
    give(p);
}

static void top_broken_realloc(void) {
    struct seemalloc_chunk top;
    char *p = before_top(&top, 2000);
    *head_of((void *)top.mem) ^= 0x1000;
    about(top.mem);
    about(p);
    retake(p, 3000);
}

/* ---- mapped blocks ---- */

enum { BIG = 64 << 20 };

static void mapped_one_byte(void) {
    char *p = take(BIG);
    *(unsigned char *)head_of(p) ^= 0x40;
    about(p);
    give(p);
}

static void mapped_zero(void) {
    char *p = take(BIG);
    *head_of(p) = 0;
    about(p);
    give(p);
}

static void mapped_larger(void) {
    char *p = take(BIG);
    *head_of(p) += BIG;
    about(p);
    give(p);
}

static void mapped_classic(void) {
    char *p = take(BIG);
    *head_of(p) = (uint64_t)2 * BIG | 2;
    about(p);
    give(p);
}

static void mapped_m_cleared(void) {
    char *p = take(BIG);
    *head_of(p) &= ~(uint64_t)2;
    about(p);
    give(p);
}

static void mapped_prev_size(void) {
    char *p = take(BIG);
    head_of(p)[-1] = 4096;
    about(p);
    give(p);
}

static void mapped_realloc(void) {
    char *p = take(BIG);
    *head_of(p) += BIG;
    about(p);
    retake(p, (size_t)3 * BIG);
}

static void mapped_realloc_same(void) {
    char *p = take(BIG);
    *(unsigned char *)head_of(p) ^= 0x40;
    about(p);
    retake(p, BIG);
}

#define OFF ABUSE_CACHE_OFF
#define SEAL ABUSE_SEAL

const struct abuse_case abuse_cases[] = {
    {"one byte, free", one_byte_free, SEAL, {POINTER}},
    {"null byte, free", null_byte_free, SEAL, {POINTER}},
    {"one byte, free, medium size", one_byte_free_medium, SEAL, {POINTER}},
    {"byte 1", byte_1, SEAL, {POINTER}},
    {"byte 2", byte_2, SEAL, {POINTER}},
    {"byte 3", byte_3, SEAL, {POINTER}},
    {"byte 4", byte_4, SEAL, {POINTER}},
    {"byte 5", byte_5, SEAL, {POINTER}},
    {"byte 6", byte_6, SEAL, {POINTER}},
    {"byte 7", byte_7, SEAL, {POINTER}},
    {"all ones", all_ones, SEAL, {POINTER}},
    {"zeros", zeros, SEAL, {POINTER}},
    {"a classic size", classic_size, SEAL, {POINTER}},
    {"forged size, larger", forged_size_larger, SEAL, {POINTER}},
    {"forged size, smaller", forged_size_smaller, SEAL, {POINTER}},
    {"forged P", forged_p, SEAL, {POINTER}},
    {"forged M", forged_m, SEAL, {POINTER, MUNMAP}},
    {"forged A", forged_a, SEAL, {POINTER}},
    {"the neighbour's header", neighbours_header, SEAL, {POINTER}},
    {"cache off, one byte, free", one_byte_free, SEAL | OFF, {POINTER}},
    {"cache off, one byte, free, medium size", one_byte_free_medium, SEAL | OFF, {POINTER}},
    {"cache off, forged size", forged_size_larger, SEAL | OFF, {POINTER}},
    {"realloc, one byte, grow", realloc_grow, SEAL, {REALLOC}},
    {"realloc, one byte, shrink", realloc_shrink, SEAL, {REALLOC}},
    {"realloc, one byte, same", realloc_same, SEAL, {REALLOC}},
    {"realloc, forged size", realloc_forged_size, SEAL, {REALLOC}},
    {"realloc, next chunk broken", realloc_next_broken, SEAL, {REALLOC_NEXT, NEXT_NORMAL, POINTER}},
    {"cache off, realloc, one byte", realloc_grow, SEAL | OFF, {REALLOC}},
    {"realloc of a freed block, grow", realloc_freed_grow, 0, {REALLOC}},
    {"realloc of a freed block, shrink", realloc_freed_shrink, 0, {REALLOC}},
    {"realloc of a freed block, same", realloc_freed_same, 0, {REALLOC}},
    {"realloc of a binned block, grow", realloc_binned_grow, OFF, {REALLOC}},
    {"realloc of a binned block, shrink", realloc_binned_shrink, OFF, {REALLOC}},
    {"realloc of a merged block", realloc_merged, OFF | SEAL, {REALLOC}},
    {"realloc of a fast block", realloc_freed_grow, OFF, {REALLOC}},
    {"realloc of an unmapped block", realloc_mapped_freed, ABUSE_SEGV_OK, {REALLOC, MREMAP, MUNMAP}},
    {"neighbour's free, normal", neighbour_normal, OFF | SEAL, {NEXT_NORMAL}},
    {"neighbour's free, normal, wiped", neighbour_normal_wiped, OFF | SEAL, {NEXT_NORMAL}},
    {"neighbour's free, fast", neighbour_fast, OFF | SEAL, {NEXT_FAST}},
    {"foot forged", foot_forged, OFF | SEAL, {PREV_SIZE, PREV_SIZE_CONSOLIDATING}},
    {"foot zero", foot_zero, OFF | SEAL, {PREV_SIZE, PREV_SIZE_CONSOLIDATING}},
    {"foot huge", foot_huge, OFF | SEAL, {PREV_SIZE, PREV_SIZE_CONSOLIDATING}},
    {"foot before the heap", foot_before_heap, OFF | SEAL, {PREV_SIZE, PREV_SIZE_CONSOLIDATING}},
    {"foot leads to a used block", foot_to_used, OFF | SEAL, {PREV_SIZE, PREV_SIZE_CONSOLIDATING}},
    {"free chunk broken, next freed", free_chunk_broken_next_free, OFF | SEAL, {PREV_SIZE, PREV_SIZE_CONSOLIDATING}},
    {"free chunk broken, previous freed", free_chunk_broken_prev_free, OFF | SEAL, {NEXT_NORMAL, PREV_SIZE}},
    {"free chunk broken, malloc", free_chunk_broken_malloc, OFF | SEAL, {UNSORTED_SIZE, UNSORTED_LINKS, LINKS, PREV_SIZE}},
    {"free chunk grown, malloc",
     free_chunk_grown_malloc,
     OFF | SEAL,
     {UNSORTED_SIZE, UNSORTED_NEXT, UNSORTED_PREV, UNSORTED_LINKS, LINKS, PREV_SIZE}},
    {"free chunk broken in a small bin", free_chunk_broken_in_small, OFF | SEAL, {SMALL_LINKS, LINKS, PREV_SIZE}},
    {"free chunk broken in a large bin", free_chunk_broken_in_large, OFF | SEAL, {PREV_SIZE, LINKS, LINKS_NEXT}},
    {"top zero", top_zero, OFF | SEAL, {TOP_SIZE}},
    {"top made small", top_small, OFF | SEAL, {TOP_SIZE}},
    {"top all ones", top_huge, OFF | SEAL, {TOP_SIZE}},
    {"top made larger", top_larger, OFF | SEAL, {TOP_SIZE}},
    {"top made huge", top_huge_medium, OFF | SEAL, {TOP_SIZE}},
    {"top, one byte", top_one_byte, OFF | SEAL, {TOP_SIZE}},
    {"top broken, neighbour freed", top_broken_neighbour_free, OFF | SEAL, {NEXT_NORMAL, TOP_SIZE, PREV_SIZE}},
    {"top broken, neighbour grown", top_broken_realloc, OFF | SEAL, {REALLOC_NEXT, TOP_SIZE}},
    {"top zero, cache on", top_zero, SEAL, {TOP_SIZE}},
    {"mapped, one byte", mapped_one_byte, SEAL, {MUNMAP, POINTER}},
    {"mapped, zero", mapped_zero, SEAL, {MUNMAP, POINTER}},
    {"mapped, larger", mapped_larger, SEAL, {MUNMAP, POINTER}},
    {"mapped, a classic size", mapped_classic, SEAL, {MUNMAP, POINTER}},
    {"mapped, M cleared", mapped_m_cleared, SEAL, {MUNMAP, POINTER}},
    {"mapped, prev_size forged", mapped_prev_size, ABUSE_SURVIVE_OK, {MUNMAP}},
    {"mapped, realloc, larger", mapped_realloc, SEAL, {REALLOC, MREMAP, MUNMAP}},
    {"mapped, realloc, one byte", mapped_realloc_same, SEAL, {REALLOC, MREMAP, MUNMAP}},
    {0},
};
