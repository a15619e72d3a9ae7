/* chunk.c: `seemalloc chunk PID ADDRESS` and `seemalloc explain PID ADDRESS`: what an address is, in figures and in words (explain.c).
 * SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "explain.h"
#include "outside.h"
#include "place.h"
#include "tool.h"

const char chunk_help[] =
    "Usage: seemalloc chunk PID|CORE|SNAPSHOT ADDRESS [--json]\n"
    "Show the chunk of a running process that holds an address, which may be any in it: the pointer that malloc returned, one into\n"
    "the block, or one into the chunk's header.\n"
    "\n"
    "  size      of the chunk; `usable` of it is the program's\n"
    "  flags     P: the chunk before is in use; A: not of the main arena; M: a mapping of its own\n"
    "  list      where it lies if it is free, and its place there: 1 is taken first (in large bins: is the largest)\n"
    "  resident  pages that it lies in, wholly or in part, and that are in memory\n"
    "For other addresses it says what they are, with status 1.\n"
    "\n"
    "Options:\n"
    "  -j, --json    the same as JSON, sizes in bytes\n"
    "  -h, --help    show this text\n"
    "\n"
    "The status is 0, 1 if there is no such chunk, the process can't be read or its heap is corrupted, 2 if the command line is\n"
    "wrong.\n";

const char explain_help[] =
    "Usage: seemalloc explain PID|CORE|SNAPSHOT ADDRESS [--json]\n"
    "Say in words what an address of a running process is: which chunk holds it, where that lies if it is free, what stands beside\n"
    "it, and what free would do with the address now: keep it in the thread's cache, merge it, give memory back, or abort, and\n"
    "with which message. Addresses that are not of the heap are explained as well.\n"
    "\n"
    "What free does depends on the thread that calls it. It is told for the thread that uses the chunk's arena, or the main\n"
    "thread, or, where neither has a cache, for one without.\n"
    "\n"
    "Options:\n"
    "  -j, --json    the same as JSON, sizes in bytes\n"
    "  -h, --help    show this text\n"
    "\n"
    "The status is 0, 1 if the process can't be read or its heap is corrupted, 2 if the command line is wrong.\n";

/* --- facts -------------------------------------------------------------------------------------------------------------------------------------- */

struct pages {
    uint64_t all, resident;
};

static struct pages count_pages(const struct process *process, const struct place *place) {
    uint64_t page = process->page_size;
    if (place->kind == PLACE_BLOCK) return (struct pages){place->block->length / page, place->block->resident / page};
    uint64_t first = place->chunk->address / page, last = (place->chunk->address + place->chunk->size - 1) / page;
    struct pages pages = {.all = last - first + 1};
    for (uint64_t i = first; i <= last; i++) pages.resident += place->region->page[i - place->region->start / page] == PAGE_PRESENT;
    return pages;
}

static const char *list_name(const struct heap *heap, const struct heap_list *list) {
    static const char *const names[] = {"bin", "fast bin", "parked batch", "inbox", "magazine", "transit"};
    return list->kind == HEAP_BIN && list->number == heap->descriptor.bin_unsorted ? "unsorted bin" : names[list->kind];
}

size_t chunk_position(const struct heap *heap, const struct heap_chunk *chunk) {
    const struct heap_list *list = &heap->lists[chunk->list];
    size_t i = 0;
    while (i < list->count && heap->listed[list->first + i] != (uint32_t)(chunk - heap->chunks)) i++;
    /* From the end are taken: what lies in magazines, batches, small bins and the unsorted bin. */
    bool from_end = list->kind >= HEAP_PARKED && list->kind != HEAP_INBOX;
    from_end |= list->kind == HEAP_BIN && list->number < heap->descriptor.bin_first_large;
    return from_end ? list->count - i : i + 1;
}

const struct heap_chunk *chunk_before(const struct heap *heap, const struct heap_chunk *chunk) {
    return (size_t)(chunk - heap->chunks) > heap->regions[chunk->region].first ? chunk - 1 : NULL;
}

const struct heap_chunk *chunk_behind(const struct heap *heap, const struct heap_chunk *chunk) {
    const struct heap_region *region = &heap->regions[chunk->region];
    return (size_t)(chunk - heap->chunks) + 1 < region->first + region->count ? chunk + 1 : NULL;
}

/* --- JSON -------------------------------------------------------------------------------------------------------------------------------------- */

static void json_beside(struct json_writer *json, const char *name, const struct heap_chunk *chunk) {
    if (chunk == NULL) {
        writer_null(json, name);
        return;
    }
    writer_open(json, name, '{');
    writer_address(json, "address", chunk->address);
    writer_number(json, "size", chunk->size);
    writer_text(json, "state", heap_state_name(chunk->state));
    writer_close(json, '}');
}

static void json_list(struct json_writer *json, const struct heap *heap, const struct heap_chunk *chunk) {
    const struct heap_list *list = &heap->lists[chunk->list];
    writer_open(json, "list", '{');
    writer_text(json, "kind", list_name(heap, list));
    if (list->kind == HEAP_BIN || list->kind == HEAP_FAST_BIN) writer_number(json, "number", list->number);
    if (list->kind >= HEAP_MAGAZINE) {
        writer_address(json, "cache", heap->caches[list->owner].address);
        if (heap->caches[list->owner].thread != 0) writer_number(json, "thread", (uint64_t)heap->caches[list->owner].thread);
    }
    writer_number(json, "position", chunk_position(heap, chunk));
    writer_number(json, "of", list->count);
    writer_close(json, '}');
}

static void json_chunk(struct json_writer *json, const struct process *process, const struct place *place) {
    const struct heap *heap = &process->heap;
    const struct heap_chunk *chunk = place->chunk;
    struct pages pages = count_pages(process, place);
    bool mapped = place->kind == PLACE_BLOCK;
    uint64_t mem = place_mem(place, heap), header = heap->descriptor.chunk_header,
             size = mapped ? place->block->length - place->block->lead : chunk->size;
    char flags[4];
    snprintf(flags, sizeof flags, "%s%s%s", !mapped && chunk->flags & SEEMALLOC_FLAG_A ? "A" : "", mapped ? "M" : "",
             !mapped && chunk->flags & SEEMALLOC_FLAG_P ? "P" : "");
    writer_open(json, "chunk", '{');
    writer_address(json, "address", mem - header);
    writer_address(json, "mem", mem);
    writer_number(json, "size", size);
    writer_number(json, "usable", explain_usable(place, heap));
    writer_text(json, "flags", flags);
    writer_text(json, "state", heap_state_name(mapped ? SEEMALLOC_MAPPED : chunk->state));
    if (!mapped && chunk->bin >= 0) {
        writer_signed(json, "bin", chunk->bin);
    } else {
        writer_null(json, "bin");
    }
    if (mapped) {
        writer_number(json, "lead", place->block->lead);
    } else {
        writer_number(json, "arena", place->arena->id);
        writer_flag(json, "torn", place->arena->is_torn);
        writer_open(json, "region", '{');
        writer_text(json, "kind", heap_kind_name(place->region->kind));
        writer_address(json, "start", place->region->start);
        writer_address(json, "end", place->region->end);
        writer_close(json, '}');
        json_beside(json, "before", chunk_before(heap, chunk));
        json_beside(json, "behind", chunk_behind(heap, chunk));
        if (chunk->list != HEAP_NO_LIST) json_list(json, heap, chunk);
    }
    writer_number(json, "pages", pages.all);
    if (heap->pages_known) writer_number(json, "pages_resident", pages.resident);
    writer_close(json, '}');
}

static void json_free(struct json_writer *json, const struct place *place, const struct heap *heap) {
    struct freeing freeing;
    const struct heap_cache *cache = explain_cache(place, heap);
    place_free(&freeing, place, heap, cache);
    writer_open(json, "free", '{');
    writer_text(json, "way", place_free_name(freeing.way));
    if (freeing.line != NULL) writer_text(json, "message", freeing.line);
    if (freeing.way <= FREE_HALF) {
        writer_number(json, "class", freeing.class_size);
        writer_number(json, "blocks", freeing.blocks);
        writer_number(json, "limit", freeing.limit);
    }
    if (freeing.way >= FREE_FAST && freeing.way <= FREE_UNMAP) writer_number(json, "size", freeing.size);
    if (freeing.threshold != 0) writer_number(json, "threshold", freeing.threshold);
    if (cache != NULL && cache->thread != 0) writer_number(json, "thread", (uint64_t)cache->thread);
    writer_close(json, '}');
}

static void print_json(const struct process *process, const struct place *place, char *words) {
    struct json_writer json = {.out = stdout};
    outside_json(&json, process);
    writer_address(&json, "address", place->address);
    writer_text(&json, "what", place_kind_name(place->kind));
    if (place->kind <= PLACE_BLOCK) json_chunk(&json, process, place);
    if (place->kind != PLACE_NOTHING) {
        writer_open(&json, "mapping", '{');
        writer_address(&json, "start", place->mapping.start);
        writer_address(&json, "end", place->mapping.end);
        writer_text(&json, "access", place->mapping.access);
        writer_text(&json, "name", place->mapping.name);
        writer_close(&json, '}');
    }
    if (words != NULL) {
        json_free(&json, place, &process->heap);
        writer_open(&json, "words", '[');
        for (char *line = strtok(words, "\n"); line != NULL; line = strtok(NULL, "\n")) writer_text(&json, NULL, line);
        writer_close(&json, ']');
    }
    writer_close(&json, '}');
}

/* --- text --------------------------------------------------------------------------------------------------------------------------------------- */

static void print_beside(const char *name, const struct heap_chunk *chunk) {
    if (chunk == NULL) {
        printf("  %-10snone: the region %s here\n", name, name[2] == 'f' ? "begins" : "ends");
    } else {
        printf("  %-10s0x%" PRIx64 ", %" PRIu64 " bytes, %s\n", name, chunk->address, chunk->size, heap_state_name(chunk->state));
    }
}

static void print_chunk(const struct process *process, const struct place *place) {
    const struct heap *heap = &process->heap;
    const struct heap_chunk *chunk = place->chunk;
    struct pages pages = count_pages(process, place);
    bool mapped = place->kind == PLACE_BLOCK;
    uint64_t mem = place_mem(place, heap), header = heap->descriptor.chunk_header;
    outside_head(stdout, process);
    printf("chunk 0x%" PRIx64 ", mem 0x%" PRIx64 "\n", mem - header, mem);
    printf("  %-10s%" PRIu64 "\n  %-10s%" PRIu64 "\n", "size", mapped ? place->block->length - place->block->lead : chunk->size, "usable",
           explain_usable(place, heap));
    printf("  %-10s%s\n", "state", heap_state_name(mapped ? SEEMALLOC_MAPPED : chunk->state));
    if (mapped) {
        printf("  %-10s0x%" PRIx64 ", %" PRIu64 " bytes, the chunk begins %" PRIu64 " bytes in\n", "mapping", place->block->start,
               place->block->length, place->block->lead);
    } else {
        printf("  %-10s%s%s\n", "flags", chunk->flags & SEEMALLOC_FLAG_A ? "A" : "", chunk->flags & SEEMALLOC_FLAG_P ? "P" : "");
        printf("  %-10s%u%s\n", "arena", place->arena->id, place->arena->is_torn ? ", TORN" : "");
        printf("  %-10s%s, 0x%" PRIx64 " to 0x%" PRIx64 "\n", "region", heap_kind_name(place->region->kind), place->region->start,
               place->region->end);
        if (chunk->list != HEAP_NO_LIST) {
            const struct heap_list *list = &heap->lists[chunk->list];
            printf("  %-10s%s", "list", list_name(heap, list));
            if ((list->kind == HEAP_BIN && list->number != heap->descriptor.bin_unsorted) || list->kind == HEAP_FAST_BIN)
                printf(" %u", list->number);
            printf(", place %zu of %zu\n", chunk_position(heap, chunk), list->count);
        }
        print_beside("before", chunk_before(heap, chunk));
        print_beside("behind", chunk_behind(heap, chunk));
    }
    printf("  %-10s%" PRIu64 " of %" PRIu64 " pages\n", "resident", pages.resident, pages.all);
}

/* --- commands ----------------------------------------------------------------------------------------------------------------------------------- */

static int look(const char *command, const char *help, int argc, char **argv, bool explains) {
    struct outside_arguments arguments;
    static struct process process;
    struct fault fault = {0};
    struct place place;
    int status = outside_arguments(&arguments, command, help, "an address", argc, argv);
    if (status >= 0) return status;
    if (!process_open(&process, arguments.subject, false, &fault)) {
        tool_say("%s", fault.text);
        return 1;
    }
    place_find(&place, &process, arguments.number);
    process_thaw(&process);
    char *words = explain_words(&place, &process);
    status = outside_warn(&process);
    bool is_chunk = place.kind <= PLACE_BLOCK;
    if (arguments.as_json) {
        print_json(&process, &place, explains ? words : NULL);
    } else if (explains) {
        outside_head(stdout, &process);
        fputs(words, stdout);
    } else if (is_chunk) {
        print_chunk(&process, &place);
    }
    if (!explains && !is_chunk) {
        char *end = words;
        while (*end != '\n' && *end != '\0') end++;
        *end = '\0';
        tool_say("no chunk: %s", words);
        status = 1;
    }
    free(words);
    process_close(&process);
    return tool_finish(status);
}

int chunk_main(int argc, char **argv) { return look("chunk", chunk_help, argc, argv, false); }
int explain_main(int argc, char **argv) { return look("explain", explain_help, argc, argv, true); }
