/* process.h: a running process with its heap, at one moment. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_PROCESS_H
#define SEEMALLOC_READER_PROCESS_H

#include <limits.h>

#include "reader/heap.h"
#include "reader/live.h"

struct process {
    struct live live;
    struct heap heap;
    char library[PATH_MAX]; /* the file that has the descriptor */
    unsigned tries;         /* how often it was frozen; each time but the last a thread was in the middle of something */
    uint64_t frozen;        /* ns for which it was, the last time; set by process_thaw; 0: it was not */
    uint64_t clock;         /* when the heap was read: ns, monotonic; */
    uint64_t real_time;     /* and ms since 1970 */
    uint64_t since;
};

/* Freezes the process at a moment when no arena is being changed and no magazine is being moved, and reads its heap; it stays frozen, so that more can be
 * read from live.source. Where no such moment came in many tries heap.is_torn tells. False: nothing was read, and nothing is frozen. */
bool process_read(struct process *process, pid_t pid, struct fault *fault);

/* The same without freezing, while the process runs: what changes meanwhile is torn, and cached blocks count as in use. */
bool process_look(struct process *process, pid_t pid, struct fault *fault);

void process_thaw(struct process *process);
void process_close(struct process *process); /* thaws as well */

#endif
