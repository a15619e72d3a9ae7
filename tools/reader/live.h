/* live.h: a running process as a source: found, frozen for the moment of reading, let go.
 *
 * Freezing seizes and interrupts every thread (ptrace); no signal is sent, a stopped process stays stopped, and should this command be killed the kernel
 * lets all threads go. A process that another tracer has can't be frozen. One at a time: ptrace belongs to the calling thread.
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_LIVE_H
#define SEEMALLOC_READER_LIVE_H

#include <sys/types.h>

#include "reader/source.h"

struct live_thread {
    pid_t tid;
    bool stopped;                           /* else it is in an uninterruptible wait of the kernel and can't run before it stops */
    int signal;                             /* that was about to be delivered, and is when it goes on */
    uint64_t stack_pointer, thread_pointer; /* 0: not known; the latter is what its own variables are found by */
};

struct live {
    struct source source; /* first: a pointer to it is one to this */
    pid_t pid;
    int memory, pagemap; /* files in /proc, or -1 */
    bool can_scan;       /* the kernel tells pages of zeros apart */
    bool ended;          /* the process, while it was read */
    struct live_thread *threads;
    size_t thread_count;
    char command[64];
};

/* Looks at the process and reads its mappings; nothing is stopped. */
bool live_open(struct live *live, pid_t pid, struct fault *fault);

/* Stops all threads, and reads the mappings anew. After false nothing is stopped. */
bool live_freeze(struct live *live, struct fault *fault);
void live_thaw(struct live *live);

/* The registers of a stopped thread, one set behind the other; how many bytes of `room` they take. */
size_t live_registers(const struct live_thread *thread, void *to, size_t room);

void live_close(struct live *live); /* thaws if need be */

/* The mappings with what of them is resident. Free them. */
bool live_mappings(struct live *live, struct source_mappings *mappings, bool with_rss, struct fault *fault);

/* The source's own, once more. After false they are the old ones. */
bool live_map_anew(struct live *live, struct fault *fault);

/* Sum of all resident bytes as the kernel says; and page faults so far. */
bool live_rss(struct live *live, uint64_t *bytes, struct fault *fault);
bool live_faults(struct live *live, uint64_t *minor, uint64_t *major);

/* When it began, in ns since the system did (CLOCK_BOOTTIME), and how many threads it has. False: it is gone. */
bool live_begun(pid_t pid, uint64_t *since, uint64_t *threads);

#endif
