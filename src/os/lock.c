/* lock.c: see lock.h. After U. Drepper, "Futexes are tricky", 2011 (the three-state mutex). SPDX-License-Identifier: MIT */
#include "os/lock.h"

#include "os/report.h"
#include "os/prim.h"

#define SPINS 100
#define NAP 1000000u          /* ns: a sleeper looks around from time to time, whatever happens */
#define FORK_PATIENCE 500000u /* ns: most forks are over by then; who waits longer may be what fork waits for */

/* The thread control block: one a thread, and no thread-local word of our own for it. */
const void *lock_self(void) {
#if defined(__x86_64__)
    void *self;
    __asm__("mov %%fs:0, %0" : "=r"(self));
    return self;
#elif defined(__aarch64__)
    void *self;
    __asm__("mrs %0, tpidr_el0" : "=r"(self));
    return (const void *)((uintptr_t)self & LOCK_OWNER_MASK);
#else
    static __thread uint64_t self __attribute__((tls_model("initial-exec")));
    return &self;
#endif
}

static uint64_t own_word(void) { return (uintptr_t)lock_self(); }

/* The futex is the half that holds the state bits. Another owner whose half is equal by chance costs a sleeper one nap. */
static uint32_t *futex_of(struct lock *lock) { return (uint32_t *)&lock->word + (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 1 : 0); }

static uint32_t forks_running;

/* Threads that fork, once for each fork within a fork. What one of them holds that was not taken for fork it will not let go before it comes through. */
#define FORKERS 64
static APART uint64_t forkers[FORKERS]; /* 0: none; beyond so many nobody knows */

static void forker_change(uint64_t from, uint64_t to) {
    for (unsigned i = 0; i < FORKERS; i++) {
        uint64_t expected = from;
        if (load_relaxed(&forkers[i]) == from && cas_acq_rel(&forkers[i], &expected, to)) return;
    }
}

static bool forks(uint64_t owner) {
    for (unsigned i = 0; i < FORKERS; i++) {
        if (load_relaxed(&forkers[i]) == owner) return true;
    }
    return false;
}

COLD void lock_fork_begins(void) {
    add_relaxed(&forks_running, 1);
    forker_change(0, own_word());
}

COLD void lock_fork_ends(void) {
    forker_change(own_word(), 0);
    sub_relaxed(&forks_running, 1);
}

COLD void lock_fork_in_child(uint32_t own) {
    store_relaxed(&forks_running, own);
    for (unsigned i = 0; i < FORKERS; i++) store_relaxed(&forkers[i], i < own ? own_word() : 0);
}

uint32_t *lock_marker;
static void (*child_repair)(void);

void lock_set_repair(uint32_t *marker, void (*repair)(void)) {
    lock_marker = marker;
    child_repair = repair;
}

#ifdef SEEMALLOC_DEBUG
static __thread unsigned held_ranks[8] __attribute__((tls_model("initial-exec")));
static __thread unsigned locks_held __attribute__((tls_model("initial-exec")));

/* What this thread did since it took the first of the locks that it holds. */
static __thread size_t chunks, calls __attribute__((tls_model("initial-exec")));
size_t lock_most_chunks, lock_most_calls;

void lock_count_chunk(void) { chunks += locks_held != 0; }
void lock_count_call(void) { calls += locks_held != 0; }

static void rank_enter(const struct lock *lock) {
    if (locks_held == 0) chunks = calls = 0;
    if (locks_held != 0 && held_ranks[locks_held - 1] >= lock->rank) {
        fatal("seemalloc: internal error", "lock of rank %u taken while one of rank %u is held; ranks must rise", lock->rank,
              held_ranks[locks_held - 1]);
    }
    held_ranks[locks_held++] = lock->rank;
}

static void rank_leave(const struct lock *lock) {
    if (locks_held == 0 || held_ranks[locks_held - 1] != lock->rank) {
        fatal("seemalloc: internal error", "lock of rank %u released out of order", lock->rank);
    }
    locks_held--;
    atomic_max(&lock_most_chunks, chunks);
    atomic_max(&lock_most_calls, calls);
}
#else
static inline void rank_enter(const struct lock *lock) { (void)lock; }
static inline void rank_leave(const struct lock *lock) { (void)lock; }
#endif

bool lock_try(struct lock *lock) {
    uint64_t expected = LOCK_FREE;
    if (!cas_acquire(&lock->word, &expected, own_word())) return false;
    rank_enter(lock);
    return true;
}

/* Sleeps until the holder of `word` leaves, or for a nap. */
static void doze(struct lock *lock, uint64_t word, uint64_t nanoseconds) {
    uint64_t waited = word | LOCK_WAITED;
    if (word == waited || cas_acquire(&lock->word, &word, waited)) prim_wait(futex_of(lock), (uint32_t)waited, nanoseconds);
}

static NOINLINE bool enter_contended(struct lock *lock) {
    uint64_t patience = 0;
    for (unsigned spins = 0;; spins++) {
        uint64_t word = load_relaxed(&lock->word);
        if (word == LOCK_FREE) {
            /* Once we have slept others may sleep as well, so the lock is taken as waited for. */
            if (!cas_acquire(&lock->word, &word, own_word() | (spins < SPINS ? 0 : LOCK_WAITED))) continue;
            rank_enter(lock);
            return true;
        }
        if ((word & (uint64_t)LOCK_OWNER_MASK) == own_word()) return false;
        if (lock_marker != NULL && load_relaxed(lock_marker) == 0) {
            child_repair();
            continue;
        }
        if (word & LOCK_ABANDONED) return false;
        if (spins < SPINS) {
            cpu_relax();
        } else if (load_relaxed(&forks_running) != 0) {
            /* Whoever holds it may be fork, or in a signal handler that waits for fork. */
            uint64_t now = prim_clock();
            if (patience == 0) patience = now + FORK_PATIENCE;
            if (now >= patience) return false;
            prim_wait(futex_of(lock), (uint32_t)word, patience - now);
        } else {
            doze(lock, word, NAP);
        }
    }
}

bool lock_enter(struct lock *lock) { return LIKELY(lock_try(lock)) || enter_contended(lock); }

void lock_leave(struct lock *lock) {
    rank_leave(lock);
    if (__atomic_exchange_n(&lock->word, LOCK_FREE, __ATOMIC_RELEASE) & LOCK_WAITED) prim_wake(futex_of(lock), 1);
}

COLD bool lock_take_for_fork(struct lock *lock, uint64_t deadline) {
    for (unsigned spins = 0;; spins++) {
        uint64_t word = load_relaxed(&lock->word);
        if (word == LOCK_FREE) {
            if (!cas_acquire(&lock->word, &word, own_word() | LOCK_FORK)) continue;
            prim_wake(futex_of(lock), INT32_MAX); /* sleepers must not wait for fork */
            return true;
        }
        if ((word & (uint64_t)LOCK_OWNER_MASK) == own_word() || word == LOCK_ABANDONED) return false;
        if (spins < SPINS) {
            cpu_relax();
        } else if (prim_clock() >= deadline || (!(word & LOCK_FORK) && forks(word & (uint64_t)LOCK_OWNER_MASK))) {
            return false;
        } else if (word & LOCK_FORK) {
            prim_wait(futex_of(lock), (uint32_t)word, NAP); /* another thread forks at the same time */
        } else {
            doze(lock, word, NAP);
        }
    }
}

COLD void lock_release_from_fork(struct lock *lock) {
    store_release(&lock->word, LOCK_FREE);
    prim_wake(futex_of(lock), INT32_MAX);
}

COLD bool lock_settle_in_child(struct lock *lock) {
    uint64_t word = load_relaxed(&lock->word);
    if (word == LOCK_FREE || (word & (uint64_t)LOCK_OWNER_MASK) == own_word()) return false;
    store_relaxed(&lock->word, LOCK_ABANDONED);
    return true;
}
