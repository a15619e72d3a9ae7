/* source.c: see source.h. SPDX-License-Identifier: MIT */
#include "reader/source.h"

#include <stdlib.h>
#include <string.h>

#define PAGES_AT_ONCE 256

static bool has_bytes(uint8_t page) { return page >= PAGE_PRESENT; }

bool source_read(struct source *source, uint64_t address, void *to, size_t size, struct fault *fault) {
    uint8_t page[PAGES_AT_ONCE], *out = to;
    if (size > UINT64_MAX - address)
        return fault_note(fault, "an address leads beyond the end of memory: 0x%llx", (unsigned long long)address);
    while (size != 0) {
        uint64_t first = address / source->page_size * source->page_size;
        uint64_t here = PAGES_AT_ONCE * source->page_size - (address - first);
        if (here > size) here = size;
        uint64_t count = (address - first + here + source->page_size - 1) / source->page_size;
        if (source->pages == NULL || !source->pages(source, first, count, page)) memset(page, PAGE_PRESENT, count);
        for (uint64_t i = 0; i < count;) {
            uint64_t run = i + 1;
            while (run < count && has_bytes(page[run]) == has_bytes(page[i])) run++;
            uint64_t from = first + i * source->page_size, end = first + run * source->page_size;
            if (from < address) from = address;
            if (end > address + here) end = address + here;
            if (!has_bytes(page[i])) {
                if (!source_has(source, from, end)) {
                    return fault_note(fault, "an address leads nowhere: nothing is mapped at 0x%llx", (unsigned long long)from);
                }
                memset(out + (from - address), 0, end - from);
            } else if (!source->read(source, from, out + (from - address), end - from, fault)) {
                return false;
            }
            i = run;
        }
        address += here;
        out += here;
        size -= here;
    }
    return true;
}

uint8_t *source_pages(struct source *source, uint64_t start, uint64_t end, bool *known) {
    uint64_t first = start / source->page_size, last = (end + source->page_size - 1) / source->page_size;
    uint8_t *page = need_memory(NULL, last - first, 1);
    *known = source->pages != NULL && source->pages(source, first * source->page_size, last - first, page);
    if (!*known) memset(page, PAGE_PRESENT, last - first);
    return page;
}

/* The first mapping that ends behind `address`. */
static size_t mapping_from(const struct source *source, uint64_t address) {
    size_t low = 0, high = source->mappings.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (source->mappings.entry[middle].end <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

const struct source_mapping *source_mapping_at(const struct source *source, uint64_t address) {
    size_t at = mapping_from(source, address);
    bool inside = at < source->mappings.count && source->mappings.entry[at].start <= address;
    return inside ? &source->mappings.entry[at] : NULL;
}

bool source_has(const struct source *source, uint64_t start, uint64_t end) {
    for (size_t at = mapping_from(source, start); start < end; at++) {
        if (at >= source->mappings.count) return false;
        const struct source_mapping *mapping = &source->mappings.entry[at];
        if (mapping->start > start || mapping->access[0] != 'r') return false;
        start = mapping->end;
    }
    return true;
}

void source_mappings_free(struct source_mappings *mappings) {
    free(mappings->entry);
    free(mappings->names);
    *mappings = (struct source_mappings){0};
}

bool view_read(struct view *view, struct source *source, uint64_t address, uint64_t size, struct fault *fault) {
    *view = (struct view){.address = address, .size = size};
    if (!source_has(source, address, address + size)) {
        return fault_note(fault, "an address leads nowhere: 0x%llx", (unsigned long long)address);
    }
    view->data = need_memory(NULL, size, 1);
    if (source_read(source, address, view->data, size, fault)) return true;
    view_free(view);
    return false;
}

void view_free(struct view *view) {
    free(view->data);
    *view = (struct view){0};
}

static uint64_t view_bytes(const struct view *view, uint64_t offset, void *to, size_t size) {
    if (view->data == NULL || offset > view->size || size > view->size - offset) return 0;
    memcpy(to, view->data + offset, size);
    return 1;
}

uint64_t view_64(const struct view *view, uint64_t offset) {
    uint64_t value;
    return view_bytes(view, offset, &value, sizeof value) ? value : 0;
}

uint32_t view_32(const struct view *view, uint64_t offset) {
    uint32_t value;
    return view_bytes(view, offset, &value, sizeof value) ? value : 0;
}

bool source_text(struct source *source, uint64_t address, char *text, size_t size) {
    const struct source_mapping *mapping = source_mapping_at(source, address);
    text[0] = '\0';
    if (mapping == NULL || mapping->access[0] != 'r') return false;
    size_t length = mapping->end - address < size ? mapping->end - address : size;
    if (!source->read(source, address, text, length, NULL) || memchr(text, '\0', length) == NULL) {
        text[0] = '\0';
        return false;
    }
    return true;
}
