/* shared.h: the memory that a recorded program and `seemalloc run --record` share: a head, and a ring for each thread at a time.
 *
 *   file = struct trace_shared, a memfd; what is not touched costs nothing
 *
 * A ring has one writer, the thread that claimed it, and one reader, the command. It is an array of 16-byte granules; `written` and `read` count granules
 * and only rise, so granule n stands at n % granules. Records, by the kind in the low four bits of word 1:
 *
 *   ALLOC   word 0 time   word 1 address | kind   word 2 bytes | stack slot << 48   word 3 usable bytes             two granules
 *   FREE    word 0 time   word 1 address | kind                                                                      one
 *   THREAD  word 0 time   word 1 tid << 4 | kind  word 2 serial | generation << 32  word 3 0  words 4, 5 name        three: the ring is this thread's from here
 *   NAME    word 0 time   word 1 kind             words 2, 3: the thread's name now                                  two
 *   STACK   word 0 slot | count << 16 | kind      word 1 kind  then `count` return addresses, innermost first        1 + (count + 1) / 2
 *
 * The writer fills granules and then publishes `written` (release); the reader takes them and then publishes `read` (release). Nobody waits: what finds
 * no room is counted in `dropped`. A stack stays at its slot until another STACK of the same thread takes the slot. SPDX-License-Identifier: MIT */
#ifndef TRACE_SHARED_H
#define TRACE_SHARED_H

#include <stdint.h>

#define TRACE_ENVIRONMENT                                                                                                                  \
    "_SEEMALLOC_RECORDING" /* not SEEMALLOC_…: those are settings. Its value: "PID/FD/ID" of the command, numbers in hexadecimal */
#define TRACE_VERSION 1
#define TRACE_RINGS 256
#define TRACE_GRANULES (1u << 18) /* of a ring: 4 MiB */
#define TRACE_DEPTH_MOST 64
#define TRACE_SLOTS 16384 /* stacks that a thread remembers; slot 0 is never used */
#define TRACE_MAPS 65536
#define TRACE_COMMAND 16384
#define TRACE_CHILDREN 64

enum trace_kind {
    TRACE_ALLOC = 1,
    TRACE_FREE = 2,
    TRACE_MOVED = 4, /* or'ed to both */
    TRACE_THREAD = 8,
    TRACE_NAME = 9,
    TRACE_STACK = 10,
    TRACE_KIND = 15
};

enum trace_unwind { TRACE_UNWIND_NONE, TRACE_UNWIND_TABLES, TRACE_UNWIND_POINTERS };

struct trace_granule {
    uint64_t word[2];
};

struct trace_ring {
    uint64_t claim; /* generation << 1 | 1 while a thread has it; atomic */
    uint64_t unused0[7];
    uint64_t written, dropped; /* the thread's */
    uint64_t unused1[6];
    uint64_t read; /* the command's */
    uint64_t unused2[7];
} __attribute__((aligned(64)));

struct trace_head {
    uint64_t id; /* random: which recording this is */
    uint32_t version;
    uint32_t pid;         /* of the program that is recorded; 0: not known yet */
    uint32_t use_counter; /* times are the processor's counter; else nanoseconds of CLOCK_MONOTONIC */
    uint32_t unwind;      /* enum trace_unwind */
    uint32_t depth;       /* frames at most */
    uint64_t sample_mean; /* bytes; 0: everything is recorded */
    /* From here on written by the program. */
    uint32_t generation;               /* how many programs have begun to record: 1, and more after exec */
    uint32_t serial;                   /* of threads so far */
    uint64_t lost;                     /* events of threads that found no ring, or of blocks that could not be remembered */
    uint32_t forked;                   /* processes that the program started, as far as they told */
    uint32_t child;                    /* index of the next one in: */
    uint32_t children[TRACE_CHILDREN]; /* numbers of forked ones that have told: they don't tell again when they execute a program */
    uint32_t maps_length[2];           /* of what stands in /proc/self/maps at the begin and at the end; 0: not there yet */
    char maps[2][TRACE_MAPS];
    uint32_t command_length;
    char command[TRACE_COMMAND]; /* /proc/self/cmdline, at most so much */
} __attribute__((aligned(4096)));

struct trace_shared {
    struct trace_head head;
    struct trace_ring ring[TRACE_RINGS];
    struct trace_granule granule[TRACE_RINGS][TRACE_GRANULES];
};

/* The counter that events are stamped with: one for all processors, at a steady rate. `use_counter` is only set where there is one. */
static inline uint64_t trace_counter(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t now;
    __asm__ __volatile__("mrs %0, cntvct_el0" : "=r"(now));
    return now;
#else
    return 0;
#endif
}

/* A processor reads its counter ahead of what it waits for: this makes it wait until all that was to be read from memory is there. */
static inline void trace_counter_fence(void) {
#if defined(__x86_64__)
    __builtin_ia32_lfence();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
}

#endif
