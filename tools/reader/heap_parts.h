/* heap_parts.h: how heap.c, walk.c, lists.c and books.c share the reading of a heap. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_HEAP_PARTS_H
#define SEEMALLOC_READER_HEAP_PARTS_H

#include "reader/heap.h"

/* A chunk that the next one's head says is free: its links, read in passing, so that rings are followed without the source. */
struct free_chunk {
    uint64_t address, fd, bk;
    size_t chunk; /* index */
};

struct reading {
    struct heap *heap;
    struct source *source;
    const struct seemalloc_descriptor *d;
    struct view *arena;      /* copies of the arenas' structs */
    struct free_chunk *free; /* of the arena that is being read, by address */
    size_t free_count, free_room, chunk_room, span_room, region_room, range_room, block_room, cache_room, list_room, listed_room;
    uint32_t *by_address; /* regions of all arenas */
    uint64_t link_secret;
};

#define GROW(array, count, room)                                                                                                           \
    do {                                                                                                                                   \
        if ((count) == (room)) (array) = need_memory(array, (room) = 2 * (room) + 64, sizeof *(array));                                    \
    } while (0)

/* Notes a fault of an arena (NULL: of none) and, if it was not being changed, of the heap. */
bool heap_fault(struct reading *reading, struct heap_arena *arena, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The chunk that begins at `address`, or NULL. Once all arenas are walked. */
struct heap_chunk *heap_chunk_at(struct reading *reading, uint64_t address);

/* Begins a list; and adds a chunk to the one begun last. */
void list_begin(struct reading *reading, enum heap_list_kind kind, size_t owner, size_t number);
void list_add(struct reading *reading, struct heap_chunk *chunk);
/* Ends it: one that has nothing in it is none. Its index, or HEAP_NO_LIST. */
uint32_t list_end(struct reading *reading);

void walk_regions(struct reading *reading,
                  size_t arena); /* walk.c: an arena's regions and their chunks: in use, top, fencepost, or free somewhere */
void read_rings(struct reading *reading, size_t arena);  /* lists.c: which bin they are in */
void read_chains(struct reading *reading, size_t arena); /* lists.c: fast, inbox */
void read_depot(struct reading *reading);                /* lists.c: parked */
void read_caches(struct reading *reading);               /* books.c */
void read_blocks(struct reading *reading);
void read_counters(struct reading *reading);
void read_ranges(struct reading *reading);

#endif
