/* arena.c: which arena a thread uses, and fork. SPDX-License-Identifier: MIT */
#include "arena/arena.h"

#include "base/probe.h"
#include "conf/conf.h"
#include "heap/mapped.h"
#include "heap/retain.h"
#include "os/cgroup.h"
#include "os/os.h"

#define CPU_SLOTS 256 /* of more CPUs some share */

APART struct arena arena_main __attribute__((aligned(4096)));
static APART struct arena first_spare __attribute__((aligned(4096)));
APART struct arena *arena_table[ARENA_LIMIT];
static struct arena *spare;
static uint32_t regular = 1; /* arenas that are not spares, and not abandoned; never above the limit */

static bool claim_regular(void) {
    uint32_t count = load_relaxed(&regular);
    do {
        if (count >= arena_limit()) return false;
    } while (!cas_acq_rel(&regular, &count, count + 1));
    return true;
}

static void arena_start(struct arena *arena, uint32_t id) {
    arena->id = id;
    arena->flag_a = id != 0 ? FLAG_A : 0;
    arena->lock.rank = arena->is_spare ? RANK_SPARE : RANK_ARENA;
    bins_init(&arena->bins, id);
}

void arena_init(void) {
    first_spare.is_spare = true;
    arena_start(&arena_main, 0);
    arena_start(&first_spare, 1);
    arena_table[0] = &arena_main;
    arena_table[1] = spare = &first_spare;
    store_release(&seal.arenas, 2);
}

struct arena *arena_of_id(uint32_t id) {
    return load_acquire(&arena_table[id]);
}
struct arena *arena_spare(void) {
    return load_acquire(&spare);
}

/* A new arena with the next id; without locks, so that a forked child and those whom fork turned away can make one as well. */
static struct arena *create(bool is_spare) {
    struct arena *arena = os_map_guarded(sizeof *arena);
    if (arena == NULL) return NULL;
    arena->is_spare = is_spare;
    arena->threads = is_spare ? 0 : 1;
    for (uint32_t id = load_acquire(&seal.arenas); id < ARENA_LIMIT; id++) {
        arena_start(arena, id);
        struct arena *expected = NULL;
        if (!cas_acq_rel(&arena_table[id], &expected, arena)) continue;
        /* Ids are published in order: wait for those before ours, which are between the same two steps. (A forked child publishes for those
         * who did not come along.) */
        for (uint32_t before = id; load_acquire(&seal.arenas) <= id; before = id) {
            if (!cas_acq_rel(&seal.arenas, &before, id + 1)) cpu_relax();
        }
        PROBE2(memory_arena_new, arena, sizeof *arena);
        return arena;
    }
    os_unmap_guarded(arena, sizeof *arena);
    return NULL;
}

unsigned arena_limit(void) {
    static unsigned usable;
    size_t limit = conf_get(CONF_ARENA_MAX);
    if (limit != 0) return (unsigned)limit;
    if (load_relaxed(&usable) == 0) store_relaxed(&usable, (unsigned)min_size(2 * (size_t)min_unsigned(prim_cpus(), cgroup_cpus()), 64));
    return load_relaxed(&usable);
}

static bool is_usable(const struct arena *arena) { return !arena->is_spare && load_relaxed(&arena->lock.word) != LOCK_ABANDONED; }

struct arena *arena_attach(bool main_thread) {
    uint32_t total = load_acquire(&seal.arenas), first = main_thread ? 0 : 1;
    struct arena *least = NULL;
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t id = 0; id < total; id++) {
            struct arena *arena = arena_of_id(id);
            if (!is_usable(arena)) continue;
            uint32_t threads = load_relaxed(&arena->threads);
            /* A released arena: its memory and its heaps are there already. */
            if (pass == 0 && id >= first && threads == 0 && cas_acq_rel(&arena->threads, &threads, 1)) {
                PROBE1(memory_arena_reuse_free_list, arena);
                return arena;
            }
            if (pass == 1 && (least == NULL || threads < load_relaxed(&least->threads))) least = arena;
        }
        if (pass == 0 && claim_regular()) {
            struct arena *arena = create(false);
            if (arena != NULL) return arena;
            sub_relaxed(&regular, 1);
        }
    }
    if (least == NULL) least = arena_spare(); /* everything was abandoned, and no memory for another */
    add_relaxed(&least->threads, 1);
    PROBE2(memory_arena_reuse, least, NULL);
    return least;
}

void arena_detach(struct arena *arena) {
    uint32_t threads = load_relaxed(&arena->threads);
    do {
        if (threads == 0) return; /* a signal handler forked meanwhile, and this child has counted anew */
    } while (!cas_acq_rel(&arena->threads, &threads, threads - 1));
    if (threads == 1 && arena != &arena_main) arena_settle(arena);
}

/* The CPU's arena: chosen in turn when one is first seen. */
static struct arena *arena_of_cpu(unsigned cpu) {
    static APART uint32_t chosen[CPU_SLOTS]; /* id + 1; 0: none yet */
    static uint32_t turn;
    uint32_t *slot = &chosen[cpu % CPU_SLOTS], id = load_relaxed(slot), total = load_acquire(&seal.arenas);
    if (LIKELY(id != 0 && is_usable(arena_of_id(id - 1)))) return arena_of_id(id - 1);
    for (uint32_t tries = 0; tries < total; tries++) {
        id = add_relaxed(&turn, 1) % total;
        if (!is_usable(arena_of_id(id))) continue;
        store_relaxed(slot, id + 1);
        return arena_of_id(id);
    }
    return NULL;
}

void arena_follow(struct arena **arena) {
    struct arena *here = arena_of_cpu(prim_cpu()), *before = *arena;
    if (here == NULL || here == before) return;
    add_relaxed(&here->threads, 1);
    PROBE2(memory_arena_reuse, here, before);
    *arena = here;
    arena_detach(before);
}

COLD unsigned arena_total(void) {
    unsigned total = 0;
    for (uint32_t id = 0; id < load_acquire(&seal.arenas); id++) {
        const struct arena *arena = arena_of_id(id);
        total += !arena->is_spare || load_relaxed(&arena->system_peak) != 0;
    }
    return total;
}

struct arena *arena_less_busy(struct arena *busy) {
    if (load_relaxed(&busy->lock.word) == LOCK_FREE) return busy;
    uint32_t total = load_acquire(&seal.arenas);
    for (uint32_t i = 1; i < total && i <= 8; i++) {
        struct arena *arena = arena_of_id((busy->id + i) % total);
        if (is_usable(arena) && load_relaxed(&arena->lock.word) == LOCK_FREE) return arena;
    }
    return busy;
}

COLD void arena_fork_prepare(uint64_t deadline) {
    for (uint32_t id = 0; id < load_acquire(&seal.arenas); id++) {
        if (!arena_of_id(id)->is_spare) lock_take_for_fork(&arena_of_id(id)->lock, deadline);
    }
    /* Last, for until now it served those who could not wait: from here on they get mappings. */
    lock_take_for_fork(&arena_spare()->lock, deadline);
}

/* Only locks that this thread took for fork are let go: one that a signal handler's fork found in its own thread's hands stays there. */
COLD void arena_fork_parent(void) {
    for (uint32_t id = 0; id < load_acquire(&seal.arenas); id++) {
        struct arena *arena = arena_of_id(id);
        if (lock_is_fork(&arena->lock)) lock_release_from_fork(&arena->lock);
    }
}

COLD void arena_fork_child(void) {
    region_fork_child();
    uint32_t total = load_acquire(&seal.arenas);
    /* A thread may have been between the two steps of `create`; then its arena is lost. */
    while (total < ARENA_LIMIT && load_relaxed(&arena_table[total]) != NULL) total++;
    store_release(&seal.arenas, total);
    for (uint32_t id = 0; id < total; id++) {
        struct arena *arena = arena_of_id(id);
        bool lost_before = load_relaxed(&arena->lock.word) == LOCK_ABANDONED;
        if (lock_is_fork(&arena->lock)) {
            lock_release_from_fork(&arena->lock);
        } else if (lock_settle_in_child(&arena->lock)) {
            if (!arena->is_spare) {
                if (!lost_before) sub_relaxed(&regular, 1);
            } else if (arena == arena_spare()) {
                struct arena *another = create(true);
                if (another != NULL) store_release(&spare, another);
            }
        }
        /* Who was just purging did not come along. */
        if (load_relaxed(&arena->purge_state) != PURGE_NONE) store_relaxed(&arena->purge_state, PURGE_OVER);
        store_relaxed(&arena->threads, 0); /* the survivor counts itself again */
    }
}

COLD void arena_walk_books(void (*visit)(const void *start, size_t size, void *arg), void *arg) {
    for (uint32_t id = 0; id < load_acquire(&seal.arenas); id++) {
        const struct arena *arena = arena_of_id(id);
        if (arena != &arena_main && arena != &first_spare) visit(arena, sizeof *arena, arg);
    }
}

COLD size_t arena_counted(void) {
    size_t bytes = load_relaxed(&mapped_bytes) + load_relaxed(&retained_bytes) + load_relaxed(&os_counters.metadata_bytes);
    for (uint32_t id = 0; id < load_acquire(&seal.arenas); id++) bytes += arena_of_id(id)->system_bytes - arena_of_id(id)->counted_clean;
    return bytes;
}
