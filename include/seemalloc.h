/* seemalloc.h: what seemalloc offers beyond the standard malloc interface.
 *
 * malloc, free and the rest keep their declarations in <stdlib.h> and <malloc.h>; this header adds version, statistics and a walk of the
 * heap. All sizes are in bytes. A program that may run on another allocator declares the functions weak, or looks them up with dlsym.
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_H
#define SEEMALLOC_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SEEMALLOC_VERSION_MAJOR 0
#define SEEMALLOC_VERSION_MINOR 1
#define SEEMALLOC_VERSION_PATCH 0

/* The version of the library that is running, e.g. "0.1.0". The string is static. Thread-safe; never fails. */
const char *seemalloc_version(void);

/* Where the bytes of a heap are. Every byte that an arena took from the system belongs to exactly one chunk of one of these states. */
enum seemalloc_state {
    SEEMALLOC_IN_USE,         /* handed out to the program */
    SEEMALLOC_CACHED,         /* free, in a magazine of a thread cache */
    SEEMALLOC_PARKED,         /* free, in a batch that a cache gave back whole */
    SEEMALLOC_INBOX,          /* free, sent home by a thread of another arena, not yet fetched */
    SEEMALLOC_FAST,           /* free, in a fast bin, not merged */
    SEEMALLOC_UNSORTED,       /* free, in the unsorted bin (bin 1) */
    SEEMALLOC_SMALL,          /* free, in a small bin (2 to 63) */
    SEEMALLOC_LARGE,          /* free, in a large bin (64 to 126) */
    SEEMALLOC_LAST_REMAINDER, /* free, in a bin, and the rest of the last split */
    SEEMALLOC_PURGING,        /* free, taken out of its bin while its pages go back to the system */
    SEEMALLOC_TOP,            /* the top chunk, at the end of the newest region */
    SEEMALLOC_FENCEPOST,      /* the 16 bytes that end a region which can't grow any more */
    SEEMALLOC_ABANDONED,      /* lost to a fork that happened while another thread was changing this arena */
    SEEMALLOC_MAPPED,         /* handed out to the program, in a mapping of its own */
    SEEMALLOC_STATE_COUNT
};

/* A short English name of a state ("in use", "cached", …); "?" for a value that is none. The string is static. */
const char *seemalloc_state_name(enum seemalloc_state state);

enum seemalloc_region_kind { SEEMALLOC_REGION_BRK, SEEMALLOC_REGION_MMAP, SEEMALLOC_REGION_HEAP, SEEMALLOC_REGION_BLOCK };

/* One contiguous range that the allocator took from the system: a span of the program break, a mapping that stands in for it, a heap of an
 * arena that is not the main one, or the mapping of one large block. */
struct seemalloc_region {
    const void *start; /* first byte */
    const void *end;   /* one past the last usable byte */
    const void *limit; /* one past the last reserved byte; equal to end except in heaps */
    unsigned arena;    /* id of the arena; 0 is the main arena; 0 for blocks */
    enum seemalloc_region_kind kind;
};

#define SEEMALLOC_FLAG_P 1u /* the previous chunk is in use */
#define SEEMALLOC_FLAG_M 2u /* the chunk is a mapping of its own */
#define SEEMALLOC_FLAG_A 4u /* the chunk is not of the main arena */

struct seemalloc_chunk {
    const void *chunk; /* the header: prev_size at +0, size and flags at +8 */
    const void *mem;   /* what malloc returned: chunk + 16, aligned to 16 */
    size_t size;       /* of the chunk, header included; the user has size - 8 (mapped: size - 16) */
    size_t prev_size;  /* of the previous chunk if flag P is clear, else 0; mapped: bytes of the mapping before the chunk */
    unsigned flags;    /* SEEMALLOC_FLAG_* */
    unsigned arena;    /* id of the owner */
    int bin;           /* 1 to 126 if the chunk is in a bin, fast bin number from 0 if FAST, else -1 */
    enum seemalloc_state state;
    const struct seemalloc_region *region; /* where it lies; valid during the visit only */
};

/* Visits every chunk of every arena in address order within its region, then every mapped block. `visit` is called with an arena's lock
 * held: it must not call into the allocator, must not fork, and should be quick. A return value other than 0 ends the walk.
 * Returns that value, 0 after a whole walk, or -1 with errno ENOMEM if there was no memory for the list of cached blocks.
 * Blocks in magazines of other running threads are as those threads last published them. Thread-safe. */
int seemalloc_walk(int (*visit)(const struct seemalloc_chunk *chunk, void *arg), void *arg);

/* System calls by reason. */
enum seemalloc_call {
    SEEMALLOC_CALL_BRK_GROW,      /* sbrk(+n): the heap grows */
    SEEMALLOC_CALL_BRK_TRIM,      /* sbrk(-n): the top goes back */
    SEEMALLOC_CALL_MMAP_BLOCK,    /* mmap: a block at or above the threshold */
    SEEMALLOC_CALL_MMAP_REGION,   /* mmap: a region for the main arena where the break can't grow */
    SEEMALLOC_CALL_MMAP_HEAP,     /* mmap: a heap for another arena, reserved */
    SEEMALLOC_CALL_MMAP_META,     /* mmap: our own books: caches, arenas, tables */
    SEEMALLOC_CALL_MUNMAP_BLOCK,  /* munmap: a block freed */
    SEEMALLOC_CALL_MUNMAP_HEAP,   /* munmap: a heap or region that became wholly free */
    SEEMALLOC_CALL_MUNMAP_META,   /* munmap: excess of an aligned reservation, tables outgrown */
    SEEMALLOC_CALL_MREMAP_BLOCK,  /* mremap: realloc of a block */
    SEEMALLOC_CALL_MPROTECT_GROW, /* mprotect: a reserved heap made usable, in steps */
    SEEMALLOC_CALL_MADVISE_TRIM,  /* madvise: the top of a heap goes back */
    SEEMALLOC_CALL_MADVISE_PURGE, /* madvise: whole pages inside free chunks go back */
    SEEMALLOC_CALL_MADVISE_HUGE,  /* madvise: huge pages asked for, or not to be had (setting thp) */
    SEEMALLOC_CALL_MREMAP_MOVE,   /* mremap: pages of holes become those of a new block */
    SEEMALLOC_CALL_COUNT
};

/* A short name of a reason ("brk grow", "mmap block", …); "?" for a value that is none. The string is static. */
const char *seemalloc_call_name(enum seemalloc_call call);

struct seemalloc_stats {
    size_t bytes[SEEMALLOC_STATE_COUNT]; /* chunk bytes by state, headers included */
    size_t count[SEEMALLOC_STATE_COUNT]; /* chunks by state */
    size_t heap_bytes;                   /* taken from the system for arenas (break and regions, usable part); = sum of bytes but MAPPED */
    size_t heap_peak;                    /* highest value of heap_bytes + mapped_bytes, seen on slow paths */
    size_t mapped_bytes;                 /* mappings of large blocks, whole pages */
    size_t mapped_count;
    size_t retained_bytes; /* mappings of freed blocks that wait for the next ones, for a second at most */
    size_t metadata_bytes; /* usable memory mapped for our own books */
    size_t in_use_peak;    /* highest usable bytes in use seen on slow paths (grow, map, trim, walk) */
    unsigned arenas;       /* arenas that exist */
    unsigned threads;      /* thread caches that are live */
    size_t mmap_threshold; /* as it has slid so far */
    size_t trim_threshold;
    uint64_t calls[SEEMALLOC_CALL_COUNT]; /* system calls that succeeded, by reason */
    uint64_t failures;                    /* system calls that failed */
    size_t taken_bytes;                   /* what counts towards the limit: see seemalloc_set_limit */
};

/* Fills *stats by walking the heap: costs time in proportion to the number of chunks. Returns 0, or -1 with errno ENOMEM. Thread-safe. */
int seemalloc_get_stats(struct seemalloc_stats *stats);

/* Where the resident memory of the process is, in bytes. The first four hold what is on resident pages of the allocator's mappings, each byte in one of them. */
struct seemalloc_ledger {
    size_t bytes[SEEMALLOC_STATE_COUNT]; /* in chunks, by state */
    size_t retained;                     /* in mappings of freed blocks that wait for the next ones */
    size_t metadata;                     /* own books in mappings of their own; the library's data lie among `files` */
    size_t slack;  /* resident though nobody was given it since it came from the system or went back there: whole pages at the top, and of
                                            free chunks; what huge pages cause */
    size_t stacks; /* not ours: the main thread's, and mappings behind an inaccessible one, as those of threads behind their guard */
    size_t files;  /* programs, libraries and other files, with the data that follow them */
    size_t brk;    /* the break's, as far as it is not ours */
    size_t anonymous, other; /* other anonymous mappings; the rest, such as the kernel's own */
    size_t rss;              /* Rss of /proc/self/smaps_rollup */
    ptrdiff_t residual; /* rss less all above: what changed meanwhile; below 0 also pages that were only ever read, which rss leaves out */
    uint64_t minor_faults, major_faults;  /* of the process so far */
    uint64_t calls[SEEMALLOC_CALL_COUNT]; /* successful system calls of the allocator so far, by reason */
};

/* Fills *ledger. Costs time in proportion to chunks and pages, with each arena's lock held while it is looked at; allocates nothing but a list of our mappings
 * in a mapping of its own. Exact while no other thread is at work. Returns 0, or -1 with errno ENOENT where /proc/self/pagemap, smaps or smaps_rollup can't be
 * read, ENOMEM if there was no memory for the list. Thread-safe; not from a visit of seemalloc_walk, nor in a signal handler. */
#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow" /* a function and a structure of one name, as stat */
#endif
int seemalloc_ledger(struct seemalloc_ledger *ledger);
#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

/* The limit (setting `limit`): the most bytes that the allocator takes from the system. Counted are heaps, but for the pages of free chunks that went back;
 * mappings of large blocks, retained ones too; and its own books with all that they reserve, 240 KiB a thread and 120 KiB an arena. So what it has resident never exceeds the limit,
 * but for the library's own data (less than 1 MiB) and the lists of a walk. When a request would exceed it, everything freeable goes back first: the
 * thread's own cache, retained mappings, and of all arenas inboxes, unmerged blocks, free pages and tops; what other threads' caches hold stays. If that is
 * not enough, the callback is asked; then the call fails with ENOMEM, and the program can go on.
 *
 * Sets it; 0: none. A limit below what is taken already makes requests that need more fail until enough was freed. Thread-safe; never fails. */
void seemalloc_set_limit(size_t bytes);

/* Whom to ask before a request fails at the limit; NULL: nobody, as at the start. `callback` is called without any lock, on the thread whose request of `needed`
 * bytes (a little more than was asked for; of a growing mapping the growth) would fail. It may free and allocate; a request inside it that fails just fails.
 * It returns not 0 if it freed something: what is free goes back again, and the request is tried again, at most eight times. 0: the request fails.
 * Not asked where the limit itself is less than the request, or where the system refuses. It must return (no longjmp, no exception), and must not wait for a
 * thread that waits for memory, or for a lock that a caller of malloc may hold. It is not safe in signal handlers, as malloc is not. In a forked child it
 * stays set. May be called at any time, by one thread at a time; other threads may still be in the old callback. */
void seemalloc_on_limit(int (*callback)(size_t needed, void *arg), void *arg);

#ifdef __cplusplus
}
#endif

#endif
