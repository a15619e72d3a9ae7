/* lock.h: the allocator's lock: a futex that can refuse.
 *
 * fork() must hold every lock while the process is copied, but a thread that waits for us then may hold a lock of libc's that fork wants
 * next. So nobody waits long for a lock while a fork runs, nor at all for one that the own thread holds already (a signal handler that
 * interrupted us): lock_enter returns false, and the caller goes elsewhere.
 *
 *   word = 0 free | owner held | owner + 1 held, somebody sleeps | owner + 2 held by fork
 *          | 4 abandoned: its owner did not come along into this forked child
 *
 * Owner and state are one word, so that no signal can come between them. `owner` is lock_self() of the holder, a multiple of 8.
 *
 * Ranks rise: a thread takes a lock only above all that it holds (checked with SEEMALLOC_DEBUG). SPDX-License-Identifier: MIT */
#ifndef OS_LOCK_H
#define OS_LOCK_H

#include "base/base.h"

enum lock_bits { LOCK_FREE = 0, LOCK_WAITED = 1, LOCK_FORK = 2, LOCK_ABANDONED = 4, LOCK_OWNER_MASK = ~7 };
enum lock_rank { RANK_FORK = 1, RANK_ARENA = 2, RANK_SPARE = 3, RANK_META = 4 };

struct lock {
    uint64_t word;
    uint32_t rank; /* enum lock_rank */
};

/* An address that is this thread's alone while it lives; the same in the forked child's only thread. */
const void *lock_self(void);

/* Takes the lock, waiting if another thread holds it. False: a fork runs and it was not free within half a millisecond, this thread
 * holds it already, or it is abandoned. */
bool lock_enter(struct lock *lock);
bool lock_try(struct lock *lock); /* never waits; false also if merely held */
void lock_leave(struct lock *lock);

/* From the start of fork's prepare to its end nobody waits long for any lock: its holder may have been interrupted by a signal handler that
 * forks as well, and waits in libc for the first fork to end, which waits for stdio, which waits for us. */
void lock_fork_begins(void);
void lock_fork_ends(void);
void lock_fork_in_child(uint32_t own); /* forks that the child's only thread is still in */

/* How long critical sections are at most, in chunks handled (merged, sorted, cut, taken from a list) and in system calls; debug build only. */
#ifdef SEEMALLOC_DEBUG
extern size_t lock_most_chunks, lock_most_calls;
void lock_count_chunk(void);
void lock_count_call(void);
#else
static inline void lock_count_chunk(void) {}
static inline void lock_count_call(void) {}
#endif

/* For the fork handlers. Take: waits until `deadline` (prim_clock) at most, and not for a thread that forks itself: it was interrupted by a signal handler that
 * does. Then those who wait are told to go elsewhere. */
bool lock_take_for_fork(struct lock *lock, uint64_t deadline);
void lock_release_from_fork(struct lock *lock);

/* In the child, for a lock that fork did not get: abandons it unless free or this thread's own. Returns true if it was abandoned. */
bool lock_settle_in_child(struct lock *lock);

/* A forked child that nobody told yet (libraries' atfork handlers run before ours, or clone was called raw) finds *marker zero, calls
 * `repair` before it waits for a lock, and goes on. Called once at start-up. */
void lock_set_repair(uint32_t *marker, void (*repair)(void));
extern uint32_t *lock_marker; /* it; for readers from outside */

/* Whether this thread's fork holds it. */
static inline bool lock_is_fork(const struct lock *lock) {
    return (load_relaxed(&lock->word) & ~(uint64_t)LOCK_WAITED) == ((uintptr_t)lock_self() | LOCK_FORK);
}

#endif
