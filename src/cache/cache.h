/* cache.h: a thread cache: one magazine of pointers per size class, so that malloc and free hit without a lock.
 *
 *   magazine    bottom ─> [p][p][p][ ][ ][ ] <─ limit          bottom <= top <= limit
 *                               top ─┘                         count = top - bottom; while it is watched bottom = limit
 *
 * A hit pops or pushes a pointer and touches the magazine and the block's own line, nothing else. The slots lie in the cache itself, far
 * from blocks, between guard pages; nothing that stands in a cached block is followed. Blocks of any arena may be in it: where it is full they go into
 * the depot, or home.
 *
 * Every thread has a pointer to its cache that is never NULL: it starts at `cache_none`, whose magazines are empty and full at once, so that
 * the first call misses; after the thread's exit it is `cache_dead`, likewise.
 *
 * A live cache belongs to its thread. Others only read: top (relaxed; may be stale) and the slots below it. Caches are mapped once and
 * pooled. `limit` starts low, doubles on misses (slow start) up to a share of what the program holds of the class, a count and a sum of
 * bytes, and is halved in classes that saw no miss for a while, so an idle cache keeps little. The share matters: idle blocks lie between
 * live ones and break the holes that others need. SPDX-License-Identifier: MIT */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include "arena/depot.h"
#include "cache/class.h"

/* Slots of a magazine: at first, and many threads and programs never need others, those of all classes fill two pages; later; and of an exact class in
 * waves, so that most of a wave's blocks need not leave. */
#define NARROW_MAX 4
#define WIDE_MAX 64
#define DEEP_MAX 256
#define TRANSIT_MAX BATCH_MAX /* blocks that move at a time */
/* What the limits of a cache's magazines may add up to: a share of CACHE_BYTES_ALL or 1/32 of all heaps, divided by the caches that are live; never
 * more than 1/52 of all heaps, of small ones 1/12: what lies idle in one thread's cache must not be seen in the program's peak. */
#define CACHE_BYTES_MIN KIB(32)
#define CACHE_BYTES_ALL MIB(2)
#define CACHE_SHARE 32
#define CACHE_ONE_SHARE 52
#define CACHE_ONE_SMALL_SHARE 12
#define CACHE_ONE_LEAST KIB(128)
#define CACHE_ONE_SMALL KIB(512)
#define CACHE_ONE_MOST MIB(2)
/* Medium magazines of blocks to 64 KiB may hold this share of the heaps more, over the square of the number of caches: each thread can take home its own alone.
 * That it does before a heap grows, where not too little lies in them. Small heaps have no such share. */
#define CLASS_IDLE_LAST (CLASS_EXACT + 97)
_Static_assert(CLASS_SIZE_ABOVE(CLASS_IDLE_LAST) == KIB(64) + CHUNK_HEADER, "a request of 64 KiB");
#define CACHE_IDLE_SHARE 3
#define CACHE_IDLE_ROOM MIB(1)
static inline size_t cache_idle_least(size_t heaps) { return max_size(KIB(128), heaps / 128); }
static ALWAYS_INLINE bool class_may_idle(unsigned size_class, size_t idle) {
    return size_class > CLASS_EXACT && size_class <= CLASS_IDLE_LAST && idle != 0;
}
/* A block that would lose less than this share of its size when it shrinks stays as it is: what is cut off a medium one is one more small chunk among large
 * ones, and breaks the hole that the next of those needs. */
#define SHRUNK_SHARE 8
#define SHRUNK_SHARE_MEDIUM 3
#define CACHE_SLACK KIB(256) /* a peak is only seen now and then: two of the largest blocks more may be idle */
#define CACHE_SWING_SHARE 8
#define CACHE_SWING_LEAST KIB(1536)
#define CACHE_LOOK 64          /* misses between two looks at what is in use, */
#define CACHE_DECAY 256        /* for idle medium classes, */
#define CACHE_DECAY_SMALL 1024 /* for all, */
#define CACHE_WINDOW 1024      /* and in a window of the peak */

/* A magazine's limit. */
#define CLASS_BYTES MIB(1) /* of a magazine of medium blocks */
#define CLASS_COUNT_MIN 4
#define FIRST_BYTES (KIB(4) + CHUNK_HEADER) /* classes up to this size are opened by their first miss; the next one is */
#define CLASS_FIRST_CLOSED (CLASS_EXACT + 34)
#define SHARE_SMALL 1 /* blocks held for each that may lie idle */
#define SHARE_MEDIUM 16
#define SHARE_MEDIUM_IDLE 2 /* where they may hold more */
#define CLASS_LARGER 3      /* a medium class that has none takes a block of as many larger ones, */
#define CLASS_LARGER_EXACT 2
#define CLASS_FIRST_LARGER 16u /* and an exact one from this on */
#define TEND_EVERY 1000000u    /* ns between two looks at what memory may go back */

/* How many larger classes may serve one that has no block left: medium sizes are many, and of each few blocks lie idle; of exact ones those that lose little by
 * it, but not in waves, when all run empty. `idle` and `ceiling` are the cache's. */
static ALWAYS_INLINE unsigned class_larger(unsigned size_class, size_t idle, ptrdiff_t ceiling) {
    if (size_class > CLASS_EXACT) return class_may_idle(size_class, idle) ? CLASS_LARGER : 0;
    return size_class >= CLASS_FIRST_LARGER && ceiling == 0 ? CLASS_LARGER_EXACT : 0;
}

struct magazine {
    void **top, **bottom, **limit;
} __attribute__((aligned(32))); /* none crosses a cache line, and its offset is twice the size of a small class */

/* Misses and blocks of larger classes in a window of time: where there are fewer nothing needs to be kept for the next one but so many bytes. */
#define CACHE_QUIET 4096
#define CACHE_BYTES_QUIET KIB(64)
#define CACHE_DRAIN 256      /* misses of free in a row */
#define CACHE_TEND 8         /* misses between two looks at the clock, */
#define CACHE_TEND_LARGER 32 /* and blocks of larger classes */

/* A thread that ends leaves its magazines as they are to the next one, where there is no more in them than this, nor in all that were left than so much or
 * that share of the heaps. */
#define CACHE_LEFT_MOST KIB(192)
#define CACHE_LEFT_ALL KIB(512)
#define CACHE_LEFT_SHARE 16

enum watch { WATCH_NOT, WATCH_LIGHT, WATCH_DRAIN };
enum { MISSED_DECAY = 1, MISSED_AGED = 2 };
enum cache_state { CACHE_FREE, CACHE_LIVE, CACHE_ORPHAN, CACHE_LOST, CACHE_LEFT };

struct cache {
    struct magazine magazine[CLASS_COUNT];
    struct arena *arena;
    struct cache *next;  /* all caches ever made; set before it is linked */
    const void *word;    /* the pointer to it that its thread has; who reads it knows the thread by where it stands */
    uint32_t state;      /* enum cache_state; atomic */
    uint32_t slow;       /* its thread is on a slow path: a signal handler's misses go to the arena */
    uint32_t torn;       /* a magazine is being moved: a forked child must not trust this cache */
    unsigned in_transit; /* blocks between a magazine and an arena: */
    void *transit[TRANSIT_MAX];
    uint32_t misses;
    uint32_t larger;       /* blocks that a larger class served */
    uint32_t called_aged;  /* both, when `aged` was set */
    uint32_t turns;        /* of what looks at the clock now and then, and whose arena is next */
    uint64_t come;         /* time until which it has come by as often as it may: a leaky bucket */
    uint64_t tended, aged; /* when arenas were last looked after, and when this cache's idle classes were emptied */
    uint32_t gives;        /* misses of free since the last one of malloc */
    uint32_t settings;     /* how often they had changed when its magazines were set up */
    size_t left;           /* bytes that an ended thread left in it */
    enum watch watch;      /* otherwise than WATCH_NOT limits are false; the right ones, in blocks, are in `room` */
    uint16_t room[CLASS_COUNT];
    bool quiet;                  /* few misses in the last window of time */
    unsigned classes;            /* those below are served; settings decide when the cache is made */
    size_t reserved;             /* sum of limit counts · class size, */
    size_t reserved_small;       /* and that of exact classes alone */
    size_t budget;               /* what it may grow to, */
    size_t idle;                 /* and medium magazines beyond that; both looked at anew every CACHE_LOOK misses, */
    size_t peers;                /* and when many more caches are live than these */
    size_t swing;                /* what the limits may add up to beyond it while the thread holds less than it lately had in use: */
    ptrdiff_t held;              /* bytes that came from arenas less those that went back */
    ptrdiff_t peak[2], low[2];   /* highest sum in use and the lowest after it, as seen in this window of misses and in the one before */
    ptrdiff_t ceiling;           /* as long as it holds no more than this, idle blocks cost nothing */
    int64_t net[CLASS_COUNT];    /* blocks that came from arenas less those that went back: about what the program holds of the class */
    uint8_t missed[CLASS_COUNT]; /* MISSED_*: saw a miss since the last decay, and since `aged` */
    uint64_t open[(CLASS_COUNT + 63) / 64]; /* a bit for each class whose magazine may hold something; others read it */
    void *narrow[CLASS_COUNT][NARROW_MAX];
    void *wide[CLASS_COUNT][WIDE_MAX];
    void *deep[CLASS_EXACT + 1][DEEP_MAX];
};

extern __thread struct cache *cache_self __attribute__((tls_model("initial-exec")));
extern struct cache cache_none, cache_dead;
extern struct cache *cache_all; /* every cache that was ever made, by `next` */

/* A hit, or false. */
static ALWAYS_INLINE bool cache_pop(size_t size_class, void **mem) {
    struct magazine *magazine = &cache_self->magazine[size_class];
    void **top = magazine->top;
    if (UNLIKELY(top <= magazine->bottom)) return false; /* below: see set_watch */
    void *block = load_relaxed(--top);
#ifdef __x86_64__
    __asm__("" : "+a"(block)); /* where it is returned: one instruction less */
#endif
    store_relaxed(&magazine->top, top);
    key_clear(block);
    *mem = block;
    return true;
}

/* A hit, or false. The block is in use, checked, and its key does not match. */
static ALWAYS_INLINE bool cache_push(size_t size_class, void *mem) {
    struct magazine *magazine = &cache_self->magazine[size_class];
    void **top = magazine->top;
    if (UNLIKELY(top >= magazine->limit)) return false;
    key_set(mem);
    store_relaxed(top, mem);
    __atomic_signal_fence(__ATOMIC_RELEASE); /* a fork between the two stores finds the slot filled or not counted */
    store_relaxed(&magazine->top, top + 1);
    return true;
}

/* The misses, and everything that caches don't serve. Sizes are chunk sizes. NULL: no memory; errno is the caller's. */
void *cache_alloc(size_t size);
void *cache_alloc_large(size_t size, size_t align, bool *zeroed);
void cache_free(void *mem);
void cache_check_live(void *mem, const char *line);         /* a block with the key in it: aborts with `line` if it is free */
bool cache_resize(void *mem, size_t old_size, size_t size); /* in place, for a block of an arena */

/* A request of `needed` bytes failed, for the *tries-th time. True: it may succeed now, for what is free went back to the system, or, at the limit, the program
 * has freed something. Waits for no lock that the caller holds, as it holds none. */
bool cache_relieve(size_t needed, unsigned *tries);
void cache_set_last_resort(int (*function)(size_t needed, void *arg), void *arg); /* whom to ask; NULL: nobody. One caller at a time. */

/* Sets caches and everything below up once; called by every miss, cheap when done. */
void cache_init(void);

/* Gives the blocks back that this thread has cached and that ended threads left. Caches of other live threads are their own. */
void cache_flush(void);

/* Settings that make hits impossible (perturb, no cache) changed: this thread's cache is emptied; other live threads keep
 * theirs. */
void cache_settings_changed(void);

/* Calls visit(arg, mem) for every block in any magazine, as last published. */
void cache_walk(void (*visit)(void *arg, void *mem), void *arg);
void cache_walk_books(void (*visit)(const void *start, size_t size, void *arg), void *arg); /* each mapping that a cache lies in */
unsigned cache_live(void);
void cache_note_peak(void);
extern size_t cache_in_use_peak;

void cache_fork_prepare(uint64_t deadline);
void cache_fork_parent(void);
void cache_fork_child(void);

#endif
