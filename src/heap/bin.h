/* bin.h: the 128 bins of an arena and the lists in them.
 *
 *   bin 1         unsorted        freed and merged chunks, first in first looked at
 *   bins 2..63    small           one size each, 16 apart, below 1024; FIFO: in at the head (fd), out at the tail (bk)
 *   bins 64..126  large           [1024,1088) in 64, then ranges that widen: 64, 512, 4096, 32768, 262144, rest
 *
 * Every bin is a doubly linked ring through a pseudo-chunk in the arena. Large bins are sorted, largest at fd, smallest at bk; equal sizes
 * stand together, the first of them heads the size: only heads are in the `nextsize` ring (head to head) and in the search index.
 *
 * The index is a digital search tree over the heads (child, parent in the chunk): the bits of the size, from the highest in which sizes of
 * the bin can differ, choose the child; every node holds a size itself. Its depth is at most the number of those bits, so insert, remove and
 * best fit are bounded: 6 steps in the first bins, 44 in the last, whatever an adversary frees.
 *
 *   bitmap bit i = bin i has a chunk (bit 1 is not used)          bytes = sum of the sizes of all chunks in bins
 *
 * Every link is checked before it is followed: range [low, high), alignment, a binned seal of this arena, and the link back. A chunk comes in
 * sealed as TAG_BINNED with its foot written, and leaves so; the caller holds the arena's lock. SPDX-License-Identifier: MIT */
#ifndef HEAP_BIN_H
#define HEAP_BIN_H

#include "heap/chunk.h"

#define BIN_COUNT 128
#define BIN_UNSORTED 1
#define BIN_FIRST_SMALL 2
#define BIN_FIRST_LARGE 64
#define BIN_LAST 126
#define BIN_FIRST_TREE 121 /* the bin of INDEX_LIMIT */
#define INDEX_LIMIT KIB(64)
#define SMALL_LIMIT 1024u /* first chunk size of large bins */

struct bin_link {
    struct chunk *fd, *bk;
};

struct bins {
    uint32_t id, binned;    /* arena id, and the tag of a chunk that lies in its bins */
    const void *low, *high; /* all chunks of the arena lie between; bins_set_range */
    size_t units;           /* (high - low) / CHUNK_ALIGN */
    uint64_t bitmap[BIN_COUNT / 64];
    size_t bytes, clean;     /* of all chunks, and those of them without pages */
    size_t paged_least;      /* a chunk of less holds no whole page beside its links */
    size_t dirty, dirty_low; /* the other bytes of chunks that may hold whole ones, and the least of it since somebody set it */
    size_t count;
    struct bin_link bin[BIN_COUNT]; /* bin[0] is not used */

    /* The search index of the large bins. Chunk sizes below INDEX_LIMIT: the first of each size, and a bit for each size there is, and for each word
     * of these bits that is not zero. Above: a tree for each bin. */
    uint64_t sized_words, sized[INDEX_LIMIT / CHUNK_ALIGN / 64];
    struct chunk *root[BIN_COUNT - BIN_FIRST_TREE];
    struct chunk *first[INDEX_LIMIT / CHUNK_ALIGN];
};

void bins_init(struct bins *bins, uint32_t id);

/* The range of bins that a chunk size is in: bin `base` + size >> shift, and sizes of one bin are of one range (so 40960, where 12 would do as well as 15,
 * is of the latter). Without branches: which it is nobody could predict. */
struct bin_range {
    uint8_t shift, base;
};
static ALWAYS_INLINE struct bin_range bin_range_of(size_t size) {
    static const struct bin_range range[] = {{4, 0}, {6, 48}, {9, 91}, {12, 110}, {15, 119}, {18, 124}};
    return range[(size >= SMALL_LIMIT) + (size >> 6 > 48) + (size >> 9 > 20) + (size >> 12 > 9) + (size >> 15 > 4)];
}

/* The bin of a chunk size; never unsorted. */
static ALWAYS_INLINE unsigned bin_index(size_t size) {
    struct bin_range range = bin_range_of(size);
    size_t index = range.base + (size >> range.shift);
    return index < BIN_LAST ? (unsigned)index : BIN_LAST;
}

/* The pseudo-chunk whose fd and bk are the bin's. */
static inline struct chunk *bin_chunk(struct bins *bins, unsigned index) {
    return (struct chunk *)((uintptr_t)&bins->bin[index] - offsetof(struct chunk, fd));
}
static inline bool bin_is_empty(struct bins *bins, unsigned index) { return bins->bin[index].fd == bin_chunk(bins, index); }

static inline void bins_set_range(struct bins *bins, const void *low, const void *high) {
    bins->low = low;
    bins->high = high;
    bins->units = ((uintptr_t)high - (uintptr_t)low) / CHUNK_ALIGN;
}

/* Whether `chunk` may be looked at: aligned and inside the arena's range. Turned round by four bits, what isn't aligned becomes huge: one comparison
 * for all three. */
static inline bool bins_range(const struct bins *bins, const struct chunk *chunk) {
    uintptr_t at = (uintptr_t)chunk - (uintptr_t)bins->low;
    return (at >> 4 | at << 60) < bins->units;
}
static inline bool bins_owns(const struct bins *bins, const struct chunk *chunk) {
    return bins_range(bins, chunk) && chunk_tag(chunk) == bins->binned;
}

/* Into the head of the unsorted bin, or into the bin of its size. Abort on a broken list. */
void bin_insert_unsorted(struct bins *bins, struct chunk *chunk);
void bin_insert_sorted(struct bins *bins, struct chunk *chunk);

#define BIN_UNSORTED_LINE "malloc(): unsorted double linked list corrupted"

/* The chunk that the unsorted bin offers first, or NULL; and what becomes of it when nobody wants it: into the bin of its size. The next one, or NULL. */
struct chunk *bin_last_unsorted(struct bins *bins);
struct chunk *bin_sort_last(struct bins *bins);

/* Out of whatever bin it is in. Aborts if list, size or foot don't agree; with `line` if it is the list. */
void bin_remove(struct bins *bins, struct chunk *chunk, const char *line);
void bin_take(struct bins *bins, struct chunk *chunk, size_t size,
              const char *line); /* the same where size and foot have been seen to agree */

/* After something was handed out, when its rest is in a bin again. */
static inline void bins_note_low(struct bins *bins) {
    if (bins->dirty < bins->dirty_low) bins->dirty_low = bins->dirty;
}

/* All whole pages of a large chunk in its sorted bin went back, or it has none: it goes behind all others of its size. */
void bin_note_purged(struct bins *bins, struct chunk *chunk);

/* Of large bins. The first chunk of the largest size up to `size`, or NULL; and the second of the size that `head` is the first of, where those are that
 * came last, or NULL. */
struct chunk *bin_head_at_most(struct bins *bins, unsigned index, size_t size);
struct chunk *bin_second_of_size(struct bins *bins, struct chunk *head);

/* The smallest chunk of at least `size` in any sorted bin (of that size one that isn't the first, if there is one), or NULL. Not removed. */
struct chunk *bin_best_fit(struct bins *bins, size_t size);

/* The first non-empty sorted bin from `index` up, or 0. */
unsigned bin_next_used(const struct bins *bins, unsigned index);

#ifdef SEEMALLOC_DEBUG
extern size_t bin_steps; /* tree nodes looked at so far: what the bound is tested by */
#endif

#endif
