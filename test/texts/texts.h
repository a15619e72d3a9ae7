/* texts.h: what the tests of the texts' points have in common: checks that print what was found and what was expected, a picture of the
 * heap by seemalloc_walk, and what the kernel says about this process.
 *
 * Nothing here allocates: the heap that is looked at must be the test's own work. Output goes straight to write(), lists live in static
 * arrays. Every program starts itself anew with exactly the settings its point needs (texts_begin), whatever the caller's environment is.
 * SPDX-License-Identifier: MIT */
#ifndef TEXTS_H
#define TEXTS_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "../kernel.h"
#include "seemalloc.h"

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

/* The cache and what goes home by itself, which the texts do not know, off. */
#define NO_CACHE "tcache_max:0,decay:-1"
/* The setting of T6 to T13: the thresholds do not slide and picture 9 comes. */
#define NO_CACHE_NO_SLIDING NO_CACHE ",trim_threshold:131072"

/* Checks. A failed check is printed and counted, and the program goes on; REQUIRE is for what the rest can't do without. In loops set
 * texts_quiet, then only failures are printed. */
extern int texts_quiet;
void texts_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
int texts_check(const char *file, int line, const char *what, int ok);
int texts_check_range(const char *file, int line, const char *what, uint64_t found, uint64_t lowest, uint64_t highest);
void texts_require(const char *file, int line, const char *what, int ok);

#define CHECK(what, condition) texts_check(__FILE__, __LINE__, what, !!(condition))
#define CHECK_EQ(what, found, expected) texts_check_eq(__FILE__, __LINE__, what, (uint64_t)(found), (uint64_t)(expected))
#define CHECK_IN(what, found, lowest, highest)                                                                                             \
    texts_check_range(__FILE__, __LINE__, what, (uint64_t)(found), (uint64_t)(lowest), (uint64_t)(highest))
#define CHECK_PTR(what, found, expected)                                                                                                   \
    texts_check_eq(__FILE__, __LINE__, what, (uint64_t)(uintptr_t)(found), (uint64_t)(uintptr_t)(expected))
#define REQUIRE(what, condition) texts_require(__FILE__, __LINE__, what, !!(condition))

static inline int texts_check_eq(const char *file, int line, const char *what, uint64_t found, uint64_t expected) {
    return texts_check_range(file, line, what, found, expected, expected);
}

/* Starts the program anew with SEEMALLOC_CONF=conf and no other allocator setting in its environment, checks that the malloc that is
 * running is seemalloc, and touches all its code and data once, so that later faults are the heap's. Returns the name of the part to
 * run: "" at first, else what texts_again was given. */
const char *texts_begin(char **argv, const char *point, const char *conf);

/* Runs this program anew in a child with argv[1] = part and the environment changed by `set` ("NAME=value", ended by NULL; all other
 * allocator settings are removed). Its failures count as ours. */
void texts_again(const char *part, const char *const *set);

/* A block that is too large for the heap (and for the sliding of the thresholds) comes and goes: afterwards the library has what it sets up
 * once for a thread, and the heap is untouched. texts_begin does it for the main thread. */
void texts_set_up(void);

/* For points that need several heaps in their first state: runs each part in a program of its own with SEEMALLOC_CONF=conf. `part` is what
 * texts_begin returned. */
struct texts_part {
    const char *name;
    void (*run)(void);
};
void texts_parts(const char *part, const char *conf, const struct texts_part *parts, size_t count);

/* What the command, whose path is in TEXTS_TOOL, says when told `argument`: its output, or NULL (said so) without TEXTS_TOOL. */
const char *texts_tool(const char *argument);

/* Prints the sum; the program's exit status. */
int texts_end(void);

/* The standard functions, called so that the compiler can't leave them out. */
void *get(size_t size);
void put(void *mem);
void *resize(void *mem, size_t size);
/* Writes every byte. */
void fill(void *mem, size_t size, int byte);
/* Whether every byte still is as written. */
int filled(const void *mem, size_t size, int byte);
/* get and fill, and the program ends where memory is out. */
void *get_filled(size_t size);
/* A block whose chunk has exactly this size, followed by a smallest chunk in use that keeps it from merging with what comes after. Cut from
 * the top if nothing free fits. */
void *get_guarded(size_t chunk_size);
/* Makes the allocator sort all of the unsorted bin into the bins, by large requests that only the top can serve. */
void sort_bins(void);

/* Chunk size of a request: 8 bytes of header, rounded up to 16, at least 32. */
static inline size_t chunk_of(size_t request) {
    size_t size = (request + 8 + 15) & ~(size_t)15;
    return size < 32 ? 32 : size;
}

/* Request that a chunk of this size serves exactly. */
static inline size_t request_of(size_t chunk) { return chunk - 8; }

static inline size_t round_up(size_t value, size_t unit) { return (value + unit - 1) / unit * unit; }

/* One chunk as seen by a walk; addresses as numbers, the region copied. */
struct view {
    uintptr_t chunk, mem, end; /* end = chunk + size */
    size_t size, prev_size;
    unsigned flags, arena;
    int bin;
    enum seemalloc_state state;
    uintptr_t region_start, region_end, region_limit;
    enum seemalloc_region_kind kind;
};

/* Takes a picture of all chunks and checks what must hold in every picture: chunks tile their region, P says the truth, feet repeat
 * sizes, free neighbours are merged, headers in memory say what the walk says. */
void look(void);
extern struct view views[];
extern size_t view_count;
/* In the last picture: the chunk whose user pointer is mem (NULL if none, else also free ones); the one after or before it in its region. */
const struct view *view_of(const void *mem);
const struct view *view_at(uintptr_t chunk);
const struct view *view_next(const struct view *v);
const struct view *view_prev(const struct view *v);
const struct view *view_top(unsigned arena);
/* Chunks of a state, their bytes, and the only one of a state (NULL if none or several). */
size_t views_in(enum seemalloc_state state);
size_t bytes_in(enum seemalloc_state state);
const struct view *only_in(enum seemalloc_state state);
/* Whether the chunk is free and merged with its neighbours: in unsorted, small or large bin. */
int is_binned(const struct view *v);
/* State of the chunk at mem in the last picture; SEEMALLOC_STATE_COUNT if mem is not the start of a chunk (it was merged into another). */
enum seemalloc_state state_of(const void *mem);
int bin_of(const void *mem);

/* The words of a chunk, read from memory. */
struct raw_chunk {
    size_t prev_size;
    uint64_t head;
    uintptr_t fd, bk, fd_nextsize, bk_nextsize;
};
static inline const struct raw_chunk *raw(uintptr_t chunk) { return (const struct raw_chunk *)chunk; }
/* Without the seal. */
static inline size_t raw_size(uintptr_t chunk) { return (size_t)(raw(chunk)->head & 0x0000FFFFFFFFFFF0u); }
static inline unsigned raw_flags(uintptr_t chunk) { return (unsigned)(raw(chunk)->head & 7u); }

/* The ring of the bin that the chunk is in: follows fd from the bin's own pseudo-chunk around to it, checks bk at every step; chunk
 * addresses in fd order (from the head, where chunks enter) to `out`. Returns their number, 0 if the ring is broken. */
size_t ring_of(uintptr_t chunk, uintptr_t *out, size_t room);

/* Counters of the library. */
struct seemalloc_stats stats_now(void);
static inline uint64_t calls_between(const struct seemalloc_stats *before, const struct seemalloc_stats *after, enum seemalloc_call call) {
    return after->calls[call] - before->calls[call];
}
/* All system calls that change the address space, our own books excepted. */
uint64_t calls_all_between(const struct seemalloc_stats *before, const struct seemalloc_stats *after);

/* The kernel's account of this process, beyond kernel.h. */
extern size_t page_size;
uint64_t minor_faults(void);
uint64_t major_faults(void);
uintptr_t brk_now(void);
static inline size_t pages_spanned(uintptr_t from, uintptr_t to) { return from >= to ? 0 : (to - 1) / page_size - from / page_size + 1; }
/* The page frame behind an address, 0 if not told. */
uint64_t page_frame(uintptr_t address);
/* Virtual size of the process in bytes. */
size_t virtual_bytes(void);
/* A field of /proc/self/status that is in kB ("VmData:"), in bytes. */
size_t status_bytes(const char *field);

struct kernel_view {
    uintptr_t start_code, end_code, start_data, end_data, start_brk, start_stack;
};
struct kernel_view kernel_view(void);

/* The mapping that holds an address; 0 if there is none. */
int mapping_of(uintptr_t address, struct mapping *out);
/* Number of mappings (VMAs). */
size_t mapping_count(void);
/* Size and resident bytes of the VMA that holds an address, from smaps; 0 if there is none. */
int smaps_of(uintptr_t address, size_t *size, size_t *rss);
/* Whether a read of the byte would succeed (asks the kernel, does not trap). */
int is_readable(uintptr_t address);

#endif
