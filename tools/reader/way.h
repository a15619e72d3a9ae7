/* way.h: which way a request for memory would go, as cache_alloc() and arena_serve() of the library go it. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_WAY_H
#define SEEMALLOC_READER_WAY_H

#include "reader/model.h"
#include "reader/rules.h"

enum way_kind {
    WAY_MAGAZINE, /* the thread's cache has one */
    WAY_PARKED,   /* from here on: an arena */
    WAY_FAST,
    WAY_SMALL,     /* an exact fit in a small bin */
    WAY_UNSORTED,  /* an exact fit in the unsorted bin */
    WAY_REMAINDER, /* cut from the last remainder */
    WAY_BEST_FIT,  /* cut from the smallest chunk that is large enough, or that chunk */
    WAY_TOP,
    WAY_GROW,       /* the top's region grows, and it is cut from the top */
    WAY_NEW_REGION, /* the arena takes a new one */
    WAY_MAP,        /* a mapping of its own */
    WAY_RETAINED,   /* one that was kept when another block was freed */
    WAY_NONE        /* malloc returns NULL */
};

struct way {
    enum way_kind kind;
    uint64_t request, size; /* bytes; and of the chunk that is looked for */
    unsigned size_class;    /* WAY_MAGAZINE, and where `is_batch` */
    unsigned cached;        /* blocks in the magazine of the size */
    bool is_batch;          /* the cache missed and asks for several at once */
    unsigned batch, blocks; /* for how many; how many of them come from the chunk or list */
    unsigned parked_batch;  /* for how many it asks the depot before */
    const struct heap_arena *arena;
    bool is_lent;        /* that is another one than the thread's */
    uint64_t mem;        /* what malloc would return; 0: not known */
    uint64_t chunk_size; /* of what it is taken or cut from */
    uint64_t rest;       /* that is left of it */
    uint64_t merged;     /* bytes that are merged before */
    uint64_t bytes;      /* that the system is asked for */
    const char *doubt;   /* why it may come otherwise; NULL: it can't, unless something changes before */
};

/* A request of `bytes` by the thread that has `cache`; or (NULL) by one without a cache that takes from arena `arena`. */
void way_find(struct way *way, const struct heap *heap, uint64_t page_size, const struct heap_cache *cache, size_t arena, uint64_t bytes);

/* What decides how a magazine of the cache grows. */
struct rules_widen way_widening(const struct heap *heap, const struct heap_cache *cache, unsigned size_class);

const char *way_name(enum way_kind kind);

#endif
