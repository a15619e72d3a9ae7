/* process.c: see process.h. SPDX-License-Identifier: MIT */
#include "reader/process.h"

#include <stdio.h>
#include <time.h>

#include "reader/find.h"

#define TRIES 50
#define NAP 1000000 /* ns between two of them, and as much more each time */

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static bool find(struct process *process, struct seemalloc_descriptor *descriptor, struct fault *fault) {
    const char *where;
    if (!find_descriptor(&process->live.source, descriptor, &where, fault)) return false;
    snprintf(process->library, sizeof process->library, "%s", where);
    return true;
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
    good = good && heap_read(&process->heap, &process->live.source, &descriptor, process->library, &why);
    if (process->live.ended) {
        if (good) heap_free(&process->heap);
        good = fault_note(fault, "process %d ended while it was being read", (int)pid);
    }
    if (!good) {
        fault_note(fault, "process %d (%s): %s", (int)pid, process->live.command, why.text);
        live_close(&process->live);
    }
    return good;
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
