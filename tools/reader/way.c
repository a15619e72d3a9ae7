/* way.c: see way.h. SPDX-License-Identifier: MIT */
#include "reader/way.h"

#include <limits.h>
#include <stdlib.h>

#include "reader/rules.h"

const char *way_name(enum way_kind kind) {
    static const char *const names[] = {"magazine",       "parked batch",     "fast bin", "small bin", "unsorted bin",
                                        "last remainder", "best fit",         "top",      "grow",      "new region",
                                        "mmap",           "retained mapping", "none"};
    return names[kind];
}

static void doubt(struct way *way, const char *why) {
    if (way->doubt == NULL) way->doubt = why;
}

static uint64_t round_up(uint64_t bytes, uint64_t to) { return (bytes + to - 1) / to * to; }

/* --- an arena -------------------------------------------------------------------------------------------------------------------------------------- */

static bool ask(struct way *way, const struct heap *heap, size_t arena, uint64_t size, unsigned want, unsigned slot, bool may_merge) {
    static const enum way_kind kinds[] = {[MODEL_WAY_PARKED] = WAY_PARKED,
                                          [MODEL_WAY_FAST] = WAY_FAST,
                                          [MODEL_WAY_SMALL] = WAY_SMALL,
                                          [MODEL_WAY_UNSORTED] = WAY_UNSORTED,
                                          [MODEL_WAY_REMAINDER] = WAY_REMAINDER,
                                          [MODEL_WAY_BEST] = WAY_BEST_FIT,
                                          [MODEL_WAY_TOP] = WAY_TOP};
    struct model model;
    model_open(&model, heap, arena);
    struct model_found found = model_find(&model, size, want, way->parked_batch, slot, may_merge);
    if (model.doubt != NULL) doubt(way, model.doubt);
    way->merged += model.merged;
    model_close(&model);
    if (found.way == MODEL_WAY_NONE) return false;
    way->kind = kinds[found.way];
    way->arena = &heap->arenas[arena];
    way->mem = found.address + heap->descriptor.chunk_header;
    way->chunk_size = found.size;
    way->rest = found.rest;
    way->blocks = found.blocks;
    return true;
}

/* Another arena with much free memory, before this one grows. */
static bool lend(struct way *way, const struct heap *heap, size_t borrower, uint64_t size, unsigned want, unsigned slot) {
    for (size_t i = 1; i < heap->arena_count && i <= rules_lenders(); i++) {
        const struct heap_arena *arena = &heap->arenas[(borrower + i) % heap->arena_count];
        uint64_t free_bytes = arena->inbox_bytes;
        for (unsigned state = SEEMALLOC_UNSORTED; state <= SEEMALLOC_LAST_REMAINDER; state++) free_bytes += arena->bytes[state];
        if (arena->is_spare || arena->is_abandoned || !rules_lends(free_bytes, arena->system_bytes)) continue;
        way->merged = 0;
        way->is_lent = ask(way, heap, (size_t)(arena - heap->arenas), size, want, slot, false);
        if (way->is_lent) return true;
    }
    return false;
}

static const struct heap_region *top_region(const struct heap *heap, const struct heap_arena *arena) {
    for (size_t i = arena->first; i < arena->first + arena->count; i++) {
        if (arena->top >= heap->regions[i].start && arena->top < heap->regions[i].end) return &heap->regions[i];
    }
    return NULL;
}

static void grow(struct way *way, const struct heap *heap, uint64_t page_size, size_t number, uint64_t size) {
    const struct heap_arena *arena = &heap->arenas[number];
    const struct heap_region *region = top_region(heap, arena);
    uint64_t have = region != NULL ? region->end - arena->top : 0, least = heap->descriptor.chunk_min, pad = heap_setting(heap, "top_pad");
    uint64_t fresh = size + least, need = fresh > have ? fresh - have : least;
    way->arena = arena;
    way->kind = WAY_NEW_REGION;
    way->blocks = 1;
    way->bytes = round_up(fresh + pad, page_size);
    if (region == NULL || region->kind == SEEMALLOC_REGION_MMAP) return;
    bool is_break = region->kind == SEEMALLOC_REGION_BRK;
    uint64_t room = region->limit - region->end, step = round_up(need, page_size);
    if (!is_break && step > room) return;
    way->kind = WAY_GROW;
    way->mem = arena->top + heap->descriptor.chunk_header;
    way->chunk_size = have;
    if (is_break) {
        way->bytes = round_up(region->end + need + pad, page_size) - region->end;
        return;
    }
    uint64_t more = (region->end - region->start) / 8;
    if (more > 1 << 20) more = 1 << 20;
    way->bytes = round_up(step + (pad > more ? pad : more), page_size);
    if (way->bytes > room) way->bytes = room;
}

/* --- mappings --------------------------------------------------------------------------------------------------------------------------------------- */

static bool is_mapped_size(const struct heap *heap, uint64_t size) {
    return size >= heap_setting(heap, "mmap_threshold") && heap->block_count < heap_setting(heap, "mmap_max");
}

static void map(struct way *way, const struct heap *heap, uint64_t page_size) {
    way->kind = WAY_MAP;
    way->arena = NULL;
    way->bytes = round_up(way->size + 8, page_size);
    for (size_t i = 0; i < heap->range_count; i++) {
        if (heap->ranges[i].kind != HEAP_RETAINED || way->bytes <= rules_threshold_most()) continue;
        way->kind = WAY_RETAINED;
        doubt(way, "a mapping that was kept goes back after a second, and must not be too small");
    }
}

/* --- a request -------------------------------------------------------------------------------------------------------------------------------------- */

/* Of an arena before it or another one grows; idle blocks of the thread go home first. */
static bool ask_first(struct way *way, const struct heap *heap, const struct heap_cache *cache, size_t arena, unsigned want,
                      unsigned slot) {
    uint64_t idle = 0;
    for (unsigned i = (unsigned)heap->descriptor.class_exact + 1; cache != NULL && i < heap->descriptor.class_total; i++) {
        idle += cache->magazines[i].blocks * rules_class_size(i);
    }
    if (rules_idle_goes_home(idle, heap_system_bytes(heap))) {
        if (ask(way, heap, arena, way->size, want, slot, false)) return true;
        doubt(way, "what lies idle in the thread's cache goes home first");
    }
    return ask(way, heap, arena, way->size, want, slot, true);
}

/* By arena_serve(): the cache has no more part in it. */
static void serve(struct way *way, const struct heap *heap, uint64_t page_size, const struct heap_cache *cache, size_t arena) {
    if (ask_first(way, heap, is_mapped_size(heap, way->size) ? NULL : cache, arena, 1, UINT_MAX)) return;
    if (is_mapped_size(heap, way->size)) {
        map(way, heap, page_size);
        return;
    }
    if (!lend(way, heap, arena, way->size, 1, UINT_MAX)) grow(way, heap, page_size, arena, way->size);
}

/* By arena_serve_batch(): a miss of the cache. */
static void serve_batch(struct way *way, const struct heap *heap, uint64_t page_size, const struct heap_cache *cache) {
    size_t arena = (size_t)cache->arena;
    if (ask_first(way, heap, cache, arena, way->batch, way->size_class)) return;
    if (!lend(way, heap, arena, way->size, way->batch, way->size_class)) grow(way, heap, page_size, arena, way->size);
}

struct rules_widen way_widening(const struct heap *heap, const struct heap_cache *cache, unsigned size_class) {
    const struct heap_magazine *magazine = &cache->magazines[size_class];
    return (struct rules_widen){.size_class = size_class,
                                .limit = magazine->limit,
                                .net = magazine->net,
                                .held = cache->held,
                                .ceiling = cache->ceiling,
                                .reserved = cache->reserved,
                                .reserved_small = cache->reserved_small,
                                .budget = cache->budget,
                                .idle = cache->idle,
                                .swing = cache->swing,
                                .tcache_count = heap_setting(heap, "tcache_count"),
                                .is_drained = cache->watch == heap->descriptor.watch_drain,
                                .is_arena_shared = cache->arena >= 0 && heap->arenas[cache->arena].threads != 1};
}

static void doubt_cache(struct way *way, const struct heap *heap, const struct heap_cache *cache) {
    if (cache->is_torn) doubt(way, "the cache was being changed while it was read");
    for (size_t i = 0; i < heap->cache_count; i++) {
        uint32_t state = heap->caches[i].state;
        bool orphan = state != heap->descriptor.cache_free && state != heap->descriptor.cache_live && state != heap->descriptor.cache_left;
        if (orphan) doubt(way, "a cache whose thread did not come along in a fork is emptied first");
    }
}

/* True: the cache has one, or asks for some. */
static bool by_cache(struct way *way, const struct heap *heap, uint64_t page_size, const struct heap_cache *cache) {
    unsigned size_class = rules_class_above(way->size);
    if (size_class >= heap->descriptor.class_total) return false;
    unsigned from = size_class, last = size_class + (cache->watch == 0 ? rules_larger(size_class, cache->idle, cache->ceiling) : 0);
    while (cache->magazines[from].blocks == 0 && from < last && from + 1 < cache->classes) from++;
    const struct heap_magazine *magazine = &cache->magazines[from];
    way->size_class = magazine->blocks != 0 ? from : size_class;
    way->cached = magazine->blocks;
    if (magazine->blocks != 0) {
        const struct heap_list *list = magazine->list != HEAP_NO_LIST ? &heap->lists[magazine->list] : NULL;
        const struct heap_chunk *chunk = list != NULL ? &heap->chunks[heap->listed[list->first + list->count - 1]] : NULL;
        way->kind = WAY_MAGAZINE;
        way->mem = chunk != NULL ? chunk->address + heap->descriptor.chunk_header : 0;
        way->chunk_size = chunk != NULL ? chunk->size : 0;
        if (cache->watch != 0 && heap_setting(heap, "decay") != UINT64_MAX) {
            doubt(way, "the thread was idle for a while: its cache may first give back what lies in it");
        }
        return true;
    }
    struct rules_widen widen = way_widening(heap, cache, size_class);
    widen.is_drained = false; /* it does not only free any more */
    uint64_t size = rules_class_size(size_class);
    if (size_class >= cache->classes || rules_stays_closed(&widen) || size >= heap_setting(heap, "mmap_threshold")) return false;
    unsigned limit = rules_widened(&widen);
    if (cache->arena >= 0 && heap->arenas[cache->arena].threads > 1) {
        doubt(way, "threads share arenas here, and a thread takes from that of the CPU that it runs on");
    }
    if (limit == 0) return false;
    way->is_batch = true;
    way->size = size;
    way->batch = rules_batch(size_class, limit);
    way->parked_batch = rules_parked_batch(limit);
    serve_batch(way, heap, page_size, cache);
    return true;
}

void way_find(struct way *way, const struct heap *heap, uint64_t page_size, const struct heap_cache *cache, size_t arena, uint64_t bytes) {
    *way = (struct way){.kind = WAY_NONE, .request = bytes};
    if (bytes > INT64_MAX) return;
    way->size = rules_request(bytes);
    if (way->size >= UINT64_C(1) << 47) return;
    if (cache != NULL) doubt_cache(way, heap, cache);
    if (cache != NULL && by_cache(way, heap, page_size, cache)) return;
    serve(way, heap, page_size, cache, cache != NULL ? (size_t)cache->arena : arena);
}
