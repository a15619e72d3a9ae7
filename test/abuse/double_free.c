/* double_free.c: a block freed twice, wherever it is when the second free comes: in a magazine of this or another thread, in a parked
 * batch, in an inbox, in a fast, unsorted, small or large bin, merged into a neighbour or into the top, or unmapped.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "abuse.h"
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define TCACHE "free(): double free detected in tcache 2"
#define PREV "double free or corruption (!prev)"
#define FASTTOP "double free or corruption (fasttop)"
#define TOP "double free or corruption (top)"
#define POINTER "free(): invalid pointer"
#define SIZE "free(): invalid size"

enum { MANY = 6000 };

static void twice(void *p) {
    about(p);
    give(p);
    give(p);
}

/* ---- in the magazine ---- */

static void at_once(void) { twice(take(100)); }

static void at_once_smallest(void) { twice(take(0)); }

static void at_once_medium(void) { twice(take(20000)); }

static void at_once_calloc(void) {
    void *(*volatile zeroed)(size_t, size_t) = calloc;
    twice(zeroed(3, 77));
}

static void at_once_aligned(void) { twice(take_aligned(4096, 100)); }

static void others_between(void) {
    void *p[6];
    for (int i = 0; i < 6; i++) p[i] = take(100);
    about(p[0]);
    for (int i = 0; i < 6; i++) give(p[i]);
    give(p[0]);
}

static void other_sizes_between(void) {
    char *p = take(100), *q = take(3000);
    about(p);
    give(p);
    give(q);
    for (size_t n = 200; n < 900; n += 16) give(take(n));
    give(p);
}

/* Reuse does not blunt the check: the second life ends with a double free, too. */
static void after_reuse(void) {
    void *p = take(100);
    give(p);
    void *q = take(100);
    if (q != p) not_reached("the block was not handed out again");
    twice(q);
}

static void after_realloc_to_zero(void) {
    char *p = take(100);
    about(p);
    if (retake(p, 0)) not_reached("realloc(p, 0) did not free");
    give(p);
}

/* What realloc left behind when it moved the block is as free as after free. */
static void after_moving_realloc(void) {
    char *p = take(100);
    void *pin = take(100);
    char *q = retake(p, 9000);
    if (q == p) not_reached("realloc did not move the block");
    about(p);
    give(p);
    give(pin);
}

/* A program that stores the key's value in its own block is no misuse: it must not be punished. */
static void key_value_is_data(void) {
    uint64_t *p = take(100);
    give(p);
    uint64_t key = ((uint64_t *volatile)p)[1];
    uint64_t *q = take(100);
    if (q != p) not_reached("the block was not handed out again");
    q[1] = key;
    give(q);
    uint64_t *r = take(100);
    memset(r, 0, 100);
    give(r);
}

/* ---- beyond the magazine ---- */

static void *block[MANY];

static void fill(size_t request) {
    for (int i = 0; i < MANY; i++)
        if (!(block[i] = take(request))) not_reached("out of memory");
}

/* Frees every other block (so that none merges) until one of them is in a state that is asked for; returns it. */
static void *free_until(enum seemalloc_state a, enum seemalloc_state b) {
    for (int i = 0; i < MANY; i += 2) {
        give(block[i]);
        if (i % 64 != 0 && i + 2 < MANY) continue;
        for (int j = 0; j <= i; j += 2) {
            struct seemalloc_chunk c;
            if (!find_chunk(block[j], &c)) not_reached("a freed block merged though its neighbours are in use");
            if (c.state == a || c.state == b) return block[j];
        }
    }
    not_reached("no block came into the state asked for");
}

static void parked(void) {
    fill(64);
    void *p = free_until(SEEMALLOC_PARKED, SEEMALLOC_PARKED);
    about(p);
    give(p);
}

static void flushed_to_bin(void) {
    fill(200);
    void *p = free_until(SEEMALLOC_SMALL, SEEMALLOC_UNSORTED);
    about(p);
    give(p);
}

/* Where cutting would leave too little, a cache gets a chunk that is larger than its class: it is still found. */
static void larger_than_its_class(void) {
    static bool was_binned[MANY];
    fill(200);
    free_until(SEEMALLOC_SMALL, SEEMALLOC_UNSORTED);
    malloc_trim(0); /* whatever waits elsewhere comes into bins as well */
    for (int i = 0; i < MANY; i += 2) {
        enum seemalloc_state state = state_of(block[i]);
        was_binned[i] = state == SEEMALLOC_SMALL || state == SEEMALLOC_UNSORTED;
    }
    for (int taken = 0; taken < MANY; taken++) {
        take(184);
        for (int i = 0; i < MANY; i += 2) {
            if (!was_binned[i] || state_of(block[i]) != SEEMALLOC_CACHED) continue;
            about(block[i]);
            give(block[i]);
            survived();
        }
    }
    not_reached("no such block came into the cache");
}

static void flushed_and_reused_neighbours(void) {
    fill(64);
    void *p = free_until(SEEMALLOC_PARKED, SEEMALLOC_PARKED);
    /* Allocate and free around it without taking it. */
    for (int i = 0; i < 8; i++) give(take(64));
    if (state_of(p) != SEEMALLOC_PARKED && state_of(p) != SEEMALLOC_CACHED) not_reached("the block left the parked batch");
    about(p);
    give(p);
}

/* Many frees later, wherever the block went: freed at first, all its fellows after it. */
static void freed_first_of_many(void) {
    fill(64);
    void *p = block[0];
    about(p);
    for (int i = 0; i < MANY; i += 2) give(block[i]);
    give(p);
}

static void all_fellows_freed(void) {
    fill(64);
    void *p = block[MANY / 2];
    about(p);
    for (int i = 0; i < MANY; i++) give(block[i]);
    give(p);
}

/* ---- two threads ---- */

static void *free_in_thread(void *p) {
    give(p);
    return NULL;
}

static void run_thread(void *(*f)(void *), void *arg) {
    pthread_t t;
    if (pthread_create(&t, NULL, f, arg)) not_reached("no thread");
    pthread_join(t, NULL);
}

static void second_in_other_thread(void) {
    void *p = take(100);
    about(p);
    give(p);
    run_thread(free_in_thread, p);
}

static pthread_barrier_t barrier;

static void *free_and_stay(void *p) {
    /* A cache of its own, in use before and after. */
    give(take(100));
    give(p);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void first_in_living_thread(void) {
    void *p = take(100);
    about(p);
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_t t;
    if (pthread_create(&t, NULL, free_and_stay, p)) not_reached("no thread");
    pthread_barrier_wait(&barrier);
    give(p);
    pthread_barrier_wait(&barrier);
    pthread_join(t, NULL);
}

static void first_in_thread_that_ended(void) {
    void *p = take(100);
    void *pin = take(100);
    about(p);
    run_thread(free_in_thread, p);
    give(p);
    give(pin);
}

static void *free_all_and_stay(void *arg) {
    (void)arg;
    for (int i = 0; i < MANY; i += 2) give(block[i]);
    mallopt(M_ARENA_TEST, 8); /* empties its cache: what is of another arena is sent home */
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

/* The other thread emptied its magazines: our blocks lie in our own inbox. */
static void in_inbox(void) {
    fill(64);
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_t t;
    if (pthread_create(&t, NULL, free_all_and_stay, NULL)) not_reached("no thread");
    pthread_barrier_wait(&barrier);
    void *p = NULL;
    for (int i = 0; i < MANY && !p; i += 2)
        if (state_of(block[i]) == SEEMALLOC_INBOX) p = block[i];
    if (!p) not_reached("no block came into the inbox");
    about(p);
    give(p);
}

/* ---- straight into the arena (cache off) ---- */

static void fast_top(void) {
    void *p = take(40);
    void *pin = take(40);
    twice(p);
    give(pin);
}

static void fast_below_top(void) {
    void *a = take(40), *b = take(40);
    void *pin = take(40);
    about(a);
    give(a);
    give(b);
    give(a);
    give(pin);
}

static void fast_far_below_top(void) {
    void *p[200];
    for (int i = 0; i < 200; i++) p[i] = take(40);
    about(p[0]);
    for (int i = 0; i < 200; i += 2) give(p[i]);
    give(p[0]);
}

static void unsorted_bin(void) {
    void *p = take(400);
    void *pin = take(400);
    about(p);
    give(p);
    need_state(p, SEEMALLOC_UNSORTED, SEEMALLOC_LAST_REMAINDER);
    give(p);
    give(pin);
}

static void small_bin(void) {
    void *p = take(400);
    void *pin = take(400);
    about(p);
    give(p);
    take(2000); /* sorts it */
    need_state(p, SEEMALLOC_SMALL, SEEMALLOC_LAST_REMAINDER);
    give(p);
    give(pin);
}

static void large_bin(void) {
    void *p = take(5000);
    void *pin = take(400);
    about(p);
    give(p);
    take(9000);
    need_state(p, SEEMALLOC_LARGE, SEEMALLOC_LAST_REMAINDER);
    give(p);
    give(pin);
}

/* a b pin: the second was freed after the first and is now the middle of one chunk; its header is wiped. */
static void merged_backward(void) {
    void *p[3];
    adjacent(2000, p, 3);
    about(p[1]);
    give(p[0]);
    give(p[1]);
    give(p[1]);
}

static void merged_forward(void) {
    void *p[3];
    adjacent(2000, p, 3);
    about(p[1]);
    give(p[1]);
    give(p[0]);
    give(p[1]);
}

static void merged_both_ways(void) {
    void *p[4];
    adjacent(2000, p, 4);
    about(p[1]);
    give(p[0]);
    give(p[2]);
    give(p[1]);
    give(p[1]);
}

/* The first of the two is still the head of a free chunk, of a larger one. */
static void merged_head(void) {
    void *p[3];
    adjacent(2000, p, 3);
    about(p[0]);
    give(p[0]);
    give(p[1]);
    give(p[0]);
}

static void merged_into_top(void) {
    void *p[2];
    adjacent(2000, p, 2);
    about(p[1]);
    give(p[1]);
    need_state(p[1], SEEMALLOC_TOP, SEEMALLOC_TOP);
    give(p[1]);
}

static void merged_inside_top(void) {
    void *p[3];
    adjacent(2000, p, 3);
    about(p[2]);
    give(p[2]);
    give(p[1]);
    need_state(p[1], SEEMALLOC_TOP, SEEMALLOC_TOP);
    give(p[2]);
}

/* realloc merged the neighbour into the block in use: what is left of the neighbour is nobody's. */
static void absorbed_by_realloc(void) {
    void *p[3];
    adjacent(2000, p, 3);
    about(p[1]);
    give(p[1]);
    memset(p[0], 0, 2000);
    if (retake(p[0], 4000) != p[0]) not_reached("realloc did not grow in place");
    give(p[1]);
}

/* realloc shrank the block and freed its tail; the tail is no block of the program's. */
static void tail_of_shrunk(void) {
    void *p[2];
    adjacent(1000, p, 2);
    if (retake(p[0], 600) != p[0]) not_reached("realloc did not shrink in place"); /* a medium block would stay whole, or move */
    void *tail = (char *)p[0] + chunk_bytes(600);
    about(tail);
    give(tail);
}

static void reused_by_larger(void) {
    void *p[4];
    adjacent(2000, p, 4);
    about(p[1]);
    give(p[0]);
    give(p[1]);
    give(p[2]);
    char *q = take(5900);
    if (q != p[0]) not_reached("the merged chunk was not used");
    memset(q, 0x41, 5900);
    give(p[1]);
}

static void *free_when_told(void *arg) {
    pthread_barrier_wait(&barrier);
    give(*(void **)arg);
    return NULL;
}

/* The thread exists before: its creation must not use the block that was freed. */
static void binned_other_thread(void) {
    void *p[2];
    adjacent(2000, p, 2);
    about(p[0]);
    pthread_barrier_init(&barrier, NULL, 2);
    pthread_t t;
    if (pthread_create(&t, NULL, free_when_told, p)) not_reached("no thread");
    give(p[0]);
    pthread_barrier_wait(&barrier);
    pthread_join(t, NULL);
}

/* ---- mapped ---- */

static void mapped(void) {
    void *p = take((size_t)64 << 20);
    twice(p);
}

static void mapped_with_pins(void) {
    void *a = take((size_t)40 << 20), *p = take((size_t)40 << 20), *b = take((size_t)40 << 20);
    twice(p);
    give(a);
    give(b);
}

const struct abuse_case abuse_cases[] = {
    {"at once", at_once, 0, {TCACHE}},
    {"at once, malloc(0)", at_once_smallest, 0, {TCACHE}},
    {"at once, medium size", at_once_medium, 0, {TCACHE, TOP, PREV}},
    {"at once, calloc", at_once_calloc, 0, {TCACHE}},
    {"at once, memalign", at_once_aligned, 0, {TCACHE}},
    {"other frees between", others_between, 0, {TCACHE}},
    {"other sizes between", other_sizes_between, 0, {TCACHE}},
    {"after reuse", after_reuse, 0, {TCACHE}},
    {"after realloc to zero", after_realloc_to_zero, 0, {TCACHE}},
    {"after a realloc that moved", after_moving_realloc, 0, {TCACHE}},
    {"the key's value is data", key_value_is_data, ABUSE_SURVIVE, {0}},
    {"parked", parked, 0, {TCACHE}},
    {"flushed to a bin", flushed_to_bin, 0, {PREV}},
    {"larger than its class", larger_than_its_class, 0, {TCACHE}},
    {"parked, neighbours reused", flushed_and_reused_neighbours, 0, {TCACHE}},
    {"freed first of many", freed_first_of_many, 0, {TCACHE, PREV}},
    {"all fellows freed", all_fellows_freed, 0, {TCACHE, FASTTOP, PREV, TOP, POINTER, SIZE}},
    {"second in another thread", second_in_other_thread, 0, {TCACHE}},
    {"second in another thread, one arena", second_in_other_thread, ABUSE_ARENAS, {TCACHE}},
    {"first in a living thread", first_in_living_thread, 0, {TCACHE}},
    {"first in a thread that ended", first_in_thread_that_ended, 0, {TCACHE, PREV}},
    {"in the inbox", in_inbox, 0, {TCACHE}},
    {"fast bin, top", fast_top, ABUSE_CACHE_OFF, {FASTTOP}},
    {"fast bin, second", fast_below_top, ABUSE_CACHE_OFF, {FASTTOP, TCACHE, PREV}},
    {"fast bin, far down", fast_far_below_top, ABUSE_CACHE_OFF, {FASTTOP, TCACHE, PREV}},
    {"unsorted bin", unsorted_bin, ABUSE_CACHE_OFF, {PREV}},
    {"small bin", small_bin, ABUSE_CACHE_OFF, {PREV}},
    {"large bin", large_bin, ABUSE_CACHE_OFF, {PREV}},
    {"merged backward", merged_backward, ABUSE_CACHE_OFF, {POINTER, SIZE}},
    {"merged forward", merged_forward, ABUSE_CACHE_OFF, {POINTER, SIZE}},
    {"merged both ways", merged_both_ways, ABUSE_CACHE_OFF, {POINTER, SIZE}},
    {"merged, head of the whole", merged_head, ABUSE_CACHE_OFF, {PREV}},
    {"merged into the top", merged_into_top, ABUSE_CACHE_OFF, {TOP}},
    {"merged inside the top", merged_inside_top, ABUSE_CACHE_OFF, {POINTER, SIZE}},
    {"absorbed by realloc", absorbed_by_realloc, ABUSE_CACHE_OFF, {POINTER, SIZE}},
    {"tail of a shrunk block", tail_of_shrunk, ABUSE_CACHE_OFF, {PREV}},
    {"reused by a larger block", reused_by_larger, ABUSE_CACHE_OFF | ABUSE_SEAL, {POINTER, SIZE}},
    {"binned, second in another thread", binned_other_thread, ABUSE_CACHE_OFF, {PREV}},
    {"mapped", mapped, ABUSE_SEGV_OK, {"munmap_chunk(): invalid pointer", "double free or corruption (out)", POINTER}},
    {"mapped between others",
     mapped_with_pins,
     ABUSE_SEGV_OK,
     {"munmap_chunk(): invalid pointer", "double free or corruption (out)", POINTER}},
    {0},
};
