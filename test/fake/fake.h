/* fake.h: the controls of the operating system that tests run the allocator on (prim_fake.c, in the place of src/os/prim_linux.c).
 *
 * The memory is real, the rest is staged: the page size, a program break of its own inside a reserved area, foreign callers of sbrk,
 * refusals on demand, a limit on the address space, clock, random numbers, CPUs, files. With the same seed and the same calls it does the
 * same again. It also holds the allocator to the contract: a range that isn't page-aligned, or that the allocator never got, ends the
 * program with a message. Thread-safe but for the functions that say otherwise. SPDX-License-Identifier: MIT */
#ifndef FAKE_FAKE_H
#define FAKE_FAKE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fake_call {
    FAKE_SBRK,
    FAKE_MAP,
    FAKE_UNMAP,
    FAKE_REMAP,
    FAKE_USABLE,
    FAKE_UNUSABLE,
    FAKE_DISCARD,
    FAKE_WIPE,
    FAKE_HUGE,
    FAKE_MOVE,
    FAKE_RENEW,
    FAKE_CALLS
};

/* Which calls of one kind are refused. All zero: none. The conditions add up. */
struct fake_plan {
    uint32_t skip;      /* let that many calls pass first; the others count from there */
    uint32_t next;      /* then refuse that many in a row */
    uint32_t every;     /* refuse every n-th */
    uint32_t per_mille; /* refuse at random */
};

struct fake_counts {
    uint64_t calls[FAKE_CALLS];    /* that were made */
    uint64_t failed[FAKE_CALLS];   /* of these refused, for whatever reason */
    uint64_t injected[FAKE_CALLS]; /* of these refused by a plan */
    uint64_t name_calls;           /* for names of mappings */
    size_t mapped;                 /* bytes of mappings, reserved and usable */
    size_t usable;                 /* the usable part of these */
    size_t mapped_peak;
    size_t extents;       /* runs of mapped bytes of the same access and name: what the kernel's list of mappings would hold */
    size_t brk_bytes;     /* from the start of the break to where it is, foreign pieces included */
    size_t foreign_bytes; /* that foreign callers of sbrk hold at present */
};

const char *fake_call_name(enum fake_call call);

/* Page size: 4096, 16384 or 65536. Before the allocator first asks; FAKE_PAGE_SIZE in the environment says the same to a program whose
 * constructors ask already. */
void fake_set_page_size(size_t size);

void fake_seed(uint64_t seed);
void fake_plan_set(enum fake_call call, struct fake_plan plan);
void fake_plan_all(struct fake_plan plan); /* for every call but FAKE_WIPE */
void fake_calm(void);                      /* no plans, no limits, room for the break, no more foreign callers */

void fake_set_space_limit(size_t bytes);  /* of mappings and break together, beyond which the system refuses; SIZE_MAX: none */
void fake_tell_space_limit(size_t bytes); /* what prim_address_space_limit answers, if it shall differ from the true one */
void fake_set_brk_room(size_t bytes);     /* by how much the break may yet grow: 0 is a break that refuses always; SIZE_MAX: a lot */
void fake_set_brk_start(size_t offset);   /* not on a page border; before the first sbrk */

/* Foreign callers of sbrk. Their pieces carry a pattern, which fake_check looks at. */
bool fake_foreign_take(size_t bytes);                      /* not concurrently with the allocator */
bool fake_foreign_release(void);                           /* the newest piece, if it is at the end of the break; likewise */
void fake_foreign_chance(unsigned per_mille, size_t most); /* takes 1 to `most` bytes just before the allocator's own growth */

/* How prim_remap grows: where it can in place (at random if both work), always by moving, or only in place. */
enum fake_remap { FAKE_REMAP_EITHER, FAKE_REMAP_MOVE, FAKE_REMAP_STAY };
void fake_set_remap(enum fake_remap how);

/* Whether mappings can have names, as in kernels since 5.17 that were built so; and the name of the one that holds `at`, NULL: none. */
void fake_set_names(bool can);
const char *fake_name_of(const void *at);

void fake_set_cpus(unsigned count);
void fake_set_cpu(int cpu);                                 /* where every thread runs; -1: each in turn, for 16 questions */
void fake_set_clock(uint64_t now, uint64_t step);           /* step: nanoseconds that every look at the clock takes */
void fake_set_file(const char *path, const char *contents); /* both must outlive the test; at most 16; all others are absent */
void fake_set_environment(char **environment, bool known);  /* instead of environ; known = false: as before libc has initialised */
void fake_set_main_thread(int is_main);                     /* of the calling thread: 1 yes, 0 no, -1 as it really is */

/* Standard error as the allocator wrote it so far (the newest 8 KiB), NUL-terminated. With echo off it isn't shown. Not thread-safe. */
const char *fake_written(void);
void fake_clear_written(void);
void fake_set_echo(bool on);

/* Instead of abort(). The function must not return. */
void fake_on_abort(void (*function)(void));

struct fake_counts fake_count(void);
bool fake_is_mapped(const void *start, size_t size, bool usable); /* wholly ours (and usable); the break's area counts */

/* NULL if foreign memory is as its owners left it and the books are in order, else what is wrong (static). */
const char *fake_check(void);

/* Gives back all mappings and the whole break, as at the start; counts and settings too. The allocator must not be used between this and the
 * moment when its own state is as at the start again. What was mapped when fake_keep was called stays, with the contents of then. Neither is
 * thread-safe. */
void fake_restart(void);
void fake_keep(void);

#endif
