/* info.c: the statistics tell the truth: in a single-threaded program what mallinfo2, mallinfo, malloc_info, malloc_stats and
 * seemalloc_get_stats say equals what a walk of the heap finds, in every state that a heap can be in.
 *
 * Usage: info STEP, where STEP picks the heap. Writes malloc_info's text to stdout and the walk's sums, as name=value lines, to file
 * descriptor 3; test/abi/info compares them. malloc_stats goes to stderr. What can be compared here is compared here.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "check.h"
#include "seemalloc.h"
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

static void *(*volatile v_malloc)(size_t) = malloc;
static void (*volatile v_free)(void *) = free;
static int (*walk)(int (*)(const struct seemalloc_chunk *, void *), void *);
static int (*get_stats)(struct seemalloc_stats *);

/* What one walk adds up. */
struct sums {
    size_t bytes[SEEMALLOC_STATE_COUNT], count[SEEMALLOC_STATE_COUNT];
    size_t by_arena[64], free_by_arena[64], fast_by_arena[64];
    size_t top_largest;
    unsigned ids; /* highest arena id + 1 */
    /* continuity: chunks follow each other within a region */
    const void *next, *region_start;
    int gaps, bad;
};

static int add(const struct seemalloc_chunk *c, void *arg) {
    struct sums *s = arg;
    if (c->state >= SEEMALLOC_STATE_COUNT || (const char *)c->mem != (const char *)c->chunk + 16 || !c->region) {
        s->bad++;
        return 0;
    }
    s->bytes[c->state] += c->size;
    s->count[c->state]++;
    if (c->state == SEEMALLOC_MAPPED) return 0;
    if (c->arena < 64) {
        s->by_arena[c->arena] += c->size;
        if (c->state != SEEMALLOC_IN_USE && c->state != SEEMALLOC_FENCEPOST && c->state != SEEMALLOC_ABANDONED)
            s->free_by_arena[c->arena] += c->size;
        if (c->state == SEEMALLOC_FAST || c->state == SEEMALLOC_CACHED || c->state == SEEMALLOC_PARKED || c->state == SEEMALLOC_INBOX)
            s->fast_by_arena[c->arena] += c->size;
        if (c->arena + 1 > s->ids) s->ids = c->arena + 1;
    }
    if (c->region->start != s->region_start) {
        if (s->region_start && s->next) s->gaps += 0;
        s->region_start = c->region->start;
    } else if (c->chunk != s->next) {
        s->gaps++;
    }
    s->next = (const char *)c->chunk + c->size;
    return 0;
}

/* ---- heaps ---- */

static void *p[20000];

static void scattered(void) {
    unsigned seed = 1;
    for (int i = 0; i < 20000; i++) {
        seed = seed * 1103515245 + 12345;
        p[i] = v_malloc((seed >> 16) % ((seed >> 4) % 50 == 0 ? 20000 : 700));
    }
    for (int i = 0; i < 20000; i++)
        if (i * 7 % 11 < 6) v_free(p[i]);
}

static void all_freed(void) {
    scattered();
    for (int i = 0; i < 20000; i++)
        if (i * 7 % 11 >= 6) v_free(p[i]);
}

static void mapped_blocks(void) {
    for (int i = 0; i < 10; i++) p[i] = v_malloc((size_t)1 << (18 + i % 4));
    v_free(p[3]);
    v_free(p[7]);
    memset(p[0], 1, 1000);
}

static void fast_and_bins(void) {
    for (int i = 0; i < 3000; i++) p[i] = v_malloc((size_t)(i % 40) * 16);
    for (int i = 0; i < 3000; i += 2) v_free(p[i]);
    for (int i = 0; i < 300; i++) p[i] = v_malloc(2000 + (size_t)i * 16);
    for (int i = 0; i < 300; i += 2) v_free(p[i]);
    v_malloc(100000);
    for (int i = 1; i < 300; i += 4) v_free(p[i]);
}

static void *other_thread(void *arg) {
    (void)arg;
    for (int i = 0; i < 3000; i++) p[i] = v_malloc((size_t)(i % 100) * 16);
    for (int i = 0; i < 3000; i += 3) v_free(p[i]);
    return NULL;
}

static void after_threads(void) {
    pthread_t t;
    for (int round = 0; round < 3; round++) {
        if (pthread_create(&t, NULL, other_thread, NULL)) exit(3);
        pthread_join(t, NULL);
    }
    for (int i = 1; i < 3000; i += 3) v_free(p[i]);
}

static void untouched(void) {}

static void (*const steps[])(void) = {untouched, scattered, all_freed, mapped_blocks, fast_and_bins, after_threads};

/* ---- */

static char buffer[1 << 20];

static void compare_numbers(const struct sums *s, const struct seemalloc_stats *t) {
    size_t heap = 0, free_bytes = 0;
    for (int i = 0; i < SEEMALLOC_STATE_COUNT; i++) {
        CHECK(s->bytes[i] == t->bytes[i]);
        CHECK(s->count[i] == t->count[i]);
        if (i != SEEMALLOC_MAPPED) heap += s->bytes[i];
        if (i != SEEMALLOC_MAPPED && i != SEEMALLOC_IN_USE && i != SEEMALLOC_FENCEPOST && i != SEEMALLOC_ABANDONED)
            free_bytes += s->bytes[i];
    }
    CHECK(s->gaps == 0 && s->bad == 0);
    CHECK(heap == t->heap_bytes);
    CHECK(t->heap_peak >= t->heap_bytes + t->mapped_bytes || t->heap_peak >= t->heap_bytes);
    CHECK(t->mapped_count == s->count[SEEMALLOC_MAPPED]);
    CHECK(t->mapped_bytes >= s->bytes[SEEMALLOC_MAPPED]);
    unsigned with_memory = 0;
    for (unsigned i = 0; i < s->ids; i++) with_memory += s->by_arena[i] != 0;
    CHECK(t->arenas >= with_memory && t->arenas <= s->ids + 1);

    struct mallinfo2 m = mallinfo2();
    CHECK(m.arena == t->heap_bytes);
    CHECK(m.hblks == t->mapped_count);
    CHECK(m.hblkhd == t->mapped_bytes);
    CHECK(m.usmblks == 0);
    /* "Fast" is what is free and not merged: where glibc has fast bins, there are magazines, parked batches and inboxes besides. */
    CHECK(m.smblks == s->count[SEEMALLOC_FAST] + s->count[SEEMALLOC_CACHED] + s->count[SEEMALLOC_PARKED] + s->count[SEEMALLOC_INBOX]);
    CHECK(m.fsmblks == s->bytes[SEEMALLOC_FAST] + s->bytes[SEEMALLOC_CACHED] + s->bytes[SEEMALLOC_PARKED] + s->bytes[SEEMALLOC_INBOX]);
    CHECK(m.uordblks + m.fordblks == m.arena);
    CHECK(m.fordblks == free_bytes);
    CHECK(m.uordblks == s->bytes[SEEMALLOC_IN_USE] + s->bytes[SEEMALLOC_FENCEPOST] + s->bytes[SEEMALLOC_ABANDONED]);
    CHECK(m.ordblks == s->count[SEEMALLOC_UNSORTED] + s->count[SEEMALLOC_SMALL] + s->count[SEEMALLOC_LARGE] +
                           s->count[SEEMALLOC_LAST_REMAINDER] + s->count[SEEMALLOC_PURGING] + s->count[SEEMALLOC_TOP]);
    /* keepcost: what malloc_trim could give back at the top of the main arena */
    CHECK(m.keepcost <= s->bytes[SEEMALLOC_TOP]);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    struct mallinfo old = mallinfo();
#pragma GCC diagnostic pop
    CHECK((size_t)old.arena == m.arena && (size_t)old.ordblks == m.ordblks && (size_t)old.smblks == m.smblks);
    CHECK((size_t)old.hblks == m.hblks && (size_t)old.hblkhd == m.hblkhd && (size_t)old.fsmblks == m.fsmblks);
    CHECK((size_t)old.uordblks == m.uordblks && (size_t)old.fordblks == m.fordblks && (size_t)old.keepcost == m.keepcost);
}

static struct sums sums_now(void) {
    struct sums s = {0};
    CHECK(walk(add, &s) == 0);
    return s;
}

static void write_sums(const struct sums *s, const struct seemalloc_stats *t) {
    char text[8192];
    int n = 0;
    for (int i = 0; i < SEEMALLOC_STATE_COUNT; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "bytes%d=%zu\ncount%d=%zu\n", i, s->bytes[i], i, s->count[i]);
    for (unsigned i = 0; i < s->ids; i++) {
        if (s->by_arena[i] == 0) continue;
        n += snprintf(text + n, sizeof text - (size_t)n, "arena%u=%zu\nfree%u=%zu\nfast%u=%zu\n", i, s->by_arena[i], i, s->free_by_arena[i],
                      i, s->fast_by_arena[i]);
    }
    n += snprintf(text + n, sizeof text - (size_t)n, "heap=%zu\npeak=%zu\nmapped=%zu\nmapped_count=%zu\narenas=%u\n", t->heap_bytes,
                  t->heap_peak, t->mapped_bytes, t->mapped_count, t->arenas);
    if (write(3, text, (size_t)n) != n) exit(3);
}

static void test_bad_options(FILE *f) {
    errno = 0;
    CHECK(malloc_info(1, f) == EINVAL || errno == EINVAL);
    CHECK(malloc_info(-1, f) != 0);
}

static int stop_at(const struct seemalloc_chunk *c, void *arg) {
    (void)c;
    return ++*(int *)arg == 2 ? 42 : 0;
}

int main(int argc, char **argv) {
    check_library(1, argv);
    int step = argc > 1 ? atoi(argv[1]) : 0;
    if (step < 0 || step >= (int)(sizeof steps / sizeof *steps)) return 3;
    *(void **)&walk = dlsym(RTLD_DEFAULT, "seemalloc_walk");
    *(void **)&get_stats = dlsym(RTLD_DEFAULT, "seemalloc_get_stats");
    if (!walk || !get_stats) return 3;
    /* No buffer of stdio's takes part in what is counted. */
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    setvbuf(stderr, NULL, _IONBF, 0);
    void *volatile held = v_malloc(100); /* so that no heap is all top */
    CHECK(held != NULL);
    steps[step]();

    struct seemalloc_stats t;
    struct sums s = sums_now();
    CHECK(get_stats(&t) == 0);
    compare_numbers(&s, &t);
    write_sums(&s, &t);
    CHECK(malloc_info(0, stdout) == 0);
    test_bad_options(stdout);
    malloc_stats();
    /* Looking changes nothing. */
    struct sums again = sums_now();
    CHECK(memcmp(again.bytes, s.bytes, sizeof s.bytes) == 0);
    CHECK(memcmp(again.count, s.count, sizeof s.count) == 0);
    int visits = 0;
    CHECK(walk(stop_at, &visits) == 42 && visits == 2);

    /* One more block is one more block. */
    size_t before = mallinfo2().uordblks + mallinfo2().hblkhd;
    void *block = v_malloc(5000);
    size_t with = mallinfo2().uordblks + mallinfo2().hblkhd;
    CHECK(with >= before + 5000 && with <= before + 5000 + 1000);
    v_free(block);
    CHECK(mallinfo2().uordblks + mallinfo2().hblkhd == before);
    struct seemalloc_stats later;
    CHECK(get_stats(&later) == 0);
    CHECK(later.bytes[SEEMALLOC_IN_USE] == t.bytes[SEEMALLOC_IN_USE]);
    fflush(stdout);
    return check_result();
}
