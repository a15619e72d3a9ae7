/* pins.c: see pins.h. SPDX-License-Identifier: MIT */
#include "reader/pins.h"

#include <stdlib.h>

struct search {
    struct pins *pins;
    const struct heap *heap;
    uint64_t page_size;
    size_t most;
};

static bool is_free(const struct heap_chunk *chunk) {
    switch (chunk->state) {
    case SEEMALLOC_PARKED:
    case SEEMALLOC_INBOX:
    case SEEMALLOC_FAST:
    case SEEMALLOC_UNSORTED:
    case SEEMALLOC_SMALL:
    case SEEMALLOC_LARGE:
    case SEEMALLOC_LAST_REMAINDER:
    case SEEMALLOC_PURGING:
    case SEEMALLOC_TOP: return true;
    default: return false;
    }
}

static uint64_t up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }
static uint64_t down(uint64_t n, uint64_t to) { return n / to * to; }

static uint64_t resident(const struct search *search, const struct heap_region *region, uint64_t from, uint64_t to) {
    return from < to ? heap_resident(region->page, region->start, search->page_size, from, to) : 0;
}

/* --- the largest, as a heap whose first is the least ------------------------------------------------------------------------------------------- */

static bool is_less(const struct pin *a, const struct pin *b) {
    return a->releases != b->releases ? a->releases < b->releases : a->chunk > b->chunk;
}

static void swap(struct pin *a, struct pin *b) {
    struct pin other = *a;
    *a = *b;
    *b = other;
}

static void keep_largest(struct search *search, const struct pin *pin) {
    struct pin *heap = search->pins->largest;
    if (search->pins->shown < search->most) {
        size_t at = search->pins->shown++;
        heap[at] = *pin;
        for (; at != 0 && is_less(&heap[at], &heap[(at - 1) / 2]); at = (at - 1) / 2) swap(&heap[at], &heap[(at - 1) / 2]);
        return;
    }
    if (search->most == 0 || !is_less(&heap[0], pin)) return;
    heap[0] = *pin;
    for (size_t at = 0, child; (child = 2 * at + 1) < search->most; at = child) {
        if (child + 1 < search->most && is_less(&heap[child + 1], &heap[child])) child++;
        if (!is_less(&heap[child], &heap[at])) return;
        swap(&heap[at], &heap[child]);
    }
}

static int largest_first(const void *a, const void *b) { return is_less(a, b) ? 1 : is_less(b, a) ? -1 : 0; }

/* --- what a block keeps --------------------------------------------------------------------------------------------------------------------------- */

static void note(struct search *search, const struct pin *pin) {
    if (pin->keeps == 0) return;
    search->pins->count++;
    search->pins->releases += pin->releases;
    search->pins->keeps += pin->keeps;
    keep_largest(search, pin);
}

/* A block between free memory from `low` and up to `high` (its own ends where there is none). */
static void look_at_block(struct search *search, const struct heap_region *region, size_t index, uint64_t low, uint64_t high) {
    const struct heap_chunk *chunk = &search->heap->chunks[index];
    uint64_t page = search->page_size, links = search->heap->descriptor.chunk_links, end = chunk->address + chunk->size;
    uint64_t from = up(low + links, page), to = down(high, page); /* of the merged chunk; less what each side had */
    if (low < chunk->address && from < down(chunk->address, page)) from = down(chunk->address, page);
    if (high > end && to > up(end + links, page)) to = up(end + links, page);
    struct pin pin = {.chunk = index, .releases = resident(search, region, from, to)};
    uint64_t own_from = chunk->address > from ? chunk->address : from, own_to = end < to ? end : to;
    pin.keeps = pin.releases - resident(search, region, own_from, own_to);
    note(search, &pin);
}

/* The only block of a heap that could go back. */
static void look_at_last(struct search *search, const struct heap_region *region, size_t index, uint64_t low, uint64_t high) {
    const struct heap_chunk *chunk = &search->heap->chunks[index];
    uint64_t page = search->page_size, links = search->heap->descriptor.chunk_links, end = chunk->address + chunk->size;
    uint64_t anyway = resident(search, region, up(low + links, page), low < chunk->address ? down(chunk->address, page) : 0) +
                      resident(search, region, up(end + links, page), high > end ? down(high, page) : 0);
    struct pin pin = {.chunk = index, .releases = resident(search, region, region->start, region->end) - anyway, .is_heap = true};
    pin.keeps = pin.releases - resident(search, region, chunk->address, end);
    note(search, &pin);
}

static void look_at_region(struct search *search, const struct heap_region *region) {
    const struct heap *heap = search->heap;
    const struct heap_arena *arena = &heap->arenas[region->arena];
    size_t live = 0;
    for (size_t i = region->first; i < region->first + region->count; i++) {
        live += !is_free(&heap->chunks[i]) && heap->chunks[i].state != SEEMALLOC_FENCEPOST;
    }
    bool may_close = region->kind != SEEMALLOC_REGION_BRK && (arena->count > 1 || arena->threads == 0) && live == 1;
    uint64_t low = region->start; /* where the free memory before chunk i begins */
    for (size_t i = region->first, last = region->first + region->count, next; i < last; i = next) {
        next = i + 1;
        if (is_free(&heap->chunks[i])) continue;
        uint64_t end = heap->chunks[i].address + heap->chunks[i].size, high = end;
        for (; next < last && is_free(&heap->chunks[next]); next++) high = heap->chunks[next].address + heap->chunks[next].size;
        if (heap->chunks[i].state == SEEMALLOC_IN_USE) {
            if (may_close) {
                look_at_last(search, region, i, low, high);
            } else {
                look_at_block(search, region, i, low, high);
            }
        }
        low = end;
    }
}

void pins_find(struct pins *pins, const struct heap *heap, uint64_t page_size, size_t most) {
    if (most > heap->chunk_count) most = heap->chunk_count;
    *pins = (struct pins){.largest = need_memory(NULL, most, sizeof *pins->largest)};
    struct search search = {.pins = pins, .heap = heap, .page_size = page_size, .most = most};
    for (size_t i = 0; i < heap->region_count; i++) look_at_region(&search, &heap->regions[i]);
    qsort(pins->largest, pins->shown, sizeof *pins->largest, largest_first);
}

void pins_free(struct pins *pins) {
    free(pins->largest);
    *pins = (struct pins){0};
}
