/* diff.c: `seemalloc diff A B`: what grew between two moments of a process. SPDX-License-Identifier: MIT */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "outside.h"
#include "reader/ledger.h"
#include "tool.h"

#define SHOWN 20

const char diff_help[] =
    "Usage: seemalloc diff [-n COUNT] [--json] A B\n"
    "Show what changed between A and B, each the number of a process, a core file or a snapshot: bytes and chunks by arena and\n"
    "state, the sizes of blocks in use that grew and shrank most, and regions and mapped blocks that are new or gone. Arenas\n"
    "are compared by number, regions and blocks by address.\n"
    "\n"
    "Options:\n"
    "  -n COUNT      show so many sizes, regions and blocks at most (20)\n"
    "  -j, --json    the same as JSON, sizes in bytes, all of them\n"
    "  -h, --help    show this text\n"
    "\n"
    "The status is 0, 1 if one can't be read or its heap is corrupted, 2 if the command line is wrong.\n";

/* --- what changed ------------------------------------------------------------------------------------------------------------------------------- */

struct size_row {
    uint64_t size;
    int64_t count[2];
};

struct place { /* a region or block that only one of the two has, or of another size */
    uint64_t start, size[2];
    const char *kind;
};

struct diff {
    struct process *side[2];
    struct size_row *sizes; /* by growth in bytes, the largest change first */
    struct place *places;   /* by address */
    size_t size_count, place_count;
};

static int by_size(const void *a, const void *b) {
    const struct size_row *x = a, *y = b;
    return x->size < y->size ? -1 : x->size > y->size;
}

static int64_t growth(const struct size_row *row) { return (row->count[1] - row->count[0]) * (int64_t)row->size; }

static int by_growth(const void *a, const void *b) {
    int64_t x = llabs(growth(a)), y = llabs(growth(b));
    return x != y ? (x > y ? -1 : 1) : by_size(a, b);
}

static size_t add_sizes(struct size_row *rows, size_t n, const struct heap *heap, unsigned side) {
    for (size_t i = 0; i < heap->chunk_count; i++) {
        if (heap->chunks[i].state != SEEMALLOC_IN_USE) continue;
        rows[n] = (struct size_row){.size = heap->chunks[i].size};
        rows[n++].count[side] = 1;
    }
    for (size_t i = 0; i < heap->block_count; i++) {
        rows[n] = (struct size_row){.size = heap->blocks[i].length};
        rows[n++].count[side] = 1;
    }
    return n;
}

static void compare_sizes(struct diff *diff) {
    const struct heap *a = &diff->side[0]->heap, *b = &diff->side[1]->heap;
    struct size_row *rows = need_memory(NULL, a->chunk_count + a->block_count + b->chunk_count + b->block_count, sizeof *rows);
    size_t n = add_sizes(rows, add_sizes(rows, 0, a, 0), b, 1), kept = 0;
    qsort(rows, n, sizeof *rows, by_size);
    for (size_t i = 0; i < n; i++) {
        if (kept != 0 && rows[kept - 1].size == rows[i].size) {
            for (unsigned side = 0; side < 2; side++) rows[kept - 1].count[side] += rows[i].count[side];
        } else {
            rows[kept++] = rows[i];
        }
    }
    for (size_t i = n = 0; i < kept; i++) {
        if (rows[i].count[0] != rows[i].count[1]) rows[n++] = rows[i];
    }
    qsort(rows, n, sizeof *rows, by_growth);
    diff->sizes = rows;
    diff->size_count = n;
}

static size_t add_places(struct place *places, size_t n, const struct heap *heap, unsigned side) {
    for (size_t i = 0; i < heap->region_count; i++) {
        places[n] = (struct place){.start = heap->regions[i].start, .kind = heap_kind_name(heap->regions[i].kind)};
        places[n++].size[side] = heap->regions[i].end - heap->regions[i].start;
    }
    for (size_t i = 0; i < heap->block_count; i++) {
        places[n] = (struct place){.start = heap->blocks[i].start, .kind = heap_kind_name(SEEMALLOC_REGION_BLOCK)};
        places[n++].size[side] = heap->blocks[i].length;
    }
    return n;
}

static int by_place(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    if (x->start != y->start) return x->start < y->start ? -1 : 1;
    return x->size[0] != 0 ? -1 : y->size[0] != 0; /* the older first */
}

static void compare_places(struct diff *diff) {
    const struct heap *a = &diff->side[0]->heap, *b = &diff->side[1]->heap;
    struct place *places = need_memory(NULL, a->region_count + a->block_count + b->region_count + b->block_count, sizeof *places);
    size_t n = add_places(places, add_places(places, 0, a, 0), b, 1), kept = 0;
    qsort(places, n, sizeof *places, by_place);
    for (size_t i = 0; i < n; i++) {
        bool both = i + 1 < n && places[i].start == places[i + 1].start && strcmp(places[i].kind, places[i + 1].kind) == 0 &&
                    places[i].size[1] == 0 && places[i + 1].size[0] == 0;
        struct place place = places[i];
        if (both) place.size[1] = places[++i].size[1];
        if (place.size[0] != place.size[1]) places[kept++] = place;
    }
    diff->places = places;
    diff->place_count = kept;
}

/* --- arenas ------------------------------------------------------------------------------------------------------------------------------------- */

static const struct heap_arena *arena_of(const struct process *process, unsigned id) {
    for (size_t i = 0; i < process->heap.arena_count; i++) {
        if (process->heap.arenas[i].id == id) return &process->heap.arenas[i];
    }
    static const struct heap_arena none;
    return &none;
}

static unsigned arenas_of(const struct diff *diff) {
    unsigned end = 0;
    for (unsigned side = 0; side < 2; side++) {
        const struct heap *heap = &diff->side[side]->heap;
        for (size_t i = 0; i < heap->arena_count; i++) {
            if (heap->arenas[i].id >= end) end = heap->arenas[i].id + 1;
        }
    }
    return end;
}

struct change {
    uint64_t bytes[2], count[2];
};

static struct change state_change(const struct diff *diff, unsigned id, unsigned state) {
    struct change change;
    for (unsigned side = 0; side < 2; side++) {
        change.bytes[side] = arena_of(diff->side[side], id)->bytes[state];
        change.count[side] = arena_of(diff->side[side], id)->chunks[state];
    }
    return change;
}

static struct change block_change(const struct diff *diff) {
    struct change change = {0};
    for (unsigned side = 0; side < 2; side++) {
        const struct heap *heap = &diff->side[side]->heap;
        for (size_t i = 0; i < heap->block_count; i++) change.bytes[side] += heap->blocks[i].length;
        change.count[side] = heap->block_count;
    }
    return change;
}

static bool is_any(struct change change) { return (change.count[0] | change.count[1]) != 0; }

/* --- JSON --------------------------------------------------------------------------------------------------------------------------------------- */

static void json_change(struct json_writer *json, const char *name, struct change change) {
    writer_open(json, name, '{');
    writer_number(json, "bytes_before", change.bytes[0]);
    writer_number(json, "bytes", change.bytes[1]);
    writer_signed(json, "bytes_growth", (int64_t)(change.bytes[1] - change.bytes[0]));
    writer_number(json, "count_before", change.count[0]);
    writer_number(json, "count", change.count[1]);
    writer_signed(json, "count_growth", (int64_t)(change.count[1] - change.count[0]));
    writer_close(json, '}');
}

static void print_json(const struct diff *diff) {
    struct json_writer json = {.out = stdout};
    writer_open(&json, NULL, '{');
    for (unsigned side = 0; side < 2; side++) {
        writer_open(&json, side == 0 ? "before" : "after", '{');
        outside_facts(&json, diff->side[side]);
        writer_close(&json, '}');
    }
    writer_open(&json, "arenas", '[');
    for (unsigned id = 0; id < arenas_of(diff); id++) {
        writer_open(&json, NULL, '{');
        writer_number(&json, "id", id);
        writer_number(&json, "system_bytes_before", arena_of(diff->side[0], id)->system_bytes);
        writer_number(&json, "system_bytes", arena_of(diff->side[1], id)->system_bytes);
        writer_open(&json, "states", '{');
        for (unsigned state = 0; state < HEAP_STATES; state++) {
            struct change change = state_change(diff, id, state);
            if (is_any(change)) json_change(&json, heap_state_name(state), change);
        }
        writer_close(&json, '}');
        writer_close(&json, '}');
    }
    writer_close(&json, ']');
    json_change(&json, "mapped", block_change(diff));
    writer_open(&json, "sizes", '[');
    for (size_t i = 0; i < diff->size_count; i++) {
        writer_open(&json, NULL, '{');
        writer_number(&json, "size", diff->sizes[i].size);
        writer_signed(&json, "count_before", diff->sizes[i].count[0]);
        writer_signed(&json, "count", diff->sizes[i].count[1]);
        writer_signed(&json, "bytes_growth", growth(&diff->sizes[i]));
        writer_close(&json, '}');
    }
    writer_close(&json, ']');
    writer_open(&json, "regions", '[');
    for (size_t i = 0; i < diff->place_count; i++) {
        writer_open(&json, NULL, '{');
        writer_address(&json, "start", diff->places[i].start);
        writer_text(&json, "kind", diff->places[i].kind);
        writer_number(&json, "bytes_before", diff->places[i].size[0]);
        writer_number(&json, "bytes", diff->places[i].size[1]);
        writer_close(&json, '}');
    }
    writer_close(&json, ']');
    writer_close(&json, '}');
}

/* --- text --------------------------------------------------------------------------------------------------------------------------------------- */

static void print_change(const char *arena, const char *state, struct change change) {
    if (!is_any(change)) return;
    printf("%-7s%-16s%14" PRIu64 "%14" PRIu64 "%+15" PRId64 "%11" PRIu64 "%11" PRIu64 "%+11" PRId64 "\n", arena, state, change.bytes[0],
           change.bytes[1], (int64_t)(change.bytes[1] - change.bytes[0]), change.count[0], change.count[1],
           (int64_t)(change.count[1] - change.count[0]));
}

static void print_sizes(const struct diff *diff, size_t most) {
    if (diff->size_count == 0) {
        puts("in use: no size has more or less blocks than before");
        return;
    }
    printf("in use, by size\n%14s%14s%14s%15s\n", "size", "before", "after", "growth, bytes");
    for (size_t i = 0; i < diff->size_count && i < most; i++) {
        const struct size_row *row = &diff->sizes[i];
        printf("%14" PRIu64 "%14" PRId64 "%14" PRId64 "%+15" PRId64 "\n", row->size, row->count[0], row->count[1], growth(row));
    }
    if (diff->size_count > most) printf("%14s\n", "…");
}

static void print_text(const struct diff *diff, size_t most) {
    for (unsigned side = 0; side < 2; side++) outside_head(stdout, diff->side[side]);
    printf("%-7s%-16s%14s%14s%15s%11s%11s%11s\n", "arena", "state", "bytes before", "after", "growth", "chunks", "after", "growth");
    for (unsigned id = 0; id < arenas_of(diff); id++) {
        char name[16];
        snprintf(name, sizeof name, "%u", id);
        for (unsigned state = 0; state < HEAP_STATES; state++) print_change(name, heap_state_name(state), state_change(diff, id, state));
    }
    print_change("", "mapped", block_change(diff));
    print_sizes(diff, most);
    if (diff->place_count == 0) puts("regions and mapped blocks: as before");
    for (size_t i = 0; i < diff->place_count && i < most; i++) {
        const struct place *place = &diff->places[i];
        const char *what = place->size[0] == 0 ? "new" : place->size[1] == 0 ? "gone" : place->size[1] > place->size[0] ? "grew" : "shrank";
        printf("%-7s%-6s0x%-14" PRIx64 "%14" PRIu64 "%14" PRIu64 "\n", what, place->kind, place->start, place->size[0], place->size[1]);
    }
    if (diff->place_count > most) puts("…");
}

int diff_main(int argc, char **argv) {
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool as_json = false;
    uint64_t most = SHOWN;
    for (int option; (option = getopt_long(argc, argv, ":hjn:", options, NULL)) != -1;) {
        switch (option) {
        case 'h': fputs(diff_help, stdout); return tool_finish(0);
        case 'j': as_json = true; break;
        case 'n':
            if (!outside_count(optarg, &most)) return tool_usage("diff", "option '-n' needs a number, got '%s'", optarg);
            break;
        case ':': return tool_usage("diff", "option '%s' needs a value", tool_bad_option(argv));
        default: return tool_usage("diff", "unknown option '%s'", tool_bad_option(argv));
        }
    }
    if (argc > optind + 2) return tool_usage("diff", "it takes two processes, got '%s' too", argv[optind + 2]);
    if (argc < optind + 2)
        return tool_usage("diff", "two are needed: each the number of a process, or the name of a core file or a snapshot");
    static struct process side[2];
    int status = 0;
    for (int i = 0; i < 2; i++) {
        const char *subject = outside_subject("diff", optind + i + 1, argv, optind + i);
        if (subject == NULL || !outside_read(&side[i], subject, false)) {
            if (i == 1) process_close(&side[0]);
            return subject == NULL ? STATUS_USAGE : 1;
        }
        status |= outside_warn(&side[i]);
    }
    struct diff diff = {.side = {&side[0], &side[1]}};
    compare_sizes(&diff);
    compare_places(&diff);
    if (as_json) {
        print_json(&diff);
    } else {
        print_text(&diff, most);
    }
    free(diff.sizes);
    free(diff.places);
    for (int i = 0; i < 2; i++) process_close(&side[i]);
    return tool_finish(status);
}
