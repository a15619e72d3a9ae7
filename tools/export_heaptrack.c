/* export_heaptrack.c: a recording as heaptrack_print and heaptrack_gui read it (file format 3): lines of text, gzipped, whose first letter says what they are;
 * numbers are hexadecimal, and refer to earlier lines of their kind, counted from 1.
 *
 *   s length text          i address module [function file line]...   (texts; the first frame is the innermost)
 *   t address parent       a bytes trace                              (these are counted from 0)
 *   + allocation           - allocation                               c milliseconds       R resident pages
 *
 * An allocation is a size and a trace. It is taken for temporary if the next line says that one of the same number goes: so that this is mostly the same
 * block, blocks of one size and trace have one of TWINS numbers, by their address. Threads are not told apart.
 *
 * It knows no weights: of samples, each is written as one allocation of all bytes that it stands for. SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "export.h"
#include "page.h"

enum { STAMP = 10, TWINS = 64 }; /* milliseconds between two time stamps, at least; numbers for what is alike */

struct writer {
    FILE *out;
    const struct profile *profile;
    struct symbols *symbols;
    struct lookup traces, infos;
    uint32_t *trace_of; /* by stack */
    uint32_t trace_count, info_count;
    uint64_t stamp; /* the last one */
};

static void put_text(FILE *out, const char *text) {
    fprintf(out, "s %zx ", strlen(text));
    for (; *text != '\0'; text++) putc((unsigned char)*text < ' ' ? '?' : *text, out);
    putc('\n', out);
}

static uint32_t module_text(struct writer *writer, uint32_t module) {
    const char *path = module != REPLAY_NO_MODULE ? writer->profile->replay.modules[module].path : "";
    return symbols_text(writer->symbols, path);
}

static void put_place(struct writer *writer, const struct symbol_place *place) {
    fprintf(writer->out, "i %" PRIx64 " %x", place->address, module_text(writer, place->module));
    for (size_t i = 0; i < place->count; i++) {
        const struct symbol_frame *frame = &writer->symbols->frames[place->first + i];
        if (frame->is_known) fprintf(writer->out, " %x %x %x", frame->function, frame->file, frame->line);
    }
    putc('\n', writer->out);
}

/* A trace is an address and the trace of what called it. */
static uint32_t put_trace(struct writer *writer, const struct replay_stack *stack) {
    uint32_t trace = 0;
    for (size_t i = stack->count; i-- > 0;) {
        uint32_t place = symbols_place(writer->symbols, stack, i) + 1, known = lookup_find(&writer->traces, trace, place);
        if (known == LOOKUP_NONE) {
            fprintf(writer->out, "t %x %x\n", place, trace);
            known = ++writer->trace_count;
            lookup_add(&writer->traces, trace, place, known);
        }
        trace = known;
    }
    return trace;
}

static void put_head(struct writer *writer) {
    const struct recording *recording = &writer->profile->replay.recording;
    FILE *out = writer->out;
    fputs("v 10400 3\nX ", out);
    for (uint32_t i = 0; i + 1 < recording->head.command_bytes; i++) {
        unsigned char character = (unsigned char)recording->command[i];
        putc(character < ' ' ? ' ' : character, out);
    }
    fprintf(out, "\nI %x 0\n", recording->head.page_bytes);
    for (size_t i = 0; i < writer->symbols->place_count; i++) module_text(writer, writer->symbols->places[i].module);
    for (size_t i = 1; i < writer->symbols->text_count; i++) put_text(out, writer->symbols->texts[i]);
    for (size_t i = 0; i < writer->symbols->place_count; i++) put_place(writer, &writer->symbols->places[i]);
    for (size_t i = 0; i < writer->profile->replay.stack_count; i++) {
        if (writer->profile->stacks[i].total.parts != 0) writer->trace_of[i] = put_trace(writer, &writer->profile->replay.stacks[i]);
    }
    fputs("a 0 0\n", out); /* heaptrack takes number 0 for none at all */
    writer->info_count = 1;
}

static void put_stamp(struct writer *writer) {
    uint64_t now = writer->profile->replay.counts.time / 1000000;
    if (now < writer->stamp + STAMP) return;
    fprintf(writer->out, "c %" PRIx64 "\n", now);
    writer->stamp = now;
}

/* What stands for the trace of a block among allocations. */
static uint64_t twin_of(const struct writer *writer, const struct live_block *block) {
    uint64_t twin = (block->mem * UINT64_C(0x9e3779b97f4a7c15)) >> 32 & (TWINS - 1);
    return (uint64_t)writer->trace_of[block->stack] << 8 | twin;
}

static void see_born(void *context, const struct live_block *block, bool moved) {
    struct writer *writer = context;
    uint64_t twin = twin_of(writer, block);
    uint32_t info = lookup_find(&writer->infos, block->weight, twin);
    (void)moved;
    put_stamp(writer);
    if (info == LOOKUP_NONE) {
        fprintf(writer->out, "a %" PRIx64 " %x\n", block->weight, writer->trace_of[block->stack]);
        info = writer->info_count++;
        lookup_add(&writer->infos, block->weight, twin, info);
    }
    fprintf(writer->out, "+ %x\n", info);
}

static void see_gone(void *context, const struct live_block *block, uint64_t time, bool temporary) {
    struct writer *writer = context;
    (void)time, (void)temporary;
    put_stamp(writer);
    fprintf(writer->out, "- %x\n", lookup_find(&writer->infos, block->weight, twin_of(writer, block)));
}

static void see_process(void *context, const struct seemalloc_recording_process *process) {
    struct writer *writer = context;
    fprintf(writer->out, "R %" PRIx64 "\n", process->resident / writer->profile->replay.recording.head.page_bytes);
}

bool export_heaptrack(FILE *out, const struct export *export, struct fault *fault) {
    struct replay *replay = &export->profile->replay;
    struct writer writer = {.out = page_stream_open(out, PAGE_GZIP), .profile = export->profile, .symbols = &export->calls->symbols};
    if (writer.out == NULL) return false;
    writer.trace_of = need_memory(NULL, replay->stack_count, sizeof *writer.trace_of);
    const struct replay_watch watch = {&writer, see_born, see_gone, see_process};
    put_head(&writer);
    bool good = replay_run(replay, &watch, UINT64_MAX, fault);
    fprintf(writer.out, "c %" PRIx64 "\n", export->profile->end / 1000000);
    good = fclose(writer.out) == 0 && good;
    free(writer.trace_of);
    lookup_free(&writer.traces);
    lookup_free(&writer.infos);
    return good;
}
