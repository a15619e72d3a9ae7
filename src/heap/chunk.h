/* chunk.h: a chunk, its boundary tags, and the seal over them.
 *
 *  chunk ─> +0   prev_size  size of the previous chunk; meaningful only when P = 0, otherwise these 8 bytes are the previous chunk's user data
 *           +8   head       [63..48 seal][47..4 size, a multiple of 16][3 zero][2 A][1 M][0 P]
 *  mem   ─> +16  user data  when free: fd, bk; in a large bin also fd_nextsize, bk_nextsize and the search index
 *  next  ─> +size
 *
 *  seal = tag XOR top16((low48 << 16) · S1 + mem · S2)          tag = state + arena id
 *
 * S1 and S2 are secrets of the process, so one load of `head` tells size, flags, state and owner, and that nobody wrote over it: a head
 * overwritten blindly passes for an in-use chunk with probability (number of arenas) / 65536. `prev_size` is followed only to a chunk that
 * is sealed as binned and has exactly that size.
 *
 * Writes of `head` happen under the owner arena's lock (a neighbour's P bit changes), as one relaxed 64-bit store; `free` and
 * malloc_usable_size read it without a lock. This file knows no lists and no arenas. SPDX-License-Identifier: MIT */
#ifndef HEAP_CHUNK_H
#define HEAP_CHUNK_H

#include "base/base.h"

struct chunk {
    uint64_t prev_size;
    uint64_t head;
    struct chunk *fd; /* from here on: only while the chunk is free */
    struct chunk *bk;
    struct chunk *fd_nextsize; /* large bins: ring of the first chunks of each size; NULL in the others */
    struct chunk *bk_nextsize;
    char *clean_from, *clean_to; /* where whole pages may fit: between these it has none, and reads as zero */
    struct chunk *child[2];      /* large bins: search index over the same first chunks, see bin.h */
    struct chunk *parent;
};

#define CHUNK_ALIGN 16u
#define CHUNK_HEADER 16u /* from chunk to mem; the first 8 bytes overlap the previous chunk's payload */
#define CHUNK_OVERHEAD 8u
#define CHUNK_MIN 32u
#define CHUNK_FENCE 16u /* a fencepost is a header alone */

#define FLAG_P 1u
#define FLAG_M 2u
#define FLAG_PURGED FLAG_M /* of a binned chunk: all of its whole pages went back */
#define FLAG_A 4u
#define FLAG_MASK 15u
#define CHUNK_MAX ((size_t)1 << 47) /* no chunk is as big: more than a process can address */
#define SIZE_MASK 0x0000fffffffffff0u
#define LOW48 0x0000ffffffffffffu

/* Tags: what the seal says. The low 13 bits are the arena's id. In use is 0, so that "in use and ours" is one comparison. */
#define TAG_IN_USE 0x0000u
#define TAG_TOP 0x2000u
#define TAG_MAPPED 0x4000u
#define TAG_FENCE 0x6000u
#define TAG_BINNED 0x8000u
#define TAG_PURGING 0xa000u
#define TAG_LOOSE 0xc000u /* free but not merged: in a fast bin, or left for a sweep; to its neighbours as if in use */
#define TAG_STATE 0xe000u
#define TAG_ID 0x1fffu

/* Secrets of the process. All zero until seal_init, when there are no chunks yet. */
struct seal_secrets {
    uint64_t s1, s2;
    uint64_t key;    /* stands at mem + 8 of a block that is cached, parked, fast or in an inbox */
    uint64_t link;   /* covers the links of fast lists and inboxes */
    uint32_t arenas; /* tags below this are chunks in use; beside the secrets because every free reads it */
};
extern struct seal_secrets seal;

void seal_init(void);

static inline struct chunk *chunk_at(const void *base, size_t offset) { return (struct chunk *)((uintptr_t)base + offset); }
static inline struct chunk *chunk_of(const void *mem) { return (struct chunk *)((uintptr_t)mem - CHUNK_HEADER); }
static inline void *chunk_mem(const struct chunk *chunk) { return (void *)((uintptr_t)chunk + CHUNK_HEADER); }

static inline uint64_t chunk_head(const struct chunk *chunk) { return load_relaxed(&chunk->head); }
static inline size_t head_size(uint64_t head) { return head & SIZE_MASK; }
static inline size_t chunk_size(const struct chunk *chunk) { return head_size(chunk_head(chunk)); }
static inline struct chunk *chunk_next(const struct chunk *chunk) { return chunk_at(chunk, chunk_size(chunk)); }

static ALWAYS_INLINE uint64_t seal_mix(uint64_t low48, const struct chunk *chunk) {
    return (low48 << 16) * seal.s1 + (uintptr_t)chunk_mem(chunk) * seal.s2;
}

/* The tag under the seal of `head`, which was read from `chunk`. */
static ALWAYS_INLINE uint32_t head_tag(uint64_t head, const struct chunk *chunk) {
    return (uint32_t)((head ^ seal_mix(head, chunk)) >> 48);
}
static inline uint32_t chunk_tag(const struct chunk *chunk) { return head_tag(chunk_head(chunk), chunk); }
static inline bool tag_in_use(uint32_t tag) { return tag < load_hot(&seal.arenas); }

static inline void chunk_set(struct chunk *chunk, size_t size, uint32_t flags, uint32_t tag) {
    uint64_t low = size | flags;
    store_relaxed(&chunk->head, low | ((((uint64_t)tag << 48) ^ seal_mix(low, chunk)) & ~LOW48));
}

/* Changes the P bit, keeping size, other flags and tag: what the bit adds to the mix is known, so one of the products does for both. */
static inline void chunk_set_p(struct chunk *chunk, bool previous_in_use) {
    uint64_t head = chunk_head(chunk), mix = seal_mix(head, chunk);
    uint64_t low = (head & LOW48 & ~(uint64_t)FLAG_P) | (previous_in_use ? FLAG_P : 0);
    uint64_t after = mix + (((low - head) << 16) * seal.s1);
    store_relaxed(&chunk->head, low | ((head ^ mix ^ after) & ~LOW48));
}

/* The part of a free chunk that has no pages; none if from == to. What stands there is not trusted: at worst pages stay, or are given back twice. */
struct span {
    char *from, *to;
};
static inline struct span chunk_clean(const struct chunk *chunk, size_t size) {
    char *from = chunk->clean_from, *to = chunk->clean_to;
    bool good = from > (const char *)chunk && from < to && to <= (const char *)chunk + size;
    return good ? (struct span){from, to} : (struct span){NULL, NULL};
}
static inline size_t span_size(struct span span) { return (size_t)(span.to - span.from); }

/* The end of a header's life: it was absorbed by a merge, and a stale pointer to it must not find a good seal. */
static inline void chunk_wipe(struct chunk *chunk) { store_relaxed(&chunk->head, 0); }

/* Bytes that the user may write. A mapped chunk has no successor whose prev_size it could use. */
static inline size_t head_usable(uint64_t head) { return head_size(head) - (head & FLAG_M ? CHUNK_HEADER : CHUNK_OVERHEAD); }

/* Chunk size for a request of at most PTRDIFF_MAX bytes. */
static inline size_t request_size(size_t bytes) {
    return bytes + CHUNK_OVERHEAD + CHUNK_ALIGN - 1 < CHUNK_MIN ? CHUNK_MIN
                                                                : align_down(bytes + CHUNK_OVERHEAD + CHUNK_ALIGN - 1, CHUNK_ALIGN);
}

/* Links of singly linked lists inside free blocks are stored covered; what comes out is checked by the caller before it is followed. */
static inline void link_store(void *mem, const void *next) { store_relaxed((uint64_t *)mem, (uintptr_t)next ^ seal.link); }
static inline void *link_load(const void *mem) { return (void *)(uintptr_t)(load_relaxed((const uint64_t *)mem) ^ seal.link); }

/* The key of a block that is free but keeps its in-use seal. */
static inline void key_set(void *mem) { store_relaxed((uint64_t *)mem + 1, seal.key); }
static inline void key_clear(void *mem) { store_relaxed((uint64_t *)mem + 1, 0); }
static inline bool key_matches(const void *mem) { return load_hot((const uint64_t *)mem + 1) == seal.key; }

#endif
