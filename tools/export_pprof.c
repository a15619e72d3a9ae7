/* export_pprof.c: a profile as pprof reads it: a protobuf message (profile.proto of github.com/google/pprof; the numbers of its fields are below), gzipped.
 * The sample types are those of Go's heap profiles. SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "page.h"
#include "reader/pack.h"

enum { PROFILE_SAMPLE_TYPE = 1, PROFILE_SAMPLE, PROFILE_MAPPING, PROFILE_LOCATION, PROFILE_FUNCTION, PROFILE_STRING };
enum { PROFILE_TIME = 9, PROFILE_DURATION, PROFILE_PERIOD_TYPE, PROFILE_PERIOD, PROFILE_COMMENT, PROFILE_DEFAULT_TYPE };
enum { TYPE_TYPE = 1, TYPE_UNIT };
enum { SAMPLE_LOCATION = 1, SAMPLE_VALUE };
enum { MAPPING_ID = 1, MAPPING_START, MAPPING_LIMIT, MAPPING_OFFSET, MAPPING_FILE, MAPPING_BUILD_ID, MAPPING_HAS_FUNCTIONS };
enum { LOCATION_ID = 1, LOCATION_MAPPING, LOCATION_ADDRESS, LOCATION_LINE };
enum { LINE_FUNCTION = 1, LINE_LINE };
enum { FUNCTION_ID = 1, FUNCTION_NAME, FUNCTION_SYSTEM_NAME, FUNCTION_FILE };
enum { WIRE_NUMBER = 0, WIRE_BYTES = 2 };

struct writer {
    struct pack all, part, inner;
    struct symbols *symbols;
    struct lookup functions; /* by name and file */
    uint32_t function_count;
};

static void put_number(struct pack *pack, unsigned field, uint64_t value) {
    if (value == 0) return; /* the default */
    pack_number(pack, field << 3 | WIRE_NUMBER);
    pack_number(pack, value);
}

static void put_bytes(struct pack *pack, unsigned field, const void *data, size_t size) {
    pack_number(pack, field << 3 | WIRE_BYTES);
    pack_number(pack, size);
    if (size != 0) pack_bytes(pack, data, size);
}

/* Puts a message that is complete into the one around it, and begins the next. */
static void put_message(struct pack *pack, unsigned field, struct pack *message) {
    put_bytes(pack, field, message->data, message->size);
    message->size = 0;
}

static uint64_t text(struct writer *writer, const char *string) { return symbols_text(writer->symbols, string); }

static void put_type(struct writer *writer, unsigned field, const char *type, const char *unit) {
    put_number(&writer->part, TYPE_TYPE, text(writer, type));
    put_number(&writer->part, TYPE_UNIT, text(writer, unit));
    put_message(&writer->all, field, &writer->part);
}

/* --- what samples refer to ------------------------------------------------------------------------------------------------------------------------------ */

static void put_mappings(struct writer *writer, const struct replay *replay) {
    for (size_t i = 0; i < replay->module_count; i++) {
        const struct replay_module *module = &replay->modules[i];
        char *hex = need_memory(NULL, 2 * (size_t)module->build_id_bytes + 1, 1);
        for (uint32_t k = 0; k < module->build_id_bytes; k++) sprintf(hex + 2 * (size_t)k, "%02x", module->build_id[k]);
        put_number(&writer->part, MAPPING_ID, i + 1);
        put_number(&writer->part, MAPPING_START, module->start);
        put_number(&writer->part, MAPPING_LIMIT, module->end);
        put_number(&writer->part, MAPPING_OFFSET, module->offset);
        put_number(&writer->part, MAPPING_FILE, text(writer, module->path));
        put_number(&writer->part, MAPPING_BUILD_ID, text(writer, hex));
        put_number(&writer->part, MAPPING_HAS_FUNCTIONS, 1); /* what could be known is known: nobody need look again */
        put_message(&writer->all, PROFILE_MAPPING, &writer->part);
        free(hex);
    }
}

static uint32_t function_id(struct writer *writer, uint32_t name, uint32_t file) {
    uint32_t id = lookup_find(&writer->functions, name, file);
    if (id != LOOKUP_NONE) return id;
    id = ++writer->function_count;
    lookup_add(&writer->functions, name, file, id);
    put_number(&writer->part, FUNCTION_ID, id);
    put_number(&writer->part, FUNCTION_NAME, name);
    put_number(&writer->part, FUNCTION_SYSTEM_NAME, name);
    put_number(&writer->part, FUNCTION_FILE, file);
    put_message(&writer->all, PROFILE_FUNCTION, &writer->part);
    return id;
}

/* Location i + 1 is place i; the one behind all places is that of no stack. */
static void put_locations(struct writer *writer) {
    const struct symbols *symbols = writer->symbols;
    for (size_t i = 0; i <= symbols->place_count; i++) {
        struct symbol_frame none = {.function = (uint32_t)text(writer, "(no stack)")};
        struct symbol_place place = {.module = REPLAY_NO_MODULE, .count = 1};
        if (i < symbols->place_count) place = symbols->places[i];
        struct pack lines = {0};
        for (size_t k = 0; k < place.count; k++) {
            const struct symbol_frame *frame = i < symbols->place_count ? &symbols->frames[place.first + k] : &none;
            put_number(&writer->inner, LINE_FUNCTION, function_id(writer, frame->function, frame->file));
            put_number(&writer->inner, LINE_LINE, frame->line);
            put_message(&lines, LOCATION_LINE, &writer->inner);
        }
        put_number(&writer->part, LOCATION_ID, i + 1);
        if (place.module != REPLAY_NO_MODULE) put_number(&writer->part, LOCATION_MAPPING, place.module + 1);
        if (place.address != 0) put_number(&writer->part, LOCATION_ADDRESS, place.address - 1); /* within the call */
        pack_bytes(&writer->part, lines.data, lines.size);
        put_message(&writer->all, PROFILE_LOCATION, &writer->part);
        free(lines.data);
    }
}

/* --- samples --------------------------------------------------------------------------------------------------------------------------------------------------- */

static void put_sample(struct writer *writer, const struct export *export, size_t index) {
    const struct profile_sums *sums = &export->profile->stacks[index];
    const struct replay_stack *stack = &export->profile->replay.stacks[index];
    const struct profile_amount *in_use = calls_amount(sums, export->measure == CALLS_PEAK ? CALLS_PEAK : CALLS_LIVE);
    for (uint32_t i = 0; i < stack->count; i++) pack_number(&writer->inner, symbols_place(writer->symbols, stack, i) + 1);
    if (stack->count == 0) pack_number(&writer->inner, writer->symbols->place_count + 1);
    put_message(&writer->part, SAMPLE_LOCATION, &writer->inner);
    pack_number(&writer->inner, profile_count(sums->total.parts));
    pack_number(&writer->inner, sums->total.bytes);
    pack_number(&writer->inner, profile_count(in_use->parts));
    pack_number(&writer->inner, in_use->bytes);
    put_message(&writer->part, SAMPLE_VALUE, &writer->inner);
    put_message(&writer->all, PROFILE_SAMPLE, &writer->part);
}

static bool put_gzipped(FILE *out, const struct pack *pack) {
    FILE *stream = page_stream_open(out, PAGE_GZIP);
    if (stream == NULL) return false;
    bool good = fwrite(pack->data, 1, pack->size, stream) == pack->size;
    return fclose(stream) == 0 && good;
}

bool export_pprof(FILE *out, const struct export *export, struct fault *fault) {
    const struct profile *profile = export->profile;
    struct writer writer = {.symbols = &export->calls->symbols};
    struct pack *all = &writer.all;
    (void)fault;
    put_type(&writer, PROFILE_SAMPLE_TYPE, "alloc_objects", "count");
    put_type(&writer, PROFILE_SAMPLE_TYPE, "alloc_space", "bytes");
    put_type(&writer, PROFILE_SAMPLE_TYPE, "inuse_objects", "count");
    put_type(&writer, PROFILE_SAMPLE_TYPE, "inuse_space", "bytes");
    for (size_t i = 0; i < profile->replay.stack_count; i++) {
        if (profile->stacks[i].total.parts != 0) put_sample(&writer, export, i);
    }
    put_mappings(&writer, &profile->replay);
    put_locations(&writer);
    put_number(all, PROFILE_TIME, profile->replay.recording.head.begun);
    put_number(all, PROFILE_DURATION, profile->end);
    put_type(&writer, PROFILE_PERIOD_TYPE, "space", "bytes");
    put_number(all, PROFILE_PERIOD, profile_is_sampled(profile) ? profile->replay.recording.head.sample_mean : 1);
    put_number(all, PROFILE_DEFAULT_TYPE, text(&writer, export->measure == CALLS_TOTAL ? "alloc_space" : "inuse_space"));
    if (export->measure == CALLS_PEAK) put_number(all, PROFILE_COMMENT, text(&writer, "inuse: at the moment when most bytes were in use"));
    for (size_t i = 0; i < writer.symbols->text_count; i++) {
        put_bytes(all, PROFILE_STRING, writer.symbols->texts[i], strlen(writer.symbols->texts[i]));
    }
    bool good = put_gzipped(out, all);
    free(writer.all.data);
    free(writer.part.data);
    free(writer.inner.data);
    lookup_free(&writer.functions);
    return good;
}
