/* replay.c: see replay.h. SPDX-License-Identifier: MIT */
#include "reader/replay.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { STRAYS = 1 << 16, THREADS_MOST = 1 << 16 };

/* --- what is learnt on the first run -------------------------------------------------------------------------------------------------------------------- */

static bool learn_stacks(struct replay *replay, struct fault *fault) {
    const struct recording *recording = &replay->recording;
    for (size_t at = 0; at < recording->size;) {
        uint32_t head[2];
        memcpy(head, recording->raw + at, sizeof head);
        at += sizeof head;
        if (head[0] == 0) return fault_note(fault, "the recording is damaged: a stack has the id 0");
        if (lookup_find(&replay->stack_ids, head[0], 0) != LOOKUP_NONE) {
            return fault_note(fault, "the recording is damaged: the stack %u is there twice", head[0]);
        }
        lookup_add(&replay->stack_ids, head[0], 0, (uint32_t)replay->stack_count);
        replay->stacks = need_more(replay->stacks, replay->stack_count, &replay->stack_room, sizeof *replay->stacks);
        replay->stacks[replay->stack_count++] = (struct replay_stack){.first = replay->address_count, .count = head[1]};
        for (uint32_t i = 0; i < head[1]; i++, at += sizeof(uint64_t)) {
            replay->addresses = need_more(replay->addresses, replay->address_count, &replay->address_room, sizeof *replay->addresses);
            memcpy(&replay->addresses[replay->address_count++], recording->raw + at, sizeof(uint64_t));
        }
    }
    return true;
}

static bool learn_modules(struct replay *replay, struct fault *fault) {
    const struct recording *recording = &replay->recording;
    for (size_t at = 0; at < recording->size;) {
        struct seemalloc_recording_module from;
        memcpy(&from, recording->raw + at, sizeof from);
        at += sizeof from;
        if (from.start >= from.end) {
            return fault_note(fault, "the recording is damaged: a module reaches from 0x%" PRIx64 " to 0x%" PRIx64, from.start, from.end);
        }
        replay->modules = need_more(replay->modules, replay->module_count, &replay->module_room, sizeof *replay->modules);
        struct replay_module *module = &replay->modules[replay->module_count++];
        *module = (struct replay_module){.start = from.start, .end = from.end, .offset = from.offset, .time = from.time};
        module->path = need_memory(NULL, from.path_bytes, 1);
        memcpy(module->path, recording->raw + at, from.path_bytes);
        at += from.path_bytes;
        module->build_id = need_memory(NULL, from.build_id_bytes, 1);
        memcpy(module->build_id, recording->raw + at, from.build_id_bytes);
        module->build_id_bytes = from.build_id_bytes;
        at += from.build_id_bytes;
    }
    return true;
}

static bool learn_threads(struct replay *replay, struct fault *fault) {
    const struct recording *recording = &replay->recording;
    for (size_t at = 0; at < recording->size; at += sizeof(struct seemalloc_recording_thread)) {
        struct seemalloc_recording_thread from;
        memcpy(&from, recording->raw + at, sizeof from);
        if (from.id >= THREADS_MOST) {
            return fault_note(fault, "the recording is damaged: a thread has the id %u, events have less than %d", from.id, THREADS_MOST);
        }
        if (from.id >= replay->thread_count) {
            size_t count = from.id + 1;
            replay->threads = need_memory(replay->threads, count, sizeof *replay->threads);
            memset(replay->threads + replay->thread_count, 0, (count - replay->thread_count) * sizeof *replay->threads);
            replay->thread_count = count;
        }
        struct replay_thread *thread = &replay->threads[from.id];
        thread->known = true;
        thread->tid = from.tid;
        memcpy(thread->name, from.name, sizeof from.name); /* a later name takes the place of the first */
    }
    return true;
}

/* --- events ------------------------------------------------------------------------------------------------------------------------------------------------- */

static struct live_block *stray_at(struct replay *replay, uint64_t mem) {
    return &replay->strays[(mem * UINT64_C(0x9e3779b97f4a7c15)) >> 48 & (STRAYS - 1)];
}

static void gone(struct replay *replay, const struct replay_watch *watch, struct live_block *block, uint64_t time, bool temporary) {
    struct live_block last = *block;
    live_blocks_remove(&replay->live, block);
    if (watch->gone != NULL) watch->gone(watch->context, &last, time < last.time ? last.time : time, temporary);
}

static void play_alloc(struct replay *replay, const struct replay_watch *watch, const struct seemalloc_recording_event *event,
                       uint32_t stack) {
    struct replay_thread *thread = &replay->threads[event->thread];
    struct live_block *there = live_blocks_find(&replay->live, event->mem), *stray = stray_at(replay, event->mem);
    const struct live_block block = {event->mem, event->time, event->bytes, event->usable, event->weight, stack, event->thread};
    bool freed = stray->mem == event->mem && stray->time > event->time, past = there != NULL && there->time > event->time;
    if (there != NULL && !past) {
        replay->counts.lost_frees++;
        gone(replay, watch, there, event->time, false);
    }
    thread->newborn = event->mem;
    if (watch->born != NULL) watch->born(watch->context, &block, (event->kind & SEEMALLOC_RECORDING_MOVED) != 0);
    if (!freed && !past) {
        live_blocks_add(&replay->live, &block);
        return;
    }
    uint64_t end = freed ? stray->time : there->time;
    if (freed) {
        stray->mem = 0;
        replay->counts.unknown_frees--;
    }
    if (watch->gone != NULL) watch->gone(watch->context, &block, end, false);
}

static void play_free(struct replay *replay, const struct replay_watch *watch, const struct seemalloc_recording_event *event) {
    struct replay_thread *thread = &replay->threads[event->thread];
    struct live_block *block = live_blocks_find(&replay->live, event->mem);
    bool temporary = thread->newborn == event->mem;
    thread->newborn = 0;
    if (block != NULL && event->time >= block->time) {
        gone(replay, watch, block, event->time, temporary);
        return;
    }
    if (block != NULL) return; /* late, of the block before: that is gone */
    replay->counts.unknown_frees++;
    *stray_at(replay, event->mem) = (struct live_block){.mem = event->mem, .time = event->time};
}

static bool check_event(const struct replay *replay, const struct seemalloc_recording_event *event, struct fault *fault) {
    unsigned kind = event->kind & ~(unsigned)SEEMALLOC_RECORDING_MOVED;
    if (kind != SEEMALLOC_RECORDING_ALLOC && kind != SEEMALLOC_RECORDING_FREE) {
        return fault_note(fault, "the recording is damaged: an event is of kind %u, expected 1 or 2, or 128 more", event->kind);
    }
    if (event->thread >= replay->thread_count || !replay->threads[event->thread].known) {
        return fault_note(fault, "the recording is damaged: an event is of the thread %u, which no block before it names", event->thread);
    }
    if (event->mem == 0) return fault_note(fault, "the recording is damaged: an event is of the address 0");
    return true;
}

static bool play_events(struct replay *replay, const struct replay_watch *watch, uint64_t most, struct fault *fault) {
    const struct recording *recording = &replay->recording;
    struct seemalloc_recording_event event;
    for (size_t at = 0; at < recording->size && replay->counts.events < most; at += sizeof event) {
        memcpy(&event, recording->raw + at, sizeof event);
        if (!check_event(replay, &event, fault)) return false;
        uint32_t stack = event.stack == 0 ? 0 : lookup_find(&replay->stack_ids, event.stack, 0);
        if (stack == LOOKUP_NONE) {
            return fault_note(fault, "the recording is damaged: an event has the stack %u, which no block before it has", event.stack);
        }
        replay->counts.events++;
        if (event.time > replay->counts.time) replay->counts.time = event.time;
        if ((event.kind & SEEMALLOC_RECORDING_FREE) != 0) {
            play_free(replay, watch, &event);
            continue;
        }
        struct replay_stack *used = &replay->stacks[stack];
        if (!used->used || event.time < used->time) used->time = event.time;
        used->used = true;
        play_alloc(replay, watch, &event, stack);
    }
    return true;
}

static void play_process(const struct replay *replay, const struct replay_watch *watch) {
    const struct recording *recording = &replay->recording;
    struct seemalloc_recording_process process;
    for (size_t at = 0; at < recording->size && watch->process != NULL; at += sizeof process) {
        memcpy(&process, recording->raw + at, sizeof process);
        watch->process(watch->context, &process);
    }
}

static bool play_block(struct replay *replay, const struct replay_watch *watch, uint64_t most, struct fault *fault) {
    switch (replay->recording.type) {
    case SEEMALLOC_RECORDING_EVENTS: return play_events(replay, watch, most, fault);
    case SEEMALLOC_RECORDING_STACK: return replay->learnt || learn_stacks(replay, fault);
    case SEEMALLOC_RECORDING_MODULE: return replay->learnt || learn_modules(replay, fault);
    case SEEMALLOC_RECORDING_THREAD: return replay->learnt || learn_threads(replay, fault);
    case SEEMALLOC_RECORDING_PROCESS: play_process(replay, watch); return true;
    default: return true;
    }
}

bool replay_run(struct replay *replay, const struct replay_watch *watch, uint64_t most, struct fault *fault) {
    recording_rewind(&replay->recording);
    live_blocks_free(&replay->live);
    memset(replay->strays, 0, STRAYS * sizeof *replay->strays);
    replay->counts = (struct replay_counts){0};
    for (size_t i = 0; i < replay->thread_count; i++) replay->threads[i].newborn = 0;
    while (replay->counts.events < most) {
        enum recording_step step = recording_next(&replay->recording, fault);
        if (step == RECORDING_BAD) return false;
        if (step == RECORDING_OVER) break;
        if (!play_block(replay, watch, most, fault)) return false;
    }
    replay->learnt = true;
    return true;
}

/* --- from open to close ---------------------------------------------------------------------------------------------------------------------------------------- */

bool replay_open(struct replay *replay, const char *name, struct fault *fault) {
    *replay = (struct replay){0};
    if (!recording_open(&replay->recording, name, fault)) return false;
    replay->strays = need_memory(NULL, STRAYS, sizeof *replay->strays);
    replay->stacks = need_more(NULL, 0, &replay->stack_room, sizeof *replay->stacks);
    replay->stacks[replay->stack_count++] = (struct replay_stack){0};
    return true;
}

void replay_close(struct replay *replay) {
    recording_close(&replay->recording);
    for (size_t i = 0; i < replay->module_count; i++) {
        free(replay->modules[i].path);
        free(replay->modules[i].build_id);
    }
    free(replay->stacks);
    free(replay->addresses);
    free(replay->modules);
    free(replay->threads);
    free(replay->strays);
    lookup_free(&replay->stack_ids);
    live_blocks_free(&replay->live);
    *replay = (struct replay){0};
}

/* The newest of those that were there by then; if there was none, the first that came. */
uint32_t replay_module_at(const struct replay *replay, uint64_t address, uint64_t time) {
    uint32_t found = REPLAY_NO_MODULE;
    for (uint32_t i = 0; i < replay->module_count; i++) {
        const struct replay_module *module = &replay->modules[i];
        if (address < module->start || address >= module->end) continue;
        const struct replay_module *before = found != REPLAY_NO_MODULE ? &replay->modules[found] : NULL;
        if (before == NULL || (module->time <= time && (before->time > time || module->time >= before->time))) found = i;
    }
    return found;
}

/* --- weights -------------------------------------------------------------------------------------------------------------------------------------------------- */

static uint64_t scaled(const struct live_block *block, uint64_t value) {
    if (block->weight == block->bytes || block->bytes == 0) return value;
    double result = (double)value * ((double)block->weight / (double)block->bytes);
    return result < 0x1p62 ? (uint64_t)(result + 0.5) : UINT64_C(1) << 62;
}

uint64_t replay_usable(const struct live_block *block) { return scaled(block, block->usable); }
uint64_t replay_parts(const struct live_block *block) { return scaled(block, REPLAY_ONE); }
