/* links.c: forged links of free chunks (a write after free): fd and bk in the unsorted, small and large bins, the nextsize ring and the search
 * index behind it, fast lists, inbox chains; found when the chunk is taken, when a neighbour merges with it, or when another chunk is put
 * beside it.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "abuse.h"
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define UNSORTED "malloc(): unsorted double linked list corrupted"
#define UNSORTED_2 "malloc(): corrupted unsorted chunks"
#define UNSORTED_3 "malloc(): corrupted unsorted chunks 2"
#define UNSORTED_FREE "free(): corrupted unsorted chunks"
#define SMALL "malloc(): smallbin double linked list corrupted"
#define LARGE "malloc(): largebin double linked list corrupted (bk)"
#define LARGE_NEXT "malloc(): largebin double linked list corrupted (nextsize)"
#define LINKS "corrupted double-linked list"
#define LINKS_NEXT "corrupted double-linked list (not small)"
#define FAST "malloc(): memory corruption (fast)"
#define FAST_ALIGNED "malloc(): unaligned fastbin chunk detected"
#define FAST_ALIGNED_2 "malloc(): unaligned fastbin chunk detected 2"
#define FAST_FREE "free(): invalid pointer"
#define CONSOLIDATE "malloc_consolidate(): unaligned fastbin chunk detected"
#define CONSOLIDATE_SIZE "malloc_consolidate(): invalid chunk size"

static void *b[64];
/* Where the forged links lead: chunk-shaped, writable, zero; on the stack of nobody. */
static _Alignas(16) uint64_t target[64];

static void forge(void *mem, int word, const void *value) {
    about(mem);
    about(&target[4]);
    ((const void **)mem)[word] = value;
}

enum { FD, BK, FD_NEXTSIZE, BK_NEXTSIZE };

/* Frees b[1] so that it lies alone in the unsorted bin. */
static void unsorted_one(size_t request) {
    adjacent(request, b, 4);
    give(b[1]);
    need_state(b[1], SEEMALLOC_UNSORTED, SEEMALLOC_LAST_REMAINDER);
}

static void unsorted_fd(void) {
    unsorted_one(400);
    forge(b[1], FD, &target[2]);
    take(400);
}

static void unsorted_bk(void) {
    unsorted_one(400);
    forge(b[1], BK, &target[2]);
    take(400);
    take(400);
}

static void unsorted_bk_sorted(void) {
    unsorted_one(400);
    forge(b[1], BK, &target[2]);
    take(3000);
    take(3000);
}

static void unsorted_null(void) {
    unsorted_one(400);
    forge(b[1], BK, NULL);
    take(400);
}

static void unsorted_wild(void) {
    unsorted_one(400);
    forge(b[1], BK, (void *)0x4141414141414141);
    take(400);
}

static void unsorted_unmapped(void) {
    char *hole = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    unsorted_one(400);
    forge(b[1], BK, hole + 4096);
    take(400);
}

static void unsorted_misaligned(void) {
    unsorted_one(400);
    forge(b[1], BK, (char *)b[3] + 8);
    take(400);
}

/* Leads to a true chunk, one in use. */
static void unsorted_to_used(void) {
    unsorted_one(400);
    forge(b[1], BK, (char *)b[3] - 16);
    take(400);
    take(400);
}

static void unsorted_to_self(void) {
    unsorted_one(400);
    forge(b[1], FD, (char *)b[1] - 16);
    ((void **)b[1])[BK] = (char *)b[1] - 16;
    take(400);
    take(400);
    take(400);
}

static void unsorted_fd_free_behind(void) {
    unsorted_one(400);
    void *p[3];
    adjacent(2000, p, 3);
    forge(b[1], BK, &target[2]);
    about(p[1]);
    /* Enters the bin at its other end or beside the forged one, and the ring is looked at. */
    give(p[1]);
    take(400);
    take(400);
    take(3000);
}

/* The bin's first chunk says that somebody else follows it; the next to enter finds out. */
static void unsorted_first_bk(void) {
    adjacent(400, b, 6);
    give(b[1]);
    forge(b[1], BK, &target[2]);
    about(b[3]);
    give(b[3]);
    take(3000);
    take(400);
}

static void unlink_next(int word, const void *value) {
    unsorted_one(2000);
    forge(b[1], word, value);
    give(b[2]);
}

static void unlink_fd(void) { unlink_next(FD, &target[2]); }

static void unlink_bk(void) { unlink_next(BK, &target[2]); }

static void unlink_null(void) { unlink_next(FD, NULL); }

static void unlink_wild(void) { unlink_next(BK, (void *)0x4141414141414141); }

static void unlink_previous_free(void) {
    unsorted_one(2000);
    forge(b[1], FD, &target[2]);
    give(b[0]);
}

static void unlink_realloc(void) {
    unsorted_one(2000);
    forge(b[1], FD, &target[2]);
    retake(b[0], 3500);
}

/* Two chunks in one small bin: the older one is served first. */
static void small_two(void) {
    adjacent(400, b, 6);
    give(b[1]);
    give(b[3]);
    take(3000);
    need_state(b[1], SEEMALLOC_SMALL, SEEMALLOC_LAST_REMAINDER);
    need_state(b[3], SEEMALLOC_SMALL, SEEMALLOC_LAST_REMAINDER);
}

static void small_tail_bk(void) {
    small_two();
    forge(b[1], BK, &target[2]);
    about(b[3]);
    take(400);
    take(400);
}

static void small_tail_fd(void) {
    small_two();
    forge(b[1], FD, &target[2]);
    about(b[3]);
    take(400);
    take(400);
}

static void small_head_fd(void) {
    small_two();
    forge(b[3], FD, &target[2]);
    about(b[1]);
    take(400);
    take(400);
}

static void small_head_bk(void) {
    small_two();
    forge(b[3], BK, &target[2]);
    about(b[1]);
    take(400);
    take(400);
}

static void small_null(void) {
    small_two();
    forge(b[1], BK, NULL);
    about(b[3]);
    take(400);
    take(400);
}

/* As taken by a larger request through the bitmap. */
static void small_split(void) {
    small_two();
    forge(b[1], BK, &target[2]);
    about(b[3]);
    take(200);
    take(200);
    take(200);
}

/* In a batch for a magazine: more than one at a time. */
static void small_batch(void) {
    enum { N = 6000 };
    static void *p[N];
    for (int i = 0; i < N; i++) p[i] = take(300);
    for (int i = 0; i < N; i += 2) give(p[i]);
    void *victim = NULL;
    for (int i = 0; i < 400; i++) take(3000); /* sorts what is unsorted, a bounded number at a time */
    for (int i = 0; i < N && !victim; i += 2) {
        if (state_of(p[i]) == SEEMALLOC_SMALL) victim = p[i];
    }
    if (!victim) not_reached("no block came into a small bin");
    memcpy(b, p, sizeof b);
    forge(victim, BK, &target[2]);
    /* What the second line names may be the neighbour in the ring, and that is any of the others. */
    for (int i = 0; i < N; i += 2)
        if ((uintptr_t)p[i] >> 12 == (uintptr_t)victim >> 12) about(p[i]);
    for (int i = 0; i < N; i++) {
        void *q = take(300);
        if ((uintptr_t)q >= (uintptr_t)target && (uintptr_t)q < (uintptr_t)(target + 64)) attack_won("malloc returned the target");
    }
}

/* Large bins: three sizes of the same bin, the middle one forged. */
static void large_three(void) {
    void *p[6];
    static const size_t sizes[] = {9000, 9080, 9160};
    for (int i = 0; i < 3; i++) {
        p[2 * i] = take(sizes[i]);
        p[2 * i + 1] = take(40);
    }
    for (int i = 0; i < 3; i++) give(p[2 * i]);
    take(20000);
    for (int i = 0; i < 3; i++) {
        b[i] = p[2 * i];
        need_state(b[i], SEEMALLOC_LARGE, SEEMALLOC_LAST_REMAINDER);
    }
    b[3] = b[0];
}

static void large_taken(int word, const void *value) {
    large_three();
    forge(b[1], word, value);
    take(9080);
    take(9080);
    take(9000);
}

static void large_fd(void) { large_taken(FD, &target[2]); }

static void large_bk(void) { large_taken(BK, &target[2]); }

static void large_fd_nextsize(void) { large_taken(FD_NEXTSIZE, &target[2]); }

static void large_bk_nextsize(void) { large_taken(BK_NEXTSIZE, &target[2]); }

static void large_bk_nextsize_null(void) { large_taken(BK_NEXTSIZE, NULL); }

static void large_fd_nextsize_wild(void) { large_taken(FD_NEXTSIZE, (void *)0x4141414141414141); }

/* Every word of the search index in turn: wherever it is kept, following it must not lead out. */
static void large_index(int word) {
    large_three();
    forge(b[1], word, &target[2]);
    for (int i = 0; i < 4; i++) {
        void *p = take(9000);
        if ((uintptr_t)p >= (uintptr_t)target && (uintptr_t)p < (uintptr_t)(target + 64)) attack_won("malloc returned the target");
    }
    for (int i = 0; i < 64; i++)
        if (target[i]) attack_won("a forged link was written through");
}

static void large_index_4(void) { large_index(4); }

static void large_index_5(void) { large_index(5); }

static void large_index_6(void) { large_index(6); }

static void large_index_7(void) { large_index(7); }

static void large_inserted(int word) {
    large_three();
    void *p = take(9120), *pin = take(40);
    forge(b[1], word, &target[2]);
    about(p);
    give(p);
    take(20000);
    take(9100);
    take(9080);
    give(pin);
}

static void large_inserted_fd(void) { large_inserted(FD); }

static void large_inserted_bk(void) { large_inserted(BK); }

static void large_inserted_fd_nextsize(void) { large_inserted(FD_NEXTSIZE); }

static void large_inserted_bk_nextsize(void) { large_inserted(BK_NEXTSIZE); }

/* Fast lists: singly linked. */
static void fast_two(void) {
    adjacent(40, b, 6);
    give(b[1]);
    give(b[3]);
    need_state(b[3], SEEMALLOC_FAST, SEEMALLOC_FAST);
}

static void take_three(void) {
    for (int i = 0; i < 3; i++) {
        void *p = take(40);
        if ((uintptr_t)p >= (uintptr_t)target && (uintptr_t)p < (uintptr_t)(target + 64)) attack_won("malloc returned the target");
    }
}

static void fast_link(const void *value) {
    fast_two();
    forge(b[3], FD, value);
    take_three();
}

static void fast_target(void) {
    target[3] = 0x31;
    fast_link(&target[2]);
}

static void fast_wild(void) { fast_link((void *)0x4141414141414141); }

static void fast_misaligned(void) { fast_link((char *)b[0] + 8); }

static void fast_used(void) {
    fast_two();
    forge(b[3], FD, (char *)b[4] - 16);
    for (int i = 0; i < 3; i++)
        if (take(40) == b[4]) attack_won("malloc returned a block in use");
}

static void fast_consolidated(void) {
    fast_two();
    forge(b[3], FD, &target[2]);
    take(20000);
    take(200000);
}

/* So many that links lead from block to block; the youngest is forged, and all are taken. */
static void fast_deep(size_t to_used) {
    adjacent(40, b, 49);
    for (int i = 1; i < 49; i += 2) give(b[i]);
    need_state(b[47], SEEMALLOC_FAST, SEEMALLOC_FAST);
    forge(b[47], FD, to_used != 0 ? (char *)b[to_used] - 16 : (char *)&target[2]);
    for (int i = 0; i < 25; i++) {
        char *p = take(40);
        if (p >= (char *)target && p < (char *)(target + 64)) attack_won("malloc returned the target");
        if (to_used != 0 && p == b[to_used]) attack_won("malloc returned a block in use");
    }
}
static void fast_deep_target(void) {
    target[3] = 0x31;
    fast_deep(0);
}
static void fast_deep_used(void) { fast_deep(4); }

/* The chain that another thread sent home. */
static pthread_barrier_t barrier;
enum { MANY = 6000 };
static void *block[MANY];

static void *free_and_stay(void *arg) {
    (void)arg;
    for (int i = 0; i < MANY; i += 2) give(block[i]);
    mallopt(M_ARENA_TEST, 8); /* empties its cache: what is of another arena is sent home */
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

/* Blocks that a thread of another arena sent home; the first eight are overwritten: with a pointer, or all with the link of one, so that the chain
 * leads in a circle. */
static void inbox_links(bool circle) {
    for (int i = 0; i < MANY; i++) block[i] = take(64);
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_t t;
    if (pthread_create(&t, NULL, free_and_stay, NULL)) not_reached("no thread");
    pthread_barrier_wait(&barrier);
    void *sent[8];
    int n = 0;
    for (int i = 0; i < MANY && n < 8; i += 2) {
        if (state_of(block[i]) == SEEMALLOC_INBOX) sent[n++] = block[i];
    }
    if (n < 8) not_reached("no eight blocks came into the inbox");
    const void *link = &target[4];
    if (circle) memcpy(&link, sent[3], sizeof link); /* it leads to its neighbour, whichever way the chain runs */
    target[3] = 0x51;
    for (int i = 0; i < 8; i++) forge(sent[i], FD, link);
    for (int i = 0; i < MANY; i++) {
        void *p = take(64);
        if ((uintptr_t)p >= (uintptr_t)target && (uintptr_t)p < (uintptr_t)(target + 64)) attack_won("malloc returned the target");
    }
}
static void inbox_link(void) { inbox_links(false); }
static void inbox_circle(void) { inbox_links(true); }

/* Cached blocks are not followed at all: whatever is written into one, it is only a block again. */
static void cached_overwritten(void) {
    void *p[8], *q[8];
    for (int i = 0; i < 8; i++) p[i] = take(100);
    for (int i = 0; i < 8; i++) {
        give(p[i]);
        if (state_of(p[i]) != SEEMALLOC_CACHED) continue;
        ((void **)p[i])[0] = &target[2];
        ((void **)p[i])[1] = &target[2];
    }
    for (int i = 0; i < 8; i++) q[i] = take(100);
    for (int i = 0; i < 8; i++) {
        if ((uintptr_t)q[i] >= (uintptr_t)target && (uintptr_t)q[i] < (uintptr_t)(target + 64)) attack_won("malloc returned the target");
        for (int j = 0; j < i; j++)
            if (q[i] == q[j]) attack_won("malloc returned a block twice");
    }
}

#define OFF ABUSE_CACHE_OFF
#define UNSORTED_SET                                                                                                                       \
    { UNSORTED, UNSORTED_2, UNSORTED_3, LINKS }
#define LARGE_SET                                                                                                                          \
    { LINKS, LINKS_NEXT, LARGE, LARGE_NEXT }
#define FAST_SET                                                                                                                           \
    { FAST, FAST_ALIGNED, FAST_ALIGNED_2 }

const struct abuse_case abuse_cases[] = {
    {"unsorted, fd", unsorted_fd, OFF, UNSORTED_SET},
    {"unsorted, bk", unsorted_bk, OFF, UNSORTED_SET},
    {"unsorted, bk, when sorted", unsorted_bk_sorted, OFF, UNSORTED_SET},
    {"unsorted, null", unsorted_null, OFF, UNSORTED_SET},
    {"unsorted, wild", unsorted_wild, OFF, UNSORTED_SET},
    {"unsorted, unmapped", unsorted_unmapped, OFF, UNSORTED_SET},
    {"unsorted, misaligned", unsorted_misaligned, OFF, UNSORTED_SET},
    {"unsorted, to a used chunk", unsorted_to_used, OFF, UNSORTED_SET},
    {"unsorted, to itself", unsorted_to_self, OFF, UNSORTED_SET},
    {"unsorted, another freed behind", unsorted_fd_free_behind, OFF, {UNSORTED, UNSORTED_2, UNSORTED_3, UNSORTED_FREE, LINKS, SMALL}},
    {"unsorted, another freed before", unsorted_first_bk, OFF, {UNSORTED, UNSORTED_2, UNSORTED_3, UNSORTED_FREE, LINKS}},
    {"unlink, fd", unlink_fd, OFF, {LINKS}},
    {"unlink, bk", unlink_bk, OFF, {LINKS}},
    {"unlink, null", unlink_null, OFF, {LINKS}},
    {"unlink, wild", unlink_wild, OFF, {LINKS}},
    {"unlink, previous freed", unlink_previous_free, OFF, {LINKS}},
    {"unlink, realloc", unlink_realloc, OFF, {LINKS}},
    {"small, tail's bk", small_tail_bk, OFF, {SMALL}},
    {"small, tail's fd", small_tail_fd, OFF, {SMALL}},
    {"small, head's fd", small_head_fd, OFF, {SMALL}},
    {"small, head's bk", small_head_bk, OFF, {SMALL}},
    {"small, null", small_null, OFF, {SMALL}},
    {"small, split", small_split, OFF, {SMALL, LINKS}},
    {"small, batch", small_batch, 0, {SMALL, LINKS}},
    {"large, fd", large_fd, OFF, LARGE_SET},
    {"large, bk", large_bk, OFF, LARGE_SET},
    {"large, fd_nextsize", large_fd_nextsize, OFF, LARGE_SET},
    {"large, bk_nextsize", large_bk_nextsize, OFF, LARGE_SET},
    {"large, bk_nextsize null", large_bk_nextsize_null, OFF, LARGE_SET},
    {"large, fd_nextsize wild", large_fd_nextsize_wild, OFF, LARGE_SET},
    {"large, index word 1", large_index_4, OFF | ABUSE_SURVIVE_OK, LARGE_SET},
    {"large, index word 2", large_index_5, OFF | ABUSE_SURVIVE_OK, LARGE_SET},
    {"large, index word 3", large_index_6, OFF | ABUSE_SURVIVE_OK, LARGE_SET},
    {"large, index word 4", large_index_7, OFF | ABUSE_SURVIVE_OK, LARGE_SET},
    {"large, fd, insertion", large_inserted_fd, OFF, LARGE_SET},
    {"large, bk, insertion", large_inserted_bk, OFF, LARGE_SET},
    {"large, fd_nextsize, insertion", large_inserted_fd_nextsize, OFF, LARGE_SET},
    {"large, bk_nextsize, insertion", large_inserted_bk_nextsize, OFF, LARGE_SET},
    {"fast, forged chunk", fast_target, OFF, FAST_SET},
    {"fast, wild", fast_wild, OFF, FAST_SET},
    {"fast, misaligned", fast_misaligned, OFF, FAST_SET},
    {"fast, block in use", fast_used, OFF, FAST_SET},
    {"fast, many, forged chunk", fast_deep_target, OFF, FAST_SET},
    {"fast, many, block in use", fast_deep_used, OFF, FAST_SET},
    {"fast, consolidated", fast_consolidated, OFF, {CONSOLIDATE, CONSOLIDATE_SIZE, FAST, FAST_ALIGNED}},
    {"inbox", inbox_link, 0, {FAST, FAST_ALIGNED, FAST_FREE, CONSOLIDATE, CONSOLIDATE_SIZE}},
    {"inbox, a circle", inbox_circle, 0, {FAST_FREE}},
    {"cached, overwritten", cached_overwritten, ABUSE_SURVIVE, {0}},
    {0},
};
