/* walk.c: the regions of an arena and the chunks in them, by size from each region's start. Memory is read forward in windows, and only what is there.
 * SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "reader/heap_parts.h"

#define WINDOW (1 << 17)
#define REGIONS_MOST (1 << 20)

struct window {
    struct reading *reading;
    const struct heap_region *region;
    uint64_t from, to;
    uint8_t data[WINDOW];
};

/* Bytes that stand at `address`: `size` of them, or what the region has. NULL: they can't be read. */
static const uint8_t *window_at(struct window *window, uint64_t address, uint64_t size) {
    const struct heap_region *region = window->region;
    struct source *source = window->reading->source;
    if (size > region->end - address) size = region->end - address;
    if (address >= window->from && address + size <= window->to) return window->data + (address - window->from);
    uint64_t page = source->page_size, first = region->start / page;
    window->from = address;
    window->to = region->end - address < WINDOW ? region->end : address + WINDOW;
    for (uint64_t at = window->from; at < window->to;) {
        uint64_t number = at / page;
        bool there = region->page[number - first] >= PAGE_PRESENT;
        while (number * page < window->to && (region->page[number - first] >= PAGE_PRESENT) == there) number++;
        uint64_t end = number * page < window->to ? number * page : window->to;
        uint8_t *out = window->data + (at - window->from);
        if (!there) {
            memset(out, 0, end - at);
        } else if (!source->read(source, at, out, end - at, &window->reading->heap->fault)) {
            window->to = window->from;
            return NULL;
        }
        at = end;
    }
    return window->data;
}

static uint64_t word(const uint8_t *bytes, uint64_t offset) {
    uint64_t value;
    memcpy(&value, bytes + offset, sizeof value);
    return value;
}

static struct heap_chunk *add_chunk(struct reading *reading, uint32_t region, uint64_t address, uint64_t size, unsigned state,
                                    unsigned flags) {
    struct heap *heap = reading->heap;
    GROW(heap->chunks, heap->chunk_count, reading->chunk_room);
    struct heap_chunk *chunk = &heap->chunks[heap->chunk_count++];
    *chunk = (struct heap_chunk){.address = address,
                                 .size = size,
                                 .region = region,
                                 .list = HEAP_NO_LIST,
                                 .bin = -1,
                                 .state = (uint8_t)state,
                                 .flags = (uint8_t)flags};
    heap->regions[region].count++;
    return chunk;
}

static void add_span(struct reading *reading, uint64_t start, uint64_t end) {
    struct heap *heap = reading->heap;
    if (start >= end) return;
    GROW(heap->spans, heap->span_count, reading->span_room);
    heap->spans[heap->span_count++] = (struct heap_span){start, end};
}

/* The chunk before says nothing of itself: the next one's flag says that it is free, and its links stand in it. */
static void note_free(struct reading *reading, struct heap_arena *arena, const uint8_t *links, uint64_t foot, uint64_t paged_least) {
    const struct seemalloc_descriptor *d = reading->d;
    struct heap_chunk *chunk = &reading->heap->chunks[reading->heap->chunk_count - 1];
    if (chunk->state != SEEMALLOC_IN_USE || foot != chunk->size) {
        heap_fault(reading, arena, "chunk 0x%" PRIx64 ": the next one says that it is free and has %" PRIu64 " bytes, but it has %" PRIu64,
                   chunk->address, foot, chunk->size);
        return;
    }
    chunk->state = HEAP_UNKNOWN; /* until a bin is found that has it */
    GROW(reading->free, reading->free_count, reading->free_room);
    reading->free[reading->free_count++] =
        (struct free_chunk){chunk->address, word(links, d->chunk_fd), word(links, d->chunk_bk), (size_t)(chunk - reading->heap->chunks)};
    uint64_t from = word(links, d->chunk_clean_from), to = word(links, d->chunk_clean_to);
    if (chunk->size >= paged_least && from > chunk->address && from < to && to <= chunk->address + chunk->size) add_span(reading, from, to);
}

static void walk_region(struct reading *reading, size_t index, uint32_t number, struct window *window) {
    const struct seemalloc_descriptor *d = reading->d;
    struct heap_arena *arena = &reading->heap->arenas[index];
    const struct heap_region *region = &reading->heap->regions[number];
    uint64_t paged_least = view_64(&reading->arena[index], d->paged_least), links_size = d->chunk_links;
    uint8_t links[4096] = {0};
    window->region = region;
    window->from = window->to = 0;
    for (uint64_t at = region->start; at < region->end;) {
        uint64_t left = region->end - at, here = left < links_size ? left : links_size;
        const uint8_t *bytes = window_at(window, at, here);
        if (bytes == NULL) {
            heap_fault(reading, arena, "chunk 0x%" PRIx64 " can't be read", at);
            add_chunk(reading, number, at, left, HEAP_UNKNOWN, 0);
            return;
        }
        uint64_t head = left >= 16 ? word(bytes, d->chunk_head) : 0, size = head & d->size_mask;
        unsigned flags = (head & d->flag_p ? SEEMALLOC_FLAG_P : 0) | (head & d->flag_a ? SEEMALLOC_FLAG_A : 0);
        bool top = at == arena->top;
        if ((top ? size != left : size < d->chunk_fence || size > left) || size % d->chunk_align != 0) {
            heap_fault(reading, arena,
                       "chunk 0x%" PRIx64 ": its size of %" PRIu64 " bytes can't be: the region ends %" PRIu64 " bytes further", at, size,
                       left);
            add_chunk(reading, number, at, left, top ? SEEMALLOC_TOP : HEAP_UNKNOWN, 0);
            return;
        }
        if (!(flags & SEEMALLOC_FLAG_P) && at != region->start)
            note_free(reading, arena, links, word(bytes, d->chunk_prev_size), paged_least);
        memcpy(links, bytes, here);
        add_chunk(reading, number, at, size,
                  top                    ? SEEMALLOC_TOP
                  : at == arena->purging ? SEEMALLOC_PURGING
                  : size < d->chunk_min  ? SEEMALLOC_FENCEPOST
                                         : SEEMALLOC_IN_USE,
                  flags);
        if (top) add_span(reading, region->clean > at + d->chunk_header ? region->clean : at + d->chunk_header, region->end);
        at += size;
    }
}

static int by_start(const void *a, const void *b) {
    const struct heap_region *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

/* The descriptions, by address of what they describe. */
static void list_regions(struct reading *reading, size_t index) {
    const struct seemalloc_descriptor *d = reading->d;
    struct heap *heap = reading->heap;
    struct heap_arena *arena = &heap->arenas[index];
    uint64_t sum = 0;
    arena->first = heap->region_count;
    for (uint64_t at = view_64(&reading->arena[index], d->arena_regions); at != 0;) {
        struct view view;
        if (!view_read(&view, reading->source, at, d->region_size, NULL)) {
            heap_fault(reading, arena, "its list of regions leads nowhere, to 0x%" PRIx64, at);
            break;
        }
        struct heap_region region = {.start = view_64(&view, d->region_start),
                                     .end = view_64(&view, d->region_end),
                                     .limit = view_64(&view, d->region_limit),
                                     .clean = view_64(&view, d->region_clean),
                                     .kind = view_32(&view, d->region_kind),
                                     .description = at,
                                     .arena = (uint32_t)index};
        at = view_64(&view, d->region_next);
        view_free(&view);
        sum += region.end - region.start;
        bool is_too_much = sum > arena->system_bytes && !arena->is_torn;
        bool is_sane = region.start < region.end && region.end <= region.limit && region.start % d->chunk_align == 0 &&
                       region.kind < SEEMALLOC_REGION_BLOCK;
        if (is_sane && !is_too_much && reading->source->admit != NULL) reading->source->admit(reading->source, region.start, region.end);
        if (!is_sane || !source_has(reading->source, region.start, region.end)) {
            heap_fault(reading, arena, "its region from 0x%" PRIx64 " to 0x%" PRIx64 " makes no sense", region.start, region.end);
            break;
        }
        if (is_too_much || heap->region_count - arena->first > REGIONS_MOST) {
            heap_fault(reading, arena,
                       "its regions have more bytes than the %" PRIu64 " that it took from the system, or their list is a circle",
                       arena->system_bytes);
            break;
        }
        GROW(heap->regions, heap->region_count, reading->region_room);
        heap->regions[heap->region_count++] = region;
        arena->count++;
    }
    if (arena->count != 0) qsort(heap->regions + arena->first, arena->count, sizeof *heap->regions, by_start);
    for (size_t i = arena->first + 1; i < arena->first + arena->count; i++) {
        if (heap->regions[i].start >= heap->regions[i - 1].end) continue;
        heap_fault(reading, arena, "its regions at 0x%" PRIx64 " overlap", heap->regions[i].start);
        heap->region_count = arena->first + (arena->count = i - arena->first);
    }
    if (sum != arena->system_bytes) {
        heap_fault(reading, arena, "its regions have %" PRIu64 " bytes, but it took %" PRIu64 " from the system", sum, arena->system_bytes);
    }
}

void walk_regions(struct reading *reading, size_t index) {
    struct heap *heap = reading->heap;
    static struct window window;
    window.reading = reading;
    reading->free_count = 0;
    list_regions(reading, index);
    for (size_t i = heap->arenas[index].first; i < heap->region_count; i++) {
        struct heap_region *region = &heap->regions[i];
        bool known;
        region->page = source_pages(reading->source, region->start, region->end, &known);
        heap->pages_known &= known;
        region->first = heap->chunk_count;
        if (heap->arenas[index].is_abandoned) {
            add_chunk(reading, (uint32_t)i, region->start, region->end - region->start, SEEMALLOC_ABANDONED,
                      SEEMALLOC_FLAG_P | (heap->arenas[index].id != 0 ? SEEMALLOC_FLAG_A : 0));
        } else {
            walk_region(reading, index, (uint32_t)i, &window);
        }
    }
}
