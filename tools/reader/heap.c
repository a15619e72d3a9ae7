/* heap.c: reads a heap: see heap.h. The order: arenas and their chunks, then the lists that say what the chunks are, then everything beside.
 * SPDX-License-Identifier: MIT */
#include "reader/heap.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "reader/heap_parts.h"

const char *heap_state_name(unsigned state) {
    static const char *const names[SEEMALLOC_STATE_COUNT] = SEEMALLOC_STATE_NAMES;
    return state < SEEMALLOC_STATE_COUNT ? names[state] : "unknown";
}

const char *heap_cache_state(const struct heap *heap, const struct heap_cache *cache) {
    const struct seemalloc_descriptor *d = &heap->descriptor;
    return cache->state == d->cache_live ? "live" : cache->state == d->cache_left ? "left" : "orphan";
}

const char *heap_call_name(unsigned call) {
    static const char *const names[SEEMALLOC_CALL_COUNT] = SEEMALLOC_CALL_NAMES;
    return call < SEEMALLOC_CALL_COUNT ? names[call] : "unknown";
}

const char *heap_kind_name(unsigned kind) {
    static const char *const names[] = {"brk", "mmap", "heap", "block"};
    return kind < sizeof names / sizeof *names ? names[kind] : "unknown";
}

bool heap_fault(struct reading *reading, struct heap_arena *arena, const char *format, ...) {
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (reading->heap->is_live) { /* things changed while they were read */
        reading->heap->is_torn = true;
        if (arena != NULL) arena->is_torn = true;
    }
    if (arena == NULL) return fault_note(&reading->heap->fault, "%s", text);
    if (!arena->is_torn) fault_note(&reading->heap->fault, "arena %u: %s", arena->id, text);
    return fault_note(&arena->fault, "%s", text);
}

uint64_t heap_resident(const uint8_t *page, uint64_t base, uint64_t page_size, uint64_t start, uint64_t end) {
    uint64_t sum = 0, first = base / page_size;
    for (uint64_t at = start; at < end;) {
        uint64_t next = (at / page_size + 1) * page_size;
        if (next > end) next = end;
        if (page[at / page_size - first] == PAGE_PRESENT) sum += next - at;
        at = next;
    }
    return sum;
}

/* --- arenas ------------------------------------------------------------------------------------------------------------------------------------ */

/* Its lock is held, or a sweep is half done: the blocks of that can't be told from those in use. */
static bool is_changing(const struct seemalloc_descriptor *d, uint64_t lock, uint64_t loose) {
    return lock != d->lock_abandoned && (lock != 0 || loose != 0);
}

static uint64_t arena_address(struct source *source, const struct seemalloc_descriptor *d, uint32_t id) {
    uint64_t address = 0;
    source->read(source, d->arena_table + (uint64_t)id * 8, &address, sizeof address, NULL);
    return address;
}

static bool arena_total(struct source *source, const struct seemalloc_descriptor *d, uint32_t *count, struct fault *fault) {
    if (!source->read(source, d->arena_count, count, sizeof *count, fault)) return false;
    return *count <= d->arena_most || fault_note(fault, "there can't be %u arenas: the heap is corrupted", *count);
}

bool heap_is_quiet(const struct seemalloc_descriptor *d, struct source *source) {
    uint32_t count;
    if (!arena_total(source, d, &count, NULL)) return true; /* heap_read will say what is wrong */
    for (uint32_t id = 0; id < count; id++) {
        uint64_t lock = 0, loose = 0, arena = arena_address(source, d, id);
        if (source->read(source, arena + d->arena_lock, &lock, sizeof lock, NULL) &&
            source->read(source, arena + d->arena_sweep_loose, &loose, sizeof loose, NULL) && is_changing(d, lock, loose)) {
            return false;
        }
    }
    for (uint64_t i = 0; i < d->depot_ways * d->depot_slots; i++) {
        uint64_t owner = 0, slot = d->depot + i / d->depot_slots * d->depot_way_size + i % d->depot_slots * d->depot_slot_size;
        if (source->read(source, slot + d->depot_owner, &owner, sizeof owner, NULL) && owner != 0) return false;
    }
    uint64_t at = 0, next;
    source->read(source, d->cache_all, &at, sizeof at, NULL);
    for (unsigned left = 1 << 16; at != 0 && left != 0; at = next, left--) {
        uint32_t state = 0, torn = 0;
        if (!source->read(source, at + d->cache_next, &next, sizeof next, NULL) ||
            !source->read(source, at + d->cache_state, &state, sizeof state, NULL) ||
            !source->read(source, at + d->cache_torn, &torn, sizeof torn, NULL)) {
            return true;
        }
        if (state == d->cache_live && torn != 0) return false;
    }
    return true;
}

static bool read_arena(struct reading *reading, uint32_t id, struct fault *fault) {
    const struct seemalloc_descriptor *d = reading->d;
    struct view *view = &reading->arena[id];
    struct heap_arena *arena = &reading->heap->arenas[id];
    uint64_t address = arena_address(reading->source, d, id);
    if (!view_read(view, reading->source, address, d->arena_size, NULL)) {
        return fault_note(fault, "the table of arenas is corrupted: arena %u is at 0x%" PRIx64 ", where nothing can be read", id, address);
    }
    uint64_t lock = view_64(view, d->arena_lock), loose = view_64(view, d->arena_sweep_loose);
    *arena = (struct heap_arena){.address = address,
                                 .id = id,
                                 .top = view_64(view, d->arena_top),
                                 .last_remainder = view_64(view, d->arena_last_remainder),
                                 .purging = view_64(view, d->arena_purging),
                                 .system_bytes = view_64(view, d->arena_system_bytes),
                                 .system_peak = view_64(view, d->arena_system_peak),
                                 .inbox_bytes = view_64(view, d->arena_inbox_bytes),
                                 .threads = view_32(view, d->arena_threads),
                                 .is_spare = (view_32(view, d->arena_is_spare) & 0xff) != 0,
                                 .is_abandoned = lock == d->lock_abandoned,
                                 .loose = loose,
                                 .is_torn = is_changing(d, lock, loose)};
    reading->heap->is_torn |= arena->is_torn;
    return true;
}

/* --- finding chunks ------------------------------------------------------------------------------------------------------------------------------ */

static const struct heap *sorted_heap; /* qsort has no argument of its own in C17 */

static int by_region_start(const void *a, const void *b) {
    const struct heap_region *x = &sorted_heap->regions[*(const uint32_t *)a], *y = &sorted_heap->regions[*(const uint32_t *)b];
    return x->start < y->start ? -1 : x->start > y->start;
}

static void sort_regions(struct reading *reading) {
    struct heap *heap = reading->heap;
    reading->by_address = need_memory(NULL, heap->region_count, sizeof *reading->by_address);
    for (size_t i = 0; i < heap->region_count; i++) reading->by_address[i] = (uint32_t)i;
    sorted_heap = heap;
    qsort(reading->by_address, heap->region_count, sizeof *reading->by_address, by_region_start);
}

struct heap_chunk *heap_chunk_at(struct reading *reading, uint64_t address) {
    struct heap *heap = reading->heap;
    size_t low = 0, high = heap->region_count;
    while (low < high) { /* the first that begins behind it */
        size_t middle = low + (high - low) / 2;
        if (heap->regions[reading->by_address[middle]].start <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == 0) return NULL;
    const struct heap_region *region = &heap->regions[reading->by_address[low - 1]];
    for (low = region->first, high = region->first + region->count; low < high;) {
        size_t middle = low + (high - low) / 2;
        if (heap->chunks[middle].address == address) return &heap->chunks[middle];
        if (heap->chunks[middle].address < address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}

/* --- lists ------------------------------------------------------------------------------------------------------------------------------------- */

void list_begin(struct reading *reading, enum heap_list_kind kind, size_t owner, size_t number) {
    struct heap *heap = reading->heap;
    GROW(heap->lists, heap->list_count, reading->list_room);
    heap->lists[heap->list_count++] =
        (struct heap_list){.kind = kind, .owner = (uint32_t)owner, .number = (uint32_t)number, .first = heap->listed_count};
}

void list_add(struct reading *reading, struct heap_chunk *chunk) {
    struct heap *heap = reading->heap;
    struct heap_list *list = &heap->lists[heap->list_count - 1];
    GROW(heap->listed, heap->listed_count, reading->listed_room);
    heap->listed[heap->listed_count++] = (uint32_t)(chunk - heap->chunks);
    chunk->list = (uint32_t)(heap->list_count - 1);
    list->count++;
    list->bytes += chunk->size;
}

uint32_t list_end(struct reading *reading) {
    struct heap *heap = reading->heap;
    if (heap->lists[heap->list_count - 1].count == 0) {
        heap->list_count--;
        return HEAP_NO_LIST;
    }
    return (uint32_t)(heap->list_count - 1);
}

/* --- for those who ask ---------------------------------------------------------------------------------------------------------------------------- */

const struct heap_chunk *heap_chunk_holding(const struct heap *heap, uint64_t address) {
    for (size_t i = 0; i < heap->region_count; i++) {
        const struct heap_region *region = &heap->regions[i];
        if (address < region->start || address >= region->end || region->count == 0) continue;
        size_t low = region->first, high = region->first + region->count; /* the last that does not begin behind it */
        while (high - low > 1) {
            size_t middle = low + (high - low) / 2;
            if (heap->chunks[middle].address <= address) {
                low = middle;
            } else {
                high = middle;
            }
        }
        const struct heap_chunk *chunk = &heap->chunks[low];
        return address - chunk->address < chunk->size ? chunk : NULL;
    }
    return NULL;
}

const struct heap_block *heap_block_holding(const struct heap *heap, uint64_t address) {
    for (size_t i = 0; i < heap->block_count; i++) {
        if (address >= heap->blocks[i].start && address - heap->blocks[i].start < heap->blocks[i].length) return &heap->blocks[i];
    }
    return NULL;
}

uint64_t heap_system_bytes(const struct heap *heap) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < heap->arena_count; i++) bytes += heap->arenas[i].system_bytes;
    return bytes;
}

uint64_t heap_setting(const struct heap *heap, const char *name) {
    for (size_t i = 0; i < heap->setting_count; i++) {
        if (strcmp(heap->settings[i].name, name) == 0) return heap->settings[i].value;
    }
    return 0;
}

/* --- all ------------------------------------------------------------------------------------------------------------------------------------------ */

void heap_sum_up(struct heap *heap) {
    for (size_t i = 0; i < heap->chunk_count; i++) {
        const struct heap_chunk *chunk = &heap->chunks[i];
        struct heap_arena *arena = &heap->arenas[heap->regions[chunk->region].arena];
        arena->bytes[chunk->state] += chunk->size;
        arena->chunks[chunk->state]++;
    }
}

bool heap_read(struct heap *heap, struct source *source, const struct seemalloc_descriptor *descriptor, const char *library, bool is_live,
               struct fault *fault) {
    uint32_t count;
    *heap = (struct heap){.descriptor = *descriptor, .library = library, .pages_known = true, .is_live = is_live};
    struct reading reading = {.heap = heap, .source = source, .d = &heap->descriptor};
    if (!arena_total(source, reading.d, &count, fault)) return false;
    if (!source->read(source, reading.d->link_secret, &reading.link_secret, sizeof reading.link_secret, fault)) return false;
    heap->arenas = need_memory(NULL, count, sizeof *heap->arenas);
    reading.arena = need_memory(NULL, count, sizeof *reading.arena);
    bool good = true;
    for (uint32_t id = 0; id < count && good; id++) {
        good = read_arena(&reading, id, fault);
        if (!good) break;
        heap->arena_count++;
        walk_regions(&reading, id);
        read_rings(&reading, id);
    }
    if (good) {
        sort_regions(&reading);
        for (size_t i = 0; i < heap->arena_count; i++) read_chains(&reading, i);
        read_depot(&reading);
        read_caches(&reading);
        read_blocks(&reading);
        read_counters(&reading);
        read_ranges(&reading);
        heap_sum_up(heap);
        if (is_live) heap->fault = (struct fault){0};
    }
    for (uint32_t id = 0; id < count; id++) view_free(&reading.arena[id]);
    free(reading.arena);
    free(reading.free);
    free(reading.by_address);
    if (!good) heap_free(heap);
    return good;
}

bool heap_glance(struct heap *heap, struct source *source, const struct seemalloc_descriptor *descriptor, const char *library,
                 struct fault *fault) {
    *heap = (struct heap){.descriptor = *descriptor, .library = library, .is_live = true};
    struct reading reading = {.heap = heap, .source = source, .d = &heap->descriptor};
    read_counters(&reading);
    if (heap->fault.text[0] == '\0') return true;
    fault_note(fault, "%s", heap->fault.text);
    heap_free(heap);
    return false;
}

void heap_free(struct heap *heap) {
    for (size_t i = 0; i < heap->region_count; i++) free(heap->regions[i].page);
    for (size_t i = 0; i < heap->block_count; i++) free(heap->blocks[i].page);
    for (size_t i = 0; i < heap->cache_count; i++) free(heap->caches[i].magazines);
    free(heap->events);
    free(heap->lists);
    free(heap->listed);
    free(heap->arenas);
    free(heap->regions);
    free(heap->chunks);
    free(heap->spans);
    free(heap->caches);
    free(heap->blocks);
    free(heap->ranges);
    free(heap->settings);
    *heap = (struct heap){0};
}
