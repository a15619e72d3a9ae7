/* bad_pointer.c: free and realloc of what malloc never returned: stack, data, code, the middle of a block, a block's header, the top, another
 * mapping, a block that does not exist.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "abuse.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define POINTER "free(): invalid pointer"
#define SIZE "free(): invalid size"
#define MUNMAP "munmap_chunk(): invalid pointer"
#define REALLOC "realloc(): invalid pointer"

static void give_bad(void *p) {
    about(p);
    give(p);
}

static void stack_zeros(void) {
    _Alignas(16) volatile char array[256] = {0};
    give_bad((void *)(array + 64));
}

static void stack_size(void) {
    _Alignas(16) volatile uint64_t array[64] = {0};
    array[7] = 0x51; /* what a classic header would say */
    array[17] = 0x51;
    give_bad((void *)(array + 8));
}

static _Alignas(16) char zeros[256];
static _Alignas(16) char bytes[256] =
    "a quick brown fox jumps over the lazy dog, and over the lazy dog again, and over the lazy dog, and over the lazy dog";

static void data_zeros(void) { give_bad(zeros + 64); }

static void data_bytes(void) { give_bad(bytes + 64); }

static void code(void) { give_bad((void *)((uintptr_t)code & ~(uintptr_t)15)); }

static void library_data(void) { give_bad((void *)((uintptr_t)environ & ~(uintptr_t)15)); }

static void interior_zeros(void) {
    char *p = take(400);
    memset(p, 0, 400);
    give_bad(p + 64);
}

static void interior_bytes(void) {
    char *p = take(400);
    memset(p, 'x', 400);
    give_bad(p + 16);
}

static void interior_of_large(void) {
    char *p = take(100000);
    memset(p, 1, 100000);
    give_bad(p + 4096);
}

static void interior_of_mapped(void) {
    char *p = take((size_t)64 << 20);
    give_bad(p + 4096);
}

/* A copy of a true header elsewhere: the seal covers the address. */
static void interior_with_copied_header(void) {
    char *p = take(400);
    memset(p, 0, 400);
    memcpy(p + 64 - 8, p - 8, 8);
    give_bad(p + 64);
}

static void misaligned_by_1(void) {
    char *p = take(400);
    memset(p, 0, 400);
    give_bad(p + 1);
}

static void misaligned_by_8(void) {
    char *p = take(400);
    memset(p, 0, 400);
    give_bad(p + 8);
}

static void misaligned_below(void) {
    char *p = take(400);
    give_bad(p - 8);
}

/* The chunk instead of the block: a frequent slip of debug wrappers. */
static void own_header(void) {
    void *p[2];
    adjacent(400, p, 2);
    memset(p[0], 0, 400);
    give_bad((char *)p[1] - 16);
}

static void end_of_block(void) {
    char *p = take(400);
    memset(p, 0, 400);
    give_bad(p + 400);
}

static void foreign_mapping(void) {
    char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) not_reached("no mapping");
    give_bad(p + 4096);
}

static void foreign_mapping_start(void) {
    char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) not_reached("no mapping");
    /* What a classic header of a mapped chunk would say. */
    ((uint64_t *)p)[1] = (1 << 20) | 2;
    give_bad(p + 16);
}

static void foreign_break(void) {
    char *p = sbrk(65536);
    if (p == (void *)-1) not_reached("the break can't be moved");
    p = (char *)(((uintptr_t)p + 63) & ~(uintptr_t)63);
    give_bad(p + 4096);
}

static void low_address(void) { give_bad((void *)16); }

static void high_address(void) { give_bad((void *)0x7ffffffff000); }

static void not_canonical(void) { give_bad((void *)0x4141414141414140); }

static void top_chunk(void) {
    give(take(100000));
    struct seemalloc_chunk top;
    if (!find_state(SEEMALLOC_TOP, &top)) not_reached("there is no top");
    give_bad((void *)top.mem);
}

static void inside_top(void) {
    give(take(100000));
    struct seemalloc_chunk top;
    if (!find_state(SEEMALLOC_TOP, &top)) not_reached("there is no top");
    give_bad((char *)top.mem + 64);
}

static void realloc_bad(void *p, size_t n) {
    about(p);
    retake(p, n);
}

static void realloc_stack(void) {
    _Alignas(16) volatile char array[256] = {0};
    realloc_bad((void *)(array + 64), 1000);
}

static void realloc_data(void) { realloc_bad(zeros + 64, 1000); }

static void realloc_interior(void) {
    char *p = take(400);
    memset(p, 0, 400);
    realloc_bad(p + 64, 1000);
}

static void realloc_smaller_interior(void) {
    char *p = take(400);
    memset(p, 'x', 400);
    realloc_bad(p + 64, 8);
}

static void realloc_misaligned(void) {
    char *p = take(400);
    memset(p, 0, 400);
    realloc_bad(p + 8, 1000);
}

static void realloc_mapped_interior(void) {
    char *p = take((size_t)64 << 20);
    realloc_bad(p + 4096, (size_t)80 << 20);
}

static void realloc_top(void) {
    give(take(100000));
    struct seemalloc_chunk top;
    if (!find_state(SEEMALLOC_TOP, &top)) not_reached("there is no top");
    realloc_bad((void *)top.mem, 1000);
}

const struct abuse_case abuse_cases[] = {
    {"stack, zeros", stack_zeros, ABUSE_SEAL, {POINTER}},
    {"stack, a classic size", stack_size, ABUSE_SEAL, {POINTER}},
    {"data, zeros", data_zeros, ABUSE_SEAL, {POINTER}},
    {"data, bytes", data_bytes, ABUSE_SEAL, {POINTER}},
    {"code", code, ABUSE_SEAL, {POINTER}},
    {"a library's data", library_data, ABUSE_SEAL, {POINTER}},
    {"interior, zeros", interior_zeros, ABUSE_SEAL, {POINTER}},
    {"interior, bytes", interior_bytes, ABUSE_SEAL, {POINTER}},
    {"interior of a large block", interior_of_large, ABUSE_SEAL, {POINTER}},
    {"interior of a mapped block", interior_of_mapped, ABUSE_SEAL, {POINTER, MUNMAP}},
    {"interior, copied header", interior_with_copied_header, ABUSE_SEAL, {POINTER}},
    {"misaligned by 1", misaligned_by_1, 0, {POINTER}},
    {"misaligned by 8", misaligned_by_8, 0, {POINTER}},
    {"misaligned, 8 below", misaligned_below, 0, {POINTER}},
    {"the chunk for the block", own_header, ABUSE_SEAL, {POINTER}},
    {"end of the block", end_of_block, ABUSE_SEAL, {POINTER}},
    {"foreign mapping", foreign_mapping, ABUSE_SEAL, {POINTER, MUNMAP}},
    {"foreign mapping, classic header", foreign_mapping_start, ABUSE_SEAL, {POINTER, MUNMAP}},
    {"foreign break", foreign_break, ABUSE_SEAL, {POINTER}},
    {"low address", low_address, ABUSE_SEGV_OK, {POINTER}},
    {"high address", high_address, ABUSE_SEGV_OK, {POINTER}},
    {"address that can't exist", not_canonical, ABUSE_SEGV_OK, {POINTER}},
    {"the top", top_chunk, 0, {"double free or corruption (top)"}},
    {"inside the top", inside_top, ABUSE_SEAL, {POINTER}},
    {"realloc: stack", realloc_stack, ABUSE_SEAL, {REALLOC}},
    {"realloc: data", realloc_data, ABUSE_SEAL, {REALLOC}},
    {"realloc: interior", realloc_interior, ABUSE_SEAL, {REALLOC}},
    {"realloc: interior, smaller", realloc_smaller_interior, ABUSE_SEAL, {REALLOC}},
    {"realloc: misaligned", realloc_misaligned, 0, {REALLOC}},
    {"realloc: interior of a mapped block", realloc_mapped_interior, ABUSE_SEAL, {REALLOC}},
    {"realloc: the top", realloc_top, 0, {REALLOC}},
    {"cache off, stack", stack_zeros, ABUSE_SEAL | ABUSE_CACHE_OFF, {POINTER}},
    {"cache off, interior", interior_zeros, ABUSE_SEAL | ABUSE_CACHE_OFF, {POINTER}},
    {"cache off, misaligned", misaligned_by_8, ABUSE_CACHE_OFF, {POINTER}},
    {0},
};
