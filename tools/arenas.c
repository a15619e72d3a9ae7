/* arenas.c: `seemalloc arenas PID`: each arena and where its memory lies. SPDX-License-Identifier: MIT */
#include <inttypes.h>

#include "outside.h"
#include "tool.h"

const char arenas_help[] = "Usage: seemalloc arenas PID|CORE|SNAPSHOT [--json]\n"
                           "Show the arenas of a running process, and the regions that their memory lies in.\n"
                           "\n"
                           "  system     bytes that the arena took from the system: in use + cached + free\n"
                           "  in use     bytes of blocks that the program has; with headers, fenceposts and what can't be told\n"
                           "  cached     free blocks in thread caches\n"
                           "  free       all else: in bins, parked, in the inbox, being purged, and the top; by state below it\n"
                           "  touched    of the top: what was handed out since its pages were fresh\n"
                           "An arena that never had memory is left out.\n"
                           "\n"
                           "Options:\n"
                           "  -j, --json    the same as JSON, sizes in bytes\n"
                           "  -h, --help    show this text\n"
                           "\n"
                           "The status is 0, 1 if the process can't be read or its heap is corrupted, 2 if the command line is wrong.\n";

static const struct heap_region *region_of(const struct heap *heap, const struct heap_arena *arena, uint64_t address) {
    for (size_t i = arena->first; i < arena->first + arena->count; i++) {
        if (address >= heap->regions[i].start && address < heap->regions[i].end) return &heap->regions[i];
    }
    return NULL;
}

/* Bytes of the top that were handed out since they were last fresh. */
static uint64_t touched_top(const struct heap *heap, const struct heap_arena *arena) {
    const struct heap_region *region = arena->top != 0 ? region_of(heap, arena, arena->top) : NULL;
    if (region == NULL) return 0;
    uint64_t clean = region->clean < region->end ? region->clean : region->end;
    return clean > arena->top + heap->descriptor.chunk_header ? clean - arena->top : 0;
}

static uint64_t resident(const struct process *process, const struct heap_region *region) {
    return heap_resident(region->page, region->start, process->page_size, region->start, region->end);
}

/* --- JSON -------------------------------------------------------------------------------------------------------------------------------------- */

static void json_arena(struct json_writer *json, const struct process *process, size_t index) {
    const struct heap *heap = &process->heap;
    const struct heap_arena *arena = &heap->arenas[index];
    writer_open(json, NULL, '{');
    writer_number(json, "id", arena->id);
    writer_text(json, "kind", outside_arena_kind(arena));
    writer_address(json, "address", arena->address);
    writer_flag(json, "torn", arena->is_torn);
    writer_number(json, "caches", arena->threads);
    writer_open(json, "threads", '[');
    for (size_t i = 0; i < heap->cache_count; i++) {
        if (heap->caches[i].arena == (int64_t)index && heap->caches[i].thread != 0)
            writer_number(json, NULL, (uint64_t)heap->caches[i].thread);
    }
    writer_close(json, ']');
    writer_number(json, "system_bytes", arena->system_bytes);
    writer_number(json, "system_peak", arena->system_peak);
    writer_number(json, "in_use", outside_in_use(arena));
    writer_number(json, "cached", arena->bytes[SEEMALLOC_CACHED]);
    writer_number(json, "free", outside_free(arena));
    writer_open(json, "states", '{');
    for (unsigned state = 0; state < HEAP_STATES; state++) {
        if (arena->chunks[state] == 0) continue;
        writer_open(json, heap_state_name(state), '{');
        writer_number(json, "bytes", arena->bytes[state]);
        writer_number(json, "count", arena->chunks[state]);
        writer_close(json, '}');
    }
    writer_close(json, '}');
    writer_address(json, "top", arena->top);
    writer_number(json, "top_touched", touched_top(heap, arena));
    writer_open(json, "regions", '[');
    for (size_t i = arena->first; i < arena->first + arena->count; i++) {
        const struct heap_region *region = &heap->regions[i];
        writer_open(json, NULL, '{');
        writer_text(json, "kind", heap_kind_name(region->kind));
        writer_address(json, "start", region->start);
        writer_address(json, "end", region->end);
        writer_address(json, "limit", region->limit);
        writer_number(json, "chunks", region->count);
        if (heap->pages_known) writer_number(json, "resident", resident(process, region));
        writer_close(json, '}');
    }
    writer_close(json, ']');
    writer_close(json, '}');
}

static void print_json(const struct process *process) {
    const struct heap *heap = &process->heap;
    struct json_writer json = {.out = stdout, .rows = 4};
    outside_json(&json, process);
    writer_open(&json, "arenas", '[');
    for (size_t i = 0; i < heap->arena_count; i++) {
        if (heap->arenas[i].system_peak != 0) json_arena(&json, process, i);
    }
    writer_close(&json, ']');
    writer_close(&json, '}');
}

/* --- text --------------------------------------------------------------------------------------------------------------------------------------- */

static void print_states(const struct heap_arena *arena) {
    const char *comma = "    ";
    for (unsigned state = SEEMALLOC_PARKED; state <= SEEMALLOC_TOP; state++) {
        if (arena->chunks[state] == 0) continue;
        printf("%s%s %" PRIu64, comma, heap_state_name(state), arena->bytes[state]);
        comma = ", ";
    }
    putchar('\n');
}

static void print_arena(const struct process *process, size_t index) {
    const struct heap *heap = &process->heap;
    const struct heap_arena *arena = &heap->arenas[index];
    printf("%-7u%-11s%7u%16" PRIu64 "%16" PRIu64 "%16" PRIu64 "%16" PRIu64 "%s\n", arena->id, outside_arena_kind(arena), arena->threads,
           arena->system_bytes, outside_in_use(arena), arena->bytes[SEEMALLOC_CACHED], outside_free(arena), arena->is_torn ? "  TORN" : "");
    print_states(arena);
    if (arena->top != 0) {
        printf("    top at 0x%" PRIx64 ", %" PRIu64 " of its bytes touched\n", arena->top, touched_top(heap, arena));
    }
    for (size_t i = 0; i < heap->cache_count; i++) {
        if (heap->caches[i].arena == (int64_t)index && heap->caches[i].thread != 0) printf("    thread %d\n", heap->caches[i].thread);
    }
    for (size_t i = arena->first; i < arena->first + arena->count; i++) {
        const struct heap_region *region = &heap->regions[i];
        printf("    %-5s0x%" PRIx64 " to 0x%" PRIx64 ", %" PRIu64 " bytes", heap_kind_name(region->kind), region->start, region->end,
               region->end - region->start);
        if (heap->pages_known) printf(", %" PRIu64 " resident", resident(process, region));
        if (region->limit != region->end) printf(", %" PRIu64 " more reserved", region->limit - region->end);
        putchar('\n');
    }
}

static void print_text(const struct process *process) {
    const struct heap *heap = &process->heap;
    outside_head(stdout, process);
    printf("%-7s%-11s%7s%16s%16s%16s%16s\n", "arena", "kind", "caches", "system", "in use", "cached", "free");
    for (size_t i = 0; i < heap->arena_count; i++) {
        if (heap->arenas[i].system_peak != 0) print_arena(process, i);
    }
}

int arenas_main(int argc, char **argv) { return outside_show("arenas", arenas_help, print_json, print_text, argc, argv); }
