/* samples.c: see samples.h. SPDX-License-Identifier: MIT */
#include "trace/samples.h"

#ifdef SEEMALLOC_TRACE

static uint64_t sample_line[SAMPLES_LINES][SAMPLES_LINE] __attribute__((aligned(CACHE_LINE)));

static uint64_t *sample_slot(uint64_t wanted, uint64_t hash) {
    for (unsigned way = 0; way < 2; way++) {
        uint64_t *at = sample_line[(hash >> (way * 15)) % SAMPLES_LINES];
        for (unsigned i = 0; i < SAMPLES_LINE; i++) {
            if (load_relaxed(&at[i]) == wanted) return &at[i];
        }
    }
    return NULL;
}

static uint64_t sample_hash(const void *mem) { return ((uintptr_t)mem >> 4) * 0x9e3779b97f4a7c15u >> 32; }

bool samples_add(const void *mem) {
    for (uint64_t *slot, empty = 0; (slot = sample_slot(0, sample_hash(mem))) != NULL; empty = 0) {
        if (cas_release(slot, &empty, (uint64_t)(uintptr_t)mem)) return true;
    }
    return false;
}

bool samples_remove(const void *mem) {
    uint64_t *slot = sample_slot((uint64_t)(uintptr_t)mem, sample_hash(mem));
    if (slot != NULL) store_relaxed(slot, 0);
    return slot != NULL;
}

#endif
