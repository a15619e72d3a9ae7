/* depot.h: the depot: batches of blocks that thread caches gave back and that wait, as they are, for the next cache that wants their class.
 *
 *   slot ─> youngest batch ─> … ─> oldest          a batch: up to DEPOT_BATCH pointers, outside of all blocks
 *
 * What one thread frees serves another without its owner, and no block is touched on the way in or out. Blocks of any arena may lie in any slot; to their
 * arenas they are in use; they carry the key. Slot n has chunks of 16 n bytes, or a little more. There are some sets of slots (ways): threads of an arena
 * put blocks into the same one and take from it first, for they may find them in their processor's cache; then from the others.
 *
 * Each slot belongs to who holds `owner`, and nobody waits for it long: whoever finds it taken goes to an arena instead. So it needs no care in signal
 * handlers, and fork takes all slots last, after the arenas. What nobody took in a window of time (the setting `decay`) goes home, and all of it where much
 * lies there before an arena grows. SPDX-License-Identifier: MIT */
#ifndef ARENA_DEPOT_H
#define ARENA_DEPOT_H

#include "arena/arena.h"

#define DEPOT_WAYS 8
#define DEPOT_SLOTS 65 /* chunks to 1 KiB */
#define DEPOT_BATCH 64
#define DEPOT_SHARE 2 /* half of all heaps may lie in it, or DEPOT_BYTES, but no more than so much for each arena */
#define DEPOT_BYTES MIB(2)
#define DEPOT_BYTES_MOST MIB(8)
/* It goes home before an arena grows: for a block of a size that lies here where it is more than this share of all heaps (the latter where threads have
 * arenas of their own: then one of them wants to grow all the time), of small ones the latter or so much; for a larger one, which may find a hole between
 * what lies here, where it is more than a little. */
#define DEPOT_MUCH_SHARE 128
#define DEPOT_MUCH_SHARE_ARENAS 8
#define DEPOT_MUCH_SMALL KIB(512)
#define DEPOT_LITTLE KIB(64)

struct depot_batch {
    struct depot_batch *next;
    uint32_t count;
    void *mem[DEPOT_BATCH];
};

struct depot_slot {
    uint64_t owner;               /* lock_self() of who reads or changes the rest; 0: nobody */
    struct depot_batch *youngest; /* none of them is empty */
    struct depot_batch *empty;    /* for later */
    uint32_t blocks, least;       /* there now, and the least since the window of time began; relaxed */
};

struct depot_way {
    struct depot_slot slot[DEPOT_SLOTS];
} __attribute__((aligned(CACHE_LINE)));

/* Batches are cut from pages that are the depot's for good. */
struct depot_page {
    struct depot_page *next;
    size_t used; /* bytes, this header included; atomic */
};

extern struct depot_page *depot_pages; /* for readers */
extern struct depot_way depot_ways[DEPOT_WAYS];
extern size_t depot_bytes; /* 16 n for each block in slot n; relaxed */

/* Takes n blocks that carry the key from a thread of arena `near`, the oldest first. How many it took: all, but for what no memory for batches is left; 0 also if
 * there is no room, or nobody can tell now. */
unsigned depot_put(const struct arena *near, unsigned slot, void **mem, unsigned n);

/* Up to `want` blocks, of the youngest batches, into mem[0] and on; the last one is the first to be handed out. How many. */
unsigned depot_take(const struct arena *near, unsigned slot, unsigned want, void **mem);

/* Everything goes home: blocks of `mine` are merged, those of other arenas sent. */
void depot_empty(struct arena *mine);
/* Whether that is worth while before a heap grows for a chunk of `size` bytes; and from time to time, by any thread: what nobody needed goes home. */
static inline size_t depot_much(size_t heaps, size_t arenas, size_t size) {
    if (size / CHUNK_ALIGN >= DEPOT_SLOTS) return DEPOT_LITTLE;
    size_t much = heaps / DEPOT_MUCH_SHARE_ARENAS;
    return arenas > 2 /* the spare is one */ ? much : max_size(heaps / DEPOT_MUCH_SHARE, min_size(much, DEPOT_MUCH_SMALL));
}
bool depot_is_much(size_t size);
void depot_tend(struct arena *mine, uint64_t now);

/* Whether a slot of the number holds a block; and all blocks, those aside of slots that are taken for long. */
bool depot_holds(unsigned slot, const void *mem);
void depot_walk(void (*visit)(void *arg, void *mem), void *arg);
bool depot_adds_up(void); /* counts of batches, slots and of all; others must be quiet */
void depot_walk_books(void (*visit)(const void *start, size_t size, void *arg), void *arg);

void depot_fork_prepare(uint64_t deadline);
void depot_fork_parent(void);
void depot_fork_child(void);

#endif
