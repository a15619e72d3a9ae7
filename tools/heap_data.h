/* heap_data.h: writes a heap into the page that shows it: "seemalloc heap data, version 1" (docs/heap-data.md).
 *
 *   heap_data_open ──> (heap_data_region ──> heap_data_chunk … and heap_data_pages …) … ──> heap_data_close
 *
 * Chunks and pages are compressed and written as they come, in blocks; what is kept is one block of each and the list of regions. Between open and
 * close nothing is allocated but room for that list, so that a process can write its own heap while it walks it (heap_data_reserve).
 *
 * Errors are remembered: the calls in between return nothing, and heap_data_close says whether all went well. Not thread-safe.
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_HEAP_DATA_H
#define SEEMALLOC_TOOL_HEAP_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "seemalloc.h"

struct heap_data_arena {
    unsigned id;
    const char *kind; /* "main", "thread", "spare", "abandoned" */
    unsigned threads;
    uint64_t system_bytes;
    uint64_t top; /* address of the top chunk; 0: none */
};

struct heap_data_magazine {
    uint64_t block_size; /* chunk bytes of the class */
    unsigned size_class, blocks, limit;
};

struct heap_data_cache {
    uint64_t thread; /* the thread's id; 0 if it is not known */
    unsigned arena;
    size_t magazine_count;
    const struct heap_data_magazine *magazines; /* those that are not empty */
};

struct heap_data_setting {
    const char *name, *unit, *source; /* where the value comes from, e.g. "environment" */
    uint64_t value, standard;
};

struct heap_data_event { /* a system call of the event ring */
    uint64_t time;       /* nanoseconds, monotonic clock */
    const char *call;
    uint64_t address, size;
};

struct heap_data_sample {
    uint64_t time; /* nanoseconds, monotonic clock */
    uint64_t in_use, cached, free, resident, minor_faults;
};

struct heap_data_number {
    const char *name;
    uint64_t value;
};

/* All that is not chunks and pages. Lists may be empty; strings may not be NULL. */
struct heap_data_head {
    const char *process;            /* its name */
    const char *version;            /* of its library */
    const char *read;               /* "frozen", "live", "core" or "snapshot" */
    uint64_t pid;                   /* 0: unknown */
    uint64_t real_time, clock;      /* when it was read: milliseconds since 1970, and nanoseconds on the clock of events and samples */
    bool torn;                      /* parts changed while they were read */
    const char *const *state_names; /* SEEMALLOC_STATE_COUNT of them */
    size_t arena_count, cache_count, call_count, counter_count, setting_count, event_count, sample_count, ledger_count;
    const struct heap_data_arena *arenas;
    const struct heap_data_cache *caches;
    const struct heap_data_number *calls;     /* system calls by reason */
    const struct heap_data_number *counters;  /* names as in struct seemalloc_stats */
    const struct heap_data_setting *settings; /* those that differ from their default */
    const struct heap_data_event *events;     /* oldest first */
    const struct heap_data_sample *samples;   /* oldest first */
    const struct heap_data_number *ledger;    /* resident bytes, in an order in which they add up to RSS */
};

struct heap_data;

/* `page` is the template, `length` bytes of HTML; it must live until heap_data_close. NULL with errno: EINVAL if it has no place for the data (or two),
 * ENOMEM. Writes what comes before the data to `out`, which stays the caller's. */
struct heap_data *heap_data_open(FILE *out, const char *page, size_t length, uint64_t page_size);

/* Room for so many regions, so that no call until heap_data_close allocates. False with errno ENOMEM. */
bool heap_data_reserve(struct heap_data *data, size_t regions);

/* A new region begins; the one before it is complete: what its chunks left of it is marked as torn. */
void heap_data_region(struct heap_data *data, const struct seemalloc_region *region);

/* The next chunk of the region, in address order. Bytes between the chunk before and this one are marked as torn; a chunk that begins before the last
 * one ended, or that reaches beyond the region, is left out for the same. `bin` as in struct seemalloc_chunk. */
void heap_data_chunk(struct heap_data *data, uint64_t address, uint64_t size, enum seemalloc_state state, int bin);

/* The next `count` pages of the region, from the one that its start lies in, are in memory or not. Pages that nothing is said of count as in memory. */
void heap_data_pages(struct heap_data *data, uint64_t count, bool resident);

/* Writes the rest, and frees `data`. False with errno if anything since heap_data_open failed: ENOMEM, or why writing failed. */
bool heap_data_close(struct heap_data *data, const struct heap_data_head *head);

#endif
