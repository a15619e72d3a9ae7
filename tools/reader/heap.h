/* heap.h: a heap, read from a source through the descriptor: all arenas, regions, chunks, mapped blocks, caches, and our own books.
 *
 * What a chunk is follows from addresses and lists: it is the top because the arena says so, in a bin because the bin's ring leads to it, cached because a
 * magazine holds it. Seals are never looked at. Every size and link is checked by range before it is followed, and no list is longer than what there is:
 * a heap that is corrupted or was changing ends in a fault, and what can't be told is of the state HEAP_UNKNOWN.
 *
 *   sum of the chunks of a region = its end - its start       always; an arena that is not torn besides: sum over its regions = system_bytes
 *
 * Memory that is not in memory is not read: it is zero, or not needed. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_HEAP_H
#define SEEMALLOC_READER_HEAP_H

#include "reader/source.h"
#include "seemalloc.h"
#include "seemalloc_descriptor.h"

#define HEAP_UNKNOWN SEEMALLOC_STATE_COUNT /* a state of its own: no list says what it is */
#define HEAP_STATES (SEEMALLOC_STATE_COUNT + 1)

struct heap_chunk {
    uint64_t address, size;
    uint32_t region; /* index */
    uint32_t list;   /* index, or HEAP_NO_LIST */
    int16_t bin;     /* 1 and up if in a bin, fast bin from 0 if FAST, else -1 */
    uint8_t state;   /* enum seemalloc_state or HEAP_UNKNOWN */
    uint8_t flags;   /* SEEMALLOC_FLAG_P, _A */
};

/* What holds free chunks. heap.listed has their indices: of a bin from fd on (largest first in a large one), of a fast bin and an inbox those first that
 * would be taken first, of a batch and a magazine from the bottom, which is taken last. */
enum heap_list_kind { HEAP_BIN, HEAP_FAST_BIN, HEAP_PARKED, HEAP_INBOX, HEAP_MAGAZINE, HEAP_TRANSIT };
#define HEAP_NO_LIST UINT32_MAX
struct heap_list {
    uint32_t owner;  /* index of an arena; of magazines and transit of a cache */
    uint32_t number; /* of the bin or fast bin; slot of a batch, which is the class of its blocks; class */
    enum heap_list_kind kind;
    size_t first, count; /* in heap.listed */
    uint64_t bytes;
};

/* Part of a free chunk without pages. */
struct heap_span {
    uint64_t start, end;
};

struct heap_region {
    uint64_t start, end, limit, clean, description;
    uint32_t arena;      /* index */
    uint32_t kind;       /* enum seemalloc_region_kind */
    size_t first, count; /* chunks */
    uint8_t *page;       /* enum source_page, from the page of `start` */
};

struct heap_arena {
    uint64_t address, top, last_remainder, purging, system_bytes, system_peak, inbox_bytes;
    uint32_t id, threads;
    bool is_spare, is_abandoned;
    bool is_torn;        /* its lock was held, or blocks were loose, at every try: figures may not fit together */
    uint64_t loose;      /* blocks that count as in use, but are free and were just being merged */
    struct fault fault;  /* what does not hold; empty if all does */
    size_t first, count; /* regions, by address */
    uint64_t bytes[HEAP_STATES], chunks[HEAP_STATES];
};

struct heap_magazine {
    uint32_t list;          /* index, or HEAP_NO_LIST if it is empty */
    uint32_t blocks, limit; /* limit: blocks that it may hold at present */
    int64_t net;            /* blocks of the class that came from arenas less those that went back */
};

struct heap_cache {
    uint64_t address, reserved, reserved_small, budget, swing, idle;
    int64_t held, ceiling;           /* as the descriptor says */
    uint64_t word;                   /* address of its thread's pointer to it */
    int32_t thread;                  /* the thread's id; 0: not known */
    uint32_t watch;                  /* 0, or as the descriptor says */
    uint32_t classes;                /* those below are served */
    struct heap_magazine *magazines; /* class_total of them */
    uint32_t state;                  /* as the descriptor's cache_live … */
    int64_t arena;                   /* index; -1: none */
    bool is_torn;                    /* magazines were being moved at every try */
    size_t blocks;                   /* in magazines and in transit */
};

struct heap_block { /* a mapped block */
    uint64_t start, length, lead;
    uint64_t resident;
    uint8_t *page; /* enum source_page */
};

struct heap_event {
    uint64_t time, address, bytes; /* ns, monotonic clock */
    uint32_t call;
};

enum heap_range_kind { HEAP_RETAINED, HEAP_METADATA };
struct heap_range {
    uint64_t start, end;
    enum heap_range_kind kind;
};

struct heap_setting {
    char name[32], unit[16];
    uint64_t value, standard;
    uint8_t source; /* 0: the default */
};

struct heap {
    struct seemalloc_descriptor descriptor;
    const char *library; /* the file that has it */
    bool pages_known;
    bool is_live;       /* read while the process ran: magazines were not looked at, their blocks count as in use */
    bool is_torn;       /* an arena or a cache is */
    struct fault fault; /* the first one, of an arena or elsewhere; empty: the heap is sound */
    struct heap_arena *arenas;
    struct heap_region *regions; /* by arena, then by address */
    struct heap_chunk *chunks;   /* likewise */
    struct heap_span *spans;     /* of free chunks, by arena and address */
    struct heap_cache *caches;
    struct heap_block *blocks; /* by address */
    struct heap_range *ranges; /* by address; none overlaps another, or a region or block */
    struct heap_setting *settings;
    struct heap_event *events; /* oldest first */
    struct heap_list *lists;   /* by arena and kind, then by cache */
    uint32_t *listed;
    size_t arena_count, region_count, chunk_count, span_count, cache_count, block_count, range_count, setting_count, event_count,
        list_count, listed_count;
    uint64_t calls[SEEMALLOC_CALL_COUNT], failures, metadata_bytes, heap_peak, in_use_peak;
};

/* Whether nobody is in the middle of changing an arena or moving magazines, as far as can be seen now. */
bool heap_is_quiet(const struct seemalloc_descriptor *descriptor, struct source *source);

/* Reads everything; the source must stand still, unless `is_live`: then what does not fit together is marked as torn, and nothing as corrupted. False: not
 * even the beginnings could be read. */
bool heap_read(struct heap *heap, struct source *source, const struct seemalloc_descriptor *descriptor, const char *library, bool is_live,
               struct fault *fault);
void heap_free(struct heap *heap);

/* Only what is counted, whatever the process does meanwhile: calls, events, peaks and settings. */
bool heap_glance(struct heap *heap, struct source *source, const struct seemalloc_descriptor *descriptor, const char *library,
                 struct fault *fault);

/* Fills in the sums of arenas, once all chunks are known. */
void heap_sum_up(struct heap *heap);

/* The name of a state, HEAP_UNKNOWN included. */
const char *heap_state_name(unsigned state);
const char *heap_call_name(unsigned call);

const char *heap_cache_state(const struct heap *heap, const struct heap_cache *cache); /* of one that is not free: live, left, orphan */
const char *heap_kind_name(unsigned kind);

/* The chunk, or the mapped block, that holds `address`; NULL: none does. */
const struct heap_chunk *heap_chunk_holding(const struct heap *heap, uint64_t address);
const struct heap_block *heap_block_holding(const struct heap *heap, uint64_t address);

/* Bytes that all arenas took from the system; and what the limits of a cache's magazines may add up to. */
uint64_t heap_system_bytes(const struct heap *heap);
static inline uint64_t heap_cache_room(const struct heap_cache *cache) { return cache->budget + cache->idle; }

/* The value of a setting; 0 if there is none of the name. */
uint64_t heap_setting(const struct heap *heap, const char *name);

/* Bytes of [start, end) in resident pages; the pages are those of a region, block or range that starts at `base`. */
uint64_t heap_resident(const uint8_t *page, uint64_t base, uint64_t page_size, uint64_t start, uint64_t end);

#endif
