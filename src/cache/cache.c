/* cache.c: the misses of the thread cache, and its life. See cache.h. SPDX-License-Identifier: MIT */
#include "cache/cache.h"

#include <string.h>

#include "arena/background.h"
#include "base/probe.h"
#include "conf/conf.h"
#include "heap/mapped.h"
#include "heap/move.h"
#include "heap/retain.h"
#include "os/os.h"
#include "os/report.h"

_Static_assert(CLASS_SIZE_ABOVE(CLASS_FIRST_CLOSED - 1) <= FIRST_BYTES && CLASS_SIZE_ABOVE(CLASS_FIRST_CLOSED) > FIRST_BYTES,
               "the next one");
#define COME_EVERY 20000u /* ns */
#define COME_AT_ONCE 100u
#define COME_AFTER 5000000u    /* ns without a miss that looks at the clock: then it is watched */
#define TEND_LONGEST 20000000u /* in one slow path */
#define RELIEF_TRIES 8         /* times that the program is asked to free something for one request */
#define ASKED_MOST 256         /* threads at a time */
#define RELIEF_SHARE 32        /* what a request may take beyond its size is the rest of a chunk, */
#define RELIEF_SLACK 4         /* and some pages */

APART struct cache cache_none, cache_dead;
__thread struct cache *cache_self __attribute__((tls_model("initial-exec"))) = &cache_none;
static __thread struct cache *owned __attribute__((tls_model("initial-exec"))); /* the same but where that is set aside, or NULL */

struct cache *cache_all; /* push only */
static size_t live_caches;
static uint32_t orphans;  /* caches whose thread did not come along into this forked child */
static size_t left_bytes; /* in caches that ended threads left */
static uint32_t settings; /* how often they changed */
size_t cache_in_use_peak;

/* --- start ------------------------------------------------------------------------------------------------------------------------------------ */

enum start { START_NOT, START_RUNS, START_DONE };
static uint32_t started, configured;

static void thread_exit(void *value);

static NOINLINE void start_once(void) {
    uint32_t state = START_NOT;
    if (cas_acq_rel(&started, &state, START_RUNS)) {
        conf_init(NULL);
        seal_init();
        arena_init();
        prim_thread_exit_hook(thread_exit);
        store_release(&started, START_DONE);
    }
    while (load_acquire(&started) != START_DONE) cpu_relax();
}

void cache_init(void) {
    if (UNLIKELY(load_acquire(&started) != START_DONE)) start_once();
    if (LIKELY(load_acquire(&configured) == START_DONE)) return;
    /* ld.so allocates before libc knows the environment: until then the defaults hold and nobody gets a cache. */
    char **environment;
    uint32_t state = START_NOT;
    if (!prim_environment(&environment) || !cas_acq_rel(&configured, &state, START_RUNS)) return;
    conf_init(environment);
    store_relaxed(&os_counters.limit, conf_get(CONF_LIMIT));
    store_relaxed(&os_names, conf_get(CONF_NAMES) != 0);
    store_release(&configured, START_DONE);
}

/* --- a thread's cache -------------------------------------------------------------------------------------------------------------------------- */

static unsigned count_max(unsigned size_class) {
    size_t count = CLASS_BYTES >> class_bits(size_class);
    count = count < CLASS_COUNT_MIN ? CLASS_COUNT_MIN : min_size(count, size_class <= CLASS_EXACT ? DEEP_MAX : WIDE_MAX);
    return (unsigned)min_size(count, conf_get(CONF_TCACHE_COUNT));
}

static unsigned count_first(unsigned size_class) {
    size_t size = class_size(size_class);
    if (size > FIRST_BYTES) return 0; /* only where the program holds several */
    return (unsigned)min_size(min_size(max_size(KIB(1) >> class_bits(size_class), 1), 4), conf_get(CONF_TCACHE_COUNT));
}

/* Idle caches of many threads must not outweigh what the process uses. */
static void set_budget(struct cache *cache) {
    size_t heaps = load_relaxed(&heap_bytes), live = cache->peers = load_relaxed(&live_caches);
    size_t share = max_size(CACHE_BYTES_ALL, heaps / CACHE_SHARE) / (live != 0 ? live : 1);
    size_t small = min_size(max_size(heaps / CACHE_ONE_SMALL_SHARE, CACHE_ONE_LEAST), CACHE_ONE_SMALL);
    size_t most = min_size(max_size(heaps / CACHE_ONE_SHARE, small), CACHE_ONE_MOST);
    cache->budget = min_size(max_size(share, CACHE_BYTES_MIN), most);
    size_t idle = heaps / CACHE_IDLE_SHARE / (live > 1 ? live * live : 1);
    cache->idle = idle >= CACHE_IDLE_ROOM ? idle : 0;
    /* The waves of several threads need not come at the same time. */
    cache->swing = live <= 1 ? max_size(heaps / CACHE_SWING_SHARE, CACHE_SWING_LEAST) : heaps / CACHE_SWING_SHARE / live;
}

static void forget_waves(struct cache *cache) { cache->peak[0] = cache->peak[1] = cache->low[0] = cache->low[1] = cache->ceiling = 0; }

static void magazines_init(struct cache *cache) {
    store_relaxed(&cache->torn, 1);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    bool wanted = conf_get(CONF_TCACHE_MAX) != 0 && conf_get(CONF_TCACHE_COUNT) != 0 && conf_get(CONF_PERTURB) == 0;
    cache->classes = wanted ? class_above(request_size(conf_get(CONF_TCACHE_MAX))) + 1 : 0;
    cache->settings = load_relaxed(&settings);
    cache->left = 0;
    cache->reserved = cache->reserved_small = 0;
    cache->quiet = false;
    cache->watch = WATCH_NOT;
    cache->gives = 0;
    cache->held = 0;
    forget_waves(cache);
    for (unsigned i = 0; i < sizeof cache->open / sizeof *cache->open; i++) store_relaxed(&cache->open[i], 0);
    set_budget(cache);
    for (unsigned size_class = 0; size_class < CLASS_COUNT; size_class++) {
        struct magazine *magazine = &cache->magazine[size_class];
        magazine->bottom = magazine->limit = cache->narrow[size_class]; /* the first miss opens it */
        store_relaxed(&magazine->top, magazine->bottom);
        cache->missed[size_class] = 0;
        cache->net[size_class] = 0;
    }
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    store_relaxed(&cache->torn, 0);
}

/* One that is in that state and now the caller's. */
static struct cache *cache_claim(enum cache_state wanted) {
    for (struct cache *cache = load_acquire(&cache_all); cache != NULL; cache = cache->next) {
        uint32_t state = wanted;
        if (load_relaxed(&cache->state) == wanted && cas_acq_rel(&cache->state, &state, CACHE_LIVE)) return cache;
    }
    return NULL;
}

static struct cache *cache_new(void) {
    struct cache *cache = load_relaxed(&left_bytes) != 0 ? cache_claim(CACHE_LEFT) : NULL;
    if (cache == NULL) cache = cache_claim(CACHE_FREE);
    if (cache != NULL) return cache;
    cache = os_map_guarded(sizeof *cache);
    if (cache == NULL) return NULL;
    cache->state = CACHE_LIVE;
    cache->torn = 1; /* until its magazines are set up */
    cache->next = load_relaxed(&cache_all);
    while (!cas_acq_rel(&cache_all, &cache->next, cache)) {}
    return cache;
}

static void take_over(struct cache *cache);
static void empty_left(struct arena *mine, uint64_t now, uint64_t decay);

static NOINLINE struct cache *cache_begin(void) {
    cache_init();
    if (cache_self == &cache_dead || load_relaxed(&configured) != START_DONE) return NULL;
    struct cache *cache = cache_new();
    if (cache == NULL) return NULL;
    add_relaxed(&live_caches, 1);
    cache->word = &owned;
    cache->arena = arena_attach(prim_is_main_thread());
    cache->misses = cache->larger = cache->called_aged = cache->turns = 0;
    cache->tended = cache->aged = cache->come = os_clock();
    store_relaxed(&cache->slow, 0);
    store_relaxed(&cache->in_transit, 0);
    if (cache->left != 0) {
        take_over(cache);
    } else {
        magazines_init(cache);
    }
    cache_self = owned = cache;
    prim_thread_exit_arm(cache); /* may allocate: the cache serves that already */
    return cache;
}

/* This thread's cache, made now if it has none; NULL before the settings are known and after the thread's exit. Everything is set up then.
 * Where caches are switched off it has no classes, and says which arena is the thread's. */
static inline struct cache *cache_mine(void) {
    struct cache *cache = cache_self;
    return LIKELY(cache != &cache_none && cache != &cache_dead) ? cache : cache_begin();
}

/* A slow path works on transit and limits: one at a time, also when a signal handler interrupts it. */
static bool slow_enter(struct cache *cache) {
    if (cache == NULL || load_relaxed(&cache->slow)) return false;
    store_relaxed(&cache->slow, 1);
    uint32_t threads = load_relaxed(&cache->arena->threads);
    if (threads > 1) arena_follow(&cache->arena);
    if (UNLIKELY(threads == 0)) store_relaxed(&cache->arena->threads, 1); /* forked by a signal handler while it moved */
    return true;
}
static void slow_leave(struct cache *cache) { store_relaxed(&cache->slow, 0); }

static struct arena *arena_mine(const struct cache *cache) { return cache != NULL ? cache->arena : &arena_main; }

/* n blocks came from an arena, or (n < 0) went back. */
static void count_class(struct cache *cache, unsigned size_class, int n) {
    cache->net[size_class] += n;
    cache->held += n * (ptrdiff_t)class_size(size_class);
}
static void count_net(struct cache *cache, size_t size, int n) {
    if (cache != NULL && size <= CLASS_SIZE_MAX) count_class(cache, class_below(size), n);
}

/* Where the slots begin that `top` points into, for those who read another thread's cache. */
static void **bottom_of(struct cache *cache, unsigned size_class, void *const *top) {
    void **narrow = cache->narrow[size_class], **wide = cache->wide[size_class];
    if ((uintptr_t)top - (uintptr_t)narrow <= sizeof cache->narrow[0]) return narrow;
    return size_class > CLASS_EXACT || (uintptr_t)top - (uintptr_t)wide <= sizeof cache->wide[0] ? wide : cache->deep[size_class];
}

/* The same for the owner. While it is watched `bottom` stands above. */
static ALWAYS_INLINE void **base_of(struct cache *cache, unsigned size_class) {
    const struct magazine *magazine = &cache->magazine[size_class];
    return LIKELY(cache->watch == WATCH_NOT) ? magazine->bottom : bottom_of(cache, size_class, magazine->limit);
}
static unsigned count_of(struct cache *cache, unsigned size_class) {
    return (unsigned)(cache->magazine[size_class].top - base_of(cache, size_class));
}
/* While limits move a signal handler must not hit: until it is over this thread seems to have no cache. */
static void pause_hits(void) {
    store_relaxed(&cache_self, &cache_dead);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}
static void resume_hits(struct cache *cache) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    store_relaxed(&cache_self, cache);
}
/* Blocks move between slots: whoever reads them from outside comes again, and a forked child must not trust this cache. */
static struct cache *begin_move(struct cache *cache) {
    struct cache *self = cache_self; /* not this one where its thread ends */
    pause_hits();
    store_relaxed(&cache->torn, 1);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    return self;
}
static void end_move(struct cache *cache, struct cache *self) {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    store_relaxed(&cache->torn, 0);
    resume_hits(self);
}
static void show(struct cache *cache, unsigned size_class) { cache->magazine[size_class].bottom = base_of(cache, size_class); }

/* --- blocks leave a magazine --------------------------------------------------------------------------------------------------------------- */

/* Whether idle blocks cost nothing: they and `more` bytes are within the last peak. A thread that gives more than it takes has none. */
static bool below_ceiling(const struct cache *cache, size_t more) {
    return cache->held >= 0 && cache->held + (ptrdiff_t)more < cache->ceiling;
}

/* The blocks in transit, which are in no magazine any more, go home. */
static void send_home(struct cache *cache, enum arena_way way) {
    arena_return(cache->arena, way, cache->transit, &cache->in_transit, &cache->torn);
}

/* The oldest n blocks that are in the depot, or in transit, leave the magazine. */
static void forget_older(struct cache *cache, unsigned size_class, unsigned count, unsigned n) {
    struct magazine *magazine = &cache->magazine[size_class];
    slots_move(magazine->bottom, magazine->bottom + n, count - n);
    store_relaxed(&magazine->top, magazine->top - n);
    count_class(cache, size_class, -(int)n);
}

/* The older n blocks of a magazine go into the depot, if `park` and there is room, or home to be merged. Meanwhile nobody hits. */
static void flush_older(struct cache *cache, unsigned size_class, unsigned n, bool park) {
    struct magazine *magazine = &cache->magazine[size_class];
    unsigned parked = 0;
    struct cache *self = begin_move(cache);
    show(cache, size_class);
    unsigned count = (unsigned)(magazine->top - magazine->bottom);
    n = min_unsigned(n, count);
    park &= !cache->quiet;
    if (park && size_class < DEPOT_SLOTS) parked = depot_put(cache->arena, size_class, magazine->bottom, n);
    if (parked == 0) {
        n = min_unsigned(n, TRANSIT_MAX);
        slots_move(cache->transit, magazine->bottom, n);
    }
    forget_older(cache, size_class, count, parked != 0 ? parked : n);
    if (parked == 0) store_relaxed(&cache->in_transit, n);
    end_move(cache, self);
    if (parked == 0) send_home(cache, park ? ARENA_FAST : ARENA_MERGED);
}

/* Everything leaves, of all classes from this one on at once, to be merged. */
static void flush_from(struct cache *cache, unsigned size_class) {
    while (size_class < CLASS_COUNT) {
        unsigned n = 0;
        store_relaxed(&cache->torn, 1);
        while (size_class < CLASS_COUNT && n < TRANSIT_MAX) {
            struct magazine *magazine = &cache->magazine[size_class];
            show(cache, size_class);
            if (magazine->top == magazine->bottom) {
                size_class++;
                continue;
            }
            void **slot = magazine->top - 1;
            store_relaxed(&magazine->top, slot);
            store_relaxed(&cache->transit[n++], load_relaxed(slot));
            count_class(cache, size_class, -1);
        }
        store_relaxed(&cache->in_transit, n);
        store_relaxed(&cache->torn, 0);
        send_home(cache, ARENA_MERGED);
    }
}

static void flush_all(struct cache *cache) { flush_from(cache, 2); }

/* --- limits ------------------------------------------------------------------------------------------------------------------------------------ */

static unsigned limit_of(struct cache *cache, unsigned size_class) {
    const struct magazine *magazine = &cache->magazine[size_class];
    return LIKELY(cache->watch == WATCH_NOT) ? (unsigned)(magazine->limit - magazine->bottom) : cache->room[size_class];
}

/* A magazine moves to slots that suffice for `limit` blocks. */
static void move_magazine(struct cache *cache, unsigned size_class, unsigned limit) {
    struct magazine *magazine = &cache->magazine[size_class];
    struct cache *self = begin_move(cache);
    show(cache, size_class);
    unsigned count = (unsigned)(magazine->top - magazine->bottom);
    void **slots = limit <= WIDE_MAX ? cache->wide[size_class] : cache->deep[size_class];
    slots_move(slots, magazine->bottom, count);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    store_release(&magazine->top, slots + count);
    magazine->bottom = slots;
    magazine->limit = slots + limit;
    end_move(cache, self);
}

static unsigned slots_at(struct cache *cache, unsigned size_class) {
    void **bottom = base_of(cache, size_class);
    return bottom == cache->narrow[size_class] ? NARROW_MAX : bottom == cache->wide[size_class] ? WIDE_MAX : DEEP_MAX;
}

/* Hits tell nobody that time goes on. A cache that is watched lets its thread hit only so often: the blocks in its magazines are hidden (`bottom` stands at
 * `limit`). WATCH_LIGHT has a false limit as well, which brings the thread by each time that it takes or gives a block, as long as that is seldom
 * (may_come). WATCH_DRAIN is for one that does nothing but free: what it takes next will be seen, and it frees at full speed. */
static void watch_class(struct cache *cache, unsigned size_class, enum watch watch, void **base) {
    struct magazine *magazine = &cache->magazine[size_class];
    magazine->limit = watch == WATCH_LIGHT ? magazine->top : base + cache->room[size_class];
    magazine->bottom = watch == WATCH_NOT ? base : magazine->limit; /* what comes in is hidden as well */
}

static void set_watch(struct cache *cache, enum watch watch) {
    if (LIKELY(cache->watch == watch)) return;
    pause_hits();
    for (unsigned size_class = 2; size_class < CLASS_COUNT; size_class++) {
        if (cache->watch == WATCH_NOT) cache->room[size_class] = (uint16_t)limit_of(cache, size_class);
        watch_class(cache, size_class, watch, base_of(cache, size_class));
    }
    cache->watch = watch;
    resume_hits(cache);
}

static void watch_on(struct cache *cache, unsigned size_class) {
    if (LIKELY(cache->watch == WATCH_NOT)) return;
    pause_hits();
    watch_class(cache, size_class, cache->watch, base_of(cache, size_class));
    resume_hits(cache);
}

/* Whether the thread comes by seldom enough: a leaky bucket, once in COME_EVERY in the long run, COME_AT_ONCE times in a row. */
static bool may_come(struct cache *cache, uint64_t now) {
    uint64_t earliest = now - COME_AT_ONCE * COME_EVERY;
    if (cache->come >= now) return false;
    cache->come = (cache->come > earliest ? cache->come : earliest) + COME_EVERY;
    return true;
}

static void set_limit(struct cache *cache, unsigned size_class, unsigned count) {
    struct magazine *magazine = &cache->magazine[size_class];
    size_t more = class_size(size_class) * ((size_t)count - limit_of(cache, size_class));
    cache->reserved += more;
    if (size_class <= CLASS_EXACT) cache->reserved_small += more;
    uint64_t bit = (uint64_t)1 << size_class % 64, *open = &cache->open[size_class / 64];
    store_relaxed(open, count != 0 ? *open | bit : *open & ~bit);
    if (cache->watch != WATCH_NOT) cache->room[size_class] = (uint16_t)count; /* it is open then until watch_on */
    if (count > slots_at(cache, size_class)) {
        move_magazine(cache, size_class, count);
    } else {
        magazine->limit = base_of(cache, size_class) + count;
    }
}

/* Whether blocks of the class may lie idle, for they go home before a heap grows. */
static ALWAYS_INLINE bool may_idle(const struct cache *cache, unsigned size_class) { return class_may_idle(size_class, cache->idle); }
/* Blocks of a medium class that the program holds for each in its magazine. */
static ALWAYS_INLINE unsigned share_medium(const struct cache *cache, unsigned size_class) {
    return may_idle(cache, size_class) ? SHARE_MEDIUM_IDLE : SHARE_MEDIUM;
}

/* Whether the class has no magazine and would not get one now: medium sizes of which the program holds few. (A shared arena is looked at each time.) */
static ALWAYS_INLINE bool stays_closed(struct cache *cache, unsigned size_class) {
    return size_class >= CLASS_FIRST_CLOSED && limit_of(cache, size_class) == 0 &&
           (uint64_t)(cache->net[size_class] + share_medium(cache, size_class) - 1) < 2 * share_medium(cache, size_class) - 1 &&
           !below_ceiling(cache, 0) && load_relaxed(&cache->arena->threads) == 1;
}

/* Whether a block of the class goes straight to its arena. That is a miss as well, and every so often one must look at the whole. */
static ALWAYS_INLINE bool passes_by(struct cache *cache, unsigned size_class) {
    if (!stays_closed(cache, size_class) || (cache->misses + 1) % CACHE_LOOK == 0) return false;
    cache->misses++;
    return true;
}

/* After a miss: opens a magazine, or doubles it while all limits allow. It may grow to what the thread took less what it gave, in blocks (a
 * thread that only frees counts likewise), by a share; without one while idle blocks cost nothing. */
static void widen(struct cache *cache, unsigned size_class) {
    if (cache->watch == WATCH_DRAIN) return;
    size_t held = (size_t)(cache->net[size_class] < 0 ? -cache->net[size_class] : cache->net[size_class]);
    unsigned share = (unsigned)min_size(held / (size_class <= CLASS_EXACT ? SHARE_SMALL : share_medium(cache, size_class)), WIDE_MAX);
    unsigned now = limit_of(cache, size_class);
    bool below = below_ceiling(cache, 0);
    if (now >= share && !below && (now != 0 || size_class >= CLASS_FIRST_CLOSED)) return;
    bool exact = size_class <= CLASS_EXACT, modest = now == 0 && exact;
    size_t size = class_size(size_class),
           room = cache->budget + max_size(below ? cache->swing : 0, may_idle(cache, size_class) ? cache->idle : 0);
    size_t reserved = exact && !below ? cache->reserved_small : cache->reserved;
    if (!modest && reserved + size > room) return;
    unsigned most = count_max(size_class), wanted = 2 * now;
    if (now == 0 || !below) {
        unsigned first = count_first(size_class);
        if (!below) most = min_unsigned(max_unsigned(share, first), most);
        if (now == 0) wanted = max_unsigned(first, 1);
    }
    wanted = min_unsigned(wanted, most);
    if (wanted <= now || (!modest && reserved + size * (wanted - now) > room)) return;
    set_limit(cache, size_class, wanted);
}

/* Halves what a class may keep, medium ones down to nothing; the surplus goes home. */
static void halve(struct cache *cache, unsigned size_class) {
    unsigned now = limit_of(cache, size_class), least = size_class <= CLASS_EXACT ? count_first(size_class) : 0;
    if (now <= least) return;
    unsigned half = now / 2 > least ? now / 2 : least;
    unsigned count = count_of(cache, size_class);
    for (; count > half; count = count_of(cache, size_class)) flush_older(cache, size_class, count - half, true);
    set_limit(cache, size_class, half);
    watch_on(cache, size_class);
}

/* The next class from `size_class` on whose magazine may hold something; CLASS_COUNT: none. */
static ALWAYS_INLINE unsigned next_open(const struct cache *cache, unsigned size_class) {
    for (unsigned word = size_class / 64; word < sizeof cache->open / sizeof *cache->open; word++) {
        uint64_t left = load_relaxed(&cache->open[word]) & (word == size_class / 64 ? ~(uint64_t)0 << size_class % 64 : ~(uint64_t)0);
        if (left != 0) return word * 64 + low_bit(left);
    }
    return CLASS_COUNT;
}

/* Classes from `first` on without a miss for a while are halved, medium ones only if they don't go home before growth anyway; all, where what they may
 * keep is neither in the budget nor below the peak. */
static NOINLINE void decay(struct cache *cache, unsigned first) {
    bool over = (cache->reserved_small > cache->budget || cache->reserved > cache->budget + cache->idle) && !below_ceiling(cache, 0);
    for (unsigned size_class = first; (size_class = next_open(cache, size_class)) < CLASS_COUNT; size_class++) {
        bool stays = (cache->missed[size_class] & MISSED_DECAY) || may_idle(cache, size_class);
        if (!stays || over) halve(cache, size_class);
    }
    for (unsigned size_class = first; size_class < CLASS_COUNT; size_class++) cache->missed[size_class] &= (uint8_t)~MISSED_DECAY;
}

/* Of all magazines. */
static size_t cached_bytes(struct cache *cache) {
    size_t bytes = 0;
    if (UNLIKELY(cache->watch != WATCH_NOT)) {
        for (unsigned size_class = 2; size_class < CLASS_COUNT; size_class++) bytes += count_of(cache, size_class) * class_size(size_class);
        return bytes;
    }
    const struct magazine *magazine = cache->magazine;
    for (unsigned i = 2; i <= CLASS_EXACT; i++) bytes += (size_t)(magazine[i].top - magazine[i].bottom) * CHUNK_ALIGN * i;
    size_t step = CLASS_EXACT_SIZE / 16, size = CLASS_SIZE_ABOVE(CLASS_EXACT + 1);
    for (unsigned i = CLASS_EXACT + 1; i < CLASS_COUNT; step *= 2) {
        for (unsigned end = min_unsigned(i + 16, CLASS_COUNT); i < end; i++, size += step)
            bytes += (size_t)(magazine[i].top - magazine[i].bottom) * size;
    }
    return bytes;
}

/* How often malloc and free did not hit. */
static uint32_t called(const struct cache *cache) { return cache->misses + cache->larger; }

/* How much is in use now, and what follows for the ceiling: where that sum fell by a quarter from a peak, the peak, and a little more because it is
 * only looked at now and then; else there is none. */
static NOINLINE void look(struct cache *cache) {
    if (called(cache) - cache->called_aged >= CACHE_QUIET) cache->quiet = false;
    if (cache->quiet) {
        cache->peers = load_relaxed(&live_caches); /* its budget is small already */
    } else {
        set_budget(cache);
    }
    ptrdiff_t live = cache->held - (ptrdiff_t)cached_bytes(cache);
    if (cache->misses % CACHE_WINDOW == 0) {
        cache->peak[1] = cache->peak[0];
        cache->low[1] = cache->low[0];
        cache->peak[0] = cache->low[0] = live;
    }
    if (live > cache->peak[0]) cache->peak[0] = cache->low[0] = live;
    if (live < cache->low[0]) cache->low[0] = live;
    const ptrdiff_t *peak = cache->peak, *low = cache->low, highest = peak[0] > peak[1] ? peak[0] : peak[1];
    bool wave = (peak[0] > 0 && low[0] < peak[0] - peak[0] / 4) || (peak[1] > 0 && low[1] < peak[1] - peak[1] / 4);
    cache->ceiling = wave ? highest + (ptrdiff_t)max_size(cache->budget / 2, CACHE_SLACK) : 0;
}

/* At the end of a window of time: what no miss asked for goes home, to be merged; all, if there were few misses. */
static void shed(struct cache *cache, uint64_t now) {
    bool quiet = called(cache) - cache->called_aged < CACHE_QUIET;
    cache->called_aged = called(cache);
    cache->aged = now;
    cache->quiet = quiet;
    if (quiet) { /* whatever came in waves does so no more */
        forget_waves(cache);
        cache->budget = min_size(cache->budget, CACHE_BYTES_QUIET);
        cache->idle = 0;
    }
    for (unsigned size_class = 2; size_class < CLASS_COUNT; size_class++) {
        bool idle = quiet || !(cache->missed[size_class] & MISSED_AGED);
        cache->missed[size_class] &= (uint8_t)~MISSED_AGED;
        if (!idle) continue;
        while (count_of(cache, size_class) != 0) flush_older(cache, size_class, TRANSIT_MAX, false);
        set_limit(cache, size_class,
                  quiet ? 0 : min_unsigned(limit_of(cache, size_class), size_class <= CLASS_EXACT ? count_first(size_class) : 0));
        watch_on(cache, size_class);
    }
}

/* Memory goes home. There is nobody but the threads that happen to come by: each looks after its own arena and, in turn, another one, for an eighth of the
 * time that went by at most. */
static NOINLINE void tend(struct cache *cache, uint64_t now) {
    uint64_t since = now - cache->tended, decay = conf_get(CONF_DECAY);
    if ((since < TEND_EVERY && decay != 0) || decay == SIZE_MAX) return;
    cache->tended = now;
    background_poke();
    uint64_t budget = since / 8 < TEND_LONGEST ? since / 8 : TEND_LONGEST;
    if ((now - cache->aged) / 1000000 >= decay) shed(cache, now);
    if (UNLIKELY(load_relaxed(&left_bytes) != 0)) empty_left(cache->arena, now, decay);
    depot_tend(cache->arena, now);
    arena_tend(cache->arena, now, budget);
    struct arena *other = arena_of_id(cache->turns / CACHE_TEND % load_acquire(&seal.arenas));
    if (other != cache->arena) arena_tend(other, now, budget);
    if (cache->gives >= CACHE_DRAIN) {
        set_watch(cache, WATCH_DRAIN);
    } else if (now > cache->come + COME_AFTER) {
        set_watch(cache, WATCH_LIGHT);
    }
}

static ALWAYS_INLINE bool turn(struct cache *cache) { return UNLIKELY(++cache->turns % CACHE_TEND == 0); }

/* Where no cache served. */
static ALWAYS_INLINE void tend_beside(struct cache *cache) {
    if (cache == NULL || !turn(cache) || !slow_enter(cache)) return;
    tend(cache, os_clock());
    slow_leave(cache);
}

/* The peak can only have risen when the system was asked for something. */
static uint64_t events_seen;

static NOINLINE void note_events(uint64_t events) {
    store_relaxed(&events_seen, events);
    cache_note_peak();
    background_grown(load_relaxed(&heap_bytes) + load_relaxed(&mapped_bytes));
}

static ALWAYS_INLINE void note_growth(void) {
    uint64_t events = load_relaxed(&os_counters.event_count);
    if (UNLIKELY(load_relaxed(&retained_bytes) != 0)) retain_shed(); /* it may have become too old */
    if (UNLIKELY(load_relaxed(&events_seen) != events)) note_events(events);
}

static void missed(struct cache *cache, unsigned size_class) {
    cache->missed[size_class] = MISSED_DECAY | MISSED_AGED;
    bool crowded = load_relaxed(&live_caches) > cache->peers + cache->peers / 4;
    if (UNLIKELY(++cache->misses % CACHE_LOOK == 0 || crowded)) look(cache);
    if (UNLIKELY(cache->misses % CACHE_DECAY == 0 || crowded))
        decay(cache, cache->misses % CACHE_DECAY_SMALL == 0 || crowded ? 2 : CLASS_EXACT + 1);
    note_growth();
    if (turn(cache)) tend(cache, os_clock());
}

/* --- malloc missed ------------------------------------------------------------------------------------------------------------------------- */

/* Before a heap grows what lies idle in medium magazines goes home, and the request may find its place there. So they may hold much, and the heap is no larger
 * for it. */
static bool may_hold_idle(const struct cache *cache) {
    return cache->reserved - cache->reserved_small >= cache_idle_least(load_relaxed(&heap_bytes));
}
static NOINLINE void idle_home(struct cache *cache) {
    size_t bytes = 0;
    for (unsigned i = CLASS_EXACT; (i = next_open(cache, i + 1)) < CLASS_COUNT;) bytes += count_of(cache, i) * class_size(i);
    if (bytes >= cache_idle_least(load_relaxed(&heap_bytes))) flush_from(cache, CLASS_EXACT + 1);
}

static void reclaim_orphan(void);

/* M_PERTURB: there are no hits while it is set. */
static void *perturbed(void *mem) {
    unsigned byte = (unsigned)conf_get(CONF_PERTURB);
    if (UNLIKELY(byte != 0) && mem != NULL) memset(mem, (int)(byte ^ 0xff), head_usable(chunk_head(chunk_of(mem))));
    return mem;
}

static bool class_serves(unsigned size_class) { return class_size(size_class) < conf_get(CONF_MMAP_THRESHOLD); }

/* What is fetched must find room. */
static void watch_refill(struct cache *cache, unsigned size_class) {
    if (LIKELY(cache->watch == WATCH_NOT)) return;
    if (!may_come(cache, os_clock())) {
        set_watch(cache, WATCH_NOT);
        return;
    }
    cache->watch = WATCH_LIGHT;
    pause_hits();
    cache->magazine[size_class].limit = base_of(cache, size_class) + cache->room[size_class];
    show(cache, size_class);
    resume_hits(cache);
}

/* Blocks from the depot; NULL: there is none. The first one is the caller's, the others are in the magazine. */
static void *take_parked(struct cache *cache, unsigned size_class, unsigned want) {
    struct magazine *magazine = &cache->magazine[size_class];
    void *mem = NULL;
    struct cache *self = begin_move(cache);
    void **top = magazine->top; /* a signal handler may have put some there */
    unsigned room = top < magazine->limit ? (unsigned)(magazine->limit - top) : 0;
    unsigned n = depot_take(cache->arena, size_class, min_unsigned(want, room), top);
    if (n != 0) {
        mem = load_relaxed(&top[n - 1]);
        store_relaxed(&magazine->top, top + n - 1);
        count_class(cache, size_class, (int)n);
    }
    end_move(cache, self);
    return mem;
}

/* The same from an arena. */
static void *take_fresh(struct cache *cache, unsigned size_class, unsigned want) {
    struct arena *arena = arena_less_busy(cache->arena);
    bool idle = may_hold_idle(cache);
    arena_serve_batch(arena, class_size(size_class), want, idle, cache->transit, &cache->in_transit);
    if (idle && cache->in_transit == 0) {
        idle_home(cache);
        arena_serve_batch(arena, class_size(size_class), want, false, cache->transit, &cache->in_transit);
    }
    if (cache->in_transit == 0) return NULL;
    count_class(cache, size_class, (int)cache->in_transit);
    /* In reverse, so that they are handed out in the arena's order. A signal handler may have filled the magazine meanwhile. */
    struct magazine *magazine = &cache->magazine[size_class];
    unsigned n = cache->in_transit;
    void *mem = cache->transit[0];
    struct cache *self = begin_move(cache);
    void **top = magazine->top;
    unsigned in = top < magazine->limit ? min_unsigned(n - 1, (unsigned)(magazine->limit - top)) : 0;
    for (unsigned i = 0; i < in; i++) store_relaxed(&top[i], cache->transit[n - 1 - i]);
    store_relaxed(&cache->transit[0], cache->transit[n - 1 - in]);
    store_relaxed(&cache->in_transit, n - 1 - in); /* first: who looks from outside shall find none twice */
    store_relaxed(&magazine->top, top + in);
    end_move(cache, self);
    if (cache->in_transit != 0) send_home(cache, ARENA_FAST);
    return mem;
}

static void *refill(struct cache *cache, unsigned size_class) {
    cache->gives = 0;
    watch_refill(cache, size_class);
    widen(cache, size_class);
    if (limit_of(cache, size_class) == 0) return NULL; /* nothing to watch */
    unsigned half = size_class <= CLASS_EXACT ? limit_of(cache, size_class) / 2 + 1 : 1;
    void *mem = size_class < DEPOT_SLOTS ? take_parked(cache, size_class, half) : NULL;
    if (mem == NULL) mem = take_fresh(cache, size_class, min_unsigned(half, WIDE_MAX / 2 + 1));
    if (mem == NULL) return NULL;
    missed(cache, size_class);
    watch_on(cache, size_class);
    key_clear(mem);
    return mem;
}

/* A medium class takes one block at a time: mostly the arena has it at once. */
static void *refill_medium(struct cache *cache, unsigned size_class) {
    void *mem = limit_of(cache, size_class) != 0 ? arena_find(arena_less_busy(cache->arena), class_size(size_class)) : NULL;
    if (UNLIKELY(mem == NULL)) return refill(cache, size_class);
    cache->gives = 0;
    watch_refill(cache, size_class);
    widen(cache, size_class);
    count_class(cache, size_class, 1);
    missed(cache, size_class);
    watch_on(cache, size_class);
    return mem;
}

/* A block that was hidden. NULL: there is none after all. */
static void *come_by(struct cache *cache, unsigned size_class) {
    void *mem = NULL;
    if (!slow_enter(cache)) return NULL;
    uint64_t now = os_clock();
    cache->gives = 0;
    set_watch(cache, may_come(cache, now) ? WATCH_LIGHT : WATCH_NOT);
    tend(cache, now);
    pause_hits();
    show(cache, size_class);
    resume_hits(cache);
    cache_pop(size_class, &mem);
    watch_on(cache, size_class);
    slow_leave(cache);
    return mem;
}

/* A magazine that is watched has room for one more, if it has any. */
static void let_in(struct cache *cache, unsigned size_class) {
    if (LIKELY(cache->watch == WATCH_NOT)) return;
    if (cache->watch == WATCH_LIGHT) {
        uint64_t now = os_clock();
        if (!may_come(cache, now)) set_watch(cache, WATCH_NOT);
        tend(cache, now);
    }
    if (cache->watch != WATCH_LIGHT) {
        watch_on(cache, size_class);
        return;
    }
    struct magazine *magazine = &cache->magazine[size_class];
    pause_hits();
    if (magazine->top < base_of(cache, size_class) + cache->room[size_class]) magazine->limit = magazine->top + 1;
    resume_hits(cache);
}

/* --- no memory -------------------------------------------------------------------------------------------------------------------------------- */

static struct {
    uint32_t version; /* odd while the others change */
    int (*function)(size_t needed, void *arg);
    void *arg;
} last_resort;
static APART const void *asked[ASKED_MOST]; /* threads that are in that function: what fails inside it just fails */

COLD void cache_set_last_resort(int (*function)(size_t needed, void *arg), void *arg) {
    add_relaxed(&last_resort.version, 1);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    store_relaxed(&last_resort.function, function);
    store_relaxed(&last_resort.arg, arg);
    __atomic_fetch_add(&last_resort.version, 1, __ATOMIC_RELEASE);
}

/* Whether the program freed something. Where it just changes its mind about whom to ask, nobody is asked. */
static bool ask_program(size_t needed) {
    uint32_t version = load_acquire(&last_resort.version);
    int (*function)(size_t needed, void *arg) = load_relaxed(&last_resort.function);
    void *arg = load_relaxed(&last_resort.arg);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (function == NULL || version % 2 != 0 || load_relaxed(&last_resort.version) != version) return false;
    const void *self = lock_self(), **place = NULL;
    for (unsigned i = 0; i < ASKED_MOST; i++) {
        if (load_relaxed(&asked[i]) == self) return false;
    }
    for (unsigned i = 0; i < ASKED_MOST && place == NULL; i++) {
        const void *nobody = NULL;
        if (cas_acquire(&asked[i], &nobody, self)) place = &asked[i];
    }
    if (place == NULL) return false;
    bool freed = function(needed, arg) != 0;
    store_release(place, NULL);
    return freed;
}

COLD bool cache_relieve(size_t needed, unsigned *tries) {
    struct cache *cache = cache_mine();
    bool possible = needed <= load_relaxed(&os_counters.limit);
    bool limited = possible && os_is_beyond(needed + needed / RELIEF_SHARE + RELIEF_SLACK * os_page_size());
    unsigned try = (*tries)++;
    if (try != 0 && (!limited || try > RELIEF_TRIES || !ask_program(needed))) return false;
    /* What this thread holds back may be what is missing. */
    if (slow_enter(cache)) {
        flush_all(cache);
        slow_leave(cache);
    }
    empty_left(arena_mine(cache), os_clock(), 0);
    depot_empty(arena_mine(cache));
    retain_release();
    if (!limited) {
        arena_trim(arena_mine(cache), conf_get(CONF_TOP_PAD), false);
        return true;
    }
    for (uint32_t id = 0; id < load_acquire(&seal.arenas); id++) arena_give_back(arena_of_id(id));
    return true;
}

/* From an arena, or a mapping. */
static void *serve(struct cache *cache, size_t size, size_t align, bool *zeroed) {
    struct arena *arena = arena_less_busy(arena_mine(cache));
    bool idle = cache != NULL && may_hold_idle(cache) && size < conf_get(CONF_MMAP_THRESHOLD) && slow_enter(cache);
    void *mem = arena_serve(arena, size, align, idle, zeroed);
    if (!idle) return mem;
    if (mem == NULL) idle_home(cache);
    slow_leave(cache);
    return mem != NULL ? mem : arena_serve(arena, size, align, false, zeroed);
}

/* A block of a class without a magazine, if the arena has one at once. */
static ALWAYS_INLINE void *pass_by(struct cache *cache, size_t size) {
    struct arena *arena = arena_less_busy(cache->arena);
    void *mem = arena_find(arena, size);
    if (UNLIKELY(mem == NULL)) return NULL;
    if (UNLIKELY(load_relaxed(&arena->surplus) != 0)) arena_make_up(arena, (struct span){NULL, NULL});
    note_growth();
    background_begin();
    tend_beside(cache);
    count_net(cache, chunk_size(chunk_of(mem)), 1);
    return mem;
}

/* A thread that misses no more but here still looks after memory that may go home. */
static ALWAYS_INLINE void *pop_larger(struct cache *cache, unsigned size_class) {
    void *mem = NULL;
    for (unsigned left = class_larger(size_class, cache->idle, cache->ceiling); left != 0 && ++size_class < cache->classes; left--) {
        if (cache_pop(size_class, &mem)) break;
    }
    if (mem != NULL && UNLIKELY(++cache->larger % CACHE_TEND_LARGER == 0) && slow_enter(cache)) {
        cache->turns += CACHE_TEND;
        tend(cache, os_clock());
        slow_leave(cache);
    }
    return mem;
}

void *cache_alloc(size_t size) {
    struct cache *cache = cache_mine();
    if (UNLIKELY(load_relaxed(&orphans) != 0)) reclaim_orphan();
    unsigned size_class = size <= CLASS_SIZE_MAX ? class_above(size) : CLASS_COUNT;
    if (cache != NULL && UNLIKELY(cache->watch != WATCH_NOT) && size_class < cache->classes && count_of(cache, size_class) != 0) {
        void *mem = come_by(cache, size_class);
        if (mem != NULL) return mem;
    }
    if (cache != NULL && size_class < cache->classes) {
        void *mem = pop_larger(cache, size_class);
        if (mem != NULL) return mem;
        if (stays_closed(cache, size_class)) {
            mem = pass_by(cache, size);
        } else if (class_serves(size_class) && slow_enter(cache)) {
            mem = size_class > CLASS_EXACT ? refill_medium(cache, size_class) : refill(cache, size_class);
            slow_leave(cache);
            background_begin();
        }
        if (mem != NULL) return mem;
    }
    return cache_alloc_large(size, CHUNK_ALIGN, NULL);
}

void *cache_alloc_large(size_t size, size_t align, bool *zeroed) {
    struct cache *cache = cache_mine();
    void *mem = serve(cache, size, align, zeroed);
    for (unsigned tries = 0; UNLIKELY(mem == NULL) && cache_relieve(size, &tries);) {
        if (align == CHUNK_ALIGN) PROBE1(memory_malloc_retry, size);
        if (align != CHUNK_ALIGN) PROBE2(memory_memalign_retry, size, align);
        mem = arena_serve(arena_mine(cache), size, align, false, zeroed);
    }
    note_growth();
    background_begin();
    tend_beside(cache);
    if (mem != NULL && !(chunk_head(chunk_of(mem)) & FLAG_M)) count_net(cache, chunk_size(chunk_of(mem)), 1);
    if (UNLIKELY(conf_get(CONF_PERTURB) != 0) && zeroed != NULL) *zeroed = false;
    return perturbed(mem);
}

/* --- free missed ------------------------------------------------------------------------------------------------------------------------------ */

static COLD bool magazines_hold(unsigned size_class, const void *mem) {
    for (struct cache *cache = load_acquire(&cache_all); cache != NULL; cache = cache->next) {
        if (load_relaxed(&cache->state) == CACHE_FREE) continue;
        struct magazine *magazine = &cache->magazine[size_class];
        void **top = load_acquire(&magazine->top);
        for (void **slot = bottom_of(cache, size_class, top); slot < top; slot++) {
            if (load_relaxed(slot) == mem) return true;
        }
    }
    return false;
}

static COLD const char *place_in_class(unsigned size_class, const void *mem) {
    return magazines_hold(size_class, mem) ? "a thread cache" : depot_holds(size_class, mem) ? "a parked batch" : NULL;
}

/* A free puts it into the largest class that it serves; what came from an arena may be larger than its class, where cutting would have left too little. */
static COLD const char *place_in_caches(size_t size, const void *mem) {
    unsigned size_class = size <= CLASS_SIZE_MAX ? class_below(size) : CLASS_COUNT, smaller = size_class - 1;
    const char *place = size_class < CLASS_COUNT ? place_in_class(size_class, mem) : NULL;
    bool larger = smaller >= CHUNK_MIN / CHUNK_ALIGN && size - class_size(smaller) < arena_least_rest(class_size(smaller));
    return place == NULL && larger ? place_in_class(smaller, mem) : place;
}

/* Where a block is that carries the key: NULL if the user happened to store that value. */
static COLD const char *free_place(const void *mem, uint64_t head) {
    uint32_t tag = head_tag(head, chunk_of(mem));
    if (!tag_in_use(tag)) return NULL;
    const char *place = place_in_caches(head_size(head), mem);
    return place != NULL ? place : arena_holds(arena_of_id(tag), mem);
}

static COLD void check_double_free(void *mem, uint64_t head) {
    PROBE2(memory_tcache_double_free, mem, class_below(min_size(head_size(head), CLASS_SIZE_MAX)));
    const char *where = free_place(mem, head);
    if (where == NULL) return;
    fatal("free(): double free detected in tcache 2", "block at %p of %zu bytes is free already: it lies in %s; it was freed twice", mem,
          head_size(head), where);
}

COLD void cache_check_live(void *mem, const char *line) {
    const char *where = free_place(mem, chunk_head(chunk_of(mem)));
    if (where != NULL) fatal(line, "block at %p was freed already: it lies in %s", mem, where);
}

static COLD _Noreturn void bad_pointer(void *mem, uint64_t head, uint32_t tag) {
    /* Only a header that makes sense is believed when it says what state the block is in. */
    bool sensible = ((uintptr_t)mem & (CHUNK_ALIGN - 1)) == 0 && (tag & TAG_ID) < load_relaxed(&seal.arenas) &&
                    head_size(head) <= load_relaxed(&arena_of_id(tag & TAG_ID)->system_bytes);
    switch (sensible ? tag & TAG_STATE : TAG_STATE) {
    case TAG_BINNED:
        fatal("double free or corruption (!prev)",
              "block at %p of %zu bytes is free already: it lies in a bin of arena %u; it was freed twice", mem, head_size(head),
              tag & TAG_ID);
    case TAG_PURGING:
        fatal("double free or corruption (!prev)",
              "block at %p of %zu bytes is free already: its pages just go back to the system; it was freed twice", mem, head_size(head));
    case TAG_LOOSE:
        fatal("double free or corruption (fasttop)", "block at %p of %zu bytes is free already: it lies in a fast bin; it was freed twice",
              mem, head_size(head));
    case TAG_TOP:
        fatal("double free or corruption (top)", "block at %p is free already: it is the top of arena %u; it was freed twice", mem,
              tag & TAG_ID);
    default:
        fatal(mapped_owns(mem) ? "munmap_chunk(): invalid pointer" : "free(): invalid pointer",
              "pointer %p: found header 0x%lx, expected the seal of a block in use; it did not come from malloc, was freed already, or its "
              "header was overwritten",
              mem, (unsigned long)head);
    }
}

static void free_mapped(void *mem, uint64_t head) {
    conf_slide(head_size(head));
    mapped_free(mem, "munmap_chunk(): invalid pointer");
}

void cache_free(void *mem) {
    struct cache *cache = cache_mine();
    struct chunk *chunk = chunk_of(mem);
    uint64_t head = chunk_head(chunk);
    uint32_t tag = head_tag(head, chunk);
    size_t size = head_size(head);
    if (tag == TAG_MAPPED && (head & FLAG_M)) {
        free_mapped(mem, head);
        return;
    }
    if (UNLIKELY(!tag_in_use(tag) || size < CHUNK_MIN || ((uintptr_t)mem & (CHUNK_ALIGN - 1)) != 0)) bad_pointer(mem, head, tag);
    struct arena *arena = arena_of_id(tag);
    if (UNLIKELY(key_matches(mem))) check_double_free(mem, head);
    if (UNLIKELY(conf_get(CONF_PERTURB) != 0)) memset(mem, (int)conf_get(CONF_PERTURB), head_usable(head));
    if (UNLIKELY(load_relaxed(&orphans) != 0)) reclaim_orphan();
    unsigned size_class = size <= CLASS_SIZE_MAX ? class_below(size) : CLASS_COUNT;
    if (cache != NULL && size_class < cache->classes && !passes_by(cache, size_class) && slow_enter(cache)) {
        struct magazine *magazine = &cache->magazine[size_class];
        let_in(cache, size_class);
        if (magazine->top >= magazine->limit) {
            cache->gives++;
            widen(cache, size_class);
            if (magazine->top >= magazine->limit && size_class <= CLASS_EXACT) {
                flush_older(cache, size_class, (limit_of(cache, size_class) + 1) / 2, true);
                let_in(cache, size_class);
            }
            missed(cache, size_class);
        }
        bool cached = cache_push(size_class, mem);
        if (cache->watch == WATCH_LIGHT) watch_on(cache, size_class);
        slow_leave(cache);
        if (cached) return;
    }
    if (cache != NULL && size_class < CLASS_COUNT) count_class(cache, size_class, -1);
    unsigned one = 1;
    if (arena == arena_mine(cache) || load_relaxed(&arena->lock.word) == LOCK_FREE) {
        arena_free(arena, mem, &one);
    } else {
        arena_send(arena, &mem, 1, &one);
    }
    tend_beside(cache);
}

/* Under a limit nothing is kept that can be had back. */
static bool stays_whole(size_t old_size, size_t size) {
    bool medium = old_size > CLASS_EXACT_SIZE && old_size <= CLASS_SIZE_ABOVE(CLASS_IDLE_LAST) && load_relaxed(&os_counters.limit) == 0;
    return size <= old_size && old_size - size < max_size(CHUNK_MIN, old_size / (medium ? SHRUNK_SHARE_MEDIUM : SHRUNK_SHARE));
}

bool cache_resize(void *mem, size_t old_size, size_t size) {
    if (stays_whole(old_size, size)) return true;
    struct chunk *chunk = chunk_of(mem);
    uint32_t tag = chunk_tag(chunk);
    if (!tag_in_use(tag) || !arena_resize(arena_of_id(tag), mem, size)) return false;
    struct cache *cache = cache_mine();
    count_net(cache, old_size, -1);
    count_net(cache, chunk_size(chunk), 1);
    return true;
}

/* --- the end of a thread ---------------------------------------------------------------------------------------------------------------------- */

/* Whether the magazines may stay as they are for the next thread. */
static bool leave_magazines(struct cache *cache) {
    size_t bytes = cached_bytes(cache), most = max_size(load_relaxed(&heap_bytes) / CACHE_LEFT_SHARE, CACHE_LEFT_ALL);
    bool can = bytes != 0 && bytes <= CACHE_LEFT_MOST && cache->watch == WATCH_NOT && cache->in_transit == 0 &&
               cache->settings == load_relaxed(&settings) && conf_get(CONF_DECAY) != 0;
    if (!can || add_relaxed(&left_bytes, bytes) + bytes > most) {
        if (can) sub_relaxed(&left_bytes, bytes);
        return false;
    }
    cache->left = bytes;
    cache->aged = os_clock();
    return true;
}

/* What lies there is all that the new thread holds; its limits stay. */
static void take_over(struct cache *cache) {
    sub_relaxed(&left_bytes, cache->left);
    if (cache->settings != load_relaxed(&settings)) {
        flush_all(cache);
        magazines_init(cache);
        return;
    }
    cache->left = 0;
    cache->quiet = false;
    cache->held = (ptrdiff_t)cached_bytes(cache);
    forget_waves(cache);
    cache->gives = 0;
    memset(cache->net, 0, sizeof cache->net);
    memset(cache->missed, 0, sizeof cache->missed);
    for (unsigned size_class = 2; (size_class = next_open(cache, size_class)) < CLASS_COUNT; size_class++)
        cache->net[size_class] = count_of(cache, size_class);
    set_budget(cache);
}

/* Caches that were left `decay` milliseconds ago or before are emptied by another thread. */
static COLD void empty_left(struct arena *mine, uint64_t now, uint64_t decay) {
    for (struct cache *cache = load_acquire(&cache_all); cache != NULL; cache = cache->next) {
        uint32_t state = CACHE_LEFT;
        if (load_relaxed(&cache->state) != CACHE_LEFT || !cas_acq_rel(&cache->state, &state, CACHE_LIVE)) continue;
        if ((int64_t)(now - cache->aged) / 1000000 < (int64_t)decay) {
            store_release(&cache->state, CACHE_LEFT);
            continue;
        }
        sub_relaxed(&left_bytes, cache->left);
        cache->left = 0;
        cache->arena = mine;
        flush_all(cache);
        store_release(&cache->state, CACHE_FREE);
    }
}

static void cache_close(struct cache *cache) {
    bool left = leave_magazines(cache);
    if (!left) {
        for (unsigned size_class = 2; size_class < DEPOT_SLOTS; size_class++) {
            while (count_of(cache, size_class) != 0) flush_older(cache, size_class, TRANSIT_MAX, true);
        }
        flush_all(cache);
    }
    if (load_relaxed(&live_caches) != 0) sub_relaxed(&live_caches, 1); /* 0: forked by a signal handler just now */
    struct arena *arena = cache->arena;
    store_release(&cache->state, left ? CACHE_LEFT : CACHE_FREE);
    arena_detach(arena);
    background_poke();
}

static void thread_exit(void *value) {
    cache_self = &cache_dead; /* what the thread still frees takes the locked path */
    owned = NULL;
    cache_close(value);
}

void cache_flush(void) {
    struct cache *cache = cache_self;
    bool has_one = cache != &cache_none && cache != &cache_dead;
    if (load_relaxed(&left_bytes) != 0) empty_left(has_one ? cache->arena : &arena_main, os_clock(), 0);
    if (!has_one || !slow_enter(cache)) return;
    flush_all(cache);
    slow_leave(cache);
}

COLD void cache_settings_changed(void) {
    struct cache *cache = cache_self;
    add_relaxed(&settings, 1);
    if (cache == &cache_none || cache == &cache_dead || !slow_enter(cache)) return;
    flush_all(cache);
    magazines_init(cache);
    slow_leave(cache);
}

/* --- seeing ----------------------------------------------------------------------------------------------------------------------------------- */

COLD void cache_walk(void (*visit)(void *arg, void *mem), void *arg) {
    for (struct cache *cache = load_acquire(&cache_all); cache != NULL; cache = cache->next) {
        if (load_acquire(&cache->state) == CACHE_FREE) continue;
        for (unsigned size_class = 2; size_class < CLASS_COUNT; size_class++) {
            void **top = load_acquire(&cache->magazine[size_class].top);
            for (void **slot = bottom_of(cache, size_class, top); slot < top; slot++) visit(arg, load_relaxed(slot));
        }
        for (unsigned i = 0; i < load_relaxed(&cache->in_transit); i++) visit(arg, load_relaxed(&cache->transit[i]));
    }
}

COLD void cache_walk_books(void (*visit)(const void *start, size_t size, void *arg), void *arg) {
    for (const struct cache *cache = load_acquire(&cache_all); cache != NULL; cache = cache->next) visit(cache, sizeof *cache, arg);
}

unsigned cache_live(void) { return (unsigned)load_relaxed(&live_caches); }

/* An estimate from what everybody last published, with class sizes for cached blocks. */
void cache_note_peak(void) {
    size_t used = footprint_note(), unused = load_relaxed(&depot_bytes);
    for (uint32_t id = 0; id < load_acquire(&seal.arenas); id++) {
        const struct arena *arena = arena_of_id(id);
        unused += load_relaxed(&arena->bins.bytes) + load_relaxed(&arena->fast_bytes) + load_relaxed(&arena->inbox_bytes);
        const struct chunk *top = load_relaxed(&arena->top);
        if (top != NULL) unused += (size_t)(load_relaxed(&arena->top_end) - (const char *)top);
    }
    if (unused >= used || used - unused <= load_relaxed(&cache_in_use_peak)) return; /* whatever lies in caches */
    for (struct cache *cache = load_acquire(&cache_all); cache != NULL; cache = cache->next) {
        if (load_relaxed(&cache->state) == CACHE_FREE) continue;
        for (unsigned size_class = 2; (size_class = next_open(cache, size_class)) < CLASS_COUNT; size_class++) {
            void **top = load_relaxed(&cache->magazine[size_class].top);
            unused += class_size(size_class) * (size_t)(top - bottom_of(cache, size_class, top));
        }
    }
    if (unused < used) atomic_max(&cache_in_use_peak, used - unused);
}

/* --- fork ------------------------------------------------------------------------------------------------------------------------------------- */

COLD void cache_fork_prepare(uint64_t deadline) {
    arena_fork_prepare(deadline);
    depot_fork_prepare(deadline);
}
COLD void cache_fork_parent(void) {
    depot_fork_parent();
    arena_fork_parent();
}

/* The caches of threads that did not come along are only marked here: a child that execs at once pays nothing more. */
COLD void cache_fork_child(void) {
    depot_fork_child();
    arena_fork_child();
    retain_fork_child();
    move_fork_child();
    background_fork_child();
    store_relaxed(&os_counters.taken, arena_counted()); /* what others were just taking or giving is not */
    for (unsigned i = 0; i < ASKED_MOST; i++) {
        if (asked[i] != lock_self()) store_relaxed(&asked[i], NULL);
    }
    uint32_t left = 0;
    for (struct cache *cache = load_acquire(&cache_all); cache != NULL; cache = cache->next) {
        if (cache == owned || load_relaxed(&cache->state) == CACHE_FREE) continue;
        bool trusted = load_relaxed(&cache->state) != CACHE_LOST && !load_relaxed(&cache->torn);
        store_relaxed(&cache->state, trusted ? CACHE_ORPHAN : CACHE_LOST);
        left += trusted;
    }
    store_relaxed(&orphans, left);
    store_relaxed(&left_bytes, 0);
    struct cache *mine = owned;
    store_relaxed(&live_caches, mine != NULL);
    if (mine == NULL) return;
    if (load_relaxed(&mine->arena->lock.word) == LOCK_ABANDONED) {
        mine->arena = arena_attach(false);
    } else {
        store_relaxed(&mine->arena->threads, 1);
    }
}

/* Brings one home on a slow path. */
static COLD void reclaim_orphan(void) {
    struct cache *cache = cache_claim(CACHE_ORPHAN);
    if (cache == NULL) {
        store_relaxed(&orphans, 0);
        return;
    }
    sub_relaxed(&orphans, 1);
    cache->watch = WATCH_LIGHT; /* it may have been about to change: nothing is taken for granted */
    send_home(cache, ARENA_MERGED);
    flush_all(cache);
    cache->left = 0;
    store_release(&cache->state, CACHE_FREE);
}
