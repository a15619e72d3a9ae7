/* strip.c: see strip.h. SPDX-License-Identifier: MIT */
#include "strip.h"

#define SECOND_SHARE 4 /* the second state shows from this share of a cell on */

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

char strip_letter(unsigned state) { return looks[state].letter; }
uint8_t strip_colour(unsigned state) { return looks[state].colour; }

static unsigned most_of(const struct strip_cell *cell, unsigned but) {
    unsigned best = but == 0 ? 1 : 0;
    for (unsigned state = 0; state < HEAP_STATES; state++) {
        if (state != but && cell->bytes[state] > cell->bytes[best]) best = state;
    }
    return best;
}

unsigned strip_first(const struct strip_cell *cell) { return most_of(cell, HEAP_STATES); }

unsigned strip_second(const struct strip_cell *cell) {
    unsigned first = strip_first(cell), second = most_of(cell, first);
    return cell->bytes[second] * SECOND_SHARE >= cell->all ? second : first;
}

bool strip_is_there(const struct strip_cell *cell) { return 2 * cell->resident >= cell->all; }

char strip_character(const struct strip_cell *cell) {
    char letter = strip_letter(strip_first(cell));
    return (char)(strip_is_there(cell) ? letter : letter - 'A' + 'a');
}

static void put(struct strip *strip) {
    if (strip->cell.all == 0) return;
    strip->put(strip->to, &strip->cell);
    strip->cell = (struct strip_cell){0};
}

/* Adds [start, start + length); the pages are those from `base` on. */
static void add(struct strip *strip, const uint8_t *page, uint64_t base, uint64_t start, uint64_t length, unsigned state) {
    struct strip_cell *cell = &strip->cell;
    while (length != 0) {
        uint64_t room = strip->cell_bytes - cell->all, here = room < length ? room : length;
        cell->bytes[state] += here;
        cell->all += here;
        cell->resident += strip->pages_known ? heap_resident(page, base, strip->page_size, start, start + here) : here;
        if (cell->all == strip->cell_bytes) put(strip);
        start += here;
        length -= here;
    }
}

void strip_region(struct strip *strip, const struct heap *heap, const struct heap_region *region) {
    for (size_t i = region->first; i < region->first + region->count; i++) {
        const struct heap_chunk *chunk = &heap->chunks[i];
        add(strip, region->page, region->start, chunk->address, chunk->size, chunk->state);
    }
}

void strip_block(struct strip *strip, const struct heap_block *block) {
    add(strip, block->page, block->start, block->start, block->length, SEEMALLOC_MAPPED);
}

void strip_end(struct strip *strip) { put(strip); }
