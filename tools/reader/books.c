/* books.c: what is beside the arenas: thread caches, mapped blocks, counters, settings, and where our own books and retained mappings lie.
 * SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "reader/heap_parts.h"

#define CACHES_MOST (1 << 20)

/* --- caches -------------------------------------------------------------------------------------------------------------------------------------- */

static void mark_cached(struct reading *reading, struct heap_cache *cache, uint64_t mem) {
    struct heap_chunk *chunk = heap_chunk_at(reading, mem - reading->d->chunk_header);
    cache->blocks++;
    if (reading->heap->is_live) return;
    if (chunk != NULL && chunk->state == SEEMALLOC_IN_USE) {
        chunk->state = SEEMALLOC_CACHED;
        list_add(reading, chunk);
    }
    if (chunk == NULL && !cache->is_torn && !reading->heap->is_torn) {
        heap_fault(reading, NULL, "the thread cache 0x%" PRIx64 " holds 0x%" PRIx64 ", which is no block", cache->address, mem);
    }
}

/* Where the slots begin that `top` points into, and how many blocks lie below it; -1 if it points elsewhere. */
static int64_t count_below(const struct seemalloc_descriptor *d, uint64_t cache, uint64_t size_class, uint64_t top, uint64_t *slots) {
    const uint64_t places[][3] = {{d->cache_narrow, d->narrow_most, d->class_total},
                                  {d->cache_wide, d->wide_most, d->class_total},
                                  {d->cache_deep, d->deep_most, d->class_exact + 1}};
    for (size_t i = 0; i < 3; i++) {
        *slots = places[i][0] + size_class * places[i][1] * 8;
        if (size_class >= places[i][2] || top < cache + *slots || top > cache + *slots + places[i][1] * 8) continue;
        return (top - cache - *slots) % 8 == 0 ? (int64_t)((top - cache - *slots) / 8) : -1;
    }
    return -1;
}

/* How many blocks a magazine may hold; what hits go by says so only while the cache is not watched. */
static uint32_t limit_of(const struct seemalloc_descriptor *d, const struct view *view, uint64_t size_class) {
    uint64_t magazine = d->cache_magazine + size_class * d->magazine_size;
    if (view_32(view, d->cache_watch) != 0) return view_32(view, d->cache_room + 2 * size_class) & 0xffff;
    uint64_t bottom = view_64(view, magazine + d->magazine_bottom), limit = view_64(view, magazine + d->magazine_limit);
    return limit > bottom && limit - bottom < d->cache_size ? (uint32_t)((limit - bottom) / 8) : 0;
}

static void read_magazines(struct reading *reading, struct heap_cache *cache, const struct view *view) {
    const struct seemalloc_descriptor *d = reading->d;
    size_t number = reading->heap->cache_count;
    cache->magazines = need_memory(NULL, d->class_total, sizeof *cache->magazines);
    for (uint64_t i = 0; i < d->class_total; i++) cache->magazines[i] = (struct heap_magazine){.list = HEAP_NO_LIST};
    for (uint64_t size_class = 2; size_class < d->class_total; size_class++) {
        uint64_t slots, top = view_64(view, d->cache_magazine + size_class * d->magazine_size + d->magazine_top);
        int64_t count = count_below(d, view->address, size_class, top, &slots);
        if (count < 0 && !cache->is_torn) {
            heap_fault(reading, NULL, "the thread cache 0x%" PRIx64 ": its magazine %" PRIu64 " is broken", view->address, size_class);
        }
        list_begin(reading, HEAP_MAGAZINE, number, size_class);
        for (int64_t i = 0; i < count; i++) mark_cached(reading, cache, view_64(view, slots + (uint64_t)i * 8));
        cache->magazines[size_class] = (struct heap_magazine){.list = list_end(reading),
                                                              .blocks = count > 0 ? (uint32_t)count : 0,
                                                              .limit = limit_of(d, view, size_class),
                                                              .net = (int64_t)view_64(view, d->cache_net + size_class * 8)};
    }
    uint64_t moving = view_32(view, d->cache_transit_count);
    list_begin(reading, HEAP_TRANSIT, number, 0);
    for (uint64_t i = 0; i < moving && i < d->cache_transit_most; i++) mark_cached(reading, cache, view_64(view, d->cache_transit + i * 8));
    list_end(reading);
}

static uint64_t first_cache(const struct reading *reading) {
    uint64_t at = 0;
    reading->source->read(reading->source, reading->d->cache_all, &at, sizeof at, NULL);
    return at;
}

void read_caches(struct reading *reading) {
    const struct seemalloc_descriptor *d = reading->d;
    struct heap *heap = reading->heap;
    uint64_t mark = 0; /* a cache that came before, set anew whenever their number doubles: a circle comes back to it */
    for (uint64_t at = first_cache(reading); at != 0;) {
        struct view view;
        if (at == mark || heap->cache_count == CACHES_MOST || !view_read(&view, reading->source, at, d->cache_size, NULL)) {
            heap_fault(reading, NULL, "the list of thread caches leads nowhere, to 0x%" PRIx64 ", or is a circle", at);
            return;
        }
        struct heap_cache cache = {.address = at,
                                   .state = view_32(&view, d->cache_state),
                                   .reserved = view_64(&view, d->cache_reserved),
                                   .reserved_small = view_64(&view, d->cache_reserved_small),
                                   .budget = view_64(&view, d->cache_budget),
                                   .idle = view_64(&view, d->cache_idle),
                                   .swing = view_64(&view, d->cache_swing),
                                   .held = (int64_t)view_64(&view, d->cache_held),
                                   .ceiling = (int64_t)view_64(&view, d->cache_ceiling),
                                   .word = view_64(&view, d->cache_word),
                                   .watch = view_32(&view, d->cache_watch),
                                   .classes = view_32(&view, d->cache_classes),
                                   .arena = -1};
        cache.is_torn = cache.state == d->cache_live && view_32(&view, d->cache_torn) != 0;
        heap->is_torn |= cache.is_torn;
        for (size_t i = 0; i < heap->arena_count; i++) {
            if (heap->arenas[i].address == view_64(&view, d->cache_arena)) cache.arena = (int64_t)i;
        }
        if (cache.state != d->cache_free) read_magazines(reading, &cache, &view);
        GROW(heap->caches, heap->cache_count, reading->cache_room);
        heap->caches[heap->cache_count++] = cache;
        if ((heap->cache_count & (heap->cache_count - 1)) == 0) mark = at;
        uint64_t next = view_64(&view, d->cache_next);
        view_free(&view);
        at = next;
    }
}

/* --- mapped blocks ------------------------------------------------------------------------------------------------------------------------------- */

static int by_start(const void *a, const void *b) {
    const struct heap_block *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

static void read_records(struct reading *reading, uint64_t address, uint64_t count) {
    const struct seemalloc_descriptor *d = reading->d;
    struct heap *heap = reading->heap;
    const uint64_t at_once = 65536 / d->mapped_size + 1;
    for (uint64_t done = 0; done < count; done += at_once) {
        uint64_t here = count - done < at_once ? count - done : at_once;
        struct view view;
        if (!view_read(&view, reading->source, address + done * d->mapped_size, here * d->mapped_size, NULL)) {
            heap_fault(reading, NULL, "the table of mapped blocks at 0x%" PRIx64 " can't be read", address);
            return;
        }
        for (uint64_t i = 0; i < here; i++) {
            uint64_t record = i * d->mapped_size, chunk = view_64(&view, record + d->mapped_chunk);
            struct heap_block block = {.lead = view_64(&view, record + d->mapped_lead),
                                       .length = view_64(&view, record + d->mapped_length)};
            if (chunk <= d->mapped_claimed) continue;
            block.start = chunk - block.lead;
            if (block.lead >= block.length || block.start % reading->source->page_size != 0 || block.start + block.length < block.start ||
                !source_has(reading->source, block.start, block.start + block.length)) {
                heap_fault(reading, NULL, "the record of the mapped block 0x%" PRIx64 " (%" PRIu64 " bytes) makes no sense", chunk,
                           block.length);
                continue;
            }
            GROW(heap->blocks, heap->block_count, reading->block_room);
            heap->blocks[heap->block_count++] = block;
        }
        view_free(&view);
    }
}

void read_blocks(struct reading *reading) {
    const struct seemalloc_descriptor *d = reading->d;
    struct heap *heap = reading->heap;
    struct view segments;
    if (!view_read(&segments, reading->source, d->mapped_segments, d->mapped_segment_most * 8, NULL)) {
        heap_fault(reading, NULL, "the table of mapped blocks can't be read");
        return;
    }
    for (uint64_t i = 0; i < d->mapped_segment_most; i++) {
        uint64_t segment = view_64(&segments, i * 8);
        if (segment != 0) read_records(reading, segment, d->mapped_first << (d->mapped_growth * i));
    }
    view_free(&segments);
    read_records(reading, d->mapped_overflow, d->mapped_overflow_most);
    if (heap->block_count != 0) qsort(heap->blocks, heap->block_count, sizeof *heap->blocks, by_start);
    size_t kept = 0;
    for (size_t i = 0; i < heap->block_count; i++) {
        struct heap_block block = heap->blocks[i];
        if (kept != 0 && block.start < heap->blocks[kept - 1].start + heap->blocks[kept - 1].length) {
            heap_fault(reading, NULL, "the mapped blocks at 0x%" PRIx64 " overlap", block.start);
            continue;
        }
        bool known;
        block.page = source_pages(reading->source, block.start, block.start + block.length, &known);
        heap->pages_known &= known;
        block.resident = heap_resident(block.page, block.start, reading->source->page_size, block.start, block.start + block.length);
        heap->blocks[kept++] = block;
    }
    heap->block_count = kept;
}

/* --- counters and settings ------------------------------------------------------------------------------------------------------------------------ */

static uint64_t value_at(struct reading *reading, uint64_t address) {
    uint64_t value = 0;
    return source_has(reading->source, address, address + 8) && reading->source->read(reading->source, address, &value, sizeof value, NULL)
               ? value
               : 0;
}

static void read_settings(struct reading *reading) {
    const struct seemalloc_descriptor *d = reading->d;
    struct heap *heap = reading->heap;
    struct view values, sources, rows;
    view_read(&values, reading->source, d->conf_values, d->conf_total * 8, NULL);
    view_read(&sources, reading->source, d->conf_sources, d->conf_total, NULL);
    view_read(&rows, reading->source, d->conf_rows, d->conf_total * d->conf_row_size, NULL);
    heap->settings = need_memory(NULL, d->conf_total, sizeof *heap->settings);
    for (uint64_t i = 0; i < d->conf_total; i++) {
        struct heap_setting *setting = &heap->settings[heap->setting_count++];
        uint64_t row = i * d->conf_row_size;
        setting->value = view_64(&values, i * 8);
        setting->standard = view_64(&rows, row + d->conf_row_default);
        setting->source = sources.data != NULL ? sources.data[i] : 0;
        source_text(reading->source, view_64(&rows, row + d->conf_row_name), setting->name, sizeof setting->name);
        source_text(reading->source, view_64(&rows, row + d->conf_row_unit), setting->unit, sizeof setting->unit);
    }
    view_free(&values);
    view_free(&sources);
    view_free(&rows);
}

static void read_events(struct reading *reading, const struct view *view) {
    const struct seemalloc_descriptor *d = reading->d;
    struct heap *heap = reading->heap;
    uint64_t count = view_64(view, d->os_event_count), most = d->event_most;
    if (most == 0 || most > d->os_counters_size) return;
    heap->events = need_memory(NULL, most, sizeof *heap->events);
    for (uint64_t i = count > most ? count - most : 0; i < count; i++) {
        uint64_t event = d->os_events + i % most * d->event_size;
        if (view_64(view, event + d->event_sequence) != i + 1) continue; /* it was being written */
        heap->events[heap->event_count++] = (struct heap_event){.time = view_64(view, event + d->event_time),
                                                                .address = view_64(view, event + d->event_address),
                                                                .bytes = view_64(view, event + d->event_bytes),
                                                                .call = view_32(view, event + d->event_call)};
    }
}

void read_counters(struct reading *reading) {
    const struct seemalloc_descriptor *d = reading->d;
    struct heap *heap = reading->heap;
    struct view view;
    if (!view_read(&view, reading->source, d->os_counters, d->os_counters_size, NULL)) {
        heap_fault(reading, NULL, "the counters can't be read");
        return;
    }
    for (uint64_t i = 0; i < SEEMALLOC_CALL_COUNT && i < d->call_total; i++) heap->calls[i] = view_64(&view, d->os_calls + i * 8);
    heap->failures = view_64(&view, d->os_failures);
    heap->metadata_bytes = view_64(&view, d->os_metadata_bytes);
    read_events(reading, &view);
    view_free(&view);
    heap->heap_peak = value_at(reading, d->heap_peak);
    heap->in_use_peak = value_at(reading, d->in_use_peak);
    read_settings(reading);
}

/* --- ranges -------------------------------------------------------------------------------------------------------------------------------------- */

static void add_range(struct reading *reading, uint64_t start, uint64_t size, enum heap_range_kind kind) {
    struct heap *heap = reading->heap;
    if (size == 0 || start + size < start || !source_has(reading->source, start, start + size)) return;
    GROW(heap->ranges, heap->range_count, reading->range_room);
    heap->ranges[heap->range_count++] = (struct heap_range){start, start + size, kind};
}

/* Each that follows `link`, with what it stands for; the link to another lies at `next`. */
static void add_list(struct reading *reading, uint64_t link, uint64_t size, uint64_t next) {
    uint64_t description = value_at(reading, link);
    for (size_t left = 1 << 20; description != 0 && left != 0; left--) {
        add_range(reading, description, size, HEAP_METADATA);
        description = value_at(reading, description + next);
    }
}

static void add_books(struct reading *reading) {
    const struct seemalloc_descriptor *d = reading->d;
    struct heap *heap = reading->heap;
    uint64_t page = reading->source->page_size;
    for (size_t i = 0; i < heap->arena_count; i++) {
        bool mapped = heap->arenas[i].address % page == 0 && heap->arenas[i].address != d->arena_main;
        add_range(reading, heap->arenas[i].address, mapped ? (d->arena_size + page - 1) / page * page : d->arena_size, HEAP_METADATA);
    }
    for (size_t i = 0; i < heap->cache_count; i++) {
        add_range(reading, heap->caches[i].address, (d->cache_size + page - 1) / page * page, HEAP_METADATA);
    }
    for (uint64_t i = 0; i < d->mapped_segment_most; i++) {
        uint64_t segment = value_at(reading, d->mapped_segments + i * 8),
                 size = (d->mapped_first << (d->mapped_growth * i)) * d->mapped_size;
        if (segment != 0) add_range(reading, segment, i != 0 ? (size + page - 1) / page * page : size, HEAP_METADATA);
    }
    add_list(reading, d->region_pools, d->region_pool, d->region_next);
    add_list(reading, d->region_free, d->region_size, d->region_next); /* some are in no pool */
    add_list(reading, d->depot_pages, page, 0);
    for (size_t i = 0; i < heap->region_count; i++) add_range(reading, heap->regions[i].description, d->region_size, HEAP_METADATA);
    uint64_t marker = value_at(reading, d->fork_marker);
    if (marker != 0) add_range(reading, marker, page, HEAP_METADATA);
    add_range(reading, d->os_counters, d->os_counters_size, HEAP_METADATA);
}

static int by_range(const void *a, const void *b) {
    const struct heap_range *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

void read_ranges(struct reading *reading) {
    const struct seemalloc_descriptor *d = reading->d;
    struct heap *heap = reading->heap;
    struct view slots;
    if (view_read(&slots, reading->source, d->retained, d->retained_most * d->retained_size, NULL)) {
        for (uint64_t i = 0; i < d->retained_most; i++) {
            uint64_t start = view_64(&slots, i * d->retained_size + d->retained_start);
            if (start > d->retained_claimed) {
                add_range(reading, start, view_64(&slots, i * d->retained_size + d->retained_length), HEAP_RETAINED);
            }
        }
        view_free(&slots);
    }
    add_books(reading);
    if (heap->range_count != 0) qsort(heap->ranges, heap->range_count, sizeof *heap->ranges, by_range);
    size_t kept = 0;
    for (size_t i = 0; i < heap->range_count; i++) { /* descriptions of one pool name it several times */
        if (kept != 0 && heap->ranges[i].start < heap->ranges[kept - 1].end) {
            if (heap->ranges[i].end > heap->ranges[kept - 1].end) heap->ranges[kept - 1].end = heap->ranges[i].end;
            continue;
        }
        heap->ranges[kept++] = heap->ranges[i];
    }
    heap->range_count = kept;
}
