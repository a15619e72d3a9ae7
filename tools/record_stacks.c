/* record_stacks.c: each stack gets a number when it comes for the first time: see record.h. SPDX-License-Identifier: MIT */
#include <stdlib.h>
#include <string.h>

#include "reader/fault.h"
#include "record.h"

struct stack {
    uint64_t hash;
    size_t first; /* in frames */
    uint32_t count;
};

static struct {
    struct stack *stack; /* number - 1 */
    uint32_t count, room;
    uint64_t *frames;
    size_t used, frames_room;
    uint32_t *table; /* numbers by hash, 0: free; a power of two, at most half full */
    uint32_t mask;
} stacks;

bool record_stacks_uncovered;

static uint64_t hash_of(const uint64_t *frame, uint32_t count) {
    uint64_t hash = count;
    for (uint32_t i = 0; i < count; i++) {
        hash = (hash ^ frame[i]) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    return hash;
}

static void grow_table(void) {
    uint32_t size = stacks.table == NULL ? 4096 : 2 * (stacks.mask + 1);
    free(stacks.table);
    stacks.table = need_memory(NULL, size, sizeof *stacks.table);
    memset(stacks.table, 0, size * sizeof *stacks.table);
    stacks.mask = size - 1;
    for (uint32_t i = 0; i < stacks.count; i++) {
        uint32_t at = (uint32_t)stacks.stack[i].hash & stacks.mask;
        while (stacks.table[at] != 0) at = (at + 1) & stacks.mask;
        stacks.table[at] = i + 1;
    }
}

uint32_t record_stacks_number(const uint64_t *frame, uint32_t count) {
    if (stacks.table == NULL || stacks.count > stacks.mask / 2) grow_table();
    uint64_t hash = hash_of(frame, count);
    uint32_t at = (uint32_t)hash & stacks.mask;
    for (; stacks.table[at] != 0; at = (at + 1) & stacks.mask) {
        const struct stack *known = &stacks.stack[stacks.table[at] - 1];
        if (known->hash == hash && known->count == count && memcmp(stacks.frames + known->first, frame, count * sizeof *frame) == 0)
            return stacks.table[at];
    }
    if (stacks.count == stacks.room) {
        stacks.room = stacks.room == 0 ? 1024 : 2 * stacks.room;
        stacks.stack = need_memory(stacks.stack, stacks.room, sizeof *stacks.stack);
    }
    if (stacks.used + count > stacks.frames_room) {
        stacks.frames_room = 2 * (stacks.frames_room + count) + 16384;
        stacks.frames = need_memory(stacks.frames, stacks.frames_room, sizeof *stacks.frames);
    }
    memcpy(stacks.frames + stacks.used, frame, count * sizeof *frame);
    stacks.stack[stacks.count] = (struct stack){hash, stacks.used, count};
    stacks.used += count;
    uint32_t head[2] = {++stacks.count, count};
    stacks.table[at] = stacks.count;
    struct record_part parts[] = {{head, sizeof head}, {frame, count * sizeof *frame}};
    record_file_add(SEEMALLOC_RECORDING_STACK, parts, 2);
    for (uint32_t i = 0; i < count; i++) {
        if (!record_modules_cover(frame[i])) record_stacks_uncovered = true;
    }
    return stacks.count;
}

void record_stacks_forget(void) {
    free(stacks.stack);
    free(stacks.frames);
    free(stacks.table);
    memset(&stacks, 0, sizeof stacks);
}
