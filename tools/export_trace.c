/* export_trace.c: the course of a recording in the trace event format that chrome://tracing and Perfetto open: counters over time. SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>

#include "export.h"
#include "json_writer.h"

enum { STEPS = 2000 };

struct writer {
    struct json_writer json;
    const struct profile *profile;
    uint64_t pid, step, next;
    uint64_t *live, *shown; /* bytes, by thread; [thread_count] is all */
    uint64_t born, gone;    /* parts since the last step */
};

static void begin(struct writer *writer, const char *name, const char *phase) {
    writer_open(&writer->json, NULL, '{');
    writer_text(&writer->json, "name", name);
    writer_text(&writer->json, "ph", phase);
    writer_number(&writer->json, "pid", writer->pid);
}

static void put_name(struct writer *writer, const char *kind, uint64_t tid, const char *name) {
    begin(writer, kind, "M");
    writer_number(&writer->json, "tid", tid);
    writer_open(&writer->json, "args", '{');
    writer_text(&writer->json, "name", name);
    writer_close(&writer->json, '}');
    writer_close(&writer->json, '}');
}

/* A counter event; its values follow, and end_counter. */
static void begin_counter(struct writer *writer, const char *name, uint64_t time) {
    begin(writer, name, "C");
    writer_ratio(&writer->json, "ts", (double)time / 1000); /* microseconds */
    writer_open(&writer->json, "args", '{');
}

static void end_counter(struct writer *writer) {
    writer_close(&writer->json, '}');
    writer_close(&writer->json, '}');
}

static void put_threads(struct writer *writer, uint64_t time) {
    const struct replay *replay = &writer->profile->replay;
    for (size_t i = 0; i < replay->thread_count; i++) {
        char name[80];
        if (writer->live[i] == writer->shown[i]) continue;
        snprintf(name, sizeof name, "in use, allocated by %s (%u)", replay->threads[i].name, replay->threads[i].tid);
        begin_counter(writer, name, time);
        writer_number(&writer->json, "bytes", writer->live[i]);
        end_counter(writer);
        writer->shown[i] = writer->live[i];
    }
}

static void put_step(struct writer *writer, uint64_t time) {
    begin_counter(writer, "in use", time);
    writer_number(&writer->json, "bytes", writer->live[writer->profile->replay.thread_count]);
    end_counter(writer);
    begin_counter(writer, "events", time);
    writer_number(&writer->json, "allocations", profile_count(writer->born));
    writer_number(&writer->json, "frees", profile_count(writer->gone));
    end_counter(writer);
    put_threads(writer, time);
    writer->born = writer->gone = 0;
}

/* What happened since the last step is written at its end, before the next event counts. */
static void pass_time(struct writer *writer) {
    uint64_t now = writer->profile->replay.counts.time;
    if (now < writer->next) return;
    put_step(writer, writer->next);
    writer->next = now - now % writer->step + writer->step;
}

static void see_born(void *context, const struct live_block *block, bool moved) {
    struct writer *writer = context;
    (void)moved;
    pass_time(writer);
    writer->live[block->thread] += block->weight;
    writer->live[writer->profile->replay.thread_count] += block->weight;
    writer->born += replay_parts(block);
}

static void see_gone(void *context, const struct live_block *block, uint64_t time, bool temporary) {
    struct writer *writer = context;
    (void)time, (void)temporary;
    pass_time(writer);
    writer->live[block->thread] -= block->weight;
    writer->live[writer->profile->replay.thread_count] -= block->weight;
    writer->gone += replay_parts(block);
}

static void see_process(void *context, const struct seemalloc_recording_process *process) {
    struct writer *writer = context;
    begin_counter(writer, "resident", process->time);
    writer_number(&writer->json, "bytes", process->resident);
    end_counter(writer);
    if ((process->in_use | process->cached | process->free_bytes | process->mapped) == 0) return;
    begin_counter(writer, "allocator", process->time);
    writer_number(&writer->json, "in use", process->in_use);
    writer_number(&writer->json, "cached", process->cached);
    writer_number(&writer->json, "free", process->free_bytes);
    end_counter(writer);
}

bool export_trace(FILE *out, const struct export *export, struct fault *fault) {
    struct replay *replay = &export->profile->replay;
    struct writer writer = {.json = {.out = out, .rows = 2},
                            .profile = export->profile,
                            .pid = replay->recording.head.pid,
                            .step = export->profile->end / STEPS + 1};
    const struct replay_watch watch = {&writer, see_born, see_gone, see_process};
    writer.next = writer.step;
    writer.live = need_memory(NULL, replay->thread_count + 1, sizeof *writer.live);
    writer.shown = need_memory(NULL, replay->thread_count + 1, sizeof *writer.shown);
    writer_open(&writer.json, NULL, '{');
    writer_text(&writer.json, "displayTimeUnit", "ms");
    writer_open(&writer.json, "traceEvents", '[');
    put_name(&writer, "process_name", 0, replay->recording.command);
    for (size_t i = 0; i < replay->thread_count; i++) {
        if (replay->threads[i].known) put_name(&writer, "thread_name", replay->threads[i].tid, replay->threads[i].name);
    }
    bool good = replay_run(replay, &watch, UINT64_MAX, fault);
    put_step(&writer, export->profile->end);
    writer_close(&writer.json, ']');
    writer_close(&writer.json, '}');
    free(writer.live);
    free(writer.shown);
    return good;
}
