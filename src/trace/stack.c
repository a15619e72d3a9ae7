/* stack.c: see stack.h. SPDX-License-Identifier: MIT */
#include "trace/stack.h"

#ifdef SEEMALLOC_TRACE

#include <unwind.h>

#include "os/os.h"
#include "trace/shared.h"

struct trace_stacks {
    uint64_t hash[TRACE_SLOTS]; /* 0: none */
    uint64_t found;             /* the hash that was last looked for */
};

extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char _etext[] __attribute__((visibility("hidden")));

struct walk {
    uint64_t *frame;
    unsigned count, depth;
};

static bool is_own(uint64_t address) { return address >= (uintptr_t)__ehdr_start && address < (uintptr_t)_etext; }

static _Unwind_Reason_Code visit(struct _Unwind_Context *context, void *arg) {
    struct walk *walk = arg;
    uint64_t address = _Unwind_GetIP(context);
    if (address == 0) return _URC_END_OF_STACK;
    if (walk->count == 0 && is_own(address)) return _URC_NO_REASON;
    walk->frame[walk->count++] = address;
    return walk->count < walk->depth ? _URC_NO_REASON : _URC_END_OF_STACK;
}

void stacks_begin(bool by_pointers) {
    (void)by_pointers;
    uint64_t frame[2];
    struct walk walk = {frame, 0, 2};
    _Unwind_Backtrace(visit, &walk); /* sets itself up now */
}

struct trace_stacks *stacks_new(void) {
    return os_map(NULL, align_up(sizeof(struct trace_stacks), os_page_size()), true, SEEMALLOC_CALL_MMAP_META);
}

unsigned stack_walk(struct trace_stacks *stacks, uint64_t *frame, unsigned depth) {
    (void)stacks;
    struct walk walk = {frame, 0, depth};
    _Unwind_Backtrace(visit, &walk);
    return walk.count;
}

static uint64_t stack_hash(const uint64_t *frame, unsigned count) {
    uint64_t hash = count;
    for (unsigned i = 0; i < count; i++) hash = (hash ^ frame[i]) * 0x9e3779b97f4a7c15u, hash ^= hash >> 29;
    return hash | 1;
}

bool stacks_find(struct trace_stacks *stacks, const uint64_t *frame, unsigned count, unsigned *slot) {
    stacks->found = stack_hash(frame, count);
    *slot = 1 + (unsigned)((stacks->found >> 32) % (TRACE_SLOTS - 1));
    return stacks->hash[*slot] == stacks->found;
}

void stacks_keep(struct trace_stacks *stacks, unsigned slot) { stacks->hash[slot] = stacks->found; }

void stacks_end(struct trace_stacks *stacks) { os_unmap_meta(stacks, align_up(sizeof *stacks, os_page_size())); }

#endif
