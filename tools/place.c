/* place.c: see place.h. What free would do follows cache_free() and arena_free() of the library. SPDX-License-Identifier: MIT */
#include "place.h"

#include <string.h>

#include "reader/way.h"

/* --- where -------------------------------------------------------------------------------------------------------------------------------------- */

static bool in_heap(struct place *place, const struct heap *heap) {
    place->chunk = heap_chunk_holding(heap, place->address);
    if (place->chunk != NULL) {
        place->kind = PLACE_CHUNK;
        place->region = &heap->regions[place->chunk->region];
    }
    const struct heap_region *region = heap->regions;
    for (size_t i = 0; place->region == NULL && region != NULL && i < heap->region_count; i++) {
        if (place->address < region[i].start || place->address >= region[i].limit) continue;
        place->kind = PLACE_RESERVED;
        place->region = &region[i];
    }
    if (place->region != NULL) place->arena = &heap->arenas[place->region->arena];
    place->block = heap_block_holding(heap, place->address);
    if (place->block != NULL) place->kind = place->address < place->block->start + place->block->lead ? PLACE_PADDING : PLACE_BLOCK;
    return place->region != NULL || place->block != NULL;
}

static bool in_ranges(struct place *place, const struct heap *heap) {
    for (size_t i = 0; i < heap->range_count; i++) {
        if (place->address < heap->ranges[i].start || place->address >= heap->ranges[i].end) continue;
        place->kind = heap->ranges[i].kind == HEAP_RETAINED ? PLACE_RETAINED : PLACE_BOOKS;
        return true;
    }
    return false;
}

static enum place_kind kind_of(struct place *place, const struct live *live) {
    const struct source_mapping *mapping = &place->mapping;
    for (size_t i = 0; i < live->thread_count; i++) {
        uint64_t pointer = live->threads[i].stack_pointer;
        if (pointer < mapping->start || pointer >= mapping->end) continue;
        place->thread = live->threads[i].tid;
        return PLACE_STACK;
    }
    if (strcmp(mapping->name, "[stack]") == 0) return PLACE_STACK;
    if (strncmp(mapping->name, "[v", 2) == 0) return PLACE_KERNEL;
    return mapping->inode != 0 ? PLACE_FILE : PLACE_OTHER;
}

void place_find(struct place *place, const struct process *process, uint64_t address) {
    const struct source_mapping *mapping = source_mapping_at(process->source, address);
    *place = (struct place){.address = address, .kind = PLACE_NOTHING};
    if (mapping != NULL) place->mapping = *mapping;
    place->has_head = address >= 8 && source_has(process->source, address - 8, address);
    if (in_heap(place, &process->heap) || in_ranges(place, &process->heap) || mapping == NULL) return;
    place->kind = kind_of(place, &process->live);
}

const char *place_kind_name(enum place_kind kind) {
    static const char *const names[] = {"chunk", "mapped block", "padding", "reserved", "retained", "books",
                                        "stack", "file",         "kernel",  "other",    "nothing"};
    return names[kind];
}

uint64_t place_mem(const struct place *place, const struct heap *heap) {
    uint64_t chunk = place->kind == PLACE_CHUNK ? place->chunk->address : place->block->start + place->block->lead;
    return chunk + heap->descriptor.chunk_header;
}

/* --- free --------------------------------------------------------------------------------------------------------------------------------------- */

static void ends(struct freeing *freeing, const char *line) {
    freeing->way = FREE_ABORT;
    freeing->line = line;
}

static bool is_binned(const struct heap_chunk *chunk) {
    return chunk->state >= SEEMALLOC_UNSORTED && chunk->state <= SEEMALLOC_LAST_REMAINDER;
}

/* A block of an arena comes back to it. */
static void into_arena(struct freeing *freeing, const struct place *place, const struct heap *heap) {
    const struct heap_chunk *chunk = place->chunk;
    const struct heap_region *region = place->region;
    size_t index = (size_t)(chunk - heap->chunks);
    freeing->size = chunk->size;
    if (chunk->size <= rules_fast_most(heap_setting(heap, "mxfast"), false)) {
        freeing->way = FREE_FAST;
        return;
    }
    if (index > region->first && is_binned(chunk - 1)) freeing->before = chunk - 1;
    const struct heap_chunk *next = index + 1 < region->first + region->count ? chunk + 1 : NULL;
    if (next != NULL && (is_binned(next) || next->state == SEEMALLOC_TOP)) freeing->next = next;
    freeing->size += (freeing->before != NULL ? freeing->before->size : 0) + (freeing->next != NULL ? freeing->next->size : 0);
    bool top = freeing->next != NULL && freeing->next->state == SEEMALLOC_TOP;
    bool all = region->kind != SEEMALLOC_REGION_BRK && freeing->size + heap->descriptor.chunk_fence == region->end - region->start &&
               heap->chunks[region->first + region->count - 1].state == SEEMALLOC_FENCEPOST;
    freeing->way = top ? FREE_TOP : all ? FREE_REGION : FREE_MERGE;
}

/* False: the cache does not take it. */
static bool into_magazine(struct freeing *freeing, const struct place *place, const struct heap *heap, const struct heap_cache *cache) {
    unsigned size_class = rules_class_below(place->chunk->size);
    if (cache == NULL || size_class >= cache->classes || size_class >= heap->descriptor.class_total) return false;
    struct rules_widen widen = way_widening(heap, cache, size_class);
    const struct heap_magazine *magazine = &cache->magazines[size_class];
    if (rules_stays_closed(&widen)) return false;
    freeing->class_size = rules_class_size(size_class);
    freeing->blocks = magazine->blocks;
    freeing->limit = magazine->limit;
    freeing->may_first_shed = cache->watch != 0;
    unsigned limit = rules_widened(&widen);
    if (magazine->blocks < magazine->limit) {
        freeing->way = FREE_MAGAZINE;
    } else if (magazine->blocks < limit) {
        freeing->way = FREE_WIDEN;
    } else if (limit != 0 && size_class <= heap->descriptor.class_exact) {
        freeing->way = FREE_HALF;
    } else {
        return false;
    }
    return true;
}

static void of_chunk(struct freeing *freeing, const struct place *place, const struct heap *heap, const struct heap_cache *cache) {
    static const char pointer[] = "free(): invalid pointer", twice[] = "free(): double free detected in tcache 2",
                      merged[] = "double free or corruption (!prev)";
    const struct heap_chunk *chunk = place->chunk;
    switch (chunk->state) {
    case SEEMALLOC_CACHED:
    case SEEMALLOC_PARKED:
    case SEEMALLOC_INBOX: ends(freeing, twice); return;
    case SEEMALLOC_FAST: ends(freeing, "double free or corruption (fasttop)"); return;
    case SEEMALLOC_UNSORTED:
    case SEEMALLOC_SMALL:
    case SEEMALLOC_LARGE:
    case SEEMALLOC_LAST_REMAINDER:
    case SEEMALLOC_PURGING: ends(freeing, merged); return;
    case SEEMALLOC_TOP: ends(freeing, "double free or corruption (top)"); return;
    case SEEMALLOC_FENCEPOST:
    case HEAP_UNKNOWN: ends(freeing, pointer); return;
    case SEEMALLOC_ABANDONED: freeing->way = FREE_LOST; return;
    default: break;
    }
    if (!into_magazine(freeing, place, heap, cache)) into_arena(freeing, place, heap);
}

static bool thresholds_slide(const struct heap *heap) {
    static const char *const names[] = {"trim_threshold", "top_pad", "mmap_threshold", "mmap_max"};
    for (size_t i = 0; i < heap->setting_count; i++) {
        for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
            if (strcmp(heap->settings[i].name, names[k]) == 0 && heap->settings[i].source != 0) return false;
        }
    }
    return true;
}

void place_free(struct freeing *freeing, const struct place *place, const struct heap *heap, const struct heap_cache *cache) {
    *freeing = (struct freeing){.way = FREE_CRASH};
    if (!place->has_head) return;
    bool is_ours = place->kind == PLACE_CHUNK || place->kind == PLACE_BLOCK;
    if (!is_ours || place->address != place_mem(place, heap)) {
        ends(freeing, "free(): invalid pointer");
    } else if (place->kind == PLACE_CHUNK) {
        of_chunk(freeing, place, heap, cache);
    } else {
        uint64_t size = place->block->length - place->block->lead;
        freeing->way = FREE_UNMAP;
        freeing->size = place->block->length;
        if (thresholds_slide(heap) && size <= rules_threshold_most() && size > heap_setting(heap, "mmap_threshold"))
            freeing->threshold = size;
    }
}

const char *place_free_name(enum place_free way) {
    static const char *const names[] = {"magazine",
                                        "wider magazine",
                                        "magazine after its older half left",
                                        "fast bin",
                                        "top",
                                        "unsorted bin",
                                        "region goes back",
                                        "unmapped",
                                        "lost",
                                        "aborts",
                                        "crashes"};
    return names[way];
}
