/* subject.h: the allocator under test as a table of functions, so that the same player runs on seemalloc, on the system's malloc, and on either
 * of them spoilt in a known way, by which the player itself is tested. SPDX-License-Identifier: MIT */
#ifndef FUZZ_SUBJECT_H
#define FUZZ_SUBJECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct subject_totals {
    size_t in_use_bytes, in_use_count; /* chunks of arenas that are handed out, headers included */
    size_t mapped_bytes, mapped_count; /* mapped blocks, whole pages */
    size_t state_bytes;                /* of all states of arenas together */
    size_t heap_bytes;                 /* taken from the system for arenas */
    size_t free_count;                 /* chunks in any state but in use */
};

/* One block as the heap's own walk finds it. */
typedef void subject_visit(const void *mem, size_t size, bool mapped, void *arg);

struct subject {
    const char *name;
    bool perturbs; /* M_PERTURB fills every block (glibc's thread cache skips it) */
    bool strict;   /* aligned_alloc refuses an alignment that isn't a power of two (glibc 2.36 rounds it up) */
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t number, size_t size);
    void *(*realloc)(void *mem, size_t size);
    void *(*memalign)(size_t alignment, size_t size);
    void *(*aligned_alloc)(size_t alignment, size_t size);
    int (*posix_memalign)(void **mem, size_t alignment, size_t size);
    void (*free)(void *mem);
    size_t (*usable)(void *mem);
    int (*trim)(size_t pad);
    int (*mallopt)(int parameter, int value);
    void (*statistics)(bool alone); /* mallinfo2, malloc_info: must not crash and, while nobody else is at work, add up */

    /* NULL where the subject can't tell. */
    const char *(*check)(void);                    /* every invariant; NULL if all hold */
    bool (*totals)(struct subject_totals *totals); /* false: no memory for it */
    bool (*walk)(subject_visit *visit, void *arg); /* every block in use; likewise */
};

extern const struct subject subject_libc;

/* `of` spoilt in way `mutant`, 1 to SUBJECT_MUTANTS: see subject_mutant.c. One at a time. */
enum { SUBJECT_MUTANTS = 14 };
const struct subject *subject_mutant(const struct subject *of, unsigned mutant);
const char *subject_mutant_name(unsigned mutant);

/* The engine, where it is linked in (subject_engine.c). */
extern const struct subject subject_engine;

#endif
