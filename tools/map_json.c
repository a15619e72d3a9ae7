/* map_json.c: every chunk of a heap, for programs (docs/json.md). SPDX-License-Identifier: MIT */
#include "map.h"
#include "outside.h"

/* Lengths of runs of pages, in turn in memory and not, beginning with those in memory. */
static void put_pages(struct json_writer *json, const struct process *process, const struct heap_region *region) {
    uint64_t page = process->page_size, count = (region->end + page - 1) / page - region->start / page, run = 0;
    bool there = true;
    writer_open(json, "pages", '[');
    for (uint64_t i = 0; i < count; i++) {
        if ((region->page[i] == PAGE_PRESENT) != there) {
            writer_number(json, NULL, run);
            there = !there;
            run = 0;
        }
        run++;
    }
    writer_number(json, NULL, run);
    writer_close(json, ']');
}

/* [size, state] or [size, state, bin]: the address follows from those before. */
static void put_chunks(FILE *out, const struct heap *heap, const struct heap_region *region) {
    const char *comma = "";
    for (size_t i = region->first; i < region->first + region->count; i++, comma = ",") {
        const struct heap_chunk *chunk = &heap->chunks[i];
        fprintf(out, "%s\n[%llu,%u", comma, (unsigned long long)chunk->size, (unsigned)chunk->state);
        if (chunk->bin >= 0) fprintf(out, ",%d", chunk->bin);
        putc(']', out);
    }
}

void map_json(FILE *out, const struct process *process) {
    const struct heap *heap = &process->heap;
    struct json_writer json = {.out = out, .rows = 3};
    outside_json(&json, process);
    writer_open(&json, "states", '[');
    for (unsigned state = 0; state < HEAP_STATES; state++) writer_text(&json, NULL, heap_state_name(state));
    writer_close(&json, ']');
    writer_open(&json, "arenas", '[');
    for (size_t i = 0; i < heap->arena_count; i++) {
        const struct heap_arena *arena = &heap->arenas[i];
        writer_open(&json, NULL, '{');
        writer_number(&json, "id", arena->id);
        writer_text(&json, "kind", outside_arena_kind(arena));
        writer_flag(&json, "torn", arena->is_torn);
        writer_number(&json, "threads", arena->threads);
        writer_number(&json, "system_bytes", arena->system_bytes);
        writer_address(&json, "top", arena->top);
        writer_close(&json, '}');
    }
    writer_close(&json, ']');
    writer_open(&json, "blocks", '[');
    for (size_t i = 0; i < heap->block_count; i++) {
        writer_open(&json, NULL, '{');
        writer_address(&json, "start", heap->blocks[i].start);
        writer_number(&json, "length", heap->blocks[i].length);
        writer_number(&json, "lead", heap->blocks[i].lead);
        if (heap->pages_known) writer_number(&json, "resident", heap->blocks[i].resident);
        writer_close(&json, '}');
    }
    writer_close(&json, ']');
    writer_open(&json, "regions", '[');
    for (size_t i = 0; i < heap->region_count; i++) {
        const struct heap_region *region = &heap->regions[i];
        writer_open(&json, NULL, '{');
        writer_number(&json, "arena", heap->arenas[region->arena].id);
        writer_text(&json, "kind", heap_kind_name(region->kind));
        writer_address(&json, "start", region->start);
        writer_address(&json, "end", region->end);
        writer_address(&json, "limit", region->limit);
        if (heap->pages_known) put_pages(&json, process, region);
        writer_open(&json, "chunks", '[');
        put_chunks(out, heap, region);
        writer_close(&json, ']');
        writer_close(&json, '}');
    }
    writer_close(&json, ']');
    writer_close(&json, '}');
}
