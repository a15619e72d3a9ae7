/* process.c: see process.h. SPDX-License-Identifier: MIT */
#include "reader/process.h"

#include <stdio.h>
#include <time.h>

#include "reader/find.h"

#define TRIES 50
#define NAP 1000000 /* ns between two of them, and as much more each time */

static uint64_t clock_of(clockid_t id) {
    struct timespec time;
    clock_gettime(id, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}
static uint64_t now(void) { return clock_of(CLOCK_MONOTONIC); }

static bool find(struct process *process, struct seemalloc_descriptor *descriptor, struct fault *fault) {
    const char *where;
    if (!find_descriptor(&process->live.source, descriptor, &where, fault)) return false;
    snprintf(process->library, sizeof process->library, "%s", where);
    return true;
}

static bool read_heap(struct process *process, const struct seemalloc_descriptor *descriptor, bool is_live, struct fault *fault) {
    process->clock = now();
    process->real_time = clock_of(CLOCK_REALTIME) / 1000000;
    return heap_read(&process->heap, &process->live.source, descriptor, process->library, is_live, fault);
}

/* `why` says what of the reading went wrong. Returns whether all is well; else everything is given up. */
static bool finish(struct process *process, bool good, const struct fault *why, struct fault *fault) {
    if (process->live.ended) {
        if (good) heap_free(&process->heap);
        good = fault_note(fault, "process %d ended while it was being read", (int)process->live.pid);
    }
    if (good) return true;
    fault_note(fault, "process %d (%s): %s", (int)process->live.pid, process->live.command, why->text);
    live_close(&process->live);
    return false;
}

/* From the thread's pointer to its cache to its thread pointer; UINT64_MAX: that can't be. The variables of a thread stand below its thread pointer on
 * x86, else above. */
static uint64_t distance(const struct heap_cache *cache, const struct live_thread *thread) {
#if defined(__x86_64__)
    uint64_t low = cache->word, high = thread->thread_pointer;
#else
    uint64_t low = thread->thread_pointer, high = cache->word;
#endif
    return low != 0 && low < high ? high - low : UINT64_MAX;
}

/* A cache is the nearest thread's, if that is as near as in all other threads. */
static void name_threads(struct process *process) {
    struct heap *heap = &process->heap;
    uint64_t least = UINT64_MAX;
    for (size_t pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < heap->cache_count; i++) {
            struct heap_cache *cache = &heap->caches[i];
            uint64_t address = 0;
            if (cache->state != heap->descriptor.cache_live ||
                !source_has(&process->live.source, cache->word, cache->word + sizeof address) ||
                !process->live.source.read(&process->live.source, cache->word, &address, sizeof address, NULL) || address != cache->address)
                continue;
            for (size_t k = 0; k < process->live.thread_count; k++) {
                uint64_t here = distance(cache, &process->live.threads[k]);
                if (here < least) least = here;
                if (pass == 1 && here == least && here != UINT64_MAX) cache->thread = process->live.threads[k].tid;
            }
        }
    }
}

bool process_read(struct process *process, pid_t pid, struct fault *fault) {
    struct seemalloc_descriptor descriptor;
    struct fault why = {0}; /* of what was read */
    *process = (struct process){0};
    bool good = live_open(&process->live, pid, fault) && find(process, &descriptor, &why);
    while (good) {
        process->since = now();
        good = live_freeze(&process->live, fault) && find(process, &descriptor, &why); /* it may have become another program */
        process->tries++;
        if (!good || heap_is_quiet(&descriptor, &process->live.source) || process->tries == TRIES) break;
        live_thaw(&process->live);
        nanosleep(&(struct timespec){.tv_nsec = NAP / TRIES * (long)process->tries + NAP}, NULL);
    }
    good = good && read_heap(process, &descriptor, false, &why);
    if (good) name_threads(process);
    return finish(process, good, &why, fault);
}

bool process_look(struct process *process, pid_t pid, struct fault *fault) {
    struct seemalloc_descriptor descriptor;
    struct fault why = {0};
    *process = (struct process){.tries = 1};
    bool good = live_open(&process->live, pid, fault) && find(process, &descriptor, &why) && read_heap(process, &descriptor, true, &why);
    return finish(process, good, &why, fault);
}

void process_thaw(struct process *process) {
    if (process->live.thread_count == 0) return;
    live_thaw(&process->live);
    process->frozen = now() - process->since;
}

void process_close(struct process *process) {
    process_thaw(process);
    heap_free(&process->heap);
    live_close(&process->live);
}
