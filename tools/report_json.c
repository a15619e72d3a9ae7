/* report_json.c: a report as JSON: docs/json.md has the fields. Long lists are arrays of numbers, whose order stands there. SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "json_writer.h"
#include "report.h"

static const char *const symbol_states[] = {[SYMBOLS_UNUSED] = "unused",
                                            [SYMBOLS_FOUND] = "found",
                                            [SYMBOLS_NO_FILE] = "no file",
                                            [SYMBOLS_OTHER_FILE] = "other file",
                                            [SYMBOLS_NONE] = "no libdw"};

static void put_row(struct json_writer *json, const uint64_t *values, size_t count) {
    writer_open(json, NULL, '[');
    for (size_t i = 0; i < count; i++) writer_number(json, NULL, values[i]);
    writer_close(json, ']');
}

#define ROW(json, ...)                                                                                                                     \
    do {                                                                                                                                   \
        const uint64_t row[] = {__VA_ARGS__};                                                                                              \
        put_row(json, row, sizeof row / sizeof *row);                                                                                      \
    } while (0)

static uint64_t mean_lifetime(const struct profile_sums *sums) {
    double mean = sums->gone.parts != 0 ? sums->lifetime / (double)sums->gone.parts : 0;
    return mean < 0x1p63 ? (uint64_t)mean : UINT64_MAX;
}

static void put_sums(struct json_writer *json, const struct profile_sums *sums) {
    writer_number(json, "allocations", profile_count(sums->total.parts));
    writer_number(json, "bytes", sums->total.bytes);
    writer_number(json, "usable", sums->usable);
    writer_number(json, "live", profile_count(sums->live.parts));
    writer_number(json, "live_bytes", sums->live.bytes);
    writer_number(json, "peak", profile_count(sums->peak.parts));
    writer_number(json, "peak_bytes", sums->peak.bytes);
    writer_number(json, "temporary", profile_count(sums->temporary.parts));
    writer_number(json, "temporary_bytes", sums->temporary.bytes);
    writer_number(json, "smallest", sums->smallest);
    writer_number(json, "largest", sums->largest);
    writer_number(json, "lifetime", mean_lifetime(sums));
}

static void put_head(struct json_writer *json, const struct profile *profile) {
    const struct recording *recording = &profile->replay.recording;
    writer_text(json, "format", "seemalloc report");
    writer_number(json, "format_version", 1);
    writer_open(json, "command", '[');
    for (size_t at = 0; at < recording->head.command_bytes; at += strlen(recording->command + at) + 1) {
        writer_text(json, NULL, recording->command + at);
    }
    writer_close(json, ']');
    writer_number(json, "pid", recording->head.pid);
    writer_number(json, "begun", recording->head.begun / 1000000);
    writer_number(json, "duration", profile->end);
    writer_number(json, "sample_mean", profile_is_sampled(profile) ? recording->head.sample_mean : 0);
    writer_flag(json, "has_stacks", profile_has_stacks(profile));
    if (profile->cut.text[0] != '\0') {
        writer_text(json, "cut", profile->cut.text);
    } else {
        writer_null(json, "cut");
    }
    if (profile->ended) {
        writer_signed(json, "status", recording->end.status);
    } else {
        writer_null(json, "status");
    }
    writer_number(json, "events", profile->counts.events);
    writer_number(json, "dropped", profile->ended ? recording->end.dropped : 0);
    writer_number(json, "late", profile->ended ? recording->end.late : 0);
    writer_number(json, "forked", profile->ended ? recording->end.forked : 0);
    writer_number(json, "unknown_frees", profile->counts.unknown_frees);
    writer_number(json, "lost_frees", profile->counts.lost_frees);
    writer_open(json, "totals", '{');
    put_sums(json, &profile->all);
    writer_number(json, "moved", profile_count(profile->moved));
    writer_number(json, "peak_time", profile->peak_time);
    writer_close(json, '}');
}

static void put_threads(struct json_writer *json, const struct profile *profile) {
    writer_open(json, "threads", '[');
    for (size_t i = 0; i < profile->replay.thread_count; i++) {
        const struct replay_thread *thread = &profile->replay.threads[i];
        if (!thread->known) continue;
        writer_open(json, NULL, '{');
        writer_number(json, "tid", thread->tid);
        writer_text(json, "name", thread->name);
        put_sums(json, &profile->threads[i]);
        writer_close(json, '}');
    }
    writer_close(json, ']');
}

static void put_times(struct json_writer *json, const struct profile *profile) {
    writer_number(json, "moment_width", profile->width);
    writer_open(json, "moments", '[');
    for (size_t i = 0; i < profile->moment_count; i++) {
        const struct profile_moment *moment = &profile->moments[i];
        ROW(json, moment->live_most, moment->live, profile_count(moment->born), profile_count(moment->gone), moment->bytes);
    }
    writer_close(json, ']');
    writer_open(json, "process", '[');
    for (size_t i = 0; i < profile->process_count; i++) {
        const struct seemalloc_recording_process *from = &profile->processes[i];
        ROW(json, from->time, from->resident, from->in_use, from->cached, from->free_bytes, from->mapped, from->minor_faults,
            from->major_faults);
    }
    writer_close(json, ']');
}

/* --- sites -------------------------------------------------------------------------------------------------------------------------------------------- */

static void put_modules(struct json_writer *json, const struct report *report) {
    const struct symbols *symbols = &report->calls->symbols;
    writer_open(json, "modules", '[');
    for (size_t i = 0; i < report->profile->replay.module_count; i++) {
        writer_open(json, NULL, '{');
        writer_text(json, "path", report->profile->replay.modules[i].path);
        writer_text(json, "symbols", symbol_states[symbols->states[i]]);
        writer_close(json, '}');
    }
    writer_close(json, ']');
}

static void put_calls(struct json_writer *json, const struct calls *calls) {
    writer_open(json, "texts", '[');
    for (size_t i = 0; i < calls->symbols.text_count; i++) writer_text(json, NULL, calls->symbols.texts[i]);
    writer_close(json, ']');
    writer_open(json, "frames", '[');
    for (size_t i = 0; i < calls->frame_count; i++) {
        const struct symbol_frame *frame = &calls->frames[i];
        uint64_t module = frame->module != REPLAY_NO_MODULE ? (uint64_t)frame->module + 1 : 0;
        ROW(json, frame->function, frame->file, frame->line, module, frame->is_inlined, frame->is_known);
    }
    writer_close(json, ']');
    writer_open(json, "nodes", '[');
    for (size_t i = 0; i < calls->node_count; i++) ROW(json, calls->nodes[i].parent, calls->nodes[i].frame);
    writer_close(json, ']');
}

static void put_sites(struct json_writer *json, const struct calls *calls) {
    writer_open(json, "sites", '[');
    for (size_t i = 0; i < calls->site_count; i++) {
        const struct profile_sums *sums = &calls->sites[i].sums;
        ROW(json, calls->sites[i].node, profile_count(sums->total.parts), sums->total.bytes, sums->usable, profile_count(sums->live.parts),
            sums->live.bytes, profile_count(sums->peak.parts), sums->peak.bytes, profile_count(sums->temporary.parts),
            sums->temporary.bytes, sums->smallest, sums->largest, profile_count(sums->gone.parts), mean_lifetime(sums));
    }
    writer_close(json, ']');
}

static void put_sizes(struct json_writer *json, const struct calls *calls) {
    writer_open(json, "sizes", '[');
    for (size_t i = 0; i < calls->site_count; i++) {
        const struct profile_sums *sums = &calls->sites[i].sums;
        for (unsigned k = 0; k < sums->size_count; k++) {
            const struct profile_size *size = &sums->sizes[k];
            ROW(json, i, size->bucket, profile_count(size->amount.parts), size->amount.bytes);
        }
    }
    writer_close(json, ']');
}

bool report_json(FILE *out, const struct report *report) {
    struct json_writer json = {.out = out, .rows = 2};
    writer_open(&json, NULL, '{');
    put_head(&json, report->profile);
    put_threads(&json, report->profile);
    put_times(&json, report->profile);
    put_modules(&json, report);
    put_calls(&json, report->calls);
    put_sites(&json, report->calls);
    put_sizes(&json, report->calls);
    writer_close(&json, '}');
    return !ferror(out);
}
