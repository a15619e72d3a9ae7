/* test_arena.c: one arena through the public interface, on a system that is staged. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "arena/arena.h"
#include "cache/cache.h"
#include "conf/conf.h"
#include "fake.h"
#include "heap/mapped.h"
#include "heap/retain.h"
#include "os/os.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *seemalloc_malloc(size_t size);
void *seemalloc_calloc(size_t number, size_t size);
void *seemalloc_realloc(void *mem, size_t size);
void seemalloc_free(void *mem);
int seemalloc_malloc_trim(size_t pad);

enum { LOCK_CHUNKS = 2 * ARENA_STEP + 1, LOCK_CALLS = 1 }; /* merged, sorted, and the block that is asked for */

static void no_cache_no_mappings(void) {
    cache_init();
    store_relaxed(&conf_values[CONF_TCACHE_MAX], 0);
    store_relaxed(&conf_values[CONF_MMAP_THRESHOLD], MIB(32));
    store_relaxed(&conf_sources[CONF_MMAP_THRESHOLD], CONF_MALLOPT);
}

/* A region whose end was retired, handed out, written to and freed becomes top again: what is cut from it then isn't zero any more, and calloc must
 * know. */
static void reopened_top_is_dirty(void) {
    no_cache_no_mappings();
    fake_set_brk_room(0); /* regions are mappings of 1 MiB at least */
    char *first = seemalloc_malloc(300 << 10);
    char *second = seemalloc_malloc(1000 << 10); /* a second region; the rest of the first is retired */
    char *third = seemalloc_malloc(600 << 10);
    CHECK(third > first && third < first + (1 << 20));
    memset(third, 0xff, 600 << 10);
    memset(second, 0xff, 1000 << 10);
    seemalloc_free(third);
    seemalloc_free(second);
    CHECK_HEAP();
    char *zero = seemalloc_calloc(1, 500 << 10);
    for (size_t i = 0; i < 500 << 10; i++) CHECK_EQ(zero[i], 0);
    CHECK_HEAP();
    (void)first;
}

enum { BATCH = 32 };

static unsigned take(size_t size, void **mem) {
    unsigned count = 0;
    arena_serve_batch(&arena_main, size, BATCH, false, mem, &count);
    return count;
}

/* Of fresh blocks below 64 bytes every other one comes first: as long as those last, no two in a row lie in the same cache line. Others come in order. */
static void fresh_blocks_in_a_row(void) {
    no_cache_no_mappings();
    void *mem[BATCH], *bigger[BATCH];
    for (size_t size = 32; size < CACHE_LINE; size += CHUNK_ALIGN) {
        unsigned n = take(size, mem); /* the first may come alone from the growth */
        if (n < 4) n = take(size, mem);
        CHECK(n >= 4);
        for (unsigned i = 1; i < n / 2; i++) CHECK_EQ((char *)mem[i] - (char *)mem[i - 1], 2 * size);
    }
    unsigned n = take(64, bigger);
    for (unsigned i = 1; i < n; i++) CHECK_EQ((char *)bigger[i] - (char *)bigger[i - 1], 64);
    CHECK_HEAP();
}

static int by_address(const void *a, const void *b) {
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    return x < y ? -1 : x > y;
}

static void give(enum arena_way way, void **mem, unsigned n) {
    unsigned left = n;
    arena_put(&arena_main, way, mem, n, &left);
    CHECK_EQ(left, 0);
}

/* Batches that leave a cache: small blocks lie in fast bins, last in, first out, through all lanes; others are merged: neighbours in the batch, whether they
 * come up or down, to one chunk. */
static void batches_fast_and_merged(void) {
    no_cache_no_mappings();
    void *mem[BATCH], *again[BATCH];
    for (unsigned order = 0; order < 2; order++) {
        unsigned n = take(128, mem);
        CHECK_EQ(n, BATCH);
        void *guard = seemalloc_malloc(500);
        give(ARENA_FAST, mem, n);
        CHECK_EQ(arena_main.fast_count, n);
        CHECK_HEAP();
        CHECK_EQ(take(128, again), n);
        for (unsigned i = 0; i < n; i++) CHECK(again[i] == mem[n - 1 - i]);
        CHECK_EQ(arena_main.fast_count, 0);

        size_t chunks = arena_main.bins.count, bytes = arena_main.bins.bytes;
        void *sorted[BATCH];
        qsort(mem, n, sizeof *mem, by_address);
        for (unsigned i = 0; i < n; i++) sorted[order ? n - 1 - i : i] = mem[i];
        give(ARENA_MERGED, sorted, n);
        CHECK(arena_main.bins.count <= chunks + 1);
        CHECK(arena_main.bins.bytes >= bytes + n * 128 || arena_main.bins.count < chunks);
        CHECK_HEAP();
        (void)guard;
    }
}

/* Before the heap grows everything is merged, not only as much as makes the first hole that fits. */
static void merged_before_growth(void) {
    no_cache_no_mappings();
    store_relaxed(&conf_values[CONF_TOP_PAD], 0);
    enum { BLOCKS = 6000 };
    static void *block[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) block[i] = seemalloc_malloc(100);
    void *guard = seemalloc_malloc(100);
    for (int i = 0; i < BLOCKS; i++) seemalloc_free(block[(i * 7919L) % BLOCKS]);
    CHECK(arena_main.fast_count >= BLOCKS);
    size_t before = arena_main.system_bytes;
    void *fits = seemalloc_malloc(1000); /* a small request would not look at the fast bins, a large one would merge 64 */
    for (int i = 0; i < BLOCKS / 12; i++) fits = seemalloc_malloc(1000);
    CHECK_EQ(arena_main.fast_count, 0);
    CHECK_EQ(arena_main.system_bytes, before);
    CHECK_HEAP();
    (void)guard, (void)fits;
}

/* While a fork holds the arena that could lend, a large block gets a mapping, which leaves nothing behind; a small one is worth the growth. */
static void mapped_while_forking(void) {
    no_cache_no_mappings();
    struct arena *other = arena_attach(false);
    bool zeroed;
    void *mem = arena_serve(other, KIB(600), CHUNK_ALIGN, false, &zeroed), *guard = arena_serve(other, KIB(1), CHUNK_ALIGN, false, &zeroed);
    unsigned left = 1;
    arena_free(other, mem, &left);
    mem = arena_serve(&arena_main, KIB(100), CHUNK_ALIGN, false, &zeroed);
    CHECK_EQ(chunk_tag(chunk_of(mem)), TAG_IN_USE | other->id);
    CHECK(lock_take_for_fork(&other->lock, 0));
    size_t before = arena_main.system_bytes;
    void *large = arena_serve(&arena_main, KIB(400), CHUNK_ALIGN, false, &zeroed);
    CHECK(chunk_head(chunk_of(large)) & FLAG_M);
    CHECK_EQ(arena_main.system_bytes, before);
    void *small = arena_serve(&arena_main, KIB(1), CHUNK_ALIGN, false, &zeroed);
    CHECK_EQ(chunk_tag(chunk_of(small)), TAG_IN_USE | arena_main.id);
    lock_release_from_fork(&other->lock);
    /* An arena that was lost in a fork is not waited for in this way for ever. */
    other->lock.word = LOCK_ABANDONED;
    void *later = arena_serve(&arena_main, KIB(400), CHUNK_ALIGN, false, &zeroed);
    CHECK_EQ(chunk_tag(chunk_of(later)), TAG_IN_USE | arena_main.id);
    other->lock.word = LOCK_FREE;
    CHECK_HEAP();
    (void)guard;
}

/* While a fork holds all arenas a thread gets one block, in a mapping, and that is on its way to no magazine at any moment: a child would find the mapping
 * in the cache of a thread that did not come along and take it for a block of an arena. */
static void never_mapped_in_transit(void) {
    void *mem[BATCH];
    CHECK(take(64, mem) == BATCH);
    for (unsigned i = 0; i < BATCH; i++) seemalloc_free(mem[i]);
    size_t before = load_relaxed(&mapped_bytes);
    arena_fork_prepare(os_clock() + 1000000);
    CHECK_EQ(take(KIB(1), mem), 0);
    CHECK_EQ(load_relaxed(&mapped_bytes), before);
    void *one = seemalloc_malloc(KIB(1));
    CHECK(chunk_head(chunk_of(one)) & FLAG_M);
    CHECK_EQ(load_relaxed(&cache_self->in_transit), 0);
    arena_fork_parent();
    seemalloc_free(one);
    CHECK_HEAP();
}

/* A thread that has its arena for itself stays there; one that shares it uses that of the CPU it runs on. */
static void shared_arenas_follow_the_cpu(void) {
    fake_set_cpu(0);
    cache_init();
    store_relaxed(&conf_values[CONF_ARENA_MAX], 2);
    struct arena *other = arena_attach(false);
    size_t size = 5000; /* each a miss of its own class */
    void *mem = seemalloc_malloc(size += 1000);
    fake_set_cpu(1);
    mem = seemalloc_malloc(size += 1000);
    CHECK_EQ(cache_self->arena, &arena_main);
    arena_main.threads++;
    other->threads++;
    struct arena *of_cpu[2];
    for (int i = 0; i < 6; i++) {
        fake_set_cpu(i % 2);
        mem = seemalloc_malloc(size += 1000);
        if (i < 2) of_cpu[i] = cache_self->arena;
        CHECK_EQ(cache_self->arena, of_cpu[i % 2]);
        CHECK_EQ(chunk_tag(chunk_of(mem)) & TAG_ID, of_cpu[i % 2]->id);
        CHECK_EQ(arena_main.threads + other->threads, 4);
    }
    CHECK(of_cpu[0] != of_cpu[1]);
    CHECK_HEAP();
}

static void count_visit(void *arg, void *mem) {
    (void)mem;
    ++*(unsigned *)arg;
}

/* A magazine starts with few slots and moves to more, in waves to many; whoever looks finds each block once. */
static void magazines_move(void) {
    cache_init();
    enum { BLOCKS = 600 };
    static void *block[BLOCKS];
    const unsigned size_class = class_below(112);
    unsigned most[3] = {0};
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < BLOCKS; i++) block[i] = seemalloc_malloc(100);
        struct magazine *magazine = &cache_self->magazine[size_class]; /* cache_self is set by the first block */
        for (int i = 0; i < BLOCKS; i++) {
            seemalloc_free(block[i]);
            unsigned count = (unsigned)(magazine->top - magazine->bottom), seen = 0;
            bool narrow = magazine->bottom == cache_self->narrow[size_class], wide = magazine->bottom == cache_self->wide[size_class];
            CHECK(narrow || wide || magazine->bottom == cache_self->deep[size_class]);
            CHECK(magazine->limit <= magazine->bottom + (narrow ? NARROW_MAX : wide ? WIDE_MAX : DEEP_MAX));
            unsigned *here = &most[narrow ? 0 : wide ? 1 : 2];
            if (count > *here) *here = count;
            cache_walk(count_visit, &seen);
            CHECK_EQ(seen, count);
            if (i % 16 == 0) CHECK_HEAP();
        }
    }
    CHECK(most[1] > NARROW_MAX);
    CHECK(most[2] > WIDE_MAX);
}

/* A thread that allocates and frees in waves keeps more than its budget, up to the peak; one that holds what it has does not. */
static void waves_are_kept(void) {
    cache_init();
    enum { BLOCKS = 200 };
    static void *block[BLOCKS];
    size_t misses = 0;
    for (int round = 0; round < 60; round++) {
        uint32_t before = cache_self->misses;
        for (int i = 0; i < BLOCKS; i++) block[i] = seemalloc_malloc(2000 + (size_t)(i * 37 % BLOCKS) * 40);
        for (int i = 0; i < BLOCKS; i++) seemalloc_free(block[i]);
        misses = cache_self->misses - before;
    }
    CHECK(misses < 20); /* nearly all of the last round were hits */
    CHECK(cache_self->reserved > cache_self->budget);
    CHECK(cache_self->held <= cache_self->ceiling);
    CHECK_HEAP();
}

static void add_cached(void *arg, void *mem) { *(size_t *)arg += chunk_size(chunk_of(mem)); }
static size_t cached(void) {
    size_t bytes = 0;
    cache_walk(add_cached, &bytes);
    return bytes;
}

/* Medium blocks of random sizes replaced at random: most requests hit; and what lies idle meanwhile goes home before the heap grows. */
enum { HELD = 3000 };
static void *held[HELD];
static void replace_medium(unsigned operations) {
    static uint32_t state = 1;
    for (unsigned i = 0; i < operations; i++) {
        state = state * 1664525 + 1013904223;
        void **slot = &held[(state >> 8) % HELD];
        seemalloc_free(*slot);
        *slot = seemalloc_malloc(1024 + (state >> 12) % 7000);
    }
}
static void idle_goes_home(void) {
    cache_init();
    store_relaxed(&conf_values[CONF_DECAY], SIZE_MAX); /* however slow the machine */
    replace_medium(100000);
    CHECK(cache_self->idle != 0);
    uint32_t misses = cache_self->misses;
    replace_medium(20000);
    CHECK(cache_self->misses - misses < 20000 / 3); /* of twice as many calls */
    for (int i = 0; i < HELD; i += 4) seemalloc_free(held[i]), held[i] = NULL;
    size_t idle = cached();
    CHECK(idle > cache_idle_least(heap_bytes));
    CHECK_HEAP();
    /* Blocks that hit nothing: all that is free is used before the system is asked for more. */
    size_t before = arena_main.system_bytes, taken = 0;
    while (arena_main.system_bytes == before && taken < MIB(64)) taken += chunk_size(chunk_of(seemalloc_malloc(1008)));
    CHECK(cached() < cache_idle_least(heap_bytes));
    CHECK(taken > idle / 2);
    CHECK_HEAP();
}

/* A medium class that has no block takes one of the next classes; such a block goes back to its own. */
static void larger_class_serves(void) {
    cache_init();
    store_relaxed(&conf_values[CONF_DECAY], SIZE_MAX); /* however slow the machine */
    replace_medium(100000);
    CHECK(cache_self->idle != 0);
    unsigned own = class_above(request_size(5000)), larger = own + CLASS_LARGER;
    void *block[HELD];
    unsigned n = 0;
    for (unsigned i = own; i <= larger + CLASS_LARGER; i++) { /* they have none then */
        for (struct magazine *magazine = &cache_self->magazine[i]; magazine->top > magazine->bottom;) {
            block[n++] = seemalloc_malloc(class_size(i) - CHUNK_OVERHEAD);
        }
    }
    void *mem = seemalloc_malloc(class_size(larger) - CHUNK_OVERHEAD);
    seemalloc_free(mem);
    CHECK(cache_self->magazine[larger].top > cache_self->magazine[larger].bottom);
    CHECK(seemalloc_malloc(class_size(own) - CHUNK_OVERHEAD) == mem);
    CHECK(cache_self->magazine[larger].top == cache_self->magazine[larger].bottom);
    seemalloc_free(mem);
    CHECK(cache_self->magazine[larger].top > cache_self->magazine[larger].bottom);
    while (n != 0) seemalloc_free(block[--n]);
    CHECK_HEAP();
}

/* Of exact classes those that lose little by it, and not while the program works in waves. */
static void larger_exact_class_serves(void) {
    cache_init();
    enum { OWN = 20, FAR = OWN + CLASS_LARGER_EXACT };
    void *mem = seemalloc_malloc(FAR * CHUNK_ALIGN - CHUNK_OVERHEAD);
    seemalloc_free(mem);
    cache_self->ceiling = 1;
    CHECK(seemalloc_malloc(OWN * CHUNK_ALIGN - CHUNK_OVERHEAD) != mem);
    cache_self->ceiling = 0;
    CHECK(seemalloc_malloc((OWN - 1) * CHUNK_ALIGN - CHUNK_OVERHEAD) != mem);
    for (struct magazine *magazine = &cache_self->magazine[OWN]; magazine->top > magazine->bottom;) {
        seemalloc_malloc(OWN * CHUNK_ALIGN - CHUNK_OVERHEAD);
    }
    CHECK(seemalloc_malloc(OWN * CHUNK_ALIGN - CHUNK_OVERHEAD) == mem);
    void *small = seemalloc_malloc((CLASS_FIRST_LARGER)*CHUNK_ALIGN - CHUNK_OVERHEAD);
    seemalloc_free(small);
    CHECK(seemalloc_malloc((CLASS_FIRST_LARGER - 1) * CHUNK_ALIGN - CHUNK_OVERHEAD) != small);
    /* A thread that has no other misses looks after memory that may go home all the same. */
    uint64_t tended = cache_self->tended;
    uint32_t misses = cache_self->misses;
    fake_set_clock(os_clock() + 2 * TEND_EVERY, 1000);
    seemalloc_free(mem);
    for (unsigned i = 0; i < CACHE_TEND_LARGER; i++) {
        CHECK(seemalloc_malloc(OWN * CHUNK_ALIGN - CHUNK_OVERHEAD) == mem);
        seemalloc_free(mem);
    }
    CHECK_EQ(cache_self->misses, misses);
    CHECK(cache_self->tended > tended);
    CHECK_HEAP();
}

/* A thread with little to do notices once that there are many caches, not at each miss: all limits are halved then. */
static void crowded_once(void) {
    cache_init();
    seemalloc_free(seemalloc_malloc(100));
    cache_self->quiet = true;
    cache_self->peers = 0; /* the one that there is now is more */
    seemalloc_free(seemalloc_malloc(200));
    CHECK_EQ(cache_self->peers, 1);
    CHECK(cache_self->quiet);
}

/* A medium block that shrinks stays whole while it keeps two thirds, and moves where it becomes small; at the limit it is cut where it stands. */
static void shrunk_blocks_move(void) {
    cache_init();
    char *mem = seemalloc_malloc(40000), *behind = seemalloc_malloc(40000);
    memset(mem, 7, 40000);
    char *small = seemalloc_realloc(mem, 300);
    CHECK(small != mem);
    for (int i = 0; i < 300; i++) CHECK_EQ(small[i], 7);
    CHECK(seemalloc_malloc(40000) == mem); /* whole */
    CHECK(seemalloc_realloc(behind, 27000) == behind);
    CHECK(chunk_size(chunk_of(behind)) > 40000);
    CHECK(seemalloc_realloc(behind, 17000) == behind); /* too large to be copied: cut */
    CHECK(chunk_size(chunk_of(behind)) < 20000);
    char *third = seemalloc_malloc(20000);
    CHECK(seemalloc_realloc(third, 13000) != third);
    store_relaxed(&os_counters.limit, load_relaxed(&os_counters.taken));
    errno = 0;
    memset(mem, 7, 40000);
    CHECK(seemalloc_realloc(mem, 300) == mem);
    CHECK_EQ(errno, 0);
    CHECK(chunk_size(chunk_of(mem)) < 1000);
    store_relaxed(&os_counters.limit, 0);
    CHECK_HEAP();
}

/* No critical section merges more than ARENA_STEP chunks, sorts more than as many, or makes more than one system call, however much lies waiting. */
static void critical_sections(void) {
    no_cache_no_mappings();
    enum { BLOCKS = 20000 };
    static void *block[BLOCKS];
    for (int pass = 0; pass < 4; pass++) {
        bool fast = pass == 0, sent = pass == 2;
        for (int i = 0; i < BLOCKS; i++) block[i] = seemalloc_malloc(fast ? 100 : 1100 + (size_t)(i * 7919L % BLOCKS) / 8 * 16);
        size_t chunks = arena_main.bins.count;
        for (int i = 0; i < BLOCKS; i++) { /* holes, unmerged, unsorted or sent home, or large, */
            unsigned one = 1;
            if (pass == 3 ? i % 100 == 0 : i % 2 == 1) continue;
            if (sent) {
                arena_send(&arena_main, &block[i], 1, &one);
            } else {
                seemalloc_free(block[i]);
            }
        }
        CHECK(fast ? arena_main.fast_count >= BLOCKS / 2 : arena_main.bins.count > chunks + BLOCKS / (pass == 3 ? 200 : 3));
        if (pass == 3) {
            uint64_t *purges = &os_counters.calls[SEEMALLOC_CALL_MADVISE_PURGE], before = *purges;
            CHECK_EQ(seemalloc_malloc_trim(0), 1);
            CHECK(*purges - before > BLOCKS / 200);
            CHECK_HEAP();
        }
        void *large = seemalloc_malloc(MIB(2)); /* and a request that none of them fits */
        CHECK(large != NULL);
        for (int i = 0; i < BLOCKS; i++)
            if (pass == 3 ? i % 100 == 0 : i % 2 == 1) seemalloc_free(block[i]);
        seemalloc_free(large);
        CHECK(lock_most_chunks <= LOCK_CHUNKS);
        CHECK(lock_most_calls <= LOCK_CALLS);
        CHECK_HEAP();
        lock_most_calls = 0; /* the checker's own */
    }
    CHECK(lock_most_chunks > ARENA_STEP);
}

static uint64_t purges(void) { return os_counters.calls[SEEMALLOC_CALL_MADVISE_PURGE]; }

/* Each free chunk with whole pages is purged once, wherever it lies, with others of its size or not; what changed meanwhile again; nothing twice. */
static void purged_once(void) {
    no_cache_no_mappings();
    enum { HOLES = 300, SMALL = 4000 };
    static void *hole[HOLES], *small[SMALL];
    size_t page = os_page_size();
    for (int i = 0; i < SMALL; i++) {
        small[i] = seemalloc_malloc(1200);
        (void)!seemalloc_malloc(16);
    }
    for (int i = 0; i < HOLES; i++) {
        hole[i] = seemalloc_malloc(3 * page + (size_t)(i % 7) * 64); /* many of a size */
        memset(hole[i], 1, 3 * page);
        (void)!seemalloc_malloc(16);
    }
    for (int i = 0; i < SMALL; i++) seemalloc_free(small[i]);
    (void)!seemalloc_malloc(MIB(1)); /* sorts them */
    for (int i = 0; i < HOLES; i++) seemalloc_free(hole[i]);
    CHECK_EQ(seemalloc_malloc_trim(0), 1);
    CHECK_EQ(purges(), HOLES);
    CHECK_HEAP();
    seemalloc_malloc_trim(0);
    CHECK_EQ(purges(), HOLES);
    void *again = seemalloc_malloc(3 * page);
    CHECK(again != NULL);
    memset(again, 1, 3 * page);
    seemalloc_free(again);
    seemalloc_malloc_trim(0);
    CHECK_EQ(purges(), HOLES + 1);
    CHECK_HEAP();
    void *large = seemalloc_malloc(KIB(2500)), *guard = seemalloc_malloc(MIB(5));
    seemalloc_free(large);
    fake_plan_set(FAKE_DISCARD, (struct fake_plan){.next = 1}); /* what the system refuses is tried again another time; then in parts */
    seemalloc_malloc_trim(0);
    seemalloc_malloc_trim(0);
    CHECK_EQ(purges(), HOLES + 1 + 2);
    seemalloc_malloc_trim(0);
    CHECK_EQ(purges(), HOLES + 1 + 2);
    CHECK_HEAP();
    (void)guard;
}

/* What is merged before growth may all become part of the top: the request is then met from there. */
static void merged_into_top(void) {
    no_cache_no_mappings();
    enum { BLOCKS = 40000 };
    static void *block[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) block[i] = seemalloc_malloc(100);
    for (int i = 0; i < BLOCKS; i++) seemalloc_free(block[i]);
    size_t before = arena_main.system_bytes;
    void *mem = seemalloc_malloc(1000000);
    CHECK_EQ(chunk_tag(chunk_of(mem)), TAG_IN_USE);
    CHECK(arena_main.system_bytes <= before);
    CHECK_HEAP();
}

static uint64_t maps(void) { return load_relaxed(&os_counters.calls[SEEMALLOC_CALL_MMAP_BLOCK]); }
static uint64_t unmaps(void) { return load_relaxed(&os_counters.calls[SEEMALLOC_CALL_MUNMAP_BLOCK]); }
static uint64_t remaps(void) { return load_relaxed(&os_counters.calls[SEEMALLOC_CALL_MREMAP_BLOCK]); }

static void *fresh(size_t size) {
    bool zeroed;
    return arena_serve(&arena_main, size, CHUNK_ALIGN, false, &zeroed);
}

/* A block above 32 MiB that is freed is unmapped, until one more has shown that it was wanted again. Then it waits for the next: of the same size,
 * a smaller or a larger one; and for a second at most. */
static void large_mappings_wait(void) {
    cache_init();
    size_t size = MIB(40), page = os_page_size();
    for (int i = 0; i < 2; i++) seemalloc_free(fresh(size));
    CHECK_EQ(maps(), 2);
    CHECK_EQ(unmaps(), 1); /* the second is regretted */
    CHECK_EQ(retained_bytes, align_up(size + CHUNK_HEADER, page));
    char *mem = seemalloc_malloc(size);
    CHECK_EQ(retained_bytes, 0);
    memset(mem, 1, KIB(8));
    seemalloc_free(mem);
    mem = seemalloc_calloc(1, size); /* not zero by itself any more */
    for (size_t i = 0; i < KIB(8); i++) CHECK_EQ(mem[i], 0);
    seemalloc_free(mem);
    CHECK_EQ(maps(), 2);
    void *part = fresh(MIB(33)); /* the rest goes on waiting */
    CHECK(retained_bytes >= MIB(7) - 2 * page && retained_bytes <= MIB(7));
    CHECK_EQ(maps(), 2);
    seemalloc_free(part);
    CHECK_EQ(unmaps(), 1);
    void *more = fresh(MIB(48)); /* the larger one of the two grows, the other is now too much beside it */
    CHECK_EQ(maps(), 2);
    CHECK_EQ(remaps(), 1);
    CHECK_EQ(retained_bytes, MIB(7));
    retain_shed();
    CHECK_EQ(retained_bytes, 0);
    seemalloc_free(more);
    CHECK(retained_bytes >= MIB(40));
    retain_shed();
    CHECK(retained_bytes >= MIB(40));
    fake_set_clock(os_clock() + RETAIN_TIME + 1, 1000);
    retain_shed();
    CHECK_EQ(retained_bytes, 0);
    CHECK_HEAP();
    for (int i = 0; i < 4; i++) seemalloc_free(fresh(size));
    CHECK(retained_bytes != 0);
    fake_set_clock(os_clock() + RETAIN_TIME + 1, 1000);
    void *some[200];
    for (int i = 0; i < 200; i++) some[i] = seemalloc_malloc(200); /* misses that need no system call each */
    CHECK_EQ(retained_bytes, 0);
    for (int i = 0; i < 200; i++) seemalloc_free(some[i]);
    for (int i = 0; i < 4; i++) seemalloc_free(fresh(size));
    CHECK(retained_bytes != 0);
    CHECK_EQ(seemalloc_malloc_trim(0), 1);
    CHECK_EQ(retained_bytes, 0);
    CHECK_HEAP();
}

/* Whatever the system refuses meanwhile, nothing is lost; and what waits is given up when memory is short. */
static void large_mappings_refused(void) {
    cache_init();
    for (int i = 0; i < 3; i++) seemalloc_free(fresh(MIB(40)));
    CHECK(retained_bytes != 0);
    fake_plan_set(FAKE_REMAP, (struct fake_plan){.next = 1});
    void *mem = fresh(MIB(60)); /* does not grow: a new mapping */
    CHECK(mem != NULL);
    CHECK(retained_bytes != 0);
    seemalloc_free(mem);
    seemalloc_malloc_trim(0);
    fake_calm();
    for (int i = 0; i < 3; i++) seemalloc_free(fresh(MIB(40)));
    size_t before = fake_count().mapped;
    CHECK(retained_bytes != 0);
    fake_set_space_limit(before + MIB(35));
    mem = fresh(MIB(70));
    CHECK(mem != NULL);
    CHECK_EQ(retained_bytes, 0);
    seemalloc_free(mem);
    fake_plan_set(FAKE_UNMAP, (struct fake_plan){.every = 1});
    seemalloc_free(fresh(MIB(40)));
    seemalloc_malloc_trim(0);
    fake_calm();
    CHECK_HEAP();
}

static void large_mappings_by_setting(void) {
    cache_init();
    store_relaxed(&conf_values[CONF_RETAIN_MAX], 0);
    for (int i = 0; i < 5; i++) seemalloc_free(fresh(MIB(40)));
    CHECK_EQ(unmaps(), 5);
    store_relaxed(&conf_values[CONF_RETAIN_MAX], MIB(256));
    store_relaxed(&conf_sources[CONF_MMAP_THRESHOLD], CONF_MALLOPT);
    for (int i = 0; i < 5; i++) seemalloc_free(fresh(MIB(40)));
    CHECK_EQ(unmaps(), 10);
    CHECK_EQ(maps(), 10);
}

static size_t pages_in_core(const void *start, const void *end) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (size_t)((const char *)end - (const char *)start) / page, in_core = 0;
    static unsigned char map[1 << 20];
    CHECK(pages <= sizeof map);
    CHECK(mincore((void *)align_up((size_t)start, page), pages * page - page, map) == 0);
    for (size_t i = 0; i + 1 < pages; i++) in_core += map[i] & 1;
    return in_core * page;
}

/* Large blocks of all sizes come and go. What is resident stays near what was once handed out; otherwise the holes' pages would come on top. */
static void holes_make_up(void) {
    cache_init();
    conf_slide(CONF_MMAP_THRESHOLD_MOST);
    enum { SLOTS = 12 };
    static struct {
        char *mem;
        size_t size;
    } block[SLOTS];
    uint64_t state = 2;
    size_t live = 0, most = 0, worst = 0;
    for (int i = 0; i < 500; i++) {
        unsigned slot = (unsigned)(unit_random(&state) % SLOTS);
        if (slot < 3 && unit_random(&state) % 4 != 0) slot += 3; /* some live longer */
        seemalloc_free(block[slot].mem);
        live -= block[slot].size;
        block[slot].size = (size_t)KIB(64) << unit_random(&state) % 9;
        block[slot].size += unit_random(&state) % block[slot].size;
        block[slot].mem = seemalloc_malloc(block[slot].size);
        for (size_t at = 0; at < block[slot].size; at += 4096) block[slot].mem[at] = 1;
        live += block[slot].size;
        most = max_size(most, live);
        if (i % 5 == 0) worst = max_size(worst, pages_in_core(arena_main.top_region->start, arena_main.top_end));
    }
    CHECK(worst <= most + most / 8);
    CHECK(arena_main.system_peak > most + most / 4); /* else it shows nothing */
    CHECK_HEAP();
    size_t purged = 0;
    for (unsigned index = BIN_UNSORTED; index <= BIN_LAST; index++) {
        if (index > BIN_UNSORTED && index < BIN_FIRST_LARGE) continue;
        struct chunk *bin = bin_chunk(&arena_main.bins, index);
        for (struct chunk *chunk = bin->fd; chunk != bin; chunk = chunk->fd)
            purged += chunk_size(chunk) >= arena_main.bins.paged_least ? span_size(chunk_clean(chunk, chunk_size(chunk))) : 0;
    }
    CHECK_EQ(arena_main.bins.clean, purged);
}

/* While the thresholds slide a trim leaves most of what may lie at the top; once the user has set them, top_pad. */
static void trimmed_top(void) {
    cache_init();
    conf_slide(MIB(4));
    enum { BLOCKS = 12 };
    void *block[BLOCKS];
    for (int fixed = 0; fixed < 2; fixed++) {
        if (fixed) store_relaxed(&conf_sources[CONF_TOP_PAD], CONF_MALLOPT);
        for (int i = 0; i < BLOCKS; i++) memset(block[i] = seemalloc_malloc(MIB(3)), 1, 1);
        for (int i = BLOCKS; i-- > 0;) seemalloc_free(block[i]);
        size_t left = arena_touched_top(&arena_main), most = fixed ? MIB(3) + conf_get(CONF_TOP_PAD) : conf_get(CONF_TRIM_THRESHOLD);
        CHECK(left <= most + os_page_size());
        CHECK(fixed || left >= most - most / 8);
        CHECK_HEAP();
    }
    CHECK(load_relaxed(&os_counters.calls[SEEMALLOC_CALL_BRK_TRIM]) >= 2);
}

/* What grows again after a trim keeps more than the threshold, up to two thirds of what was once needed. */
static void regretted_top(void) {
    cache_init();
    conf_slide(CONF_MMAP_THRESHOLD_MOST);
    enum { BLOCKS = 25 };
    void *block[BLOCKS];
    size_t left[2];
    for (int wave = 0; wave < 2; wave++) {
        for (int i = 0; i < BLOCKS; i++) memset(block[i] = seemalloc_malloc(MIB(8)), 1, 1);
        for (int i = BLOCKS; i-- > 0;) seemalloc_free(block[i]);
        left[wave] = arena_touched_top(&arena_main);
    }
    CHECK(left[0] <= conf_get(CONF_TRIM_THRESHOLD));
    CHECK(left[1] > conf_get(CONF_TRIM_THRESHOLD));
    CHECK(left[1] <= BLOCKS * MIB(8) / 3 * 2 + os_page_size());
    CHECK_HEAP();
}

/* Holes that make up are looked for only where a request brought new pages, and not again and again where there are none. */
static void holes_make_up_only_for_new_pages(void) {
    cache_init();
    conf_slide(CONF_MMAP_THRESHOLD_MOST);
    void *hole = seemalloc_malloc(MIB(4)), *guard = seemalloc_malloc(100);
    seemalloc_free(hole);
    for (int i = 0; i < 1000; i++) seemalloc_free(seemalloc_malloc(150000));
    CHECK(purges() <= 10);
    /* Mostly holes too small to go back, and large blocks replaced among them. */
    enum { SMALL = 100000, LARGE = 20 };
    static void *small[SMALL], *large[LARGE];
    uint64_t state = 3;
    for (int i = 0; i < SMALL; i++) small[i] = seemalloc_malloc(500);
    for (int i = 0; i < SMALL; i++) {
        if (i % 4 != 0) seemalloc_free(small[i]);
    }
    uint64_t before = purges() + load_relaxed(&os_counters.calls[SEEMALLOC_CALL_BRK_TRIM]);
    for (int i = 0; i < 4000; i++) {
        unsigned at = (unsigned)(unit_random(&state) % LARGE);
        seemalloc_free(large[at]);
        large[at] = seemalloc_malloc(KIB(64) + unit_random(&state) % KIB(400));
    }
    uint64_t made = purges() + load_relaxed(&os_counters.calls[SEEMALLOC_CALL_BRK_TRIM]) - before;
    CHECK(made < 1500); /* not one for each of 4000 */
    CHECK_HEAP();
    (void)guard;
}

/* What could not be tried for want of the lock is not taken for something that can't be had. */
static void holes_wait_for_the_lock(void) {
    cache_init();
    void *mem = seemalloc_malloc(100);
    size_t needed = arena_main.needed;
    store_relaxed(&arena_main.surplus, MIB(1));
    lock_take_for_fork(&arena_main.lock, 0);
    arena_make_up(&arena_main, (struct span){NULL, NULL});
    CHECK_EQ(arena_main.needed, needed);
    lock_release_from_fork(&arena_main.lock);
    (void)mem;
}

/* An arena that was lost in a fork is lost once, not again in each generation of children. */
static void lost_once(void) {
    cache_init();
    store_relaxed(&conf_values[CONF_ARENA_MAX], 4);
    struct arena *lost = arena_attach(false);
    for (int generation = 0; generation < 6; generation++) {
        if (generation == 0) store_relaxed(&lost->lock.word, 0x1000); /* some other thread's */
        arena_fork_child();
        CHECK_EQ(lost->lock.word, LOCK_ABANDONED);
        unsigned usable = 0;
        struct arena *taken[8];
        for (unsigned i = 0; i < 8; i++) taken[i] = arena_attach(i == 0);
        for (unsigned i = 0; i < 8; i++) {
            bool seen = false;
            for (unsigned k = 0; k < i; k++) seen |= taken[k] == taken[i];
            usable += !seen;
        }
        CHECK_EQ(usable, 4);
    }
}

/* Makes `bytes` of free memory between blocks that stay, every page touched, and keeps the top out of it. */
static void *make_hole(size_t bytes) {
    void *hole = seemalloc_malloc(bytes), *guard = seemalloc_malloc(100);
    CHECK(hole != NULL && guard != NULL);
    memset(hole, 1, bytes);
    return hole;
}

#define WINDOW 250000000u /* ns, the default */
#define LONG 1000000000u
static uint64_t time_now = LONG;

static void end_windows(unsigned windows) {
    for (; windows != 0; windows--) {
        time_now += WINDOW;
        fake_set_clock(time_now, 1000);
        arena_tend(&arena_main, time_now, LONG);
    }
}

/* What lay free for a whole window goes back at its end, and not before; what was needed in it stays. */
static void idle_memory_goes_home(void) {
    no_cache_no_mappings();
    end_windows(1);
    char *hole = make_hole(MIB(8));
    seemalloc_free(hole);
    end_windows(1); /* it was not free when this window began */
    CHECK_EQ(purges(), 0);
    void *half = seemalloc_malloc(MIB(4));
    memset(half, 1, MIB(4));
    seemalloc_free(half);
    end_windows(1);
    size_t left = pages_in_core(hole, hole + MIB(8));
    CHECK(left >= MIB(4) - 2 * os_page_size() && left <= MIB(4) + 2 * os_page_size());
    end_windows(1);
    CHECK(pages_in_core(hole, hole + MIB(8)) <= 2 * os_page_size());
    CHECK(arena_main.bins.clean >= MIB(8) - 3 * os_page_size());
    uint64_t before = purges();
    end_windows(3);
    CHECK_EQ(purges(), before); /* nothing twice */
    CHECK_HEAP();
    /* A rest of it has no pages either, nor has what is merged with it, but for what was in use. */
    char *small = seemalloc_malloc(100000);
    memset(small, 1, 100000);
    CHECK(arena_main.bins.clean >= MIB(8) - 100000 - 4 * os_page_size());
    seemalloc_free(small);
    CHECK(arena_main.bins.clean >= MIB(8) - 100000 - 4 * os_page_size());
    CHECK(arena_main.bins.dirty <= 100000 + 8 * os_page_size());
    end_windows(2);
    CHECK(pages_in_core(hole, hole + MIB(8)) <= 2 * os_page_size());
    CHECK_HEAP();
}

/* decay -1: nothing goes back by itself. */
static void never_by_itself(void) {
    no_cache_no_mappings();
    store_relaxed(&conf_values[CONF_DECAY], SIZE_MAX);
    seemalloc_free(make_hole(MIB(1) / 8));
    end_windows(4);
    CHECK_EQ(purges(), 0);
}

/* Blocks that are freed for `period` windows and used for one, again and again. True if in the last ten of 40 cycles their memory mostly stayed. */
enum { HOLES = 16 };
static bool held_in_the_end(void *hole[HOLES], size_t size, unsigned period) {
    enum { CYCLES = 40 };
    uint64_t first = 0, late = 0;
    for (int cycle = 0; cycle < CYCLES; cycle++) {
        uint64_t before = purges();
        for (int i = 0; i < HOLES; i++) seemalloc_free(hole[i]);
        end_windows(period);
        for (int i = 0; i < HOLES; i++) memset(hole[i] = seemalloc_malloc(size), 1, KIB(100));
        end_windows(1);
        if (cycle == 0) first = purges() - before;
        if (cycle >= CYCLES - 10) late += purges() - before;
    }
    CHECK(first >= HOLES);
    return late <= 4 * first; /* not ten times as much */
}

/* What is wanted again soon after it went back is held, for longer each time if that costs much time, within retain_max; and goes when it isn't wanted any
 * more. */
static void regret_holds(void) {
    no_cache_no_mappings();
    void *small[HOLES], *large[HOLES];
    for (int i = 0; i < HOLES; i++) small[i] = make_hole(KIB(400));
    for (int i = 0; i < HOLES; i++) large[i] = make_hole(MIB(15));
    CHECK(!held_in_the_end(small, KIB(400), 4)); /* 1,600 faults in so long a time are cheap, */
    CHECK(held_in_the_end(large, MIB(15), 4));   /* 60,000 are not */
    CHECK(arena_main.tend.hold >= MIB(15) && arena_main.tend.hold <= conf_get(CONF_RETAIN_MAX));
    for (int i = 0; i < HOLES; i++) seemalloc_free(small[i]);
    for (int i = 0; i < HOLES; i++) seemalloc_free(large[i]);
    end_windows(70);
    CHECK_EQ(arena_main.tend.hold, 0);
    CHECK(arena_main.bins.clean >= HOLES * (KIB(400) - 2 * os_page_size()));
    CHECK_HEAP();
}

/* While a chunk's pages go back it is neither free nor in use: its neighbours merge with it when it comes back, nobody else can free it, a walk sees it,
 * and a forked child gets it. */
static void put_back(void) {
    no_cache_no_mappings();
    for (int pass = 0; pass < 3; pass++) {
        char *before = seemalloc_malloc(KIB(20)), *hole = seemalloc_malloc(KIB(100)), *after = seemalloc_malloc(KIB(20));
        (void)!seemalloc_malloc(100);
        seemalloc_free(hole);
        (void)!seemalloc_malloc(KIB(110)); /* sorts it */
        CHECK(arena_enter(&arena_main));
        struct chunk *chunk = chunk_of(hole);
        CHECK_EQ(chunk_tag(chunk), TAG_BINNED);
        size_t size = chunk_size(chunk);
        arena_take_out(&arena_main, chunk, "");
        chunk_set(chunk, size, FLAG_P, TAG_PURGING);
        chunk_set_p(chunk_at(chunk, size), true);
        arena_main.purging = chunk;
        arena_main.purged = (struct span){NULL, NULL};
        store_relaxed(&arena_main.purge_state, PURGE_BUSY);
        lock_leave(&arena_main.lock);
        CHECK_HEAP();
        struct seemalloc_stats stats;
        CHECK_EQ(seemalloc_get_stats(&stats), 0);
        CHECK_EQ(stats.bytes[SEEMALLOC_PURGING], size);
        bool lost_lock = false;
        CHECK(arena_enter(&arena_main));
        CHECK(!arena_await_purged(&arena_main, KIB(200), &lost_lock)); /* too small: not waited for */
        CHECK(arena_await_purged(&arena_main, KIB(50), &lost_lock) && !lost_lock);
        lock_leave(&arena_main.lock);
        if (pass > 0) seemalloc_free(before);
        if (pass > 1) seemalloc_free(after);
        CHECK_HEAP();
        if (pass == 1) {
            arena_fork_child();
        } else {
            store_release(&arena_main.purge_state, PURGE_OVER);
        }
        CHECK(arena_enter(&arena_main));
        CHECK(arena_main.purging == NULL);
        lock_leave(&arena_main.lock);
        CHECK_HEAP();
        CHECK_EQ(chunk_tag(pass > 0 ? chunk_of(before) : chunk), TAG_BINNED);
        CHECK_EQ(chunk_size(pass > 0 ? chunk_of(before) : chunk),
                 size + (pass > 0 ? request_size(KIB(20)) : 0) + (pass > 1 ? request_size(KIB(20)) : 0));
        (void)!seemalloc_malloc(chunk_size(pass > 0 ? chunk_of(before) : chunk) - CHUNK_OVERHEAD); /* out of the way of the next */
    }
}

enum { SWEPT = 30000, KEPT = 10 }; /* every tenth stays */
static unsigned char *swept[SWEPT];

static size_t swept_size(size_t i) { return 24 + i % 6 * 16; }

/* So many fast blocks that a sweep merges them. */
static void fill_fast_bins(void) {
    no_cache_no_mappings();
    uint64_t state = 4;
    for (size_t i = 0; i < SWEPT; i++) memset(swept[i] = seemalloc_malloc(swept_size(i)), (int)i, swept_size(i));
    (void)!seemalloc_malloc(100); /* not into top */
    for (size_t n = 0; n < SWEPT; n++) {
        size_t i = unit_random(&state) % SWEPT;
        if (i % KEPT == 0) continue;
        seemalloc_free(swept[i]); /* some were not chosen: kept as well */
        swept[i] = NULL;
    }
    CHECK(arena_sweeps(&arena_main));
}

static unsigned sweep_part(void) {
    CHECK(arena_enter(&arena_main));
    unsigned n = arena_merge_backlog(&arena_main, BACKLOG_FAST);
    lock_leave(&arena_main.lock);
    return n;
}

/* Between the parts of a sweep others go on: they free the neighbours of loose blocks, take what was merged, and move the top. */
static void swept_in_parts(void) {
    fill_fast_bins();
    uint64_t state = 5;
    size_t parts = 0;
    void *other[64] = {NULL};
    do {
        if (parts % 16 == 0) CHECK_HEAP();
        for (int i = 0; i < 8; i++) {
            size_t at = unit_random(&state) % 64, kept = unit_random(&state) % SWEPT;
            seemalloc_free(other[at]);
            other[at] = seemalloc_malloc(unit_random(&state) % 3000);
            if (swept[kept] == NULL) continue;
            for (size_t byte = 0; byte < swept_size(kept); byte++) CHECK_EQ(swept[kept][byte], kept & 255);
            if (i == 0) {
                swept[kept] = seemalloc_realloc(swept[kept], 500);
                seemalloc_free(swept[kept]);
                swept[kept] = NULL;
            }
        }
        CHECK(++parts < SWEPT);
    } while (sweep_part() != 0);
    CHECK_EQ(arena_main.sweep.loose, 0);
    CHECK(!arena_sweeps(&arena_main));
    for (size_t i = 0; i < SWEPT; i++) {
        for (size_t byte = 0; swept[i] != NULL && byte < swept_size(i); byte++) CHECK_EQ(swept[i][byte], i & 255);
        seemalloc_free(swept[i]);
    }
    for (size_t i = 0; i < 64; i++) seemalloc_free(other[i]);
    seemalloc_malloc_trim(0);
    CHECK_EQ(arena_main.fast_bytes, 0);
    CHECK_HEAP();
}

/* Regions that go back in the middle of a sweep. */
static void swept_regions(void) {
    fake_set_brk_room(0);
    fill_fast_bins();
    CHECK(arena_main.regions->next != NULL);
    while (sweep_part() != 0) {}
    for (size_t i = 0; i < SWEPT; i++) seemalloc_free(swept[i]);
    while (sweep_part() != 0) {}
    seemalloc_malloc_trim(0);
    CHECK_EQ(arena_main.fast_bytes, 0);
    CHECK_HEAP();
}

static unsigned char *loose_block(void) {
    static unsigned char *was[SWEPT];
    no_cache_no_mappings();
    for (size_t i = 0; i < SWEPT; i++) was[i] = seemalloc_malloc(swept_size(i));
    for (size_t i = 0; i + 1 < SWEPT; i++) seemalloc_free(was[i]);
    CHECK(sweep_part() != 0 && arena_main.sweep.loose != 0);
    for (size_t i = 0;; i++) {
        if (chunk_tag(chunk_of(was[i])) == TAG_LOOSE) return was[i];
    }
}
static void free_loose(void *mem) { seemalloc_free(mem); }
static void overwrite_loose(void *mem) {
    memset((unsigned char *)mem - 8, 0x41, 8);
    while (sweep_part() != 0) {}
}
static void loose_blocks_are_guarded(void) {
    unsigned char *mem = loose_block();
    CHECK_ABORTS(free_loose, mem, "double free or corruption (fasttop)");
    CHECK_ABORTS(overwrite_loose, mem, "malloc_consolidate(): invalid chunk size");
}

UNIT_MAIN({"lost_once", lost_once}, {"purged_once", purged_once}, {"large_mappings_wait", large_mappings_wait},
          {"large_mappings_refused", large_mappings_refused}, {"large_mappings_by_setting", large_mappings_by_setting},
          {"holes_make_up", holes_make_up}, {"trimmed_top", trimmed_top}, {"regretted_top", regretted_top},
          {"holes_make_up_only_for_new_pages", holes_make_up_only_for_new_pages}, {"holes_wait_for_the_lock", holes_wait_for_the_lock},
          {"merged_into_top", merged_into_top}, {"critical_sections", critical_sections}, {"reopened_top_is_dirty", reopened_top_is_dirty},
          {"fresh_blocks_in_a_row", fresh_blocks_in_a_row}, {"batches_fast_and_merged", batches_fast_and_merged},
          {"merged_before_growth", merged_before_growth}, {"waves_are_kept", waves_are_kept}, {"idle_goes_home", idle_goes_home},
          {"larger_class_serves", larger_class_serves}, {"larger_exact_class_serves", larger_exact_class_serves},
          {"shrunk_blocks_move", shrunk_blocks_move}, {"crowded_once", crowded_once}, {"mapped_while_forking", mapped_while_forking},
          {"never_mapped_in_transit", never_mapped_in_transit}, {"shared_arenas_follow_the_cpu", shared_arenas_follow_the_cpu},
          {"magazines_move", magazines_move}, {"idle_memory_goes_home", idle_memory_goes_home}, {"never_by_itself", never_by_itself},
          {"regret_holds", regret_holds}, {"put_back", put_back}, {"swept_in_parts", swept_in_parts}, {"swept_regions", swept_regions},
          {"loose_blocks_are_guarded", loose_blocks_are_guarded})
