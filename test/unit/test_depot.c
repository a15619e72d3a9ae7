/* test_depot.c: the depot: what goes in comes out, of any arena, once; how much may lie there; when it goes home; what fork makes of it.
 * SPDX-License-Identifier: MIT */
#include "unit.h"

#include "cache/cache.h"
#include "conf/conf.h"
#include "fake.h"
#include "heap/retain.h"
#include "os/os.h"

void *seemalloc_malloc(size_t size);
void seemalloc_free(void *mem);
int seemalloc_malloc_trim(size_t pad);

enum { SIZE = 112, SLOT = SIZE / CHUNK_ALIGN, MANY = 4 * DEPOT_BATCH };

/* Blocks of an arena, each with the key, as they come from a magazine. */
static void get(struct arena *arena, unsigned slot, void **mem, unsigned n) {
    bool zeroed;
    for (unsigned i = 0; i < n; i++) {
        mem[i] = arena_serve(arena, slot * CHUNK_ALIGN, CHUNK_ALIGN, false, &zeroed);
        CHECK(mem[i] != NULL);
        key_set(mem[i]);
    }
}

static bool put(unsigned slot, void **mem, unsigned n) {
    unsigned done = depot_put(&arena_main, slot, mem, n);
    CHECK(done == 0 || done == n);
    return done != 0;
}

/* Without a cache every block takes the way through the arena. */
static void no_cache(void) {
    cache_init();
    store_relaxed(&conf_values[CONF_TCACHE_MAX], 0);
}

/* The youngest come first, as they lay in their batch, whatever sizes the batches had; and each once. */
static void last_in_first_out(void) {
    no_cache();
    static void *mem[MANY], *again[MANY];
    static const unsigned sizes[] = {1, 40, 30, 150, 7, 11, 17}; /* one more than a batch, and than two */
    get(&arena_main, SLOT, mem, MANY);
    unsigned n = 0;
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; n += sizes[i++]) {
        CHECK(put(SLOT, mem + n, sizes[i]));
        CHECK_HEAP();
    }
    CHECK_EQ(n, MANY);
    CHECK_EQ(depot_bytes, MANY * SIZE);
    CHECK_EQ(depot_take(&arena_main, SLOT, 10, again), 10); /* batches are filled up: the last one has 64 */
    for (unsigned i = 0; i < 10; i++) CHECK_EQ(again[i], mem[MANY - 1 - i]);
    CHECK_EQ(depot_take(&arena_main, SLOT, MANY, again), MANY - 10);
    n = MANY - 10;
    for (unsigned left = MANY - 10; left != 0;) { /* batch by batch, the first one to come at the end */
        unsigned here = left % DEPOT_BATCH != 0 ? left % DEPOT_BATCH : DEPOT_BATCH;
        for (unsigned i = 0; i < here; i++) CHECK_EQ(again[--n], mem[left - here + i]);
        left -= here;
    }
    CHECK_EQ(depot_bytes, 0);
    CHECK_EQ(depot_ways[0].slot[SLOT].blocks, 0);
    CHECK_EQ(depot_take(&arena_main, SLOT, 1, again), 0);
    CHECK(depot_adds_up());
}

/* An arena's threads take from its own slots first, then from others'. */
static void near_and_far(void) {
    no_cache();
    struct arena *other = arena_attach(false);
    void *mem[2], *again[2];
    get(&arena_main, SLOT, mem, 2);
    CHECK_EQ(depot_put(other, SLOT, mem, 1), 1);
    CHECK(put(SLOT, mem + 1, 1));
    CHECK(depot_take(other, SLOT, 2, again) == 1 && again[0] == mem[0]);
    CHECK(depot_take(other, SLOT, 2, again) == 1 && again[0] == mem[1]);
    CHECK(depot_adds_up());
}

/* A block is found where it lies, and nowhere else. */
static void holds(void) {
    no_cache();
    void *mem[2];
    get(&arena_main, SLOT, mem, 2);
    CHECK(put(SLOT, mem, 1));
    CHECK(depot_holds(SLOT, mem[0]));
    CHECK(!depot_holds(SLOT, mem[1]));
    CHECK(!depot_holds(SLOT + 1, mem[0]));
    CHECK(!depot_holds(CLASS_COUNT, mem[0]));
}

/* So much and no more, and that of all classes together. */
static void room(void) {
    no_cache();
    enum { FIRST = 20 };
    static void *mem[2 * DEPOT_SLOTS][DEPOT_BATCH];
    for (unsigned i = 2 * FIRST; i < 2 * DEPOT_SLOTS; i++) get(&arena_main, i / 2, mem[i], DEPOT_BATCH);
    size_t parked = 0, most = max_size(load_relaxed(&heap_bytes) / DEPOT_SHARE, DEPOT_BYTES);
    unsigned i = 2 * FIRST;
    for (; i < 2 * DEPOT_SLOTS && put(i / 2, mem[i], DEPOT_BATCH); i++) parked += (size_t)(i / 2) * CHUNK_ALIGN * DEPOT_BATCH;
    CHECK(i < 2 * DEPOT_SLOTS);
    CHECK_EQ(depot_bytes, parked);
    CHECK(parked <= most && parked + (size_t)(i / 2) * CHUNK_ALIGN * DEPOT_BATCH > most);
    CHECK_HEAP();
}

/* Blocks of two arenas: all go home, each to its own. */
static void home(void) {
    no_cache();
    struct arena *other = arena_attach(false);
    void *mem[DEPOT_BATCH];
    get(&arena_main, SLOT, mem, DEPOT_BATCH / 2);
    get(other, SLOT, mem + DEPOT_BATCH / 2, DEPOT_BATCH / 2);
    for (unsigned i = 0; i < DEPOT_BATCH / 4; i++) {
        void *kept = mem[2 * i];
        mem[2 * i] = mem[DEPOT_BATCH - 1 - 2 * i];
        mem[DEPOT_BATCH - 1 - 2 * i] = kept;
    }
    CHECK(put(SLOT, mem, DEPOT_BATCH));
    CHECK_HEAP();
    depot_empty(&arena_main);
    CHECK_EQ(depot_bytes, 0);
    CHECK_EQ(other->inbox_bytes, DEPOT_BATCH / 2 * SIZE);
    for (unsigned i = 0; i < DEPOT_BATCH; i++) CHECK(!depot_holds(SLOT, mem[i]));
    seemalloc_malloc_trim(0);
    CHECK_EQ(other->inbox_bytes, 0);
    CHECK_HEAP();
}

/* Before an arena grows, and before large blocks are mapped, what lies in the depot is merged. */
static void home_before_growth(void) {
    no_cache();
    store_relaxed(&conf_values[CONF_TOP_PAD], 0);
    static void *mem[40 * DEPOT_BATCH];
    enum { ALL = sizeof mem / sizeof *mem };
    get(&arena_main, SLOT, mem, ALL);
    void *guard = seemalloc_malloc(100);
    for (unsigned i = 0; i < ALL; i += DEPOT_BATCH) CHECK(put(SLOT, mem + i, DEPOT_BATCH));
    CHECK(depot_is_much(SIZE));
    size_t before = arena_main.system_bytes;
    char *large = seemalloc_malloc(ALL / 2 * SIZE);
    CHECK_EQ(arena_main.system_bytes, before);
    CHECK_EQ(depot_bytes, 0);
    CHECK(large >= (char *)mem[0] && large < (char *)mem[ALL - 1]);
    CHECK_HEAP();
    (void)guard;
}

/* Who finds a slot taken goes elsewhere; and what another thread was just changing is lost to a forked child, and counted no more. */
static void taken(void) {
    no_cache();
    void *mem[3];
    uint64_t somebody = (uintptr_t)lock_self() + 64;
    get(&arena_main, SLOT, mem, 3);
    get(&arena_main, SLOT + 1, mem + 2, 1);
    CHECK(put(SLOT, mem, 1) && put(SLOT + 1, mem + 2, 1));
    depot_ways[0].slot[SLOT].owner = somebody;
    CHECK(!put(SLOT, mem + 1, 1));
    CHECK_EQ(depot_take(&arena_main, SLOT, 1, mem), 0);
    depot_fork_prepare(os_clock() + 1000);
    CHECK_EQ(depot_ways[0].slot[SLOT].owner, somebody);
    CHECK(depot_ways[0].slot[SLOT + 1].owner != 0);
    CHECK(!put(SLOT + 1, mem + 1, 1));
    depot_fork_parent();
    CHECK_EQ(depot_ways[0].slot[SLOT + 1].owner, 0);
    depot_fork_prepare(os_clock() + 1000);
    depot_fork_child();
    CHECK_EQ(depot_ways[0].slot[SLOT].owner, 0);
    CHECK_EQ(depot_bytes, SIZE + CHUNK_ALIGN);
    CHECK(depot_adds_up());
    CHECK(depot_take(&arena_main, SLOT + 1, 1, mem) == 1 && mem[0] == mem[2]);
}

/* What nobody took in a window of time goes home, what was taken and came again stays; with decay:0 all goes, with decay:-1 nothing. */
static void idle_goes_home(void) {
    no_cache();
    static void *mem[MANY], *again[DEPOT_BATCH];
    uint64_t now = 1000000000;
    get(&arena_main, SLOT, mem, MANY);
    depot_tend(&arena_main, now);
    for (unsigned i = 0; i < MANY; i += DEPOT_BATCH) CHECK(put(SLOT, mem + i, DEPOT_BATCH));
    depot_tend(&arena_main, now += 250000000); /* the window in which they came */
    CHECK_EQ(depot_ways[0].slot[SLOT].blocks, MANY);
    CHECK_EQ(depot_take(&arena_main, SLOT, DEPOT_BATCH, again), DEPOT_BATCH);
    CHECK(put(SLOT, again, DEPOT_BATCH));
    depot_tend(&arena_main, now += 249000000);
    CHECK_EQ(depot_ways[0].slot[SLOT].blocks, MANY);
    depot_tend(&arena_main, now += 1000000);
    CHECK_EQ(depot_ways[0].slot[SLOT].blocks, DEPOT_BATCH);
    store_relaxed(&conf_values[CONF_DECAY], SIZE_MAX);
    depot_tend(&arena_main, now += 10000000000);
    CHECK_EQ(depot_ways[0].slot[SLOT].blocks, DEPOT_BATCH);
    store_relaxed(&conf_values[CONF_DECAY], 0);
    depot_tend(&arena_main, now);
    CHECK_EQ(depot_bytes, 0);
    CHECK_HEAP();
}

/* No memory for a batch: it is as it was, and the block goes to its arena. */
static void refused(void) {
    cache_init();
    static void *mem[20 * DEPOT_BATCH];
    for (unsigned i = 0; i < 20 * DEPOT_BATCH; i++) mem[i] = seemalloc_malloc(SIZE - CHUNK_OVERHEAD);
    fake_plan_all((struct fake_plan){.every = 1});
    for (unsigned i = 0; i < 20 * DEPOT_BATCH; i++) seemalloc_free(mem[i]);
    CHECK_EQ(depot_bytes, 0);
    fake_calm();
    CHECK_HEAP();
    for (unsigned i = 0; i < 20 * DEPOT_BATCH; i++) mem[i] = seemalloc_malloc(SIZE - CHUNK_OVERHEAD);
    for (unsigned i = 0; i < 20 * DEPOT_BATCH; i++) seemalloc_free(mem[i]);
    CHECK(depot_bytes != 0);
    CHECK_HEAP();
}

UNIT_MAIN({"last_in_first_out", last_in_first_out}, {"near_and_far", near_and_far}, {"holds", holds}, {"room", room}, {"home", home},
          {"home_before_growth", home_before_growth}, {"taken", taken}, {"idle_goes_home", idle_goes_home}, {"refused", refused})
