/* seemalloc_recording.h: the file that `seemalloc run --record FILE` and `--sample BYTES` write, for those who read it. docs/recording.md explains it.
 *
 *   file    = struct seemalloc_recording_head, block, block, ... , a block SEEMALLOC_RECORDING_END
 *   block   = struct seemalloc_recording_block, `packed` bytes: `raw` bytes deflated by zlib (RFC 1950)
 *   raw     = records of one type, back to back
 *
 * All numbers are little-endian. Blocks of a type that a reader does not know are to be skipped. What an event refers to (a thread, a stack) comes in a block
 * before it. A file without its last block is of a recording that was cut short: all complete blocks count. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_RECORDING_H
#define SEEMALLOC_RECORDING_H

#include <stdint.h>

#define SEEMALLOC_RECORDING_MAGIC "seemrec\n" /* 8 bytes, without the final 0 */
#define SEEMALLOC_RECORDING_VERSION 1

enum seemalloc_recording_flags {
    SEEMALLOC_RECORDING_STACKS = 1, /* events have stacks */
    SEEMALLOC_RECORDING_SAMPLED = 2 /* only some allocations are there, each with a weight */
};

struct seemalloc_recording_head {
    char magic[8];
    uint32_t version;
    uint32_t head_bytes; /* of this struct: blocks begin there */
    uint32_t flags;      /* enum seemalloc_recording_flags */
    uint32_t pid;
    uint64_t begun;       /* nanoseconds since 1970, UTC */
    uint64_t sample_mean; /* bytes between two samples on average; 0: everything is recorded */
    uint32_t page_bytes;
    uint32_t command_bytes; /* of the command line behind this struct, its arguments ended by 0 each; counted in head_bytes */
};

enum seemalloc_recording_type {
    SEEMALLOC_RECORDING_END = 0,    /* one struct seemalloc_recording_end */
    SEEMALLOC_RECORDING_EVENTS = 1, /* struct seemalloc_recording_event, in order of time over all threads */
    SEEMALLOC_RECORDING_STACK = 2,  /* uint32_t id (from 1), uint32_t count, count × uint64_t return addresses, innermost first */
    SEEMALLOC_RECORDING_MODULE =
        3, /* struct seemalloc_recording_module, then its path and its build id; a later one takes the place of what it overlaps */
    SEEMALLOC_RECORDING_THREAD =
        4, /* struct seemalloc_recording_thread; a later one of the same id has the name that the thread then has */
    SEEMALLOC_RECORDING_PROCESS = 5 /* struct seemalloc_recording_process: how the whole process stands, some times a second */
};

struct seemalloc_recording_block {
    uint32_t type;     /* enum seemalloc_recording_type */
    uint32_t raw;      /* bytes, at most 16 MiB */
    uint32_t packed;   /* bytes that follow */
    uint32_t checksum; /* adler32 of the raw bytes */
};

enum seemalloc_recording_kind {
    SEEMALLOC_RECORDING_ALLOC = 1,  /* a block is there now */
    SEEMALLOC_RECORDING_FREE = 2,   /* it goes. Of samples: only of blocks whose ALLOC was sampled */
    SEEMALLOC_RECORDING_MOVED = 128 /* or'ed to both: the FREE and the ALLOC (in this order, also where the address stays) of one realloc */
};

struct seemalloc_recording_event {
    uint64_t time;   /* nanoseconds since `begun` */
    uint64_t mem;    /* address of the block */
    uint64_t bytes;  /* as asked for; of FREE 0 */
    uint64_t usable; /* what malloc_usable_size says; of FREE 0 */
    uint64_t weight; /* of samples: the bytes that this one stands for, so that sums are unbiased; otherwise = bytes. Of FREE 0 */
    uint32_t stack;  /* id; 0: not known */
    uint16_t thread; /* id */
    uint8_t kind;    /* enum seemalloc_recording_kind */
    uint8_t reserved;
};

struct seemalloc_recording_module {
    uint64_t start, end; /* addresses of one executable mapping */
    uint64_t offset;     /* of `start` in the file */
    uint64_t time;       /* since when, as far as known */
    uint32_t path_bytes, build_id_bytes;
};

struct seemalloc_recording_thread {
    uint32_t id, tid;
    char name[16]; /* ended by 0 */
};

struct seemalloc_recording_process {
    uint64_t time;
    uint64_t resident;                           /* bytes */
    uint64_t in_use, cached, free_bytes, mapped; /* of the allocator, bytes; all 0: not known at this moment */
    uint64_t minor_faults, major_faults;         /* so far */
};

struct seemalloc_recording_end {
    uint64_t time;
    uint64_t events;  /* in the file */
    uint64_t dropped; /* events that found no room */
    uint64_t late;    /* events that came too late to be put in order: they stand where they came */
    int32_t status;   /* as waitpid gives it */
    uint32_t forked;  /* processes that the program started and that were not recorded, as far as known */
};

#endif
