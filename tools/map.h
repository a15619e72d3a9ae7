/* map.h: the forms that `seemalloc map` draws a heap in. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_MAP_H
#define SEEMALLOC_TOOL_MAP_H

#include <stdio.h>

#include "reader/ledger.h"

struct map_look {
    bool is_coloured;
    unsigned width;      /* columns */
    uint64_t cell_bytes; /* 0: chosen so that all fits on about a screen */
};

/* Strips of cells for terminals and files. */
void map_text(FILE *out, const struct process *process, const struct map_look *look);

/* Every chunk, for programs. */
void map_json(FILE *out, const struct process *process);

/* The page of web/heap.html with the heap in it. `ledger` may be NULL. False with errno. */
bool map_page(FILE *out, const struct process *process, const struct ledger *ledger);

#endif
