/* top_print.c: what `seemalloc top` knows, printed once: as text, or as a line of JSON. SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <string.h>

#include "outside.h"
#include "top.h"

#define COLUMNS 80

static void print_strip(const struct top *top, size_t number) {
    static struct top_strip strip;
    top_strip(&strip, top, false, number, COLUMNS);
    puts(strip.label);
    for (size_t i = 0; i < strip.count; i++) putchar(strip_character(&strip.cell[i]));
    putchar('\n');
}

void top_print(const struct top *top, enum top_view view) {
    static char line[TOP_HEAD][TOP_WIDTH];
    struct top_table table;
    unsigned lines = top_head(top, COLUMNS, TOP_HEAD, line);
    for (unsigned i = 0; i < lines; i++) puts(line[i]);
    putchar('\n');
    for (size_t i = 0; i < top_strips(top, false); i++) print_strip(top, i);
    putchar('\n');
    top_table(&table, top, view);
    for (size_t i = 0; i < table.count; i++) puts(table.line[i]);
    top_table_free(&table);
}

static void json_rates(struct json_writer *json, const struct top *top) {
    writer_open(json, "per_second", '{');
    for (unsigned i = 0; i < TOP_CALLS; i++) writer_ratio(json, top_calls_name(i), top_rate(top, top->now.calls[i], top->before.calls[i]));
    writer_ratio(json, "minor_faults", top_rate(top, top->now.minor, top->before.minor));
    writer_ratio(json, "major_faults", top_rate(top, top->now.major, top->before.major));
    writer_close(json, '}');
}

static void json_arenas(struct json_writer *json, const struct heap *heap) {
    writer_open(json, "arenas", '[');
    for (size_t i = 0; i < heap->arena_count; i++) {
        const struct heap_arena *arena = &heap->arenas[i];
        if (arena->count == 0) continue;
        writer_open(json, NULL, '{');
        writer_number(json, "id", arena->id);
        writer_text(json, "kind", outside_arena_kind(arena));
        writer_number(json, "threads", arena->threads);
        writer_number(json, "system_bytes", arena->system_bytes);
        writer_number(json, "in_use", outside_in_use(arena));
        writer_number(json, "cached", arena->bytes[SEEMALLOC_CACHED]);
        writer_number(json, "free", outside_free(arena));
        writer_close(json, '}');
    }
    writer_close(json, ']');
}

void top_json(const struct top *top) {
    const struct heap *picture = &top->picture->heap, *counters = &top->counters->heap;
    struct json_writer json = {.out = stdout, .is_flat = true};
    outside_json(&json, top->picture);
    writer_number(&json, "time_ms", top->counters->real_time);
    writer_number(&json, "age_ns", top->age);
    writer_number(&json, "interval_ns", top_interval(top));
    writer_number(&json, "threads", top->threads);
    writer_number(&json, "rss", top->rss);
    writer_number(&json, "in_use", top->sums.in_use);
    if (picture->is_live) {
        writer_null(&json, "cached");
    } else {
        writer_number(&json, "cached", top->sums.cached);
    }
    writer_number(&json, "free", top->sums.free);
    writer_number(&json, "mapped", top->sums.mapped);
    writer_number(&json, "mapped_blocks", top->sums.blocks);
    writer_number(&json, "heap_peak", counters->heap_peak);
    writer_number(&json, "metadata_mapped", counters->metadata_bytes);
    writer_number(&json, "minor_faults", top->now.minor);
    writer_number(&json, "major_faults", top->now.major);
    writer_open(&json, "calls", '{');
    for (unsigned call = 0; call < SEEMALLOC_CALL_COUNT; call++) writer_number(&json, heap_call_name(call), counters->calls[call]);
    writer_number(&json, "refused", counters->failures);
    writer_close(&json, '}');
    json_rates(&json, top);
    json_arenas(&json, picture);
    writer_close(&json, '}');
}
