/* map_text.c: a heap as strips of cells. Regions stand below each other, all at one scale; a cell is the bytes that it stands for, not chunks.
 * SPDX-License-Identifier: MIT */
#include <inttypes.h>

#include "map.h"
#include "outside.h"
#include "strip.h"

#define ROWS 40 /* that are about a screen; each region has one at least */
#define INDENT 2
#define LABEL 24

/* Where cells go: lines of the output. */
struct lines {
    FILE *out;
    const struct map_look *look;
    uint64_t column;
};

static void put_reset(FILE *out, bool is_coloured) {
    if (is_coloured) fputs("\033[0m", out);
}

static void put_cell(FILE *out, const struct strip_cell *cell, bool is_coloured) {
    unsigned first = strip_colour(strip_first(cell)), second = strip_colour(strip_second(cell));
    if (!is_coloured) {
        putc(strip_character(cell), out);
    } else if (!strip_is_there(cell)) {
        fprintf(out, "\033[48;5;%u;38;5;16m░", first);
    } else if (second != first) {
        fprintf(out, "\033[48;5;%u;38;5;%um▄", first, second);
    } else {
        fprintf(out, "\033[48;5;%um ", first);
    }
}

static void put(void *to, const struct strip_cell *cell) {
    struct lines *lines = to;
    if (lines->column == lines->look->width - INDENT) {
        put_reset(lines->out, lines->look->is_coloured);
        putc('\n', lines->out);
        lines->column = 0;
    }
    if (lines->column++ == 0) fprintf(lines->out, "%*s", INDENT, "");
    put_cell(lines->out, cell, lines->look->is_coloured);
}

static void end_lines(struct strip *strip) {
    struct lines *lines = strip->to;
    strip_end(strip);
    put_reset(lines->out, lines->look->is_coloured);
    if (lines->column != 0) putc('\n', lines->out);
    lines->column = 0;
}

static const char *size_text(char text[LABEL], uint64_t bytes) {
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    unsigned unit = 0;
    double value = (double)bytes;
    for (; value >= 1024 && unit + 1 < sizeof units / sizeof *units; unit++) value /= 1024;
    snprintf(text, LABEL, unit == 0 || value == (double)(uint64_t)value ? "%.0f %s" : "%.1f %s", value, units[unit]);
    return text;
}

static void put_region(struct strip *strip, const struct heap *heap, const struct heap_region *region) {
    struct lines *lines = strip->to;
    char size[LABEL];
    fprintf(lines->out, "  %s 0x%" PRIx64 ", %s\n", heap_kind_name(region->kind), region->start,
            size_text(size, region->end - region->start));
    strip_region(strip, heap, region);
    end_lines(strip);
}

/* Blocks follow each other in one strip: what lies between them is not ours. */
static void put_blocks(struct strip *strip, const struct heap *heap) {
    struct lines *lines = strip->to;
    uint64_t all = 0;
    char text[LABEL];
    for (size_t i = 0; i < heap->block_count; i++) all += heap->blocks[i].length;
    if (all == 0) return;
    fprintf(lines->out, "mapped blocks: %zu, %s\n", heap->block_count, size_text(text, all));
    for (size_t i = 0; i < heap->block_count; i++) strip_block(strip, &heap->blocks[i]);
    end_lines(strip);
}

static uint64_t choose_scale(const struct heap *heap, unsigned width) {
    uint64_t all = 0, cells = (uint64_t)ROWS * (width - INDENT), size = 64;
    for (size_t i = 0; i < heap->region_count; i++) all += heap->regions[i].end - heap->regions[i].start;
    for (size_t i = 0; i < heap->block_count; i++) all += heap->blocks[i].length;
    while (all / size > cells) size *= 2;
    return size;
}

/* --- legend -------------------------------------------------------------------------------------------------------------------------------------- */

static void put_legend(FILE *out, const struct process *process, const struct map_look *look) {
    const struct heap *heap = &process->heap;
    uint64_t bytes[HEAP_STATES] = {0}, count[HEAP_STATES] = {0}, resident[HEAP_STATES] = {0}, all = 0, all_resident = 0, all_count = 0;
    for (size_t i = 0; i < heap->chunk_count; i++) {
        const struct heap_chunk *chunk = &heap->chunks[i];
        const struct heap_region *region = &heap->regions[chunk->region];
        bytes[chunk->state] += chunk->size;
        count[chunk->state]++;
        resident[chunk->state] +=
            heap_resident(region->page, region->start, process->page_size, chunk->address, chunk->address + chunk->size);
    }
    for (size_t i = 0; i < heap->block_count; i++) {
        bytes[SEEMALLOC_MAPPED] += heap->blocks[i].length;
        count[SEEMALLOC_MAPPED]++;
        resident[SEEMALLOC_MAPPED] += heap->blocks[i].resident;
    }
    fprintf(out, "  %-20s%16s%12s%16s\n", "", "bytes", "chunks", heap->pages_known ? "resident" : "");
    for (unsigned state = 0; state < HEAP_STATES; state++) {
        if (count[state] == 0) continue;
        if (look->is_coloured) {
            fprintf(out, "\033[48;5;%um  \033[0m", strip_colour(state));
        } else {
            fprintf(out, "%c ", strip_letter(state));
        }
        fprintf(out, "%-20s%16" PRIu64 "%12" PRIu64,
                state == SEEMALLOC_IN_USE && heap->is_live ? "in use or cached" : heap_state_name(state), bytes[state], count[state]);
        if (heap->pages_known) fprintf(out, "%16" PRIu64, resident[state]);
        putc('\n', out);
        all += bytes[state];
        all_count += count[state];
        all_resident += resident[state];
    }
    fprintf(out, "  %-20s%16" PRIu64 "%12" PRIu64, "all", all, all_count);
    if (heap->pages_known) fprintf(out, "%16" PRIu64, all_resident);
    putc('\n', out);
}

void map_text(FILE *out, const struct process *process, const struct map_look *look) {
    const struct heap *heap = &process->heap;
    struct map_look used = *look;
    char size[LABEL];
    if (used.cell_bytes == 0) used.cell_bytes = choose_scale(heap, used.width);
    struct lines lines = {.out = out, .look = &used};
    struct strip strip = {
        .cell_bytes = used.cell_bytes, .page_size = process->page_size, .pages_known = heap->pages_known, .put = put, .to = &lines};
    outside_head(out, process);
    fprintf(out, "a cell is %s; %s\n", size_text(size, used.cell_bytes),
            used.is_coloured ? "░ is not in memory" : "a small letter is not in memory");
    for (size_t i = 0; i < heap->arena_count; i++) {
        const struct heap_arena *arena = &heap->arenas[i];
        if (arena->count == 0) continue;
        fprintf(out, "arena %u (%s), %s%s\n", arena->id, outside_arena_kind(arena), size_text(size, arena->system_bytes),
                arena->is_torn ? ", TORN" : "");
        for (size_t k = arena->first; k < arena->first + arena->count; k++) put_region(&strip, heap, &heap->regions[k]);
    }
    put_blocks(&strip, heap);
    put_legend(out, process, &used);
}
