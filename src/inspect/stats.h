/* stats.h: numbers for people and programs: mallinfo, malloc_info, malloc_stats, exit statistics. SPDX-License-Identifier: MIT */
#ifndef INSPECT_STATS_H
#define INSPECT_STATS_H

#include "base/format.h"

/* As struct mallinfo2 of glibc: same fields, same order. */
struct stats_mallinfo {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct stats_mallinfo stats_mallinfo(void);

/* The XML of malloc_info(0). False if *text was too small; call again with a larger one. */
bool stats_xml(struct text *text);

void stats_print_glibc(void);  /* what malloc_stats writes to standard error */
void stats_print_exit(int fd); /* what a process with stats:1 writes at its exit */

#endif
