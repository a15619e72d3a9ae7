/* strip.h: a heap as strips of cells, shared by `map` and `top`: a cell stands for so many bytes in address order, and shows the state of most of them.
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_STRIP_H
#define SEEMALLOC_TOOL_STRIP_H

#include "reader/heap.h"

struct strip_cell {
    uint64_t bytes[HEAP_STATES], all, resident;
};

/* How a state looks without colours, and in the 256 that terminals know. */
char strip_letter(unsigned state);
uint8_t strip_colour(unsigned state);

/* What a cell shows: the state of most bytes; the one that comes next, if that has enough to be shown, else the first; whether most is in memory. */
unsigned strip_first(const struct strip_cell *cell);
unsigned strip_second(const struct strip_cell *cell);
bool strip_is_there(const struct strip_cell *cell);

/* Without colours: its letter, a small one if it is not in memory. */
char strip_character(const struct strip_cell *cell);

/* Bytes are added in order; each cell goes to `put` once it is full. */
struct strip {
    uint64_t cell_bytes, page_size;
    bool pages_known; /* else all counts as in memory */
    void (*put)(void *to, const struct strip_cell *cell);
    void *to;
    struct strip_cell cell; /* the one that is not full yet */
};
void strip_region(struct strip *strip, const struct heap *heap, const struct heap_region *region);
void strip_block(struct strip *strip, const struct heap_block *block);
void strip_end(struct strip *strip); /* puts the last one, if anything is in it */

#endif
