/* replay.h: plays the events of a recording again: which block is born, which is gone, and what a block was freed as.
 *
 * Threads, stacks and modules are learnt on the first run and kept for further ones. Events that can't be in order, and those whose counterparts were dropped,
 * are settled here, so that each block that is born is gone at most once:
 *
 *   the address of a live block is handed out again    the block is gone since then; its FREE was lost, or comes late and is passed over
 *   a block is born late, its FREE was there           it is born, and gone at once
 *   something unknown is freed                          nothing but a count: it was there before the recording, or its ALLOC was lost
 *
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_REPLAY_H
#define SEEMALLOC_READER_REPLAY_H

#include "reader/lookup.h"
#include "reader/recording.h"

#define REPLAY_NO_MODULE UINT32_MAX

struct replay_stack {
    size_t first;   /* of its addresses, innermost first */
    uint32_t count; /* of them */
    uint64_t time;  /* of the first event with it */
    bool used;
};

struct replay_module {
    uint64_t start, end, offset, time;
    char *path; /* "" if it has none */
    uint8_t *build_id;
    uint32_t build_id_bytes;
};

struct replay_thread {
    bool known;
    uint32_t tid;
    char name[17];
    uint64_t newborn; /* address of the block that its last event was the ALLOC of, 0: it was another one */
};

struct replay_counts { /* of this run */
    uint64_t events;
    uint64_t time; /* the latest seen */
    uint64_t unknown_frees, lost_frees;
};

struct replay {
    struct recording recording;
    bool learnt;
    struct replay_stack *stacks; /* [0] is the one that is not known */
    size_t stack_count, stack_room;
    uint64_t *addresses;
    size_t address_count, address_room;
    struct lookup stack_ids;
    struct replay_module *modules;
    size_t module_count, module_room;
    struct replay_thread *threads; /* by id */
    size_t thread_count;

    struct live_blocks live;
    struct live_block *strays; /* by hash of the address: what was freed and unknown, a part of it */
    struct replay_counts counts;
};

struct replay_watch {
    void *context;
    void (*born)(void *context, const struct live_block *block, bool moved);
    /* `time` of its end. `temporary`: its thread did nothing between its ALLOC and its FREE. */
    void (*gone)(void *context, const struct live_block *block, uint64_t time, bool temporary);
    void (*process)(void *context, const struct seemalloc_recording_process *process);
};

/* Opens the recording. False after noting what is wrong. */
bool replay_open(struct replay *replay, const char *name, struct fault *fault);
void replay_close(struct replay *replay);

/* Plays the events from the first on, at most `most`. Functions of `watch` may be NULL. False after noting what is wrong with the file. */
bool replay_run(struct replay *replay, const struct replay_watch *watch, uint64_t most, struct fault *fault);

/* The module that an address of a stack that was first seen at `time` lies in, or REPLAY_NO_MODULE. */
uint32_t replay_module_at(const struct replay *replay, uint64_t address, uint64_t time);

/* What one recorded block stands for: bytes that malloc_usable_size says, and allocations in parts of REPLAY_ONE. */
#define REPLAY_ONE 65536
uint64_t replay_usable(const struct live_block *block);
uint64_t replay_parts(const struct live_block *block);

#endif
