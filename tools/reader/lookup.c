/* lookup.c: see lookup.h. Both are open-addressing tables with linear probing, at most two thirds full. SPDX-License-Identifier: MIT */
#include "reader/lookup.h"

#include <stdlib.h>

#include "reader/fault.h"

enum { SLOTS_LEAST = 1024 };

struct lookup_slot {
    uint64_t key, more;
    uint32_t index;
    bool used;
};

static uint64_t mix(uint64_t key) {
    key ^= key >> 32;
    key *= UINT64_C(0xd6e8feb86659fd93);
    key ^= key >> 32;
    key *= UINT64_C(0xd6e8feb86659fd93);
    return key ^ key >> 32;
}

static bool is_full(size_t count, size_t size) { return count + 1 > size / 3 * 2; }

/* --- two numbers to an index ------------------------------------------------------------------------------------------------------------------------ */

static struct lookup_slot *slot_of(const struct lookup *lookup, uint64_t key, uint64_t more) {
    for (size_t i = mix(key + mix(more));; i++) {
        struct lookup_slot *slot = &lookup->slots[i & (lookup->size - 1)];
        if (!slot->used || (slot->key == key && slot->more == more)) return slot;
    }
}

uint32_t lookup_find(const struct lookup *lookup, uint64_t key, uint64_t more) {
    if (lookup->count == 0) return LOOKUP_NONE;
    const struct lookup_slot *slot = slot_of(lookup, key, more);
    return slot->used ? slot->index : LOOKUP_NONE;
}

void lookup_add(struct lookup *lookup, uint64_t key, uint64_t more, uint32_t index) {
    if (is_full(lookup->count, lookup->size)) {
        struct lookup old = *lookup;
        lookup->size = old.size != 0 ? 2 * old.size : SLOTS_LEAST;
        lookup->slots = need_memory(NULL, lookup->size, sizeof *lookup->slots);
        for (size_t i = 0; i < old.size; i++) {
            if (old.slots[i].used) *slot_of(lookup, old.slots[i].key, old.slots[i].more) = old.slots[i];
        }
        free(old.slots);
    }
    *slot_of(lookup, key, more) = (struct lookup_slot){key, more, index, true};
    lookup->count++;
}

void lookup_free(struct lookup *lookup) {
    free(lookup->slots);
    *lookup = (struct lookup){0};
}

/* --- live blocks ---------------------------------------------------------------------------------------------------------------------------------------- */

static struct live_block *block_slot(const struct live_blocks *blocks, uint64_t mem) {
    for (size_t i = mix(mem);; i++) {
        struct live_block *slot = &blocks->slots[i & (blocks->size - 1)];
        if (slot->mem == 0 || slot->mem == mem) return slot;
    }
}

struct live_block *live_blocks_find(const struct live_blocks *blocks, uint64_t mem) {
    if (blocks->count == 0) return NULL;
    struct live_block *slot = block_slot(blocks, mem);
    return slot->mem != 0 ? slot : NULL;
}

void live_blocks_add(struct live_blocks *blocks, const struct live_block *block) {
    if (is_full(blocks->count, blocks->size)) {
        struct live_blocks old = *blocks;
        blocks->size = old.size != 0 ? 2 * old.size : SLOTS_LEAST;
        blocks->slots = need_memory(NULL, blocks->size, sizeof *blocks->slots);
        for (size_t i = 0; i < old.size; i++) {
            if (old.slots[i].mem != 0) *block_slot(blocks, old.slots[i].mem) = old.slots[i];
        }
        free(old.slots);
    }
    *block_slot(blocks, block->mem) = *block;
    blocks->count++;
}

/* What stands behind the gap and would no longer be found moves into it. */
void live_blocks_remove(struct live_blocks *blocks, struct live_block *block) {
    size_t mask = blocks->size - 1, gap = (size_t)(block - blocks->slots);
    for (size_t i = gap + 1;; i++) {
        const struct live_block *next = &blocks->slots[i & mask];
        if (next->mem == 0) break;
        size_t home = mix(next->mem) & mask;
        if (((i - home) & mask) < ((i - gap) & mask)) continue;
        blocks->slots[gap] = *next;
        gap = i & mask;
    }
    blocks->slots[gap].mem = 0;
    blocks->count--;
}

void live_blocks_free(struct live_blocks *blocks) {
    free(blocks->slots);
    *blocks = (struct live_blocks){0};
}
