/* source.h: where a heap is read from: addresses of a process, answered by the live process (live.h); later by a core file or a snapshot.
 *
 * A source knows the mappings of the process, reads memory, and may know which pages are in memory. It promises nothing about consistency: whoever made
 * it does (live_freeze). SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_SOURCE_H
#define SEEMALLOC_READER_SOURCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "reader/fault.h"

struct source_mapping {
    uint64_t start, end, offset;
    uint64_t rss;     /* bytes, where that was asked for */
    uint64_t inode;   /* 0: no file */
    char access[5];   /* as in /proc/PID/maps: "rw-p" */
    const char *name; /* "" if it has none; lives as long as the list */
};

struct source_mappings {
    struct source_mapping *entry; /* by address */
    size_t count;
    char *names;
};

/* What is known of a page. */
enum source_page {
    PAGE_ABSENT,  /* nothing stands there: reads as zero, and reading it would only make pages */
    PAGE_ZERO,    /* likewise: the kernel's page of zeros is mapped, which is nobody's memory */
    PAGE_PRESENT, /* in memory */
    PAGE_SWAPPED  /* has contents that are not in memory */
};

struct source {
    /* Fills `to` with `size` bytes from `address`, or returns false after noting why. */
    bool (*read)(struct source *source, uint64_t address, void *to, size_t size, struct fault *fault);
    /* Sets `count` of enum source_page for the pages from `address`, a multiple of page_size. False: not known. NULL: never known. */
    bool (*pages)(struct source *source, uint64_t address, size_t count, uint8_t *page);
    /* From now on [start, end), which the heap has by its books, is mapped, and zero where nothing is known of it. NULL: all mappings are known. */
    void (*admit)(struct source *source, uint64_t start, uint64_t end);
    uint64_t page_size;
    struct source_mappings mappings;
};

/* Reads without making pages: what is absent is zero. */
bool source_read(struct source *source, uint64_t address, void *to, size_t size, struct fault *fault);

/* What is known of the pages that [start, end) lies in, from the page of `start` on; all PAGE_PRESENT where nothing is. Free it. */
uint8_t *source_pages(struct source *source, uint64_t start, uint64_t end, bool *known);

/* The mapping that holds `address`, or NULL; and whether all of [start, end) is mapped and readable. */
const struct source_mapping *source_mapping_at(const struct source *source, uint64_t address);
bool source_has(const struct source *source, uint64_t start, uint64_t end);

void source_mappings_free(struct source_mappings *mappings);

/* A struct of the process, copied whole; its fields by offset. What lies outside reads as 0. */
struct view {
    uint64_t address, size;
    uint8_t *data;
};
bool view_read(struct view *view, struct source *source, uint64_t address, uint64_t size, struct fault *fault);
void view_free(struct view *view);
uint64_t view_64(const struct view *view, uint64_t offset);
uint32_t view_32(const struct view *view, uint64_t offset);

/* Text that ends within `size` bytes; "" and false if it can't be read. */
bool source_text(struct source *source, uint64_t address, char *text, size_t size);

#endif
