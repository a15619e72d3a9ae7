/* top.h: what the files of `seemalloc top` share: what is known of the process now, and how it is put into lines.
 *
 * Counters are read every `delay`, without stopping anything. The picture (chunks, caches) takes a freeze, and is taken anew so seldom that the process
 * stands still for a fiftieth of its time at most.
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_TOP_H
#define SEEMALLOC_TOOL_TOP_H

#include "reader/process.h"
#include "strip.h"

enum top_calls { TOP_BRK, TOP_MMAP, TOP_MUNMAP, TOP_MREMAP, TOP_MADVISE, TOP_MPROTECT, TOP_CALLS };
const char *top_calls_name(enum top_calls calls);

enum top_view { TOP_CACHES, TOP_BINS, TOP_EVENTS, TOP_VIEWS };
const char *top_view_name(enum top_view view);

/* What is counted, since the process began. */
struct top_counts {
    uint64_t clock; /* ns, monotonic */
    uint64_t minor, major, calls[TOP_CALLS];
};

struct top_sums { /* of the picture, in bytes */
    uint64_t in_use, cached, free, mapped, blocks;
};

struct top {
    pid_t pid;
    char command[64];
    uint64_t began, threads, age, rss; /* ns since the system began; ns */
    bool is_live;                      /* as the user wants it: no freezes */
    uint64_t delay;                    /* ns */
    struct process *counters;          /* read last: without chunks */
    struct top_counts now, before;     /* before: all 0 in the first place, so that rates are those of its whole life */
    struct process *picture;
    struct top_sums sums;
    uint64_t next_picture;   /* on the clock */
    struct fault not_frozen; /* why the picture was read live though it was not wanted so; else empty */
};

uint64_t top_clock(void);

/* Reads the counters, and a picture if one is due or `anew`. False after noting why. */
bool top_read(struct top *top, bool anew, struct fault *fault);
void top_free(struct top *top);

/* Whether it has ended, or its number is another process's by now. */
bool top_has_ended(const struct top *top);

/* ns from `before` to `now`, and what is counted in a second. */
uint64_t top_interval(const struct top *top);
double top_rate(const struct top *top, uint64_t now, uint64_t before);

/* --- lines ----------------------------------------------------------------------------------------------------------------------------------------- */

#define TOP_WIDTH 512 /* columns that are made use of */
#define TOP_HEAD 20   /* lines of a head */

/* The head in lines of `width` columns at most; how many. `most`: no more than so many. */
unsigned top_head(const struct top *top, unsigned width, unsigned most, char line[TOP_HEAD][TOP_WIDTH]);

/* Lines of a view, the first being the names of the columns. Free them. */
struct top_table {
    char (*line)[TOP_WIDTH];
    size_t count;
};
void top_table(struct top_table *table, const struct top *top, enum top_view view);
void top_table_free(struct top_table *table);

/* A strip: what stands above it, and `cells` cells at most. */
#define TOP_CELLS 8192
struct top_strip {
    char label[TOP_WIDTH];
    struct strip_cell cell[TOP_CELLS];
    size_t count;
};
/* How many there are: of each arena that has memory and of mapped blocks, or of all together; and one of them. */
size_t top_strips(const struct top *top, bool together);
void top_strip(struct top_strip *strip, const struct top *top, bool together, size_t number, size_t cells);

/* All of it once, as text or as one line of JSON. */
void top_print(const struct top *top, enum top_view view);
void top_json(const struct top *top);

/* top_screen.c: shows it on the terminal until the user quits; the exit status. */
int top_screen(struct top *top);

#endif
