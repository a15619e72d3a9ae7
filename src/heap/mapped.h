/* mapped.h: blocks in mappings of their own.
 *
 *   mapping ─> [lead][chunk: prev_size = lead, head = size | M][user data … to the end of the mapping]       size = end - chunk
 *
 * The extent of every mapping is recorded out of line: what is unmapped is what the record says, never what a header says. The table is
 * lock-free: a slot is claimed with one compare-and-swap and freed with another, so two frees of one block can't both win, a fork needs no
 * lock, and a reader walks it at any time. Thread-safe. SPDX-License-Identifier: MIT */
#ifndef HEAP_MAPPED_H
#define HEAP_MAPPED_H

#include "heap/chunk.h"

struct mapped_record {
    uintptr_t chunk; /* 0 empty, 1 claimed, else the chunk's address */
    size_t lead;     /* bytes before the chunk; both valid once `chunk` is an address */
    size_t length;   /* of the whole mapping */
};

/* The table, for readers from outside: segments of MAPPED_FIRST << (MAPPED_GROWTH · i) records, and a few more. */
#define MAPPED_FIRST 128
#define MAPPED_GROWTH 2
#define MAPPED_SEGMENTS 9
#define MAPPED_OVERFLOW 32
#define MAPPED_CLAIMED 1u
extern struct mapped_record *mapped_segments[MAPPED_SEGMENTS], mapped_overflow[MAPPED_OVERFLOW];

extern size_t mapped_count, mapped_bytes, mapped_count_peak, mapped_bytes_peak; /* relaxed atomics */

/* A new block whose chunk has `size` bytes at least, mem aligned to `align` (a power of two, 16 at least). *zeroed: it is all zero. NULL if there
 * is no memory or there are too many. */
void *mapped_alloc(size_t size, size_t align, bool *zeroed);

/* Unmaps, or retains the mapping (retain.h). `mem` must be a pointer that free got; a chunk that is not recorded aborts with `line`. The
 * sliding threshold is the caller's. */
void mapped_free(void *mem, const char *line);

/* Resizes, moving it if it must; the block keeps its first min(old, new) bytes. NULL, the old block untouched, if refused. */
void *mapped_realloc(void *mem, size_t size);

bool mapped_owns(const void *mem);

/* Calls visit for each record until it returns non-zero; returns that. */
int mapped_walk(int (*visit)(const struct mapped_record *record, void *arg), void *arg);

/* Calls visit for each mapping that the table itself takes. */
void mapped_walk_books(void (*visit)(const void *start, size_t size, void *arg), void *arg);

#endif
