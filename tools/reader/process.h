/* process.h: a process with its heap, at one moment: a running one, or what a core file or a snapshot says of it. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_PROCESS_H
#define SEEMALLOC_READER_PROCESS_H

#include <limits.h>

#include "reader/core_file.h"
#include "reader/heap.h"
#include "reader/live.h"

struct ledger;

enum process_kind { PROCESS_LIVE, PROCESS_CORE, PROCESS_SNAPSHOT };

struct process {
    enum process_kind kind;
    const char *file;      /* the core or snapshot */
    struct live live;      /* of a core or snapshot: its number, command and threads as far as known; nothing in it is open */
    struct core core;      /* of a core only */
    struct source *source; /* the memory; a snapshot has mappings, and none of it can be read */
    struct ledger *ledger; /* of a snapshot: summed; else NULL */
    uint64_t page_size;
    struct heap heap;
    char library[PATH_MAX]; /* the file that has the descriptor */
    unsigned tries;         /* how often it was frozen; each time but the last a thread was in the middle of something */
    uint64_t frozen;        /* ns for which it was, the last time; set by process_thaw; 0: it was not */
    uint64_t clock;         /* when the heap was read: ns, monotonic; */
    uint64_t real_time;     /* and ms since 1970 */
    uint64_t since;
};

/* Freezes the process at a moment when no arena is being changed and no magazine is being moved, and reads its heap; it stays frozen, so that more can be
 * read from it. Where no such moment came in many tries heap.is_torn tells. False: nothing was read, and nothing is frozen. */
bool process_read(struct process *process, pid_t pid, struct fault *fault);

/* The same without freezing, while the process runs: what changes meanwhile is torn, and cached blocks count as in use. */
bool process_look(struct process *process, pid_t pid, struct fault *fault);

/* Only what is counted: calls, events, peaks and settings; nothing is stopped, and no arena, chunk or block is looked at. */
bool process_glance(struct process *process, pid_t pid, struct fault *fault);

/* A core file, or a snapshot. False: neither, or nothing could be read. */
bool process_read_file(struct process *process, const char *file, struct fault *fault);

/* Whichever `name` is: digits alone are the number of a process, all else a file, of which the content decides. As process_read; with
 * `is_live` as process_look, which only a running process can be. */
bool process_open(struct process *process, const char *name, bool is_live, struct fault *fault);

void process_thaw(struct process *process);
void process_close(struct process *process); /* thaws as well */

#endif
