/* arena.h: an arena: a lock, and under it the chunks of some regions: where memory is cut, merged, binned and given back.
 *
 *   system_bytes = in use + cached and parked (the cache's and the depot's matter) + inbox + fast + bins.bytes + top + fenceposts
 *
 * An arena knows chunks and batches of blocks (void **, n), and never a thread cache. Blocks that are cached, parked or in the inbox keep their
 * in-use seal, fast ones are sealed as loose, and all keep their neighbours' P bits; everything else that is free is merged, sealed as binned, and in a bin.
 *
 * Locks: everything but `inbox`, `inbox_bytes`, `threads` (atomics) needs `lock`. lock_enter may refuse (fork is under way, or a signal
 * handler interrupted us): then an allocation goes to the spare arena or becomes a mapping, and a free goes to the inbox. No critical section
 * merges more than ARENA_STEP chunks of backlogs, sorts more than as many, or makes more than a few system calls. SPDX-License-Identifier: MIT */
#ifndef ARENA_ARENA_H
#define ARENA_ARENA_H

#include "heap/bin.h"
#include "heap/region.h"
#include "os/lock.h"
#include "os/os.h"

#define ARENA_STEP 64    /* chunks of backlogs that one critical section merges at most, and as many that it sorts */
#define ARENA_LIMIT 1024 /* ids are below this */
#define FAST_BINS 63     /* chunk sizes 32 to 1024; those above M_MXFAST only of what will soon be wanted again, or swept */
#define FAST_LANES 8
#define BATCH_MAX 64     /* blocks that an arena gives or takes at a time */
#define RECEIVE_SHARE 16 /* of the arena, or so much of every one, may lie unmerged before what arrives in the inbox is merged */
#define RECEIVE_BYTES KIB(256)
#define LEND_SHARE 64       /* an arena lends when this share of it is free, */
#define LEND_BYTES KIB(128) /* and this much */
#define LENDERS 8           /* arenas that are looked at */
#define UNMERGED_SHARE 10   /* of the arena lies unmerged: merge it before the arena grows */
#define SORT_ROUNDS 64      /* critical sections of ARENA_STEP sortings that one request makes at most before the arena grows */
#ifdef SEEMALLOC_DEBUG
#define SWEEP_LEAST KIB(8) /* the fuzzers' heaps are small */
#else
#define SWEEP_LEAST MIB(1)
#endif
#define SWEEP_SHARE 8 /* of the arena lies in fast bins: they are swept */
#define REST_SHARE 32 /* of a request: half of what a size class rounds up; less is not cut off */

/* Last in, first out, in lanes: the i-th block that comes lies in lane i % FAST_LANES. Where one list would be walked with one cache miss after
 * the other, the lanes' misses overlap. */
struct fast_bin {
    void *lane[FAST_LANES];       /* chains of blocks, linked by covered links */
    const void *from[FAST_LANES]; /* the block whose link led to the lane's first: for the message if it leads astray */
    uint32_t count;
};

enum purge_state {
    PURGE_NONE,
    PURGE_BUSY,   /* the system is being called, without the lock */
    PURGE_WAITED, /* likewise, and somebody sleeps */
    PURGE_OVER    /* who enters the arena next puts the chunk back */
};

/* Memory that lies free and touched for a whole window of time (the setting `decay`) was not needed in it, and goes back at its end; unless experience
 * says that it is soon wanted again. */
struct tend {
    uint64_t window; /* when it began */
    size_t due;      /* bytes in holes that shall go back now; atomic */
    unsigned at_bin; /* where purging it has come to, from above; 0: not begun */
    size_t at_size;
    size_t hold;           /* bytes that stay, */
    uint64_t hold_until;   /* at least until then */
    unsigned patience;     /* windows from a regret until nothing is held; twice as many after each, half as many after long without one */
    size_t reused, regrow; /* bytes of what went back that were handed out since; bytes that went back at the top */
    size_t given[2];       /* bytes that went back in the last windows and in those before */
    unsigned windows;      /* that ended, */
    unsigned regret;       /* and how many had when there was regret, or patience fell */
    size_t left[3];        /* what lay in holes, at the top, and unmerged when the last one ended; */
    bool is_still;         /* the same as before; atomic */
};

/* Fast blocks that are merged in address order (sweep.c). */
struct sweep {
    struct region *region; /* this one is gone over, NULL: none is, */
    struct chunk *at;      /* and it has come so far */
    size_t loose;          /* blocks in no list, but for mistakes only while a region is gone over */
};

/* What is known of a block's memory. */
struct fresh {
    bool zeroed;       /* it reads as zero */
    struct span pages; /* that nobody has touched yet; a hint, for what says so may lie in a free chunk */
};

struct arena {
    struct lock lock;
    uint32_t id;
    uint32_t flag_a;  /* FLAG_A, or 0 in the main arena */
    bool is_spare;    /* serves those who can't have their own; no thread is attached to it */
    uint32_t threads; /* caches attached; atomic */

    unsigned steps; /* what is left of ARENA_STEP in this critical section */

    struct chunk *top; /* NULL before the first growth and after the only region went back */
    char *top_end;     /* end of top and of its region: never read from a header */
    struct region *top_region;
    struct region *regions; /* newest first */
    struct chunk *last_remainder;
    size_t system_bytes, system_peak;
    size_t regret;      /* bytes at the top that experience says are needed again */
    size_t trimmed;     /* what a trim left at the top, if that was the last change of size, or 0 */
    size_t needed;      /* highest sum of what was handed out, as seen at large requests, and what lay beside that and could not go back */
    size_t debt;        /* new pages that large requests brought since more was resident than needed and a little more; */
    struct fresh fresh; /* of the block that this hold of the lock cuts */
    size_t surplus;     /* as much of it as shall go back; atomic */

    struct chunk *purging; /* taken out of its bin while its pages go back; NULL: none */
    uint32_t purge_state;  /* enum purge_state, of that; atomic */
    struct span purged;    /* what of it has no pages; who purges writes it before it changes the state, */
    size_t purging_clean;  /* and how much that was before */
    size_t counted_clean;  /* as much of bins.clean and purging_clean as counts as given back */
    size_t top_low;        /* least of what lay touched at the top in this window */
    size_t fast_low;       /* and of fast_bytes */
    struct tend tend;

    size_t fast_bytes;   /* of those in fast bins and of loose ones, */
    uint32_t fast_count; /* and how many */
    struct sweep sweep;
    void *inbox_rest; /* the part of the inbox that was fetched but not looked at yet */

    void *inbox __attribute__((aligned(CACHE_LINE))); /* chain of blocks that others sent home; atomic */
    size_t inbox_bytes;                               /* of inbox and inbox_rest; atomic */

    /* To here, and the bins but for most of their index: one page. What follows is touched where it is used. */
    struct bins bins __attribute__((aligned(CACHE_LINE)));
    struct fast_bin fast[FAST_BINS];
};

enum arena_status {
    ARENA_OK,
    ARENA_FULL,    /* no memory */
    ARENA_REFUSED, /* the lock can't be had; try another */
    ARENA_MAP      /* nothing free fits, and the size is one for a mapping of its own */
};

_Static_assert(offsetof(struct arena, bins) + offsetof(struct bins, first) < 4096, "the first page");

extern struct arena arena_main;
extern struct arena *arena_table[ARENA_LIMIT]; /* by id; [0, seal.arenas) are set */

void arena_put_back(struct arena *arena); /* the chunk that was purged; the lock is held */

/* The lock was just taken. */
static inline void arena_entered(struct arena *arena) {
    arena->steps = ARENA_STEP;
    if (UNLIKELY(load_acquire(&arena->purge_state) == PURGE_OVER)) arena_put_back(arena);
}

/* Takes the lock. False: it can't be had; go elsewhere. */
static inline bool arena_enter(struct arena *arena) {
    if (!lock_enter(&arena->lock)) return false;
    arena_entered(arena);
    return true;
}

/* The part of a free chunk that has no pages, where one can hold any. */
static inline struct span arena_clean(const struct arena *arena, const struct chunk *chunk, size_t size) {
    return size >= arena->bins.paged_least ? chunk_clean(chunk, size) : (struct span){NULL, NULL};
}

static inline void arena_count_fast(struct arena *arena, int n, ptrdiff_t bytes) {
    store_relaxed(&arena->fast_bytes, arena->fast_bytes + (size_t)bytes);
    arena->fast_count += (uint32_t)n;
}

/* A header's end: it is part of `into` now. */
static inline void arena_absorb(struct arena *arena, struct chunk *chunk, struct chunk *into) {
    if (UNLIKELY(arena->sweep.at == chunk)) arena->sweep.at = into;
    chunk_wipe(chunk);
}

static inline void arena_sweep_region(struct arena *arena, struct region *region) {
    arena->sweep.region = region;
    arena->sweep.at = region != NULL ? (struct chunk *)region->start : NULL;
}

/* With the lock, wherever bins.clean may have changed and before anything is handed out: counts what the holes have no pages for as given back, and what they
 * may get pages for as taken. */
static inline void arena_count_clean(struct arena *arena) {
    size_t clean = arena->bins.clean + arena->purging_clean;
    if (LIKELY(clean == arena->counted_clean)) return;
    os_give(clean - arena->counted_clean);
    arena->counted_clean = clean;
}

/* The smallest rest that is cut off a chunk: less, and it lies about until its neighbour is freed, sorted, searched and of no use. */
static inline size_t arena_least_rest(size_t size) { return max_size(CHUNK_MIN, size / REST_SHARE); }

/* Some of what lay in fast bins was handed out. */
static inline void arena_note_fast(struct arena *arena) { arena->fast_low = min_size(arena->fast_low, arena->fast_bytes); }

/* Pointers from one array to another, aligned words: who looks for a block meanwhile reads the old pointer or the new one, and only compares it. */
static inline void slots_move(void **to, void **from, unsigned n) {
#ifdef __SANITIZE_THREAD__
    for (unsigned i = 0; i < n; i++) store_relaxed(&to[i], load_relaxed(&from[i]));
#else
    __builtin_memmove(to, from, n * sizeof *to);
#endif
}

/* Free but not merged; may be asked without the lock. */
static inline size_t arena_uncoalesced(const struct arena *arena) {
    return load_relaxed(&arena->fast_bytes) + load_relaxed(&arena->inbox_bytes);
}

/* How many critical sections merge all that lies unmerged now: others may go on adding. A sweep handles each block twice. */
static inline size_t arena_merge_rounds(const struct arena *arena) { return 2 * arena_uncoalesced(arena) / (ARENA_STEP * CHUNK_MIN) + 2; }

/* --- arena.c: which arena ------------------------------------------------------------------------------------------------------------- */

void arena_init(void);                        /* once, under the caller's protection; after conf and seal */
struct arena *arena_attach(bool main_thread); /* a thread begins: a released arena, a new one, or the least loaded */
void arena_detach(struct arena *arena);       /* a thread ends; an arena that nobody uses gives back what it can */
/* *arena, which is shared, becomes the arena of the CPU that the thread runs on. Threads that take turns on a CPU take turns in its
 * arena: were each in its own, an arena's part of all live blocks would rise and fall with the time slices, and leave holes. */
void arena_follow(struct arena **arena);
struct arena *arena_of_id(uint32_t id);
struct arena *arena_spare(void);
unsigned arena_limit(void);
unsigned arena_total(void); /* arenas that have or had memory or a thread */

/* The arena to take from instead of `busy`: one whose lock is free at once, or `busy`. */
struct arena *arena_less_busy(struct arena *busy);

/* Fork: every lock, waiting until deadline at most; release in the parent; settle in the child. */
void arena_fork_prepare(uint64_t deadline);
void arena_fork_parent(void);
void arena_fork_child(void);

/* Calls visit for each mapping that arenas lie in. */
void arena_walk_books(void (*visit)(const void *start, size_t size, void *arg), void *arg);

/* What os_take should have counted by now. Others must be quiet. */
size_t arena_counted(void);

/* --- alloc.c: taking. Sizes are chunk sizes. -------------------------------------------------------------------------------------------- */

/* What an arena may do when it has nothing free that fits, in this order; if that is not enough: ARENA_FULL. */
enum arena_means { MEANS_MERGE = 1, MEANS_MAP = 2, MEANS_GROW = 4 };

/* One block. */
enum arena_status arena_alloc(struct arena *arena, size_t size, unsigned means, void **mem, struct fresh *fresh);

/* The same in the usual case: a large chunk below 64 KiB that lies in the bins or at the top. NULL: there is none, or it is another case. */
void *arena_find(struct arena *arena, size_t size);

/* One block with mem aligned to `align`, more than 16. */
enum arena_status arena_alloc_aligned(struct arena *arena, size_t size, size_t align, unsigned means, void **mem, struct fresh *fresh);

/* Up to `want` blocks (at most BATCH_MAX) of at least `size`, fresh ones in address order (the smallest: every other one first); all carry the key (a stale
 * pointer to one of them is a double free as well). *count > 0 exactly if ARENA_OK; it is written under the lock, so that a forked child finds the blocks. */
enum arena_status arena_take(struct arena *arena, size_t size, unsigned want, unsigned means, void **mem, unsigned *count);

/* Grows or shrinks a block in place. False: it is as it was. */
bool arena_resize(struct arena *arena, void *mem, size_t size);

/* --- free.c: giving back ----------------------------------------------------------------------------------------------------------------- */

/* In each, *left goes down by n at the moment that the arena has the blocks: a forked child finds them in one place, here or with the caller. */

/* One block of this arena: into a fast bin where its size allows, else merged into the bins. */
void arena_free(struct arena *arena, void *mem, unsigned *left);

enum arena_way {
    ARENA_MERGED, /* but where a sweep will merge all at once, into fast bins until then */
    ARENA_FAST    /* those up to M_MXFAST into fast bins */
};

/* n blocks of this arena, which carry the key and have been checked. n <= BATCH_MAX. */
void arena_put(struct arena *arena, enum arena_way way, void **mem, unsigned n, unsigned *left);

/* *count blocks of any arenas, which carry the key, at most BATCH_MAX: those of `mine` go in, others are sent home; *count is 0 then. *torn (or NULL) is set
 * while a pointer may be in two places. */
void arena_return(struct arena *mine, enum arena_way way, void **mem, unsigned *count, uint32_t *torn);

/* n blocks of this arena, from a thread of another: into the inbox. Waits only where that is far too full. */
void arena_send(struct arena *arena, void **mem, unsigned n, unsigned *left);

/* An arena that has lost its last thread: merges everything and trims. */
void arena_settle(struct arena *arena);

/* Where a block that carries the key and the seal of a block in use is: NULL if in no list of this arena. Looks at the inbox. */
const char *arena_holds(struct arena *arena, const void *mem);

enum arena_backlog { BACKLOG_INBOX = 1, BACKLOG_FAST = 2, BACKLOG_ALL = 3 };

/* --- purge.c ------------------------------------------------------------------------------------------------------------------------------- */

/* Merges fast and inbox blocks, gives back (purge) whole pages in free chunks and what lies free at the top beyond `pad` bytes. True if
 * anything went back to the system. */
bool arena_trim(struct arena *arena, size_t pad, bool purge);

/* The same and more at the limit: nothing is left at the top, touched or not. */
void arena_give_back(struct arena *arena);

/* After a large request: pages of holes move to `into`, the pages of the new block that nobody has touched yet; then as many go back as arena->surplus is more
 * than that. Takes the lock. */
void arena_make_up(struct arena *arena, struct span into);

/* From time to time, by any thread: ends the arena's window if it lasted long enough at `now`, and gives back what is due, in calls that begin within
 * `budget` nanoseconds. Where the lock is not free it comes back later. True if nothing changed any more between the ends of the last two windows, and nothing
 * is due or held: as long as nobody uses the arena there is no more to do. */
bool arena_tend(struct arena *arena, uint64_t now, uint64_t budget);

/* Where a chunk of `size` bytes is just being purged: waits for it, a fifth of a millisecond at most, before the arena grows instead. The lock is let go
 * meanwhile; *lost_lock if it can't be had again. True if something came back. */
bool arena_await_purged(struct arena *arena, size_t size, bool *lost_lock);

/* --- sweep.c; the lock is held ------------------------------------------------------------------------------------------------------------ */

bool arena_sweeps(const struct arena *arena);             /* whether fast blocks are merged by sweeping, now or by what lies there */
unsigned arena_sweep(struct arena *arena, unsigned most); /* a part of it; 0 only if `most` is */

/* --- serve.c: from anywhere --------------------------------------------------------------------------------------------------------------- */

/* One block with `size` bytes of chunk, mem aligned to `align` (16 at least): from `arena`, the spare, the main arena, or a mapping of its own. NULL if there
 * is no memory. *zeroed is set to whether it is known to read as zero; who does not ask passes NULL, and pages of holes may move there. Any arena may be asked
 * for by any thread. `idle`: the caller holds free blocks that it gives back first and then asks again; NULL if nothing fits that lies free in the arena. */
void *arena_serve(struct arena *arena, size_t size, size_t align, bool idle, bool *zeroed);

/* A batch, of `arena` or of one that has much: *count = how many; 0: arena_serve may still have one. Never a mapping: where a fork finds a thread between a
 * batch and a magazine, the child takes what it finds for blocks of arenas. `idle` as before. */
void arena_serve_batch(struct arena *arena, size_t size, unsigned want, bool idle, void **mem, unsigned *count);

#define ARENA_LIST_LINE "corrupted double-linked list"

/* --- within the arena layer; the lock is held ------------------------------------------------------------------------------------------ */

size_t arena_merge(struct arena *arena, struct chunk *chunk); /* an in-use chunk becomes free: into top or unsorted; bytes it has become */
size_t arena_merge_clean(struct arena *arena, struct chunk *chunk, struct span clean); /* likewise, and so much of it has no pages */
void *arena_next_in_chain(struct arena *arena, const void *mem, const char *line);     /* checked */
unsigned arena_pop_fast(struct arena *arena, unsigned index, unsigned most, void **mem, const char *line);  /* the youngest, checked */
struct chunk *arena_take_out(struct arena *arena, struct chunk *chunk, const char *line);                   /* out of its bin; returns it */
uint32_t arena_check_behind(struct arena *arena, const struct chunk *chunk, size_t size, const char *line); /* the tag of the chunk there */
unsigned arena_merge_backlog(struct arena *arena, unsigned kinds); /* as many as the steps suffice for; how many */
bool arena_merge_all(struct arena *arena);         /* without the lock: all backlogs, step by step; false if the lock can't be had */
void arena_receive(struct arena *arena);           /* a part of the inbox, merged or into fast bins */
bool arena_grow(struct arena *arena, size_t size); /* so that top holds size and a smallest chunk */
/* What may stay at the top where large blocks come and go. */
static inline size_t arena_much(const struct arena *arena) { return arena->needed / 3 * 2; }
size_t arena_touched_top(const struct arena *arena); /* bytes of top that were handed out since they were last fresh */
void arena_trim_top(struct arena *arena, size_t threshold, size_t pad);
void arena_trim_whole_top(struct arena *arena); /* but for its last page, what was never touched as well */
void arena_set_top(struct arena *arena, struct chunk *top, char *end);
struct chunk *arena_check_block(struct arena *arena, void *mem, const char *line); /* the chunk, if it is in use and this arena's */

#endif
