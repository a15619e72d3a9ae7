/* map_text.c: a heap as strips of cells. Regions stand below each other, all at one scale; a cell is the bytes that it stands for, not chunks.
 * SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "map.h"
#include "outside.h"

#define ROWS 40 /* that are about a screen; each region has one at least */
#define INDENT 2
#define SECOND_SHARE 4 /* the second state shows from this share of a cell on */
#define LABEL 24

/* Colours of the 256 that terminals know, told apart also by those who see red and green alike. */
static const struct {
    char letter;
    uint8_t colour;
} looks[HEAP_STATES] = {
    [SEEMALLOC_IN_USE] = {'U', 25},     [SEEMALLOC_CACHED] = {'C', 220}, [SEEMALLOC_PARKED] = {'P', 214},
    [SEEMALLOC_INBOX] = {'I', 208},     [SEEMALLOC_FAST] = {'F', 222},   [SEEMALLOC_UNSORTED] = {'N', 152},
    [SEEMALLOC_SMALL] = {'S', 116},     [SEEMALLOC_LARGE] = {'L', 153},  [SEEMALLOC_LAST_REMAINDER] = {'R', 159},
    [SEEMALLOC_PURGING] = {'G', 183},   [SEEMALLOC_TOP] = {'T', 255},    [SEEMALLOC_FENCEPOST] = {'X', 240},
    [SEEMALLOC_ABANDONED] = {'A', 133}, [SEEMALLOC_MAPPED] = {'M', 31},  [HEAP_UNKNOWN] = {'Q', 196},
};

struct cell {
    uint64_t bytes[HEAP_STATES], all, resident;
};

static unsigned most_of(const struct cell *cell, unsigned but) {
    unsigned best = but == 0 ? 1 : 0;
    for (unsigned state = 0; state < HEAP_STATES; state++) {
        if (state != but && cell->bytes[state] > cell->bytes[best]) best = state;
    }
    return best;
}

static void put_cell(FILE *out, const struct cell *cell, bool is_coloured) {
    unsigned first = most_of(cell, HEAP_STATES), second = most_of(cell, first);
    bool is_there = 2 * cell->resident >= cell->all;
    if (!is_coloured) {
        char letter = looks[first].letter;
        putc(is_there ? letter : letter - 'A' + 'a', out);
    } else if (!is_there) {
        fprintf(out, "\033[48;5;%u;38;5;16m░", looks[first].colour);
    } else if (cell->bytes[second] * SECOND_SHARE >= cell->all) {
        fprintf(out, "\033[48;5;%u;38;5;%um▄", looks[first].colour, looks[second].colour);
    } else {
        fprintf(out, "\033[48;5;%um ", looks[first].colour);
    }
}

static void put_reset(FILE *out, bool is_coloured) {
    if (is_coloured) fputs("\033[0m", out);
}

/* --- strips -------------------------------------------------------------------------------------------------------------------------------------- */

struct strip {
    FILE *out;
    const struct map_look *look;
    uint64_t page_size, column;
};

static void add(struct strip *strip, struct cell *cell) {
    if (cell->all == 0) return;
    if (strip->column == strip->look->width - INDENT) {
        put_reset(strip->out, strip->look->is_coloured);
        putc('\n', strip->out);
        strip->column = 0;
    }
    if (strip->column++ == 0) fprintf(strip->out, "%*s", INDENT, "");
    put_cell(strip->out, cell, strip->look->is_coloured);
    *cell = (struct cell){0};
}

/* Adds [start, end) to cells that begin at multiples of their size from `base` on. */
static void add_bytes(struct strip *strip, struct cell *cell, uint64_t base, uint64_t start, uint64_t end, unsigned state,
                      const uint8_t *page) {
    uint64_t size = strip->look->cell_bytes;
    while (start < end) {
        uint64_t to = base + ((start - base) / size + 1) * size;
        if (to > end) to = end;
        cell->bytes[state] += to - start;
        cell->all += to - start;
        cell->resident += page != NULL ? heap_resident(page, base, strip->page_size, start, to) : to - start;
        if ((to - base) % size == 0) add(strip, cell);
        start = to;
    }
}

static void end_strip(struct strip *strip, struct cell *cell) {
    add(strip, cell);
    put_reset(strip->out, strip->look->is_coloured);
    if (strip->column != 0) putc('\n', strip->out);
    strip->column = 0;
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
    struct cell cell = {0};
    char size[LABEL];
    fprintf(strip->out, "  %s 0x%" PRIx64 ", %s\n", heap_kind_name(region->kind), region->start,
            size_text(size, region->end - region->start));
    for (size_t i = region->first; i < region->first + region->count; i++) {
        const struct heap_chunk *chunk = &heap->chunks[i];
        add_bytes(strip, &cell, region->start, chunk->address, chunk->address + chunk->size, chunk->state,
                  heap->pages_known ? region->page : NULL);
    }
    end_strip(strip, &cell);
}

/* Blocks follow each other in one strip: what lies between them is not ours. */
static void put_blocks(struct strip *strip, const struct heap *heap) {
    struct cell cell = {0};
    uint64_t all = 0, size = strip->look->cell_bytes;
    char text[LABEL];
    for (size_t i = 0; i < heap->block_count; i++) all += heap->blocks[i].length;
    if (all == 0) return;
    fprintf(strip->out, "mapped blocks: %zu, %s\n", heap->block_count, size_text(text, all));
    for (size_t i = 0; i < heap->block_count; i++) {
        const struct heap_block *block = &heap->blocks[i];
        for (uint64_t at = 0; at < block->length;) {
            uint64_t here = size - cell.all < block->length - at ? size - cell.all : block->length - at, start = block->start + at;
            cell.bytes[SEEMALLOC_MAPPED] += here;
            cell.all += here;
            cell.resident += heap->pages_known ? heap_resident(block->page, block->start, strip->page_size, start, start + here) : here;
            at += here;
            if (cell.all == size) add(strip, &cell);
        }
    }
    end_strip(strip, &cell);
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
            fprintf(out, "\033[48;5;%um  \033[0m", looks[state].colour);
        } else {
            fprintf(out, "%c ", looks[state].letter);
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
    struct strip strip = {.out = out, .look = &used, .page_size = process->page_size};
    char size[LABEL];
    if (used.cell_bytes == 0) used.cell_bytes = choose_scale(heap, used.width);
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
