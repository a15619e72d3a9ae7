/* trace.h: what malloc and free tell a recording; only in the library's variant for it (SEEMALLOC_TRACE), elsewhere nothing of this is compiled.
 *
 *   malloc   bytes are taken from the thread's countdown; when it falls below 0: trace_allocated_slow
 *   free     if the byte of the filter for the block's address is not 0: the slow way
 *
 * Not recorded: the countdown is so large that it is never below 0, and the filter is 0. Sampled: the countdown is the distance to the next sample,
 * the filter counts sampled blocks that are live by address. Everything: the countdown is always -1, and the filter is 1.
 *
 * A forked child writes into none of its parent's rings: the filter and what else says that something is recorded are zero in it (MADV_WIPEONFORK).
 *
 * Nothing here is called with a lock held, none of it waits, and errno stays as it is. SPDX-License-Identifier: MIT */
#ifndef TRACE_TRACE_H
#define TRACE_TRACE_H

#include "base/base.h"

#ifdef SEEMALLOC_TRACE
#define TRACE_COMPILED true

#define TRACE_FILTER_SHIFT 11
#define TRACE_FILTER_BYTES ((size_t)1 << (32 - TRACE_FILTER_SHIFT))
extern uint8_t trace_filter[TRACE_FILTER_BYTES];
extern __thread int64_t trace_countdown __attribute__((tls_model("initial-exec")));

/* A block of `bytes` was allocated; or NULL was not. Returns mem. `moved`: by realloc. */
void *trace_allocated_slow(void *mem, size_t bytes, bool moved);

static ALWAYS_INLINE void *trace_allocated(void *mem, size_t bytes) {
    if (LIKELY((trace_countdown -= (int64_t)bytes) >= 0)) return mem;
    return trace_allocated_slow(mem, bytes, false);
}

static ALWAYS_INLINE bool trace_wants_free(const void *mem) {
    return UNLIKELY(load_hot(&trace_filter[(uint32_t)(uintptr_t)mem >> TRACE_FILTER_SHIFT]) != 0);
}

/* A block, or NULL, is about to be freed. */
void trace_freeing(const void *mem);

/* realloc: the first before it, the second after it with what the first returned; bytes != 0, and `moved` is NULL if it failed. */
uint64_t trace_moving(const void *mem);
void *trace_moved(uint64_t since, const void *mem, void *moved, size_t bytes);

/* When the process begins (also called by the first allocation, if that comes earlier), and ends. */
void trace_begin(void);
void trace_end(void);
void trace_fork_child(void);

#else
#define TRACE_COMPILED false

static ALWAYS_INLINE void *trace_allocated(void *mem, size_t bytes) {
    (void)bytes;
    return mem;
}
static ALWAYS_INLINE bool trace_wants_free(const void *mem) {
    (void)mem;
    return false;
}
static ALWAYS_INLINE void trace_freeing(const void *mem) { (void)mem; }
static inline void trace_begin(void) {}
static inline void trace_end(void) {}
static inline void trace_fork_child(void) {}

#endif
#endif
