/* lookup.h: a hash table from two numbers to an index, and one of the blocks of a recording that are live. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_LOOKUP_H
#define SEEMALLOC_READER_LOOKUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LOOKUP_NONE UINT32_MAX

/* All zero is an empty one. */
struct lookup {
    struct lookup_slot *slots;
    size_t size, count;
};

/* The index of a key; LOOKUP_NONE: there is none. */
uint32_t lookup_find(const struct lookup *lookup, uint64_t key, uint64_t more);
/* Adds a key that is not there. */
void lookup_add(struct lookup *lookup, uint64_t key, uint64_t more, uint32_t index);
void lookup_free(struct lookup *lookup);

struct live_block {
    uint64_t mem; /* 0: the slot is empty */
    uint64_t time, bytes, usable, weight;
    uint32_t stack; /* index, not id */
    uint16_t thread;
};

/* All zero is an empty one. */
struct live_blocks {
    struct live_block *slots;
    size_t size, count;
};

/* The block at `mem`; NULL: there is none. */
struct live_block *live_blocks_find(const struct live_blocks *blocks, uint64_t mem);
/* Adds a block whose address is not there. */
void live_blocks_add(struct live_blocks *blocks, const struct live_block *block);
/* Takes out one that was found; pointers to others are invalid then. */
void live_blocks_remove(struct live_blocks *blocks, struct live_block *block);
void live_blocks_free(struct live_blocks *blocks);

#endif
