/* bins.c: `seemalloc bins PID`: what lies free in the lists of each arena. SPDX-License-Identifier: MIT */
#include <inttypes.h>

#include "bins.h"
#include "outside.h"
#include "reader/rules.h"
#include "tool.h"

const char bins_help[] = "Usage: seemalloc bins PID|CORE|SNAPSHOT [--json]\n"
                         "Show what lies free in the bins of each arena of a running process.\n"
                         "\n"
                         "  parked     batches that thread caches gave back, by the size of their blocks; not merged\n"
                         "  inbox      blocks that threads of other arenas sent home and nobody fetched yet; not merged\n"
                         "  fast       by exact size, last in first out; not merged\n"
                         "  unsorted   bin 1: merged chunks that no request has looked at yet\n"
                         "  small      bins 2 to 63: one size each, first in first out\n"
                         "  large      bins 64 to 126: a range of sizes each, sorted\n"
                         "Sizes are those of chunks: what a program asked for and 8 bytes, in multiples of 16. Empty bins are left out.\n"
                         "\n"
                         "Options:\n"
                         "  -j, --json    the same as JSON, sizes in bytes\n"
                         "  -h, --help    show this text\n"
                         "\n"
                         "The status is 0, 1 if the process can't be read or its heap is corrupted, 2 if the command line is wrong.\n";

struct row {
    const char *kind;
    uint64_t first, last; /* sizes; 0: any */
    bool is_bin;
};

/* False: the list is not one of an arena. */
static bool describe(const struct heap *heap, const struct heap_list *list, struct row *row) {
    const struct seemalloc_descriptor *d = &heap->descriptor;
    *row = (struct row){0};
    switch (list->kind) {
    case HEAP_FAST_BIN:
        row->kind = "fast";
        row->first = row->last = (list->number + 2) * d->chunk_align;
        return true;
    case HEAP_PARKED:
        row->kind = "parked";
        row->first = row->last = rules_class_size(list->number);
        return true;
    case HEAP_INBOX: row->kind = "inbox"; return true;
    case HEAP_BIN:
        row->is_bin = true;
        row->kind = list->number == d->bin_unsorted ? "unsorted" : list->number < d->bin_first_large ? "small" : "large";
        if (list->number != d->bin_unsorted) rules_bin_range(list->number, &row->first, &row->last);
        return true;
    default: return false;
    }
}

static bool is_of(const struct heap_list *list, size_t arena) { return list->kind <= HEAP_INBOX && list->owner == arena; }

/* --- JSON -------------------------------------------------------------------------------------------------------------------------------------- */

static void json_list(struct json_writer *json, const struct heap *heap, const struct heap_list *list) {
    struct row row;
    if (!describe(heap, list, &row)) return;
    writer_open(json, NULL, '{');
    writer_text(json, "kind", row.kind);
    if (list->kind == HEAP_BIN || list->kind == HEAP_FAST_BIN) writer_number(json, "number", list->number);
    if (row.first != 0) writer_number(json, "from", row.first);
    if (row.first != 0 && row.last != UINT64_MAX) writer_number(json, "to", row.last);
    writer_number(json, "chunks", list->count);
    writer_number(json, "bytes", list->bytes);
    writer_close(json, '}');
}

static void print_json(const struct process *process) {
    const struct heap *heap = &process->heap;
    struct json_writer json = {.out = stdout, .rows = 4};
    outside_json(&json, process);
    writer_open(&json, "arenas", '[');
    for (size_t i = 0; i < heap->arena_count; i++) {
        const struct heap_arena *arena = &heap->arenas[i];
        if (arena->system_peak == 0) continue;
        writer_open(&json, NULL, '{');
        writer_number(&json, "id", arena->id);
        writer_flag(&json, "torn", arena->is_torn);
        writer_open(&json, "lists", '[');
        for (size_t k = 0; k < heap->list_count; k++) {
            if (is_of(&heap->lists[k], i)) json_list(&json, heap, &heap->lists[k]);
        }
        writer_close(&json, ']');
        if (arena->bytes[SEEMALLOC_LAST_REMAINDER] != 0) writer_address(&json, "last_remainder", arena->last_remainder);
        if (arena->bytes[SEEMALLOC_PURGING] != 0) writer_address(&json, "purging", arena->purging);
        writer_close(&json, '}');
    }
    writer_close(&json, ']');
    writer_close(&json, '}');
}

/* --- text --------------------------------------------------------------------------------------------------------------------------------------- */

bool bins_words(const struct heap *heap, const struct heap_list *list, struct bins_words *words) {
    struct row row;
    if (!describe(heap, list, &row)) return false;
    char *sizes = words->sizes;
    const size_t room = sizeof words->sizes;
    if (row.is_bin && list->number != heap->descriptor.bin_unsorted) {
        snprintf(words->name, sizeof words->name, "%s %u", row.kind, list->number);
    } else {
        snprintf(words->name, sizeof words->name, "%s", row.kind);
    }
    snprintf(sizes, room, "any");
    if (row.first != 0 && row.first == row.last) snprintf(sizes, room, "%" PRIu64, row.first);
    if (row.first != 0 && row.first != row.last) snprintf(sizes, room, "%" PRIu64 " to %" PRIu64, row.first, row.last);
    if (row.first != 0 && row.last == UINT64_MAX) snprintf(sizes, room, "from %" PRIu64, row.first);
    return true;
}

static void print_list(const struct heap *heap, const struct heap_list *list) {
    struct bins_words words;
    if (!bins_words(heap, list, &words)) return;
    printf("  %-12s%24s%12zu%16" PRIu64 "\n", words.name, words.sizes, list->count, list->bytes);
}

static void print_text(const struct process *process) {
    const struct heap *heap = &process->heap;
    outside_head(stdout, process);
    for (size_t i = 0; i < heap->arena_count; i++) {
        const struct heap_arena *arena = &heap->arenas[i];
        uint64_t chunks = 0, bytes = 0;
        if (arena->system_peak == 0) continue;
        printf("arena %u%s\n  %-12s%24s%12s%16s\n", arena->id, arena->is_torn ? ", TORN" : "", "list", "chunk sizes", "chunks", "bytes");
        for (size_t k = 0; k < heap->list_count; k++) {
            if (!is_of(&heap->lists[k], i)) continue;
            print_list(heap, &heap->lists[k]);
            chunks += heap->lists[k].count;
            bytes += heap->lists[k].bytes;
        }
        if (arena->bytes[SEEMALLOC_PURGING] != 0) {
            printf("  %-12s%24s%12d%16" PRIu64 "\n", "purging", "", 1, arena->bytes[SEEMALLOC_PURGING]);
            chunks++;
            bytes += arena->bytes[SEEMALLOC_PURGING];
        }
        printf("  %-36s%12" PRIu64 "%16" PRIu64 "\n", "all", chunks, bytes);
        if (arena->bytes[SEEMALLOC_LAST_REMAINDER] != 0) {
            printf("  the last remainder is 0x%" PRIx64 ", %" PRIu64 " bytes\n", arena->last_remainder,
                   arena->bytes[SEEMALLOC_LAST_REMAINDER]);
        }
    }
}

int bins_main(int argc, char **argv) { return outside_show("bins", bins_help, print_json, print_text, argc, argv); }
