/* lists.c: which bin a free chunk is in, and which blocks lie in an arena's other lists. SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>

#include "reader/heap_parts.h"

/* --- bins -------------------------------------------------------------------------------------------------------------------------------------- */

static struct free_chunk *free_at(const struct reading *reading, uint64_t address) {
    size_t low = 0, high = reading->free_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (reading->free[middle].address < address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < reading->free_count && reading->free[low].address == address ? &reading->free[low] : NULL;
}

static unsigned state_of(const struct seemalloc_descriptor *d, const struct heap_arena *arena, uint64_t address, uint64_t bin) {
    if (address == arena->last_remainder) return SEEMALLOC_LAST_REMAINDER;
    if (bin == d->bin_unsorted) return SEEMALLOC_UNSORTED;
    return bin < d->bin_first_large ? SEEMALLOC_SMALL : SEEMALLOC_LARGE;
}

static bool read_ring(struct reading *reading, size_t index, uint64_t bin) {
    const struct seemalloc_descriptor *d = reading->d;
    struct heap_arena *arena = &reading->heap->arenas[index];
    const struct view *view = &reading->arena[index];
    uint64_t pair = d->arena_bins + bin * d->bin_size, ring = view->address + pair - d->chunk_fd, before = ring;
    uint64_t at = view_64(view, pair);
    while (at != ring) {
        struct free_chunk *here = free_at(reading, at);
        if (here == NULL) return heap_fault(reading, arena, "bin %" PRIu64 " leads to 0x%" PRIx64 ", which is no free chunk", bin, at);
        struct heap_chunk *chunk = &reading->heap->chunks[here->chunk];
        if (chunk->bin != -1)
            return heap_fault(reading, arena, "chunk 0x%" PRIx64 " is in bin %d and, once more, in bin %" PRIu64, at, chunk->bin, bin);
        if (here->bk != before) heap_fault(reading, arena, "chunk 0x%" PRIx64 " in bin %" PRIu64 ": its links don't agree", at, bin);
        list_add(reading, chunk);
        chunk->bin = (int16_t)bin;
        chunk->state = (uint8_t)state_of(d, arena, at, bin);
        before = at;
        at = here->fd;
    }
    return true;
}

void read_rings(struct reading *reading, size_t index) {
    struct heap_arena *arena = &reading->heap->arenas[index];
    if (arena->is_abandoned ||
        view_64(&reading->arena[index], reading->d->arena_bins + reading->d->bin_unsorted * reading->d->bin_size) == 0)
        return;
    for (uint64_t bin = reading->d->bin_unsorted; bin <= reading->d->bin_last; bin++) {
        list_begin(reading, HEAP_BIN, index, bin);
        read_ring(reading, index, bin);
        list_end(reading);
    }
    for (size_t i = 0; i < reading->free_count; i++) {
        if (reading->heap->chunks[reading->free[i].chunk].bin == -1) {
            heap_fault(reading, arena, "chunk 0x%" PRIx64 " is free, but in no bin", reading->free[i].address);
        }
    }
}

/* --- chains and batches -------------------------------------------------------------------------------------------------------------------------- */

/* Of a block that its neighbours take for one in use. False: it isn't one, or is in a list already. */
static bool mark_block(struct reading *reading, struct heap_arena *arena, uint64_t mem, unsigned state) {
    struct heap_chunk *chunk = heap_chunk_at(reading, mem - reading->d->chunk_header);
    if (chunk == NULL || &reading->heap->arenas[reading->heap->regions[chunk->region].arena] != arena || chunk->state != SEEMALLOC_IN_USE) {
        return heap_fault(reading, arena, "a list (%s) leads to 0x%" PRIx64 ", which is %s", heap_state_name(state), mem,
                          chunk == NULL ? "no block of this arena" : heap_state_name(chunk->state));
    }
    list_add(reading, chunk);
    chunk->state = (uint8_t)state;
    if (state == SEEMALLOC_FAST) chunk->bin = (int16_t)(chunk->size / reading->d->chunk_align - 2);
    return true;
}

/* Marks a block of a chain; the next one, or 0. */
static uint64_t follow(struct reading *reading, struct heap_arena *arena, uint64_t mem, unsigned state) {
    uint64_t link;
    if (!mark_block(reading, arena, mem, state) || !reading->source->read(reading->source, mem, &link, sizeof link, &arena->fault))
        return 0;
    return link ^ reading->link_secret;
}

/* Ends by itself: each block is marked once. */
static void read_inbox(struct reading *reading, size_t index) {
    const struct seemalloc_descriptor *d = reading->d;
    struct heap_arena *arena = &reading->heap->arenas[index];
    const struct view *view = &reading->arena[index];
    list_begin(reading, HEAP_INBOX, index, 0);
    for (uint64_t mem = view_64(view, d->arena_inbox_rest); mem != 0;) mem = follow(reading, arena, mem, SEEMALLOC_INBOX);
    for (uint64_t mem = view_64(view, d->arena_inbox); mem != 0;) mem = follow(reading, arena, mem, SEEMALLOC_INBOX);
    list_end(reading);
}

/* The lanes in turn, so that the block comes first that would be taken first. */
static void read_fast(struct reading *reading, size_t index, uint64_t number) {
    enum { LANES_MOST = 64 };
    const struct seemalloc_descriptor *d = reading->d;
    struct heap_arena *arena = &reading->heap->arenas[index];
    const struct view *view = &reading->arena[index];
    uint64_t bin = d->arena_fast + number * d->fast_bin_size, mem[LANES_MOST];
    uint32_t count = view_32(view, bin + d->fast_count);
    if (d->fast_lanes == 0 || d->fast_lanes > LANES_MOST) {
        heap_fault(reading, arena, "fast bins can't have %" PRIu64 " lanes", d->fast_lanes);
        return;
    }
    for (uint64_t lane = 0; lane < d->fast_lanes; lane++) mem[lane] = view_64(view, bin + d->fast_lane + lane * 8);
    list_begin(reading, HEAP_FAST_BIN, index, number);
    while (count != 0 && mem[(count - 1) % d->fast_lanes] != 0) {
        uint64_t *at = &mem[--count % d->fast_lanes];
        *at = follow(reading, arena, *at, SEEMALLOC_FAST);
    }
    bool rest = count != 0;
    for (uint64_t lane = 0; lane < d->fast_lanes; lane++) rest |= mem[lane] != 0;
    if (rest) heap_fault(reading, arena, "fast bin %" PRIu64 " has another number of blocks than it says", number);
    list_end(reading);
}

void read_chains(struct reading *reading, size_t index) {
    const struct seemalloc_descriptor *d = reading->d;
    struct heap_arena *arena = &reading->heap->arenas[index];
    if (arena->is_abandoned) return;
    read_inbox(reading, index);
    for (uint64_t i = 0; i < d->fast_bins; i++) read_fast(reading, index, i);
}

/* A slot of the depot. */
struct depot_copy {
    uint64_t number, *block;
    size_t count, room;
};

/* The depot is everybody's: what of a slot is of the arena makes one list, the youngest last. */
static void read_slot(struct reading *reading, size_t index, const struct depot_copy *slot) {
    struct heap_arena *arena = &reading->heap->arenas[index];
    list_begin(reading, HEAP_PARKED, index, slot->number);
    for (size_t i = 0; i < slot->count; i++) {
        struct heap_chunk *chunk = heap_chunk_at(reading, slot->block[i] - reading->d->chunk_header);
        if (chunk == NULL && index == 0) {
            heap_fault(reading, NULL, "the depot has 0x%" PRIx64 ", which is no block", slot->block[i]);
        } else if (chunk != NULL && reading->heap->regions[chunk->region].arena == index) {
            mark_block(reading, arena, slot->block[i], SEEMALLOC_PARKED);
        }
    }
    list_end(reading);
}

/* A batch's blocks are put before those that are younger. */
static uint64_t copy_batch(struct reading *reading, struct depot_copy *slot, uint64_t batch) {
    const struct seemalloc_descriptor *d = reading->d;
    uint64_t next = 0, block[1 << 12];
    uint32_t count = 0;
    bool good = reading->source->read(reading->source, batch + d->batch_next, &next, sizeof next, NULL) &&
                reading->source->read(reading->source, batch + d->batch_count, &count, sizeof count, NULL) && count <= d->batch_most &&
                reading->source->read(reading->source, batch + d->batch_blocks, block, count * sizeof *block, NULL);
    if (!good) {
        heap_fault(reading, NULL, "a batch of the depot, 0x%" PRIx64 ", can't be read, or has more than %" PRIu64 " blocks", batch,
                   d->batch_most);
        return 0;
    }
    for (uint32_t i = count; i-- > 0;) {
        GROW(slot->block, slot->count, slot->room);
        slot->block[slot->count++] = block[i];
    }
    return next;
}

void read_depot(struct reading *reading) {
    const struct seemalloc_descriptor *d = reading->d;
    struct heap *heap = reading->heap;
    for (uint64_t number = 0; number < d->depot_slots; number++) {
        struct depot_copy slot = {.number = number};
        for (uint64_t way = 0; way < d->depot_ways; way++) {
            uint64_t batch = 0, at = d->depot + way * d->depot_way_size + number * d->depot_slot_size;
            reading->source->read(reading->source, at + d->depot_youngest, &batch, sizeof batch, NULL);
            while (batch != 0 && slot.count <= heap->chunk_count) batch = copy_batch(reading, &slot, batch);
        }
        for (size_t i = 0; i < slot.count / 2; i++) { /* the youngest last */
            uint64_t kept = slot.block[i];
            slot.block[i] = slot.block[slot.count - 1 - i];
            slot.block[slot.count - 1 - i] = kept;
        }
        for (size_t i = 0; i < heap->arena_count && slot.count != 0; i++) read_slot(reading, i, &slot);
        free(slot.block);
    }
}
