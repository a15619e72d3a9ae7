/* t23.c: T23. One main arena (uses brk and mmap), further arenas for threads (only mmap), each with its own lock; a thread that finds its
 * arena busy may use another; their number is limited.
 *
 * An arena is kept busy by the visitor of a walk, which is called with the arena's lock held: no race has to be won.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>

#define THREADS 80

static void nap(void) {
    struct timespec time = {0, 1000000};
    nanosleep(&time, NULL);
}

static void wait_for(atomic_int *flag, int value) {
    while (atomic_load(flag) < value) nap();
}

/* --- threads that live at the same time --- */

static atomic_int arrived, leave;
static void *taken[THREADS];

static void *resident(void *arg) {
    void **slot = arg;
    *slot = get_filled(1000);
    atomic_fetch_add(&arrived, 1);
    wait_for(&leave, 1);
    put(*slot);
    return NULL;
}

static pthread_t threads[THREADS];

static void start_threads(int n) {
    atomic_store(&arrived, 0);
    atomic_store(&leave, 0);
    for (int i = 0; i < n; i++) {
        REQUIRE("a thread", pthread_create(&threads[i], NULL, resident, &taken[i]) == 0);
        wait_for(&arrived, i + 1);
    }
}

static void end_threads(int n) {
    atomic_store(&leave, 1);
    for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
}

/* Arenas in use by the main thread and n others, counted from where their blocks are. */
static unsigned arenas_of(int n) {
    static unsigned char used[2048];
    unsigned count = 0;
    memset(used, 0, sizeof used);
    void *own = get_filled(1000);
    look();
    for (int i = -1; i < n; i++) {
        const struct view *v = view_of(i < 0 ? own : taken[i]);
        REQUIRE("the walk knows the block", v);
        REQUIRE("ids are small", v->arena < sizeof used);
        CHECK("A says whether it is another arena", !!(v->flags & SEEMALLOC_FLAG_A) == (v->arena != 0));
        if (i < 0) CHECK_EQ("the main thread has the main arena", v->arena, 0);
        count += !used[v->arena]++;
    }
    put(own);
    return count;
}

static void kinds(void) {
    texts_quiet = 1;
    start_threads(3);
    CHECK_EQ("each of four threads has an arena of its own", arenas_of(3), 4);
    texts_quiet = 0;
    CHECK_EQ("arenas by the statistics", stats_now().arenas, 4);
    void *heap = get_filled(KIB(40)), *block = get_filled(MIB(1));
    look();
    size_t main_regions = 0, other_regions = 0;
    texts_quiet = 1;
    for (size_t i = 0; i < view_count; i++) {
        const struct view *v = &views[i];
        if (v->kind == SEEMALLOC_REGION_BLOCK || view_prev(v)) continue;
        struct mapping m;
        REQUIRE("the region is mapped", mapping_of(v->region_start, &m));
        if (v->arena == 0) {
            main_regions++;
            CHECK_EQ("the main arena lies on the break", v->kind, SEEMALLOC_REGION_BRK);
            CHECK("which the kernel calls [heap]", !strcmp(m.name, "[heap]"));
        } else {
            other_regions++;
            CHECK_EQ("another arena has heaps", v->kind, SEEMALLOC_REGION_HEAP);
            CHECK("of mappings without a file", m.name[0] != '/' && strcmp(m.name, "[heap]"));
        }
    }
    texts_quiet = 0;
    CHECK_EQ("regions of the main arena", main_regions, 1);
    CHECK_EQ("regions of the others", other_regions, 3);
    CHECK_EQ("the main arena uses brk", view_of(heap)->kind, SEEMALLOC_REGION_BRK);
    CHECK_EQ("and, for large blocks, mmap", view_of(block)->kind, SEEMALLOC_REGION_BLOCK);
    put(heap);
    put(block);
    end_threads(3);
}

static void *many(void *unused) {
    (void)unused;
    static void *blocks[200];
    for (size_t i = 0; i < COUNT_OF(blocks); i++) blocks[i] = get_filled(KIB(100));
    for (size_t i = 0; i < COUNT_OF(blocks); i++) put(blocks[i]);
    return NULL;
}

static void only_mmap(void) {
    put(get_filled(1000));
    struct seemalloc_stats before = stats_now();
    uintptr_t end = brk_now();
    pthread_t thread;
    REQUIRE("a thread", pthread_create(&thread, NULL, many, NULL) == 0);
    pthread_join(thread, NULL);
    struct seemalloc_stats after = stats_now();
    CHECK_EQ("20 MB in a thread: brk calls", calls_between(&before, &after, SEEMALLOC_CALL_BRK_GROW), 0);
    CHECK_PTR("brk stays", brk_now(), end);
    CHECK_IN("mmap for a heap", calls_between(&before, &after, SEEMALLOC_CALL_MMAP_HEAP), 1, 2);

    /* Where the break can't grow, the main arena uses mmap. */
    void *wall =
        mmap((void *)round_up(brk_now(), page_size), page_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    REQUIRE("something stands in the break's way", wall == (void *)round_up(brk_now(), page_size));
    look();
    size_t in_use = views_in(SEEMALLOC_IN_USE); /* what the thread library keeps */
    before = stats_now();
    static void *blocks[20];
    for (size_t i = 0; i < COUNT_OF(blocks); i++) blocks[i] = get_filled(KIB(100));
    after = stats_now();
    CHECK_IN("the main arena then uses mmap", calls_between(&before, &after, SEEMALLOC_CALL_MMAP_REGION), 1, 20);
    look();
    const struct view *v = view_of(blocks[19]);
    REQUIRE("the walk knows the block", v);
    CHECK_EQ("it is of the main arena", v->arena, 0);
    CHECK_EQ("in a mapping that stands in for the break", v->kind, SEEMALLOC_REGION_MMAP);
    for (size_t i = 0; i < COUNT_OF(blocks); i++) put(blocks[i]);
    look();
    CHECK_EQ("all freed: blocks in use as before", views_in(SEEMALLOC_IN_USE), in_use);
}

/* --- the limit --- */

static unsigned arenas_with(int n) {
    texts_quiet = 1;
    start_threads(n);
    unsigned count = arenas_of(n);
    end_threads(n);
    texts_quiet = 0;
    return count;
}

static void limit_1(void) {
    CHECK_EQ("limit 1, 8 threads: arenas", arenas_with(8), 1);
    CHECK_EQ("by the statistics", stats_now().arenas, 1);
}

static void limit_2(void) {
    CHECK_EQ("limit 2, 8 threads: arenas", arenas_with(8), 2);
    CHECK_EQ("by the statistics", stats_now().arenas, 2);
}

static void limit_16(void) {
    CHECK_EQ("limit 16, 8 threads: each and the main thread have their own", arenas_with(8), 9);
    CHECK_EQ("24 threads: no more than 16", arenas_with(24), 16);
    CHECK_EQ("by the statistics", stats_now().arenas, 16);
}

static void limit_by_mallopt(void) {
    CHECK_EQ("mallopt(M_ARENA_MAX, 3)", mallopt(M_ARENA_MAX, 3), 1);
    CHECK_EQ("limit 3, 8 threads: arenas", arenas_with(8), 3);
}

static void limit_by_default(void) {
    cpu_set_t set;
    CPU_ZERO(&set);
    REQUIRE("the CPUs that may be used", sched_getaffinity(0, sizeof set, &set) == 0);
    unsigned most = 2 * (unsigned)CPU_COUNT(&set);
    if (most > 64) most = 64;
    /* A cgroup's quota may make it less. */
    CHECK_IN("many threads: arenas, at most twice the CPUs and 64", arenas_with((int)most + 8), 2, most);
}

/* --- reuse --- */

static void *once(void *arg) {
    *(void **)arg = get_filled(1000);
    return NULL;
}

static void reuse(void) {
    unsigned first = 0;
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        void *mem = NULL;
        REQUIRE("a thread", pthread_create(&thread, NULL, once, &mem) == 0);
        pthread_join(thread, NULL);
        texts_quiet = i > 1;
        look();
        REQUIRE("the walk knows the block", view_of(mem));
        unsigned arena = view_of(mem)->arena;
        CHECK("it is not of the main arena", arena != 0);
        if (i == 0) first = arena;
        CHECK_EQ("the next thread gets the arena that the last one left", arena, first);
        CHECK("its blocks stay good", filled(mem, 1000, 0xA5));
        if (i % 2) put(mem); /* and can be freed by others */
    }
    texts_quiet = 0;
    CHECK_EQ("20 threads, one after the other: arenas", stats_now().arenas, 2);
}

/* --- locks --- */

static atomic_int holding, let_go;
static atomic_uint hold_arena; /* the arena to keep busy */

static int hold(const struct seemalloc_chunk *chunk, void *arg) {
    int *naps = arg;
    if (chunk->arena != atomic_load(&hold_arena) || chunk->state == SEEMALLOC_MAPPED) return 0;
    atomic_store(&holding, 1);
    /* The bound is there so that a failure is reported, not to measure anything. */
    for (*naps = 0; !atomic_load(&let_go) && *naps < 20000; ++*naps) nap();
    return 1;
}

static int held_naps;

static void *holder(void *unused) {
    (void)unused;
    int (*walk)(int (*)(const struct seemalloc_chunk *, void *), void *);
    void *address = dlsym(RTLD_DEFAULT, "seemalloc_walk");
    memcpy(&walk, &address, sizeof walk);
    void *own = get_filled(1000);
    walk(hold, &held_naps);
    put(own);
    return NULL;
}

static pthread_t hold_busy(unsigned arena) {
    pthread_t thread;
    atomic_store(&holding, 0);
    atomic_store(&let_go, 0);
    atomic_store(&hold_arena, arena);
    REQUIRE("a thread", pthread_create(&thread, NULL, holder, NULL) == 0);
    wait_for(&holding, 1);
    return thread;
}

static void own_locks(void) {
    /* While the main arena's lock is held, a thread with another arena goes on: new memory, freeing, growing, trimming. */
    put(get_filled(1000));
    start_threads(1);
    put(get_filled(1000));
    pthread_t busy = hold_busy(0);
    pthread_t other;
    REQUIRE("a thread", pthread_create(&other, NULL, many, NULL) == 0);
    pthread_join(other, NULL);
    atomic_store(&let_go, 1);
    pthread_join(busy, NULL);
    CHECK_IN("the lock was held until the other thread had done its work: naps of the holder", held_naps, 0, 19999);
    end_threads(1);
}

#define SERVED 50
static void *served[SERVED];

static void busy_arena(void) {
    /* Limit 2: the main arena and the holder's. The main thread's arena is busy. */
    put(get_filled(1000));
    pthread_t busy = hold_busy(0);
    for (size_t i = 0; i < SERVED; i++) served[i] = get_filled(1000 + 16 * i);
    int while_held = !atomic_load(&let_go);
    atomic_store(&let_go, 1);
    pthread_join(busy, NULL);
    CHECK_IN("the main thread was served while its arena was busy: naps of the holder", while_held ? held_naps : 20000, 0, 19999);
    look();
    texts_quiet = 1;
    for (size_t i = 0; i < SERVED; i++) {
        const struct view *v = view_of(served[i]);
        REQUIRE("the walk knows the block", v);
        CHECK("it is in use, of another arena than the busy one", v->state == SEEMALLOC_IN_USE && v->arena != 0);
        CHECK("and not one that fork keeps in reserve only: it has A and a heap",
              (v->flags & SEEMALLOC_FLAG_A) && v->kind == SEEMALLOC_REGION_HEAP);
        CHECK("nobody else has it", filled(served[i], 1000 + 16 * i, 0xA5));
    }
    texts_quiet = 0;
    CHECK_EQ("no arena was made beyond the limit", stats_now().arenas, 2);
    for (size_t i = 0; i < SERVED; i++) put(served[i]);
    void *after = get_filled(1000);
    look();
    CHECK_EQ("afterwards it has its own arena again", view_of(after)->arena, 0);
}

int main(int argc, char **argv) {
    (void)argc;
    static const struct texts_part wide[] = {
        {"kinds", kinds}, {"only mmap", only_mmap}, {"limit 16", limit_16}, {"reuse", reuse}, {"own locks", own_locks},
    };
    static const struct texts_part one[] = {{"limit 1", limit_1}};
    static const struct texts_part two[] = {{"limit 2", limit_2}, {"busy", busy_arena}};
    static const struct texts_part none[] = {{"mallopt", limit_by_mallopt}, {"default", limit_by_default}};
    const char *part = texts_begin(argv, "T23", NO_CACHE);
    texts_parts(part, NO_CACHE ",arena_max:16", wide, COUNT_OF(wide));
    texts_parts(part, NO_CACHE ",arena_max:1", one, COUNT_OF(one));
    texts_parts(part, NO_CACHE ",arena_max:2", two, COUNT_OF(two));
    texts_parts(part, NO_CACHE, none, COUNT_OF(none));
    if (!*part) {
        const char *const glibc_name[] = {"SEEMALLOC_CONF=" NO_CACHE, "MALLOC_ARENA_MAX=2", NULL};
        texts_again("limit 2", glibc_name);
    }
    return texts_end();
}
