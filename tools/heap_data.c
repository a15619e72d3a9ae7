/* heap_data.c: see heap_data.h, and docs/heap-data.md for what is written.
 * SPDX-License-Identifier: MIT */
#include "heap_data.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "json.h"
#include "page.h"

#define PLACE "<!--seemalloc heap data-->"
#define TORN 255u
#define PADDING 254u /* before the chunk of an aligned block in its mapping */

enum {
    BLOCK_CHUNKS = 65536,
    VARINT_MAX = 10,
    RUNS_MAX = 1 << 18, /* bytes of a block of page runs */
    OUT_MAX = 3 << 14,  /* compressed bytes that are encoded at a time: a multiple of 3 */
    COLUMN_SIZES = 1,
    COLUMN_STATES = 2,
    COLUMN_BINS = 3
};

struct column {
    uint8_t *bytes;
    size_t used;
};

struct written_region {
    struct seemalloc_region region;
    uint64_t chunks;
};

struct heap_data {
    FILE *out;
    const char *rest; /* of the template, after the place of the data */
    size_t rest_length;
    int error; /* errno of the first failure */

    struct written_region *regions;
    size_t region_count, region_room;
    uint64_t at; /* end of the last chunk of the current region */
    uint64_t page_size;
    uint64_t pages_left; /* pages of it that nothing was said of yet */
    bool run_resident;   /* the run of pages that is not written yet, */
    uint64_t run_pages;  /* and its length; the first may be empty */

    uint32_t block_chunks;
    struct column sizes, states, bins, runs;
    z_stream deflate;
    uint8_t compressed[OUT_MAX];
    char text[OUT_MAX / 3 * 4];
};

static void fail(struct heap_data *data, int error) {
    if (data->error == 0) data->error = error;
}

static void put(struct heap_data *data, const void *bytes, size_t length) {
    if (data->error == 0 && fwrite(bytes, 1, length, data->out) != length) fail(data, errno);
}

static void put_text(struct heap_data *data, const char *text) { put(data, text, strlen(text)); }

/* --- columns ------------------------------------------------------------------------------------------------------------------------------- */

static void add_byte(struct column *column, unsigned value) { column->bytes[column->used++] = (uint8_t)value; }

/* Seven bits a byte, the lowest first; the top bit says that more follow. */
static void add_varint(struct column *column, uint64_t value) {
    for (; value >= 0x80; value >>= 7) add_byte(column, (unsigned)(value & 0x7f) | 0x80);
    add_byte(column, (unsigned)value);
}

static void put_base64(struct heap_data *data, size_t length) {
    put(data, data->text, (size_t)(page_base64(data->text, data->compressed, length) - data->text));
}

/* Compresses `length` bytes and writes what is full; all with `flush` Z_FINISH. */
static void put_deflated(struct heap_data *data, const void *bytes, size_t length, int flush) {
    z_stream *stream = &data->deflate;
    stream->next_in = (Bytef *)(uintptr_t)bytes;
    stream->avail_in = (uInt)length;
    for (;;) {
        int status = deflate(stream, flush);
        if (status == Z_STREAM_ERROR) {
            fail(data, EINVAL);
            return;
        }
        if (stream->avail_out != 0 && (flush != Z_FINISH || status != Z_STREAM_END)) return;
        put_base64(data, OUT_MAX - stream->avail_out);
        stream->next_out = data->compressed;
        stream->avail_out = OUT_MAX;
        if (status == Z_STREAM_END) return;
    }
}

static void begin_block(struct heap_data *data, const char *kind) {
    put_text(data, "<script type=\"application/octet-stream\" class=\"");
    put_text(data, kind);
    put_text(data, "\">");
    deflateReset(&data->deflate);
    data->deflate.next_out = data->compressed;
    data->deflate.avail_out = OUT_MAX;
}

static void end_block(struct heap_data *data) {
    put_deflated(data, "", 0, Z_FINISH);
    put_text(data, "</script>\n");
}

static void put_word(struct heap_data *data, uint32_t word) {
    const uint8_t bytes[4] = {(uint8_t)word, (uint8_t)(word >> 8), (uint8_t)(word >> 16), (uint8_t)(word >> 24)};
    put_deflated(data, bytes, sizeof bytes, Z_NO_FLUSH);
}

static void put_column(struct heap_data *data, uint32_t name, struct column *column) {
    put_word(data, name);
    put_word(data, (uint32_t)column->used);
    put_deflated(data, column->bytes, column->used, Z_NO_FLUSH);
    column->used = 0;
}

static void flush_chunks(struct heap_data *data) {
    if (data->block_chunks == 0) return;
    begin_block(data, "heap-chunks");
    put_word(data, data->block_chunks);
    put_column(data, COLUMN_SIZES, &data->sizes);
    put_column(data, COLUMN_STATES, &data->states);
    put_column(data, COLUMN_BINS, &data->bins);
    end_block(data);
    data->block_chunks = 0;
}

static void flush_runs(struct heap_data *data) {
    if (data->runs.used == 0) return;
    begin_block(data, "heap-pages");
    put_deflated(data, data->runs.bytes, data->runs.used, Z_NO_FLUSH);
    end_block(data);
    data->runs.used = 0;
}

/* --- regions, chunks, pages ------------------------------------------------------------------------------------------------------------------ */

static struct written_region *current(struct heap_data *data) { return &data->regions[data->region_count - 1]; }

static void add_chunk(struct heap_data *data, uint64_t size, unsigned state, int bin) {
    add_varint(&data->sizes, size / 16);
    add_byte(&data->states, state);
    if (state >= SEEMALLOC_FAST && state <= SEEMALLOC_LAST_REMAINDER) add_byte(&data->bins, (unsigned)bin);
    current(data)->chunks++;
    data->at += size;
    if (++data->block_chunks == BLOCK_CHUNKS) flush_chunks(data);
}

static void add_run(struct heap_data *data, uint64_t pages) {
    add_varint(&data->runs, pages);
    if (data->runs.used > RUNS_MAX - VARINT_MAX) flush_runs(data);
}

static uint64_t pages_of(const struct heap_data *data, const struct seemalloc_region *region) {
    uint64_t start = (uint64_t)(uintptr_t)region->start / data->page_size;
    uint64_t end = ((uint64_t)(uintptr_t)region->end + data->page_size - 1) / data->page_size;
    return end - start;
}

static void end_region(struct heap_data *data) {
    if (data->region_count == 0) return;
    uint64_t end = (uint64_t)(uintptr_t)current(data)->region.end & ~UINT64_C(15);
    if (data->at < end) add_chunk(data, end - data->at, TORN, -1);
    heap_data_pages(data, data->pages_left, true);
    if (data->run_pages != 0) add_run(data, data->run_pages);
}

void heap_data_region(struct heap_data *data, const struct seemalloc_region *region) {
    if (data->error != 0) return;
    if (data->region_count == data->region_room && !heap_data_reserve(data, 4 * data->region_room + 16)) {
        fail(data, ENOMEM);
        return;
    }
    end_region(data);
    data->regions[data->region_count++] = (struct written_region){*region, 0};
    data->at = (uint64_t)(uintptr_t)region->start;
    data->run_pages = 0;
    data->run_resident = true;
    data->pages_left = pages_of(data, region);
}

void heap_data_chunk(struct heap_data *data, uint64_t address, uint64_t size, enum seemalloc_state state, int bin) {
    if (data->error != 0 || data->region_count == 0) return;
    uint64_t end = (uint64_t)(uintptr_t)current(data)->region.end;
    if (address < data->at || address > end || size > end - address || size < 16 || (address | size) % 16 != 0) return;
    unsigned gap = current(data)->region.kind == SEEMALLOC_REGION_BLOCK ? PADDING : TORN;
    if (address > data->at) add_chunk(data, address - data->at, gap, -1);
    add_chunk(data, size, state, bin);
}

void heap_data_pages(struct heap_data *data, uint64_t count, bool resident) {
    if (data->error != 0 || data->region_count == 0) return;
    if (count > data->pages_left) count = data->pages_left;
    if (count == 0) return;
    if (resident != data->run_resident) {
        add_run(data, data->run_pages);
        data->run_resident = resident;
        data->run_pages = 0;
    }
    data->run_pages += count;
    data->pages_left -= count;
}

/* --- the head -------------------------------------------------------------------------------------------------------------------------------- */

static const char *region_kind_name(enum seemalloc_region_kind kind) {
    switch (kind) {
    case SEEMALLOC_REGION_BRK: return "brk";
    case SEEMALLOC_REGION_MMAP: return "mmap";
    case SEEMALLOC_REGION_HEAP: return "heap";
    case SEEMALLOC_REGION_BLOCK: break;
    }
    return "block";
}

static void begin_list(FILE *out, const char *name) { fprintf(out, ",\n\"%s\": [", name); }
static void begin_item(FILE *out, size_t index) { fputs(index != 0 ? ",\n{" : "\n{", out); }
static void comma(FILE *out) { fputs(", ", out); }

static void put_regions(const struct heap_data *data) {
    FILE *out = data->out;
    begin_list(out, "regions");
    for (size_t i = 0; i < data->region_count; i++) {
        const struct written_region *written = &data->regions[i];
        begin_item(out, i);
        json_text(out, "kind", region_kind_name(written->region.kind));
        comma(out);
        json_number(out, "arena", written->region.arena);
        comma(out);
        json_address(out, "start", (uint64_t)(uintptr_t)written->region.start);
        comma(out);
        json_address(out, "end", (uint64_t)(uintptr_t)written->region.end);
        comma(out);
        json_address(out, "limit", (uint64_t)(uintptr_t)written->region.limit);
        comma(out);
        json_number(out, "chunks", written->chunks);
        putc('}', out);
    }
    putc(']', out);
}

static void put_arenas(FILE *out, const struct heap_data_head *head) {
    begin_list(out, "arenas");
    for (size_t i = 0; i < head->arena_count; i++) {
        const struct heap_data_arena *arena = &head->arenas[i];
        begin_item(out, i);
        json_number(out, "id", arena->id);
        comma(out);
        json_text(out, "kind", arena->kind);
        comma(out);
        json_number(out, "threads", arena->threads);
        comma(out);
        json_number(out, "system_bytes", arena->system_bytes);
        comma(out);
        json_address(out, "top", arena->top);
        putc('}', out);
    }
    putc(']', out);
}

static void put_caches(FILE *out, const struct heap_data_head *head) {
    begin_list(out, "caches");
    for (size_t i = 0; i < head->cache_count; i++) {
        const struct heap_data_cache *cache = &head->caches[i];
        begin_item(out, i);
        json_number(out, "thread", cache->thread);
        comma(out);
        json_number(out, "arena", cache->arena);
        fputs(", \"magazines\": [", out);
        for (size_t j = 0; j < cache->magazine_count; j++) {
            const struct heap_data_magazine *magazine = &cache->magazines[j];
            fputs(j != 0 ? ", {" : "{", out);
            json_number(out, "class", magazine->size_class);
            comma(out);
            json_number(out, "block_size", magazine->block_size);
            comma(out);
            json_number(out, "blocks", magazine->blocks);
            comma(out);
            json_number(out, "limit", magazine->limit);
            putc('}', out);
        }
        fputs("]}", out);
    }
    putc(']', out);
}

static void put_settings(FILE *out, const struct heap_data_head *head) {
    begin_list(out, "settings");
    for (size_t i = 0; i < head->setting_count; i++) {
        const struct heap_data_setting *setting = &head->settings[i];
        begin_item(out, i);
        json_text(out, "name", setting->name);
        comma(out);
        json_number(out, "value", setting->value);
        comma(out);
        json_number(out, "standard", setting->standard);
        comma(out);
        json_text(out, "unit", setting->unit);
        comma(out);
        json_text(out, "source", setting->source);
        putc('}', out);
    }
    putc(']', out);
}

/* Times are strings: nanoseconds exceed what JSON readers keep exactly. */
static void put_time(FILE *out, uint64_t time) { fprintf(out, "\"time\": \"%llu\"", (unsigned long long)time); }

static void put_events(FILE *out, const struct heap_data_head *head) {
    begin_list(out, "events");
    for (size_t i = 0; i < head->event_count; i++) {
        const struct heap_data_event *event = &head->events[i];
        begin_item(out, i);
        put_time(out, event->time);
        comma(out);
        json_text(out, "call", event->call);
        comma(out);
        json_address(out, "address", event->address);
        comma(out);
        json_number(out, "size", event->size);
        putc('}', out);
    }
    putc(']', out);
}

static void put_samples(FILE *out, const struct heap_data_head *head) {
    begin_list(out, "samples");
    for (size_t i = 0; i < head->sample_count; i++) {
        const struct heap_data_sample *sample = &head->samples[i];
        begin_item(out, i);
        put_time(out, sample->time);
        comma(out);
        json_number(out, "in_use", sample->in_use);
        comma(out);
        json_number(out, "cached", sample->cached);
        comma(out);
        json_number(out, "free", sample->free);
        comma(out);
        json_number(out, "resident", sample->resident);
        comma(out);
        json_number(out, "minor_faults", sample->minor_faults);
        putc('}', out);
    }
    putc(']', out);
}

static void put_numbers(FILE *out, const char *name, const struct heap_data_number *numbers, size_t count) {
    begin_list(out, name);
    for (size_t i = 0; i < count; i++) {
        begin_item(out, i);
        json_text(out, "name", numbers[i].name);
        comma(out);
        json_number(out, "value", numbers[i].value);
        putc('}', out);
    }
    putc(']', out);
}

static void put_head(const struct heap_data *data, const struct heap_data_head *head) {
    FILE *out = data->out;
    fputs("<script type=\"application/json\" id=\"heap-head\">\n{\"format\": \"seemalloc heap data\", \"format_version\": 1,\n", out);
    json_text(out, "process", head->process);
    comma(out);
    json_number(out, "pid", head->pid);
    comma(out);
    json_text(out, "version", head->version);
    comma(out);
    json_text(out, "read", head->read);
    fprintf(out, ", \"torn\": %s, ", head->torn ? "true" : "false");
    json_number(out, "page_size", data->page_size);
    comma(out);
    json_number(out, "real_time", head->real_time);
    fprintf(out, ", \"clock\": \"%llu\",\n\"states\": [", (unsigned long long)head->clock);
    for (int i = 0; i < SEEMALLOC_STATE_COUNT; i++) {
        if (i != 0) comma(out);
        json_string(out, head->state_names[i]);
    }
    putc(']', out);
    put_regions(data);
    put_arenas(out, head);
    put_caches(out, head);
    put_settings(out, head);
    put_events(out, head);
    put_samples(out, head);
    put_numbers(out, "calls", head->calls, head->call_count);
    put_numbers(out, "counters", head->counters, head->counter_count);
    put_numbers(out, "ledger", head->ledger, head->ledger_count);
    fputs("}\n</script>\n", out);
}

/* --- from open to close ---------------------------------------------------------------------------------------------------------------------- */

static void release(struct heap_data *data) {
    deflateEnd(&data->deflate);
    free(data->sizes.bytes);
    free(data->states.bytes);
    free(data->bins.bytes);
    free(data->runs.bytes);
    free(data->regions);
    free(data);
}

struct heap_data *heap_data_open(FILE *out, const char *page, size_t length, uint64_t page_size) {
    const char *rest, *place = page_place(page, length, PLACE, &rest);
    if (place == NULL) {
        errno = EINVAL;
        return NULL;
    }
    struct heap_data *data = calloc(1, sizeof *data);
    if (data == NULL) return NULL;
    data->out = out;
    data->page_size = page_size;
    data->rest = rest;
    data->rest_length = length - (size_t)(data->rest - page);
    data->sizes.bytes = malloc((size_t)BLOCK_CHUNKS * VARINT_MAX);
    data->states.bytes = malloc(BLOCK_CHUNKS);
    data->bins.bytes = malloc(BLOCK_CHUNKS);
    data->runs.bytes = malloc(RUNS_MAX);
    if (data->sizes.bytes == NULL || data->states.bytes == NULL || data->bins.bytes == NULL || data->runs.bytes == NULL ||
        deflateInit(&data->deflate, 6) != Z_OK) {
        release(data);
        errno = ENOMEM;
        return NULL;
    }
    put(data, page, (size_t)(place - page));
    return data;
}

bool heap_data_reserve(struct heap_data *data, size_t regions) {
    if (regions <= data->region_room) return true;
    struct written_region *bigger = reallocarray(data->regions, regions, sizeof *bigger);
    if (bigger == NULL) return false;
    data->regions = bigger;
    data->region_room = regions;
    return true;
}

bool heap_data_close(struct heap_data *data, const struct heap_data_head *head) {
    if (data->error == 0) {
        end_region(data);
        flush_chunks(data);
        flush_runs(data);
        put_head(data, head);
        put(data, data->rest, data->rest_length);
        if (fflush(data->out) != 0 || ferror(data->out)) fail(data, errno != 0 ? errno : EIO);
    }
    int error = data->error;
    release(data);
    errno = error;
    return error == 0;
}
