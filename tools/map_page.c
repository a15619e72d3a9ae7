/* map_page.c: the page of web/heap.html with a heap in it, as docs/heap-data.md has it. The template is part of this executable.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdlib.h>

#include "heap_data.h"
#include "map.h"
#include "outside.h"
#include "reader/rules.h"

__asm__(".pushsection .rodata\n"
        "page_template:\n"
        "    .incbin \"" SEEMALLOC_PAGE "\"\n"
        "page_template_end:\n"
        "    .byte 0\n"
        ".popsection\n");
extern const char page_template[] __attribute__((visibility("hidden"))), page_template_end[] __attribute__((visibility("hidden")));

static const void *pointer(uint64_t address) { return (const void *)(uintptr_t)address; } /* NOLINT(performance-no-int-to-ptr) */

/* --- chunks and pages ---------------------------------------------------------------------------------------------------------------------------- */

static void put_pages(struct heap_data *data, const uint8_t *page, uint64_t count) {
    for (uint64_t i = 0; i < count;) {
        uint64_t run = i + 1;
        while (run < count && (page[run] == PAGE_PRESENT) == (page[i] == PAGE_PRESENT)) run++;
        heap_data_pages(data, run - i, page[i] == PAGE_PRESENT);
        i = run;
    }
}

static void put_region(struct heap_data *data, const struct process *process, const struct heap_region *from) {
    const struct heap *heap = &process->heap;
    uint64_t page = process->page_size;
    struct seemalloc_region region = {.start = pointer(from->start),
                                      .end = pointer(from->end),
                                      .limit = pointer(from->limit),
                                      .arena = heap->arenas[from->arena].id,
                                      .kind = (enum seemalloc_region_kind)from->kind};
    heap_data_region(data, &region);
    if (heap->pages_known) put_pages(data, from->page, (from->end + page - 1) / page - from->start / page);
    for (size_t i = from->first; i < from->first + from->count; i++) {
        const struct heap_chunk *chunk = &heap->chunks[i];
        if (chunk->state == HEAP_UNKNOWN) continue; /* the gap says that it is torn */
        heap_data_chunk(data, chunk->address, chunk->size, (enum seemalloc_state)chunk->state, chunk->bin);
    }
}

static void put_block(struct heap_data *data, const struct process *process, const struct heap_block *block) {
    struct seemalloc_region region = {.start = pointer(block->start), .kind = SEEMALLOC_REGION_BLOCK};
    region.end = region.limit = pointer(block->start + block->length);
    heap_data_region(data, &region);
    if (process->heap.pages_known) put_pages(data, block->page, block->length / process->page_size);
    heap_data_chunk(data, block->start + block->lead, block->length - block->lead, SEEMALLOC_MAPPED, -1);
}

/* --- the head ------------------------------------------------------------------------------------------------------------------------------------- */

static struct heap_data_arena *list_arenas(const struct heap *heap, size_t *count) {
    struct heap_data_arena *arenas = need_memory(NULL, heap->arena_count, sizeof *arenas);
    for (size_t i = 0; i < heap->arena_count; i++) {
        const struct heap_arena *arena = &heap->arenas[i];
        if (arena->system_bytes == 0) continue;
        arenas[(*count)++] = (struct heap_data_arena){.id = arena->id,
                                                      .kind = outside_arena_kind(arena),
                                                      .threads = arena->threads,
                                                      .system_bytes = arena->system_bytes,
                                                      .top = arena->top};
    }
    return arenas;
}

static struct heap_data_magazine *list_magazines(const struct heap *heap, const struct heap_cache *cache, size_t *count) {
    struct heap_data_magazine *magazines = need_memory(NULL, heap->descriptor.class_total, sizeof *magazines);
    for (unsigned i = 0; i < heap->descriptor.class_total; i++) {
        const struct heap_magazine *magazine = &cache->magazines[i];
        if (magazine->blocks == 0 && magazine->limit == 0) continue;
        magazines[(*count)++] = (struct heap_data_magazine){rules_class_size(i), i, magazine->blocks, magazine->limit};
    }
    return magazines;
}

static struct heap_data_cache *list_caches(const struct heap *heap, size_t *count) {
    struct heap_data_cache *caches = need_memory(NULL, heap->cache_count, sizeof *caches);
    for (size_t i = 0; i < heap->cache_count; i++) {
        const struct heap_cache *cache = &heap->caches[i];
        if (cache->state == heap->descriptor.cache_free || cache->arena < 0) continue;
        struct heap_data_cache *to = &caches[(*count)++];
        *to = (struct heap_data_cache){.thread = (uint64_t)cache->thread, .arena = heap->arenas[cache->arena].id};
        to->magazines = list_magazines(heap, cache, &to->magazine_count);
    }
    return caches;
}

static struct heap_data_setting *list_settings(const struct heap *heap, size_t *count) {
    static const char *const sources[] = {"itself", "environment", "GLIBC_TUNABLES", "SEEMALLOC", "mallopt"};
    struct heap_data_setting *settings = need_memory(NULL, heap->setting_count, sizeof *settings);
    for (size_t i = 0; i < heap->setting_count; i++) {
        const struct heap_setting *setting = &heap->settings[i];
        if (setting->value == setting->standard) continue;
        const char *source = setting->source < sizeof sources / sizeof *sources ? sources[setting->source] : "unknown";
        settings[(*count)++] = (struct heap_data_setting){setting->name, setting->unit, source, setting->value, setting->standard};
    }
    return settings;
}

static struct heap_data_event *list_events(const struct heap *heap, size_t *count) {
    struct heap_data_event *events = need_memory(NULL, heap->event_count, sizeof *events);
    for (size_t i = 0; i < heap->event_count; i++) {
        const struct heap_event *event = &heap->events[i];
        events[(*count)++] = (struct heap_data_event){event->time, heap_call_name(event->call), event->address, event->bytes};
    }
    return events;
}

static size_t list_ledger(const struct heap *heap, const struct ledger *ledger, struct heap_data_number *numbers) {
    size_t count = 0;
    if (ledger == NULL || !ledger->pages_known || !ledger->rss_known) return 0;
    for (unsigned state = 0; state < HEAP_STATES; state++) {
        if (ledger->state[state] != 0) numbers[count++] = (struct heap_data_number){heap_state_name(state), ledger->state[state]};
    }
    numbers[count++] = (struct heap_data_number){"slack", ledger->slack};
    numbers[count++] = (struct heap_data_number){"retained", ledger->retained};
    numbers[count++] = (struct heap_data_number){"metadata", ledger->metadata};
    for (unsigned i = 0; i < LEDGER_OTHERS; i++) {
        if (ledger->other[i] != 0) numbers[count++] = (struct heap_data_number){ledger_other_name(i), ledger->other[i]};
    }
    int64_t residual = ledger_residual(ledger); /* what the kernel counts and nobody explains; rarely the other way round */
    if (residual > 0) numbers[count++] = (struct heap_data_number){"residual", (uint64_t)residual};
    (void)heap;
    return count;
}

static size_t list_counters(const struct heap *heap, struct heap_data_number *numbers) {
    uint64_t mapped = 0, retained = 0, threads = 0;
    for (size_t i = 0; i < heap->block_count; i++) mapped += heap->blocks[i].length;
    for (size_t i = 0; i < heap->range_count; i++) {
        if (heap->ranges[i].kind == HEAP_RETAINED) retained += heap->ranges[i].end - heap->ranges[i].start;
    }
    for (size_t i = 0; i < heap->cache_count; i++) threads += heap->caches[i].state == heap->descriptor.cache_live;
    const struct heap_data_number all[] = {{"heap_bytes", heap_system_bytes(heap)},
                                           {"heap_peak", heap->heap_peak},
                                           {"mapped_bytes", mapped},
                                           {"retained_bytes", retained},
                                           {"metadata_bytes", heap->metadata_bytes},
                                           {"in_use_peak", heap->in_use_peak},
                                           {"threads", threads},
                                           {"mmap_threshold", heap_setting(heap, "mmap_threshold")},
                                           {"trim_threshold", heap_setting(heap, "trim_threshold")},
                                           {"failures", heap->failures}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) numbers[i] = all[i];
    return sizeof all / sizeof *all;
}

/* The one moment that was seen. */
static struct heap_data_sample sample_now(const struct process *process, const struct ledger *ledger) {
    const struct heap *heap = &process->heap;
    struct heap_data_sample sample = {.time = process->clock, .resident = ledger->rss, .minor_faults = ledger->minor_faults};
    for (size_t i = 0; i < heap->arena_count; i++) {
        sample.in_use += heap->arenas[i].bytes[SEEMALLOC_IN_USE];
        sample.cached += heap->arenas[i].bytes[SEEMALLOC_CACHED];
        sample.free += outside_free(&heap->arenas[i]);
    }
    for (size_t i = 0; i < heap->block_count; i++) sample.in_use += heap->blocks[i].length;
    return sample;
}

static bool close_with_head(struct heap_data *data, const struct process *process, const struct ledger *ledger) {
    const struct heap *heap = &process->heap;
    const char *states[SEEMALLOC_STATE_COUNT];
    struct heap_data_number calls[SEEMALLOC_CALL_COUNT], counters[16], numbers[HEAP_STATES + LEDGER_OTHERS + 4];
    struct heap_data_sample sample;
    char version[40];
    for (unsigned i = 0; i < SEEMALLOC_STATE_COUNT; i++) states[i] = heap_state_name(i);
    for (unsigned i = 0; i < SEEMALLOC_CALL_COUNT; i++) calls[i] = (struct heap_data_number){heap_call_name(i), heap->calls[i]};
    outside_version(version, sizeof version, heap);
    struct heap_data_head head = {.process = process->live.command,
                                  .version = version,
                                  .read = outside_how(process),
                                  .pid = (uint64_t)process->live.pid,
                                  .real_time = process->real_time,
                                  .clock = process->clock,
                                  .torn = heap->is_torn,
                                  .state_names = states,
                                  .calls = calls,
                                  .call_count = SEEMALLOC_CALL_COUNT,
                                  .counters = counters,
                                  .counter_count = list_counters(heap, counters),
                                  .ledger = numbers,
                                  .ledger_count = list_ledger(heap, ledger, numbers)};
    if (ledger != NULL && ledger->rss_known) {
        sample = sample_now(process, ledger);
        head.samples = &sample;
        head.sample_count = 1;
    }
    struct heap_data_arena *arenas = list_arenas(heap, &head.arena_count);
    struct heap_data_cache *caches = list_caches(heap, &head.cache_count);
    struct heap_data_setting *settings = list_settings(heap, &head.setting_count);
    struct heap_data_event *events = list_events(heap, &head.event_count);
    head.arenas = arenas;
    head.caches = caches;
    head.settings = settings;
    head.events = events;
    bool good = heap_data_close(data, &head);
    int error = errno;
    for (size_t i = 0; i < head.cache_count; i++) free((void *)(uintptr_t)caches[i].magazines);
    free(arenas);
    free(caches);
    free(settings);
    free(events);
    errno = error;
    return good;
}

bool map_page(FILE *out, const struct process *process, const struct ledger *ledger) {
    struct heap_data *data = heap_data_open(out, page_template, (size_t)(page_template_end - page_template), process->page_size);
    if (data == NULL) return false;
    for (size_t i = 0; i < process->heap.region_count; i++) put_region(data, process, &process->heap.regions[i]);
    for (size_t i = 0; i < process->heap.block_count; i++) put_block(data, process, &process->heap.blocks[i]);
    return close_with_head(data, process, ledger);
}
