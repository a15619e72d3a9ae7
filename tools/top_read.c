/* top_read.c: reads what `seemalloc top` shows. SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "outside.h"
#include "reader/clock.h"
#include "top.h"

#define FREEZE_SHARE 50 /* between two pictures so many times as long as the last freeze took passes at least */

static const uint8_t calls_of[SEEMALLOC_CALL_COUNT] = {
    [SEEMALLOC_CALL_BRK_GROW] = TOP_BRK,           [SEEMALLOC_CALL_BRK_TRIM] = TOP_BRK,
    [SEEMALLOC_CALL_MMAP_BLOCK] = TOP_MMAP,        [SEEMALLOC_CALL_MMAP_REGION] = TOP_MMAP,
    [SEEMALLOC_CALL_MMAP_HEAP] = TOP_MMAP,         [SEEMALLOC_CALL_MMAP_META] = TOP_MMAP,
    [SEEMALLOC_CALL_MUNMAP_BLOCK] = TOP_MUNMAP,    [SEEMALLOC_CALL_MUNMAP_HEAP] = TOP_MUNMAP,
    [SEEMALLOC_CALL_MUNMAP_META] = TOP_MUNMAP,     [SEEMALLOC_CALL_MREMAP_BLOCK] = TOP_MREMAP,
    [SEEMALLOC_CALL_MPROTECT_GROW] = TOP_MPROTECT, [SEEMALLOC_CALL_MADVISE_TRIM] = TOP_MADVISE,
    [SEEMALLOC_CALL_MADVISE_PURGE] = TOP_MADVISE,  [SEEMALLOC_CALL_MADVISE_HUGE] = TOP_MADVISE,
    [SEEMALLOC_CALL_MREMAP_MOVE] = TOP_MREMAP,
};

const char *top_calls_name(enum top_calls calls) {
    static const char *const names[TOP_CALLS] = {"brk", "mmap", "munmap", "mremap", "madvise", "mprotect"};
    return names[calls];
}

uint64_t top_clock(void) { return clock_of(CLOCK_MONOTONIC); }

bool top_has_ended(const struct top *top) {
    uint64_t began, threads;
    return !live_begun(top->pid, &began, &threads) || (top->began != 0 && began != top->began);
}

static void sum_counts(struct top *top) {
    const struct heap *heap = &top->counters->heap;
    top->now.clock = top->counters->clock;
    for (unsigned i = 0; i < TOP_CALLS; i++) top->now.calls[i] = 0;
    for (unsigned call = 0; call < SEEMALLOC_CALL_COUNT; call++) top->now.calls[calls_of[call]] += heap->calls[call];
}

static struct process *fresh(void) { return need_memory(NULL, 1, sizeof(struct process)); }

/* `process` is read; the one in `place` is not needed any more. */
static void replace(struct process **place, struct process *process) {
    if (*place != NULL) process_close(*place);
    free(*place);
    *place = process;
}

static bool read_facts(struct top *top, struct live *live, struct fault *fault) {
    uint64_t began = 0, now = clock_of(CLOCK_BOOTTIME);
    if (!live_begun(top->pid, &began, &top->threads) || !live_rss(live, &top->rss, NULL) ||
        !live_faults(live, &top->now.minor, &top->now.major)) {
        return fault_note(fault, "what the kernel knows of process %d can't be read", (int)top->pid);
    }
    top->began = began;
    top->age = now > began ? now - began : 0;
    memcpy(top->command, live->command, sizeof top->command);
    return true;
}

static bool read_counters(struct top *top, struct fault *fault) {
    struct process *counters = fresh();
    if (!process_glance(counters, top->pid, fault)) {
        free(counters);
        return false;
    }
    bool good = read_facts(top, &counters->live, fault);
    replace(&top->counters, counters);
    if (good) sum_counts(top);
    return good;
}

static void sum_picture(struct top *top) {
    const struct heap *heap = &top->picture->heap;
    struct top_sums *sums = &top->sums;
    *sums = (struct top_sums){.blocks = heap->block_count};
    for (size_t i = 0; i < heap->arena_count; i++) {
        sums->in_use += outside_in_use(&heap->arenas[i]);
        sums->cached += heap->arenas[i].bytes[SEEMALLOC_CACHED];
        sums->free += outside_free(&heap->arenas[i]);
    }
    for (size_t i = 0; i < heap->block_count; i++) sums->mapped += heap->blocks[i].length;
}

/* What can't be frozen, as it is traced by a debugger, is looked at while it runs. */
static bool read_picture(struct top *top, struct fault *fault) {
    struct process *picture = fresh();
    top->not_frozen = (struct fault){0};
    bool good = !top->is_live && process_read(picture, top->pid, &top->not_frozen);
    if (good) process_thaw(picture);
    if (!good && !process_look(picture, top->pid, fault)) {
        free(picture);
        return false;
    }
    replace(&top->picture, picture);
    sum_picture(top);
    uint64_t rest = FREEZE_SHARE * top->picture->frozen;
    top->next_picture = top_clock() + (rest > top->delay ? rest : top->delay);
    return true;
}

bool top_read(struct top *top, bool anew, struct fault *fault) {
    struct top_counts before = top->now;
    if (!read_counters(top, fault)) return false;
    top->before = before;
    return (!anew && top_clock() < top->next_picture) || read_picture(top, fault);
}

void top_free(struct top *top) {
    replace(&top->counters, NULL);
    replace(&top->picture, NULL);
}

uint64_t top_interval(const struct top *top) { return top->before.clock != 0 ? top->now.clock - top->before.clock : top->age; }

double top_rate(const struct top *top, uint64_t now, uint64_t before) {
    uint64_t interval = top_interval(top);
    return interval != 0 && now > before ? (double)(now - before) * 1e9 / (double)interval : 0;
}
