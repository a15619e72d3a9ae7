/* background.c: see background.h. SPDX-License-Identifier: MIT */
#include "arena/background.h"

#include "arena/depot.h"
#include "conf/conf.h"
#include "heap/retain.h"
#include "os/os.h"

#define WORTHWHILE MIB(4)     /* with less there is nothing to give back that is worth a thread */
#define BUDGET 20000000u      /* ns that an arena's purge may take at a time */
#define NAP_LEAST 20000000u   /* ns */
#define NAP_MOST 5000000000u  /* ns */
#define CHILD_AGE 1000000000u /* ns */

enum background { BACKGROUND_NOT, BACKGROUND_STARTS, BACKGROUND_RUNS, BACKGROUND_REFUSED };

static uint32_t stage;      /* enum background; atomic */
static uint64_t not_before; /* time; atomic */
uint32_t background_due, background_asleep;

/* What lies free goes back, as far as it is time. True if nothing is left to wait for. */
static bool pass(void) {
    depot_tend(&arena_main, os_clock());
    bool rest = load_relaxed(&depot_bytes) == 0;
    for (uint32_t id = 0; id < load_acquire(&seal.arenas); id++) rest &= arena_tend(arena_of_id(id), os_clock(), BUDGET);
    retain_shed();
    return rest && load_relaxed(&retained_bytes) == 0;
}

static void slumber(uint64_t nanoseconds) {
    uint32_t word = 0;
    prim_wait(&word, 0, nanoseconds);
}

static COLD void run(void) {
    size_t decay = conf_get(CONF_DECAY);
    uint64_t window = min_size(decay, NAP_MOST / 1000000) * 1000000, nap = 0;
    if (window < NAP_LEAST) window = NAP_LEAST;
    while (!prim_is_last_thread()) {
        bool rest = pass();
        nap = !rest ? 0 : nap == 0 ? window : nap < NAP_MOST / 2 ? 2 * nap : NAP_MOST;
        if (rest) {
            store_relaxed(&background_asleep, 1);
            prim_wait(&background_asleep, 1, nap);
            if (exchange_acquire(&background_asleep, 0) != 0) continue;
            nap = 0; /* somebody came by: that must not happen at each turn */
        }
        slumber(window);
    }
    store_relaxed(&stage, BACKGROUND_REFUSED);
}

void background_grown(size_t footprint) {
    bool wanted = conf_get(CONF_BACKGROUND) != 0 && conf_get(CONF_DECAY) != SIZE_MAX && footprint >= WORTHWHILE &&
                  load_relaxed(&stage) == BACKGROUND_NOT;
    if (UNLIKELY(wanted) && os_clock() >= load_relaxed(&not_before)) store_relaxed(&background_due, 1);
}

void background_start(void) {
    uint32_t before = BACKGROUND_NOT;
    store_relaxed(&background_due, 0);
    if (!cas_acq_rel(&stage, &before, BACKGROUND_STARTS)) return;
    store_release(&stage, prim_start_thread(run) ? BACKGROUND_RUNS : BACKGROUND_REFUSED);
}

void background_wake(void) {
    if (exchange_acquire(&background_asleep, 0) != 0) prim_wake(&background_asleep, 1);
}

COLD void background_fork_child(void) {
    store_relaxed(&background_due, 0);
    store_relaxed(&background_asleep, 0);
    store_relaxed(&not_before, os_clock() + CHILD_AGE);
    store_relaxed(&stage, BACKGROUND_NOT);
}
