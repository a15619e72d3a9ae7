/* test_lock.c: the lock among threads, under a fork, in a forked child and in a signal handler. Nothing here depends on how long something takes:
 * who must wait is seen asleep in the lock's word, and the clock is staged. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "fake.h"
#include "os/lock.h"
#include "os/os.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define INTERNAL "seemalloc: internal error"

static uint64_t word(const struct lock *lock) { return load_relaxed(&lock->word); }
static uint64_t self(void) { return (uintptr_t)lock_self(); }

/* --- Another thread, that does one thing at a time --- */

enum order {
    ORDER_NONE,
    ORDER_ENTER,
    ORDER_TRY,
    ORDER_LEAVE,
    ORDER_TAKE_FOR_FORK,
    ORDER_RELEASE,
    ORDER_FORK_BEGINS,
    ORDER_FORK_ENDS,
    ORDER_QUIT
};

struct other {
    pthread_t thread;
    struct lock *lock;
    uint64_t deadline;
    uint32_t order; /* enum order; ORDER_NONE again when it is done */
    bool result;
    const void *self;
};

static void *obey(void *arg) {
    struct other *other = arg;
    other->self = lock_self();
    for (;;) {
        enum order order = (enum order)load_acquire(&other->order);
        if (order == ORDER_NONE) {
            sched_yield();
            continue;
        }
        if (order == ORDER_ENTER) other->result = lock_enter(other->lock);
        if (order == ORDER_TRY) other->result = lock_try(other->lock);
        if (order == ORDER_LEAVE) lock_leave(other->lock);
        if (order == ORDER_TAKE_FOR_FORK) other->result = lock_take_for_fork(other->lock, other->deadline);
        if (order == ORDER_RELEASE) lock_release_from_fork(other->lock);
        if (order == ORDER_FORK_BEGINS) lock_fork_begins();
        if (order == ORDER_FORK_ENDS) lock_fork_ends();
        store_release(&other->order, ORDER_NONE);
        if (order == ORDER_QUIT) return NULL;
    }
}

static void give(struct other *other, enum order order) { store_release(&other->order, order); }
static bool is_done(const struct other *other) { return load_acquire(&other->order) == ORDER_NONE; }

static bool wait_for(struct other *other) {
    while (!is_done(other)) sched_yield();
    return other->result;
}

static bool have_done(struct other *other, enum order order) {
    give(other, order);
    return wait_for(other);
}

static void start(struct other *other, struct lock *lock) {
    *other = (struct other){.lock = lock};
    CHECK_EQ(pthread_create(&other->thread, NULL, obey, other), 0);
}

static void quit(struct other *other) {
    give(other, ORDER_QUIT);
    pthread_join(other->thread, NULL);
}

/* Until somebody sleeps, or will at once. */
static void wait_for_sleeper(const struct lock *lock) {
    while (!(load_relaxed(&lock->word) & LOCK_WAITED)) sched_yield();
}

/* --- One thread, two threads --- */

static void alone(void) {
    struct lock lock = {.rank = RANK_ARENA};
    CHECK_EQ(self() % 8, 0);
    for (int i = 0; i < 3; i++) {
        CHECK(i % 2 ? lock_try(&lock) : lock_enter(&lock));
        CHECK_EQ(word(&lock), self());
        CHECK(!lock_is_fork(&lock));
        CHECK(!lock_enter(&lock)); /* as a signal handler would */
        CHECK(!lock_try(&lock));
        CHECK(!lock_take_for_fork(&lock, UINT64_MAX)); /* at once */
        CHECK_EQ(word(&lock), self());
        lock_leave(&lock);
        CHECK_EQ(word(&lock), LOCK_FREE);
    }
}

static void of_two(void) {
    struct lock lock = {.rank = RANK_ARENA};
    struct other other;
    start(&other, &lock);
    CHECK(have_done(&other, ORDER_ENTER));
    CHECK(other.self != lock_self());
    CHECK_EQ(word(&lock), (uintptr_t)other.self);
    CHECK(!lock_try(&lock));
    have_done(&other, ORDER_LEAVE);
    CHECK(lock_try(&lock));
    CHECK(!have_done(&other, ORDER_TRY));
    give(&other, ORDER_ENTER); /* sleeps until we leave */
    wait_for_sleeper(&lock);
    CHECK(!is_done(&other));
    CHECK_EQ(word(&lock), self() | LOCK_WAITED);
    CHECK(!lock_enter(&lock));
    lock_leave(&lock);
    CHECK(wait_for(&other));
    CHECK_EQ(word(&lock) & (uint64_t)LOCK_OWNER_MASK, (uintptr_t)other.self);
    have_done(&other, ORDER_LEAVE);
    CHECK_EQ(word(&lock), LOCK_FREE);
    quit(&other);
}

enum { THREADS = 4, TURNS = 100000 };
static struct lock shared = {.rank = RANK_ARENA};
static uint64_t count, pair[2];

static void one_turn(void) {
    CHECK_EQ(pair[0], pair[1]);
    pair[0]++;
    count++;
    pair[1]++;
}

static void *take_turns(void *arg) {
    uint64_t random = (uintptr_t)arg;
    for (int i = 0; i < TURNS; i++) {
        if (unit_random(&random) % 4 == 0) {
            while (!lock_try(&shared)) sched_yield();
        } else {
            CHECK(lock_enter(&shared)); /* no fork: nobody is refused */
        }
        one_turn();
        if (unit_random(&random) % 2048 == 0) sched_yield(); /* so that others fall asleep */
        lock_leave(&shared);
    }
    return NULL;
}

static void contention(void) {
    pthread_t thread[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++) CHECK_EQ(pthread_create(&thread[i], NULL, take_turns, (void *)(i + 1)), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    CHECK_EQ(count, THREADS * TURNS);
    CHECK_EQ(word(&shared), LOCK_FREE);
}

/* All that sleep get their turn. */
static void all_sleepers_wake(void) {
    struct lock lock = {.rank = RANK_ARENA};
    struct other others[6];
    for (int i = 0; i < 6; i++) start(&others[i], &lock);
    for (int round = 0; round < 20; round++) {
        CHECK(lock_enter(&lock));
        for (int i = 0; i < 6; i++) give(&others[i], ORDER_ENTER);
        wait_for_sleeper(&lock);
        lock_leave(&lock);
        for (unsigned left = (1u << 6) - 1; left != 0;) {
            for (int i = 0; i < 6; i++) {
                if (!(left >> i & 1) || !is_done(&others[i])) continue;
                CHECK(others[i].result);
                have_done(&others[i], ORDER_LEAVE);
                left &= ~(1u << i);
            }
        }
        CHECK_EQ(word(&lock), LOCK_FREE);
    }
    for (int i = 0; i < 6; i++) quit(&others[i]);
}

/* --- Ranks --- */

struct ranks {
    enum lock_rank first, second;
    bool by_try;
};

static void take_both(void *arg) {
    const struct ranks *ranks = arg;
    struct lock first = {.rank = ranks->first}, second = {.rank = ranks->second};
    if (!lock_enter(&first)) return;
    if (ranks->by_try ? !lock_try(&second) : !lock_enter(&second)) return;
    lock_leave(&second);
    lock_leave(&first);
    /* Nothing is held any more: any rank is good. */
    if (!lock_enter(&first)) return;
    lock_leave(&first);
    if (!lock_enter(&second)) return;
    lock_leave(&second);
}

static void leave_the_lower_first(void *arg) {
    (void)arg;
    struct lock low = {.rank = RANK_ARENA}, high = {.rank = RANK_META};
    if (!lock_enter(&low) || !lock_enter(&high)) return;
    lock_leave(&low);
}

static void leave_what_is_free(void *arg) {
    (void)arg;
    struct lock lock = {.rank = RANK_ARENA};
    lock_leave(&lock);
}

static void ranks_rise(void) {
    for (int first = RANK_FORK; first <= RANK_META; first++) {
        for (int second = RANK_FORK; second <= RANK_META; second++) {
            for (int by_try = 0; by_try < 2; by_try++) {
                struct ranks ranks = {(enum lock_rank)first, (enum lock_rank)second, by_try};
                if (second <= first)
                    CHECK_ABORTS(take_both, &ranks, INTERNAL);
                else
                    take_both(&ranks);
            }
        }
    }
    CHECK_ABORTS(leave_the_lower_first, NULL, INTERNAL);
    CHECK_ABORTS(leave_what_is_free, NULL, INTERNAL);

    /* Each thread has its own; and what was refused isn't held. */
    struct lock low = {.rank = RANK_ARENA}, high = {.rank = RANK_META};
    struct other other;
    start(&other, &low);
    CHECK(lock_enter(&high));
    CHECK(have_done(&other, ORDER_ENTER));
    lock_leave(&high);
    CHECK(!lock_try(&low));
    struct lock lowest = {.rank = RANK_FORK};
    CHECK(lock_enter(&lowest));
    lock_leave(&lowest);
    have_done(&other, ORDER_LEAVE);
    quit(&other);
}

/* The longest critical section: from the first lock taken to the last one left, in what was counted meanwhile. */
static void longest_section(void) {
    struct lock low = {.rank = RANK_ARENA}, high = {.rank = RANK_META};
    lock_most_chunks = lock_most_calls = 0;
    for (int i = 0; i < 50; i++) lock_count_chunk(), lock_count_call(); /* under no lock */
    CHECK(lock_enter(&low));
    for (int i = 0; i < 3; i++) lock_count_chunk();
    lock_count_call();
    CHECK(lock_enter(&high));
    lock_count_chunk();
    lock_leave(&high);
    lock_count_chunk();
    lock_leave(&low);
    CHECK_EQ(lock_most_chunks, 5);
    CHECK_EQ(lock_most_calls, 1);
    for (int i = 0; i < 3; i++) {
        CHECK(lock_enter(&low));
        lock_count_chunk();
        for (int calls = i; calls < 2; calls++) lock_count_call();
        lock_leave(&low);
    }
    CHECK_EQ(lock_most_chunks, 5);
    CHECK_EQ(lock_most_calls, 2);
}

/* --- Fork --- */

static void held_by_fork(void) {
    struct lock lock = {.rank = RANK_ARENA};
    struct other other;
    start(&other, &lock);
    lock_fork_begins();
    CHECK(lock_take_for_fork(&lock, 0)); /* free: no deadline is looked at */
    CHECK(lock_is_fork(&lock));
    CHECK_EQ(word(&lock), self() | LOCK_FORK);
    CHECK(!lock_enter(&lock));
    CHECK(!lock_try(&lock));
    CHECK(!lock_take_for_fork(&lock, UINT64_MAX));
    for (int i = 0; i < 3; i++) CHECK(!have_done(&other, ORDER_ENTER)); /* goes elsewhere */
    CHECK(!have_done(&other, ORDER_TRY));
    other.deadline = 0;
    CHECK(!have_done(&other, ORDER_TAKE_FOR_FORK)); /* another fork, that is out of time */
    CHECK(lock_is_fork(&lock));
    lock_release_from_fork(&lock);
    lock_fork_ends();
    CHECK_EQ(word(&lock), LOCK_FREE);
    CHECK(!lock_is_fork(&lock));
    CHECK(have_done(&other, ORDER_ENTER));
    have_done(&other, ORDER_LEAVE);

    other.deadline = UINT64_MAX;
    CHECK(have_done(&other, ORDER_TAKE_FOR_FORK));
    CHECK(!lock_is_fork(&lock)); /* of another thread */
    have_done(&other, ORDER_RELEASE);
    CHECK_EQ(word(&lock), LOCK_FREE);
    quit(&other);
}

/* While a fork runs nobody waits long for any lock, whoever holds it; before and afterwards everybody does. */
static void patience_ends(void) {
    struct lock lock = {.rank = RANK_ARENA};
    struct other other;
    start(&other, &lock);
    CHECK(lock_enter(&lock));
    lock_fork_begins();
    lock_fork_begins(); /* two at the same time */
    uint64_t before = os_clock();
    CHECK(!have_done(&other, ORDER_ENTER));
    CHECK(os_clock() - before >= 500000);
    lock_fork_ends();
    CHECK(!have_done(&other, ORDER_ENTER));
    lock_fork_ends();
    give(&other, ORDER_ENTER);
    wait_for_sleeper(&lock);
    CHECK(!is_done(&other));
    lock_leave(&lock);
    CHECK(wait_for(&other));
    have_done(&other, ORDER_LEAVE);
    CHECK_EQ(word(&lock), LOCK_FREE);

    /* Begins while one sleeps already: it is refused soon, although the lock is not let go. */
    CHECK(lock_enter(&lock));
    give(&other, ORDER_ENTER);
    wait_for_sleeper(&lock);
    lock_fork_begins();
    CHECK(!wait_for(&other));
    lock_leave(&lock);
    lock_fork_ends();
    CHECK_EQ(word(&lock), LOCK_FREE);
    quit(&other);
}

static void deadline_passes(void) {
    struct lock lock = {.rank = RANK_ARENA};
    struct other other;
    start(&other, &lock);
    CHECK(have_done(&other, ORDER_ENTER));
    uint64_t deadline = os_clock() + 5000000;
    CHECK(!lock_take_for_fork(&lock, deadline));
    CHECK(os_clock() >= deadline);
    CHECK(!lock_take_for_fork(&lock, 0));
    CHECK_EQ(word(&lock) & (uint64_t)LOCK_OWNER_MASK, (uintptr_t)other.self); /* still the holder's, who leaves as ever */
    CHECK(!lock_is_fork(&lock));
    have_done(&other, ORDER_LEAVE);
    CHECK_EQ(word(&lock), LOCK_FREE);

    CHECK(lock_enter(&lock)); /* with time enough it waits */
    other.deadline = UINT64_MAX;
    give(&other, ORDER_TAKE_FOR_FORK);
    wait_for_sleeper(&lock);
    CHECK(!is_done(&other));
    lock_leave(&lock);
    CHECK(wait_for(&other));
    CHECK_EQ(word(&lock) & ~(uint64_t)LOCK_WAITED, (uintptr_t)other.self | LOCK_FORK);

    /* Another thread forks at the same time, and waits for the first. */
    struct other third;
    start(&third, &lock);
    third.deadline = UINT64_MAX;
    give(&third, ORDER_TAKE_FOR_FORK);
    for (int i = 0; i < 100; i++) sched_yield();
    CHECK(!is_done(&third));
    have_done(&other, ORDER_RELEASE);
    CHECK(wait_for(&third));
    have_done(&third, ORDER_RELEASE);
    CHECK_EQ(word(&lock), LOCK_FREE);
    quit(&third);
    quit(&other);
}

/* A thread that forks in a signal handler, which interrupted it while it held a lock, keeps that until its fork is over, and so waits for the first one:
 * which does not wait for it, as long as that lasts and no longer. */
static void no_wait_for_forkers(void) {
    struct lock lock = {.rank = RANK_ARENA};
    struct other other, third;
    start(&other, &lock);
    start(&third, &lock);
    CHECK(have_done(&other, ORDER_ENTER));
    lock_fork_begins();
    third.deadline = UINT64_MAX;
    give(&third, ORDER_TAKE_FOR_FORK); /* waits already when the handler begins */
    wait_for_sleeper(&lock);
    have_done(&other, ORDER_FORK_BEGINS);
    CHECK(!wait_for(&third));
    CHECK(!lock_take_for_fork(&lock, UINT64_MAX));
    have_done(&other, ORDER_FORK_BEGINS); /* a fork within that fork */
    have_done(&other, ORDER_FORK_ENDS);
    CHECK(!lock_take_for_fork(&lock, UINT64_MAX));
    have_done(&other, ORDER_FORK_ENDS);
    give(&third, ORDER_TAKE_FOR_FORK);
    for (int i = 0; i < 100; i++) sched_yield();
    CHECK(!is_done(&third));
    have_done(&other, ORDER_LEAVE);
    CHECK(wait_for(&third));
    /* What a forking thread took for fork it lets go. */
    have_done(&third, ORDER_FORK_BEGINS);
    CHECK(!lock_take_for_fork(&lock, 0));
    other.deadline = UINT64_MAX;
    give(&other, ORDER_TAKE_FOR_FORK);
    for (int i = 0; i < 100; i++) sched_yield();
    CHECK(!is_done(&other));
    have_done(&third, ORDER_RELEASE);
    CHECK(wait_for(&other));
    have_done(&third, ORDER_FORK_ENDS);
    have_done(&other, ORDER_RELEASE);
    lock_fork_ends();
    CHECK_EQ(word(&lock), LOCK_FREE);
    quit(&third);
    quit(&other);
}

static uint32_t turns, own_turns, busy;

/* Goes on until fork had its turns too. */
static void *take_turns_or_not(void *arg) {
    uint64_t random = (uintptr_t)arg;
    for (int i = 0; i < TURNS / 20 || load_relaxed(&own_turns) < 3; i++) {
        if (!lock_enter(&shared)) continue;
        add_relaxed(&turns, 1);
        one_turn();
        if (unit_random(&random) % 64 == 0) sched_yield();
        lock_leave(&shared);
    }
    sub_relaxed(&busy, 1);
    return NULL;
}

/* Threads that work while one forks again and again: whoever is not refused has the lock alone, and so has fork. */
static void contention_with_forks(void) {
    pthread_t thread[THREADS];
    store_relaxed(&busy, THREADS);
    for (uintptr_t i = 0; i < THREADS; i++) CHECK_EQ(pthread_create(&thread[i], NULL, take_turns_or_not, (void *)(i + 1)), 0);
    while (load_relaxed(&busy) != 0) {
        lock_fork_begins();
        if (lock_take_for_fork(&shared, os_clock() + 2000000)) {
            CHECK(lock_is_fork(&shared));
            one_turn();
            sched_yield();
            add_relaxed(&own_turns, 1);
            lock_release_from_fork(&shared);
        }
        lock_fork_ends();
        sched_yield();
    }
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    CHECK_EQ(count, turns + own_turns);
    CHECK_EQ(word(&shared), LOCK_FREE);
}

/* --- The child --- */

static void in_child(void (*run)(void *), void *arg) {
    pid_t pid = fork();
    if (pid == 0) {
        run(arg);
        _exit(0);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    CHECK_EQ(status, 0);
}

enum { LOCK_OF_NONE, LOCK_OWN, LOCK_OWN_FORK, LOCK_OTHERS, LOCK_OTHERS_FORK, LOCKS };
static struct lock locks[LOCKS] = {
    {.rank = RANK_ARENA}, {.rank = RANK_ARENA}, {.rank = RANK_ARENA}, {.rank = RANK_ARENA}, {.rank = RANK_ARENA}};
static const void *self_before;

static void settle(void *arg) {
    (void)arg;
    CHECK_EQ(lock_self(), self_before);
    CHECK(!lock_settle_in_child(&locks[LOCK_OF_NONE]));
    CHECK(!lock_settle_in_child(&locks[LOCK_OWN]));
    CHECK(!lock_settle_in_child(&locks[LOCK_OWN_FORK]));
    CHECK(lock_is_fork(&locks[LOCK_OWN_FORK]));
    lock_release_from_fork(&locks[LOCK_OWN_FORK]);
    lock_leave(&locks[LOCK_OWN]); /* as the interrupted work will that forked in a signal handler */
    for (int i = LOCK_OF_NONE; i <= LOCK_OWN_FORK; i++) {
        CHECK_EQ(word(&locks[i]), LOCK_FREE);
        CHECK(lock_enter(&locks[i]));
        lock_leave(&locks[i]);
    }
    for (int i = LOCK_OTHERS; i <= LOCK_OTHERS_FORK; i++) {
        CHECK(lock_settle_in_child(&locks[i]));
        CHECK_EQ(word(&locks[i]), LOCK_ABANDONED);
        CHECK(!lock_enter(&locks[i])); /* nobody waits for who will never leave */
        CHECK(!lock_try(&locks[i]));
        CHECK(!lock_take_for_fork(&locks[i], UINT64_MAX));
        CHECK(!lock_is_fork(&locks[i]));
        CHECK_EQ(word(&locks[i]), LOCK_ABANDONED);
    }
}

static void settled_in_child(void) {
    struct other other, forks;
    start(&other, &locks[LOCK_OTHERS]);
    start(&forks, &locks[LOCK_OTHERS_FORK]);
    self_before = lock_self();
    CHECK(have_done(&other, ORDER_ENTER));
    CHECK(have_done(&forks, ORDER_TAKE_FOR_FORK));
    CHECK(lock_enter(&locks[LOCK_OWN]));
    CHECK(lock_take_for_fork(&locks[LOCK_OWN_FORK], 0));
    in_child(settle, NULL);
    /* The parent's are as they were. */
    lock_release_from_fork(&locks[LOCK_OWN_FORK]);
    lock_leave(&locks[LOCK_OWN]);
    have_done(&other, ORDER_LEAVE);
    have_done(&forks, ORDER_RELEASE);
    for (int i = 0; i < LOCKS; i++) CHECK_EQ(word(&locks[i]), LOCK_FREE);
    quit(&other);
    quit(&forks);
}

/* Forks of other threads did not come along: the child waits again, unless it is still in one of its own. */
static void child_waits_again(void *arg) {
    struct lock lock = {.rank = RANK_ARENA};
    struct other other;
    uint32_t own = *(uint32_t *)arg;
    lock_fork_begins(); /* whatever the count is here */
    lock_fork_in_child(own);
    start(&other, &lock);
    CHECK(lock_enter(&lock));
    for (; own != 0; own--) {
        CHECK(!have_done(&other, ORDER_ENTER));
        lock_fork_ends();
    }
    give(&other, ORDER_ENTER);
    while (!(load_relaxed(&lock.word) & LOCK_WAITED) && !is_done(&other)) sched_yield();
    CHECK(!is_done(&other));
    lock_leave(&lock);
    CHECK(wait_for(&other));
    have_done(&other, ORDER_LEAVE);
    quit(&other);
}

static void forks_in_child(void) {
    for (uint32_t own = 0; own < 3; own++) in_child(child_waits_again, &own);
}

/* --- A child that nobody told --- */

static uint32_t marker;
static unsigned repairs;

static void repair(void) {
    repairs++;
    store_relaxed(&marker, 1);
    if (lock_settle_in_child(&locks[LOCK_OTHERS])) store_relaxed(&locks[LOCK_OTHERS].word, LOCK_FREE);
    lock_settle_in_child(&locks[LOCK_OTHERS_FORK]);
}

static void find_out(void *arg) {
    (void)arg;
    store_relaxed(&marker, 0);
    CHECK(lock_enter(&locks[LOCK_OF_NONE])); /* no need to wait: no need to know */
    CHECK(!lock_enter(&locks[LOCK_OF_NONE]));
    lock_leave(&locks[LOCK_OF_NONE]);
    CHECK(!lock_try(&locks[LOCK_OTHERS]));
    CHECK_EQ(repairs, 0);
    CHECK(lock_enter(&locks[LOCK_OTHERS])); /* repaired, and then it can be had */
    CHECK_EQ(repairs, 1);
    lock_leave(&locks[LOCK_OTHERS]);
    CHECK(!lock_enter(&locks[LOCK_OTHERS_FORK])); /* abandoned by the same repair */
    CHECK_EQ(repairs, 1);
}

static void repaired_in_time(void) {
    struct other other, forks;
    lock_set_repair(&marker, repair);
    marker = 1;
    start(&other, &locks[LOCK_OTHERS]);
    start(&forks, &locks[LOCK_OTHERS_FORK]);
    CHECK(have_done(&other, ORDER_ENTER));
    CHECK(have_done(&forks, ORDER_TAKE_FOR_FORK));
    lock_fork_begins();
    CHECK(!lock_enter(&locks[LOCK_OTHERS])); /* the marker says that all is well */
    lock_fork_ends();
    CHECK_EQ(repairs, 0);
    in_child(find_out, NULL);
    have_done(&other, ORDER_LEAVE);
    have_done(&forks, ORDER_RELEASE);
    quit(&other);
    quit(&forks);
}

/* --- Signal handlers --- */

static uint32_t signals, interrupted;

static void on_signal(int number) {
    (void)number;
    add_relaxed(&signals, 1);
    if (!lock_enter(&shared)) {
        add_relaxed(&interrupted, 1);
        return;
    }
    one_turn();
    lock_leave(&shared);
}

static void handle(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    CHECK_EQ(sigaction(SIGUSR1, &action, NULL), 0);
}

static void in_a_handler(void) {
    handle();
    raise(SIGUSR1); /* nothing is held */
    CHECK_EQ(count, 1);
    CHECK(lock_enter(&shared));
    raise(SIGUSR1); /* refused, for waiting would never end */
    CHECK_EQ(signals, 2);
    CHECK_EQ(interrupted, 1);
    CHECK_EQ(count, 1);
    lock_leave(&shared);
    CHECK(lock_take_for_fork(&shared, 0));
    raise(SIGUSR1);
    CHECK_EQ(interrupted, 2);
    lock_release_from_fork(&shared);
    raise(SIGUSR1);
    CHECK_EQ(count, 2);
    CHECK_EQ(interrupted, 2);
}

static void *signal_all(void *arg) {
    pthread_t *thread = arg;
    for (unsigned i = 0; load_relaxed(&busy) != 0; i++) {
        pthread_kill(thread[i % 2], SIGUSR1);
        sched_yield();
    }
    return NULL;
}

static uint32_t gate, turns;

static void *take_turns_interrupted(void *arg) {
    uint64_t random = (uintptr_t)arg;
    for (uint32_t i = 0; i < 1000 || load_relaxed(&signals) < 1000; i++) {
        CHECK(lock_enter(&shared)); /* only handlers are refused */
        one_turn();
        if (unit_random(&random) % 64 == 0) sched_yield();
        lock_leave(&shared);
        add_relaxed(&turns, 1);
    }
    sub_relaxed(&busy, 1);
    while (load_acquire(&gate) == 0) sched_yield(); /* alive as long as signals come */
    return NULL;
}

/* Handlers come anywhere, also between the steps of entering, waiting and leaving, in two threads that compete. */
static void interrupted_anywhere(void) {
    pthread_t thread[2], killer;
    handle();
    store_relaxed(&busy, 2);
    for (uintptr_t i = 0; i < 2; i++) CHECK_EQ(pthread_create(&thread[i], NULL, take_turns_interrupted, (void *)(i + 1)), 0);
    CHECK_EQ(pthread_create(&killer, NULL, signal_all, thread), 0);
    pthread_join(killer, NULL);
    store_release(&gate, 1);
    for (int i = 0; i < 2; i++) pthread_join(thread[i], NULL);
    CHECK_EQ(count, turns + signals - interrupted);
    CHECK_EQ(word(&shared), LOCK_FREE);
}

UNIT_MAIN({"alone", alone}, {"of_two", of_two}, {"contention", contention}, {"all_sleepers_wake", all_sleepers_wake},
          {"ranks_rise", ranks_rise}, {"longest_section", longest_section}, {"held_by_fork", held_by_fork},
          {"patience_ends", patience_ends}, {"deadline_passes", deadline_passes}, {"no_wait_for_forkers", no_wait_for_forkers},
          {"contention_with_forks", contention_with_forks}, {"settled_in_child", settled_in_child}, {"forks_in_child", forks_in_child},
          {"repaired_in_time", repaired_in_time}, {"in_a_handler", in_a_handler}, {"interrupted_anywhere", interrupted_anywhere})
