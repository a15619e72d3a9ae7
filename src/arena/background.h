/* background.h: a thread that gives memory back when nobody else comes by (setting `background`).
 *
 * It begins in a call of malloc that has grown the heaps beyond some MiB, where no lock of ours is held, and in a forked child not before it has lived for a
 * second. It calls what the slow paths of the other threads call, each window of `decay`, until nothing changes any more; then it sleeps for longer and
 * longer, up to some seconds, or until a slow path wakes it. It ends when all others have ended. SPDX-License-Identifier: MIT */
#ifndef ARENA_BACKGROUND_H
#define ARENA_BACKGROUND_H

#include "base/base.h"

extern uint32_t background_due, background_asleep; /* atomics, for the two functions below */

void background_grown(size_t footprint); /* the heaps have grown to so much */
void background_start(void);             /* may call malloc; keeps errno */
void background_wake(void);
void background_fork_child(void);

/* At the end of a call of malloc. */
static inline void background_begin(void) {
    if (UNLIKELY(load_relaxed(&background_due))) background_start();
}

/* On a slow path now and then. */
static inline void background_poke(void) {
    if (UNLIKELY(load_relaxed(&background_asleep))) background_wake();
}

#endif
