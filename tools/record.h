/* record.h: `seemalloc run --record`: the program is a child of this command, which empties the rings that its threads write (src/trace/shared.h) and
 * writes the file (seemalloc_recording.h).
 *
 *   record.c            starts the program, passes signals on, looks after everything some hundred times a second, ends as the program ends
 *   record_rings.c      empties the rings, brings events into order over all threads
 *   record_stacks.c     gives stacks numbers
 *   record_modules.c    what is mapped where, and its build id
 *   record_file.c       blocks, packed and written by a thread of their own
 *
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_RECORD_H
#define SEEMALLOC_TOOL_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "seemalloc_recording.h"

struct record_request {
    const char *file;
    uint64_t sample_mean; /* bytes; 0: everything */
    unsigned unwind;      /* enum trace_unwind */
    unsigned depth;       /* frames */
};

/* Starts the program by become(), which returns an exit status if it fails, in a child, and records it. Returns an exit status; ends by the same signal as
 * the program if it was ended by one. `program`: its command line. */
int record_run(const struct record_request *request, int (*become)(void *arg), void *arg, char **program);

/* --- record_file.c ---------------------------------------------------------------------------------------------------------------------------- */

/* False, after a message: the file can't be written. */
bool record_file_open(const char *name);

/* Begins anew with this head; what was written before is gone. `command`: arguments ended by 0. */
void record_file_begin(const struct seemalloc_recording_head *head, const char *command);

/* Appends records of a type, which `parts` (up to three) make up. Those of other types come before events that are added later. */
struct record_part {
    const void *data;
    size_t size;
};
void record_file_add(enum seemalloc_recording_type type, const struct record_part *parts, size_t count);

bool record_file_is_behind(void); /* so much waits to be written that no more should come */
bool record_file_failed(void);    /* nothing more is written; said once */
bool record_file_end(const struct seemalloc_recording_end *end);

/* --- record_modules.c ------------------------------------------------------------------------------------------------------------------------- */

/* Adds what is new in text like that of /proc/PID/maps; files are looked for as process `pid` sees them. */
void record_modules_read(char *text, pid_t pid, uint64_t time);
void record_modules_look(pid_t pid, uint64_t time); /* in /proc */
bool record_modules_cover(uint64_t address);
void record_modules_forget(void);

/* --- record_stacks.c -------------------------------------------------------------------------------------------------------------------------- */

/* The number of a stack, which is in the file before any event that is added later. */
uint32_t record_stacks_number(const uint64_t *frame, uint32_t count);
void record_stacks_forget(void);
extern bool record_stacks_uncovered; /* a new stack had an address that no module covers; to be set back by who looks */

/* --- record_rings.c --------------------------------------------------------------------------------------------------------------------------- */

struct trace_shared;

/* Times are those of the events; `to_ns` turns them into nanoseconds since the begin. */
struct record_clock {
    bool use_counter;
    uint64_t begun;     /* as events are stamped */
    uint64_t begun_ns;  /* CLOCK_MONOTONIC at the same moment */
    double ns_per_tick; /* 0: not known yet */
};
uint64_t record_clock_now(const struct record_clock *clock);
uint64_t record_clock_ns(const struct record_clock *clock, uint64_t time);

struct record_rings;
struct record_rings *record_rings_new(struct trace_shared *shared, const struct record_clock *clock, uint64_t sample_mean, pid_t pid,
                                      void (*begin)(void *arg), void *arg);

/* Takes what is in the rings. True: there was something. Calls begin(arg) when the program begins to record, and when another one does, which the process
 * has become: what came before is forgotten. */
bool record_rings_drain(struct record_rings *rings);

/* Writes events stamped at or before `horizon`, in order, some thousands at a time; false: that were all. */
bool record_rings_write(struct record_rings *rings, uint64_t horizon);

void record_rings_names(struct record_rings *rings); /* looks whether threads have other names now */
struct record_totals {
    uint64_t events, dropped, late;
};
struct record_totals record_rings_totals(const struct record_rings *rings);

#endif
