/* place.h: what an address of a process is, and what free would do with it. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_PLACE_H
#define SEEMALLOC_TOOL_PLACE_H

#include "reader/process.h"

enum place_kind {
    PLACE_CHUNK,    /* of an arena */
    PLACE_BLOCK,    /* a mapped block, the chunk of it */
    PLACE_PADDING,  /* of the mapping of one, before its chunk */
    PLACE_RESERVED, /* of a heap, beyond its end */
    PLACE_RETAINED, /* a mapping that waits for the next block */
    PLACE_BOOKS,    /* our own */
    PLACE_STACK,
    PLACE_FILE, /* program, library, any file */
    PLACE_KERNEL,
    PLACE_OTHER, /* mapped by somebody else */
    PLACE_NOTHING
};

struct place {
    uint64_t address;
    enum place_kind kind;
    const struct heap_chunk *chunk; /* PLACE_CHUNK */
    const struct heap_region *region;
    const struct heap_arena *arena; /* of the chunk or the region */
    const struct heap_block *block; /* PLACE_BLOCK, PLACE_PADDING */
    struct source_mapping mapping;  /* that it lies in; not PLACE_NOTHING */
    bool has_head;                  /* 8 bytes before it can be read, where free looks for a header */
    int thread;                     /* whose stack it is; 0: not known */
};

/* While the process is frozen; the result lives as long as its heap and mappings. */
void place_find(struct place *place, const struct process *process, uint64_t address);

const char *place_kind_name(enum place_kind kind);

/* The address that the program has for the chunk or block. */
uint64_t place_mem(const struct place *place, const struct heap *heap);

/* What free of place->address would do. */
enum place_free {
    FREE_MAGAZINE, /* into the thread's magazine */
    FREE_WIDEN,    /* likewise, and that may hold more from then on */
    FREE_HALF,     /* likewise, once the older half of it went back to arenas */
    FREE_FAST,     /* into a fast bin */
    FREE_TOP,      /* merged into the top */
    FREE_MERGE,    /* merged with free neighbours, if there are any, and into the unsorted bin */
    FREE_REGION,   /* all of the region is free then: it goes back */
    FREE_UNMAP,    /* the mapping goes back, or is kept for the next block */
    FREE_LOST,     /* nothing: the arena was lost in a fork */
    FREE_ABORT,    /* a message and the end */
    FREE_CRASH     /* there is no memory to read a header from */
};

struct freeing {
    enum place_free way;
    const char *line;                       /* FREE_ABORT: the first line of the message */
    uint64_t class_size;                    /* FREE_MAGAZINE, _WIDEN, _HALF */
    unsigned blocks, limit;                 /* of the magazine, before */
    const struct heap_chunk *before, *next; /* FREE_TOP, FREE_MERGE, FREE_REGION: what it merges with, or NULL */
    uint64_t size;                          /* what comes of it then */
    uint64_t threshold;                     /* FREE_UNMAP: what the threshold slides to; 0: it stays */
    bool may_first_shed;                    /* the cache may first give back what lay idle */
};

/* By the thread that has `cache`, which may be NULL: one without a cache. */
void place_free(struct freeing *freeing, const struct place *place, const struct heap *heap, const struct heap_cache *cache);

const char *place_free_name(enum place_free way);

#endif
