/* profile.c: see profile.h. The first run sums up and finds the peak, the second one stops at the peak and tells whose blocks were live then.
 * SPDX-License-Identifier: MIT */
#include "reader/profile.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH_LEAST = 1 << 16 }; /* nanoseconds */

uint64_t profile_count(uint64_t parts) { return (parts + REPLAY_ONE / 2) / REPLAY_ONE; }

bool profile_has_stacks(const struct profile *profile) {
    return (profile->replay.recording.head.flags & SEEMALLOC_RECORDING_STACKS) != 0 || profile->replay.stack_count > 1;
}

bool profile_is_sampled(const struct profile *profile) { return (profile->replay.recording.head.flags & SEEMALLOC_RECORDING_SAMPLED) != 0; }

/* --- sums ---------------------------------------------------------------------------------------------------------------------------------------------- */

static unsigned bucket_of(uint64_t bytes) {
    if (bytes < 16) return 0;
    unsigned doubling = 63 - (unsigned)__builtin_clzll(bytes);
    return 1 + 4 * (doubling - 4) + (unsigned)(bytes >> (doubling - 2) & 3);
}

uint64_t profile_bucket_from(unsigned bucket) {
    if (bucket == 0) return 0;
    return (uint64_t)(4 + (bucket - 1) % 4) << ((bucket - 1) / 4 + 2);
}

static void add(struct profile_amount *amount, uint64_t parts, uint64_t bytes) {
    amount->parts += parts;
    amount->bytes += bytes;
}

static void take(struct profile_amount *amount, uint64_t parts, uint64_t bytes) {
    amount->parts -= parts;
    amount->bytes -= bytes;
}

static void add_size(struct profile_sums *sums, unsigned bucket, uint64_t parts, uint64_t bytes) {
    for (unsigned i = 0; i < sums->size_count; i++) {
        if (sums->sizes[i].bucket != bucket) continue;
        add(&sums->sizes[i].amount, parts, bytes);
        return;
    }
    if (sums->size_count == sums->size_room) {
        sums->size_room = 2 * sums->size_room + 1;
        sums->sizes = need_memory(sums->sizes, sums->size_room, sizeof *sums->sizes);
    }
    sums->sizes[sums->size_count++] = (struct profile_size){bucket, {parts, bytes}};
}

static void sum_born(struct profile_sums *sums, const struct live_block *block) {
    uint64_t parts = replay_parts(block);
    if (sums->total.parts == 0 || block->bytes < sums->smallest) sums->smallest = block->bytes;
    if (block->bytes > sums->largest) sums->largest = block->bytes;
    add(&sums->total, parts, block->weight);
    add(&sums->live, parts, block->weight);
    sums->usable += replay_usable(block);
    add_size(sums, bucket_of(block->bytes), parts, block->weight);
}

static void sum_gone(struct profile_sums *sums, const struct live_block *block, uint64_t time, bool temporary) {
    uint64_t parts = replay_parts(block);
    take(&sums->live, parts, block->weight);
    add(&sums->gone, parts, block->weight);
    if (temporary) add(&sums->temporary, parts, block->weight);
    sums->lifetime += (double)(time - block->time) * (double)parts;
}

void profile_add(struct profile_sums *to, const struct profile_sums *from) {
    if (from->total.parts == 0) return;
    if (to->total.parts == 0 || from->smallest < to->smallest) to->smallest = from->smallest;
    if (from->largest > to->largest) to->largest = from->largest;
    add(&to->total, from->total.parts, from->total.bytes);
    add(&to->live, from->live.parts, from->live.bytes);
    add(&to->peak, from->peak.parts, from->peak.bytes);
    add(&to->temporary, from->temporary.parts, from->temporary.bytes);
    add(&to->gone, from->gone.parts, from->gone.bytes);
    to->usable += from->usable;
    to->lifetime += from->lifetime;
    for (unsigned i = 0; i < from->size_count; i++) {
        add_size(to, from->sizes[i].bucket, from->sizes[i].amount.parts, from->sizes[i].amount.bytes);
    }
}

/* --- moments ----------------------------------------------------------------------------------------------------------------------------------------------- */

/* Two and two become one, and the rest is free again. */
static void halve_moments(struct profile *profile) {
    struct profile_moment *moments = profile->moments;
    for (size_t i = 0; i < PROFILE_MOMENTS; i++) {
        struct profile_moment from = moments[i];
        if (i % 2 == 0) {
            moments[i / 2] = from;
            continue;
        }
        struct profile_moment *to = &moments[i / 2];
        if (from.live_most > to->live_most) to->live_most = from.live_most;
        if (from.seen) to->live = from.live;
        to->seen |= from.seen;
        to->born += from.born;
        to->gone += from.gone;
        to->bytes += from.bytes;
    }
    memset(moments + PROFILE_MOMENTS / 2, 0, PROFILE_MOMENTS / 2 * sizeof *moments);
    profile->moment_count = (profile->moment_count + 1) / 2;
    profile->width *= 2;
}

/* The moment of now; what comes late counts in the last one. */
static struct profile_moment *moment_now(struct profile *profile) {
    while (profile->replay.counts.time / profile->width >= PROFILE_MOMENTS) halve_moments(profile);
    size_t index = (size_t)(profile->replay.counts.time / profile->width);
    if (index >= profile->moment_count) profile->moment_count = index + 1;
    struct profile_moment *moment = &profile->moments[index];
    moment->seen = true;
    moment->live = profile->all.live.bytes;
    if (moment->live > moment->live_most) moment->live_most = moment->live;
    return moment;
}

/* Where nothing happened, what was live stays live. */
static void fill_moments(struct profile *profile) {
    for (size_t i = 1; i < profile->moment_count; i++) {
        struct profile_moment *moment = &profile->moments[i];
        uint64_t before = profile->moments[i - 1].live;
        if (!moment->seen) moment->live = before;
        if (before > moment->live_most) moment->live_most = before;
    }
}

static void see_process(void *context, const struct seemalloc_recording_process *process) {
    struct profile *profile = context;
    if (process->time > profile->end) profile->end = process->time;
    if (profile->process_seen++ % profile->process_step != 0) return;
    if (profile->process_count == PROFILE_MOMENTS) {
        for (size_t i = 0; i < PROFILE_MOMENTS / 2; i++) profile->processes[i] = profile->processes[2 * i];
        profile->process_count = PROFILE_MOMENTS / 2;
        profile->process_step *= 2;
    }
    profile->processes[profile->process_count++] = *process;
}

/* --- the first run ------------------------------------------------------------------------------------------------------------------------------------------- */

static struct profile_sums *grow(struct profile_sums *sums, size_t index, size_t *room) {
    if (index < *room) return sums;
    size_t before = *room;
    *room = 2 * index + 16;
    sums = need_memory(sums, *room, sizeof *sums);
    memset(sums + before, 0, (*room - before) * sizeof *sums);
    return sums;
}

static void see_born(void *context, const struct live_block *block, bool moved) {
    struct profile *profile = context;
    uint64_t parts = replay_parts(block);
    profile->stacks = grow(profile->stacks, block->stack, &profile->stack_room);
    profile->threads = grow(profile->threads, block->thread, &profile->thread_room);
    sum_born(&profile->all, block);
    sum_born(&profile->stacks[block->stack], block);
    sum_born(&profile->threads[block->thread], block);
    if (moved) profile->moved += parts;
    if (profile->all.live.bytes > profile->all.peak.bytes) {
        profile->all.peak = profile->all.live;
        profile->peak_event = profile->replay.counts.events;
        profile->peak_time = block->time;
    }
    struct profile_moment *moment = moment_now(profile);
    moment->born += parts;
    moment->bytes += block->weight;
}

static void see_gone(void *context, const struct live_block *block, uint64_t time, bool temporary) {
    struct profile *profile = context;
    temporary = temporary && !profile_is_sampled(profile); /* of samples nobody knows what the thread did in between */
    sum_gone(&profile->all, block, time, temporary);
    sum_gone(&profile->stacks[block->stack], block, time, temporary);
    sum_gone(&profile->threads[block->thread], block, time, temporary);
    moment_now(profile)->gone += replay_parts(block);
}

/* --- the second run ------------------------------------------------------------------------------------------------------------------------------------------ */

static void see_born_before_peak(void *context, const struct live_block *block, bool moved) {
    struct profile *profile = context;
    uint64_t parts = replay_parts(block);
    (void)moved;
    add(&profile->stacks[block->stack].peak, parts, block->weight);
    add(&profile->threads[block->thread].peak, parts, block->weight);
}

static void see_gone_before_peak(void *context, const struct live_block *block, uint64_t time, bool temporary) {
    struct profile *profile = context;
    uint64_t parts = replay_parts(block);
    (void)time, (void)temporary;
    take(&profile->stacks[block->stack].peak, parts, block->weight);
    take(&profile->threads[block->thread].peak, parts, block->weight);
}

/* What can only be told after the first run. */
static void conclude(struct profile *profile) {
    const struct replay *replay = &profile->replay;
    const struct recording *recording = &replay->recording;
    profile->counts = replay->counts;
    profile->stacks = grow(profile->stacks, replay->stack_count, &profile->stack_room);
    profile->threads = grow(profile->threads, replay->thread_count, &profile->thread_room);
    fill_moments(profile);
    if (replay->counts.time > profile->end) profile->end = replay->counts.time;
    profile->ended = recording->ended;
    if (recording->ended && recording->end.time > profile->end) profile->end = recording->end.time;
    if (recording->rest != 0) {
        fault_note(&profile->cut,
                   "the recording is truncated: %" PRIu64 " bytes at its end, from byte %" PRIu64
                   " on, are no complete block; what is before them counts",
                   recording->rest, recording->at);
    } else if (!recording->ended) {
        fault_note(&profile->cut, "the recording was cut short: it has no last block after %" PRIu64 " others; what is there counts",
                   recording->blocks);
    }
}

bool profile_open(struct profile *profile, const char *name, struct fault *fault) {
    memset(profile, 0, sizeof *profile);
    profile->width = WIDTH_LEAST;
    profile->process_step = 1;
    if (!replay_open(&profile->replay, name, fault)) return false;
    const struct replay_watch first = {profile, see_born, see_gone, see_process};
    const struct replay_watch second = {profile, see_born_before_peak, see_gone_before_peak, NULL};
    bool good = replay_run(&profile->replay, &first, UINT64_MAX, fault);
    if (good) {
        conclude(profile);
        good = replay_run(&profile->replay, &second, profile->peak_event, fault);
    }
    live_blocks_free(&profile->replay.live);
    if (!good) {
        profile_close(profile);
        return false;
    }
    /* Where a late event was born and gone at once in the middle of the peak, its end counts. */
    profile->all.peak = (struct profile_amount){0};
    for (size_t i = 0; i < profile->replay.stack_count; i++) {
        add(&profile->all.peak, profile->stacks[i].peak.parts, profile->stacks[i].peak.bytes);
    }
    return true;
}

void profile_close(struct profile *profile) {
    for (size_t i = 0; i < profile->stack_room; i++) free(profile->stacks[i].sizes);
    for (size_t i = 0; i < profile->thread_room; i++) free(profile->threads[i].sizes);
    free(profile->all.sizes);
    free(profile->stacks);
    free(profile->threads);
    replay_close(&profile->replay);
}
