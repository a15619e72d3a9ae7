/* model.h: an arena that can be played with: a copy of its chunks and lists, in which blocks are merged and chunks searched as the library does it
 * (src/arena/alloc.c, free.c, heap/bin.c), step by step. Nothing in the process changes. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_MODEL_H
#define SEEMALLOC_READER_MODEL_H

#include "reader/heap.h"

enum model_state { MODEL_USED, MODEL_FAST, MODEL_PARKED, MODEL_INBOX, MODEL_UNSORTED, MODEL_SORTED, MODEL_TOP, MODEL_GONE };

struct model_chunk {
    uint64_t address, size;
    int64_t order;           /* of equal sizes in a sorted bin: smallest nearest to fd; but the first of a large size stands before all */
    uint32_t before, behind; /* neighbours in memory, or MODEL_NONE */
    uint32_t turn;           /* in unsorted: which entry of the list is its */
    uint32_t region;         /* of the heap */
    uint8_t state;           /* enum model_state */
    bool is_first;           /* of its size, in a large bin */
    bool is_fence;
};
#define MODEL_NONE UINT32_MAX

struct model_stack { /* taken from its end */
    uint32_t *chunk;
    size_t count, room;
};

struct model {
    const struct heap *heap;
    const struct heap_arena *arena;
    struct model_chunk *chunks;
    size_t count;
    uint32_t top, last_remainder;
    struct model_stack *fast; /* descriptor.fast_bins of them */
    struct model_stack inbox, parked, unsorted;
    size_t looked; /* entries of unsorted that were looked at */
    int64_t newest;
    unsigned steps;    /* that are left in this critical section */
    uint64_t merged;   /* bytes that were merged so far */
    const char *doubt; /* why it may come otherwise; NULL: it can't, unless something changes */
};

void model_open(struct model *model, const struct heap *heap, size_t arena);
void model_close(struct model *model);

enum model_way {
    MODEL_WAY_NONE,
    MODEL_WAY_PARKED,
    MODEL_WAY_FAST,
    MODEL_WAY_SMALL,
    MODEL_WAY_UNSORTED,
    MODEL_WAY_REMAINDER,
    MODEL_WAY_BEST,
    MODEL_WAY_TOP
};

struct model_found {
    enum model_way way;
    uint64_t address, size; /* of the chunk that is taken or cut, as it is then */
    uint64_t rest;          /* bytes that are left of it as a free chunk; 0: none */
    unsigned blocks;        /* cut from it, or taken from the list at once */
};

/* The steps of a request for `want` chunks of `size`, up to the top; if it is a batch, before all else from `slot` of the depot (UINT_MAX: not), `want_parked`
 * of them; with `merge` also those that merge what lies unmerged. */
struct model_found model_find(struct model *model, uint64_t size, unsigned want, unsigned want_parked, unsigned slot, bool merge);

#endif
