/* alloc.c: how an arena finds memory for a request.
 *
 *   1  inbox: fetch a bounded part                        5  large bin: best fit, split
 *   2  fast bin, small bin of exactly this size           6  next larger bin that has a chunk, split
 *   3  large request: merge the fast bins                 7  top
 *   4  unsorted: an exact fit is taken, what is passed    8  much lies unmerged: merge it, and again from 4
 *      is sorted into its bin (a bounded number)          9  a mapping (the caller makes it), or grow
 *
 * Remainders go to the unsorted bin; that of a small request is the last remainder, which small requests in a row are cut from.
 * SPDX-License-Identifier: MIT */
#include "arena/arena.h"

#include <string.h>

#include "conf/conf.h"
#include "heap/retain.h"
#include "os/os.h"
#include "os/report.h"

#define HOLES_MOST 4 /* that a batch is collected from: who waits for it waits for one block */
#define SURPLUS_SIZE KIB(64)
#define SURPLUS_SHARE 10
#define SURPLUS_LEAST MIB(1)

/* --- cutting --------------------------------------------------------------------------------------------------------------------------------- */

static void set_in_use(struct arena *arena, struct chunk *chunk, size_t size, uint32_t p) {
    lock_count_chunk();
    chunk_set(chunk, size, p | arena->flag_a, TAG_IN_USE | arena->id);
}

/* What of `clean` are whole pages of a chunk that was cut from it. */
static NOINLINE struct span span_left(struct arena *arena, const struct chunk *chunk, size_t size, struct span clean) {
    char *from = (char *)align_up((size_t)(chunk + 1), os_page_size()), *to = (char *)align_down((size_t)chunk + size, os_page_size());
    struct span left = {clean.from > from ? clean.from : from, clean.to < to ? clean.to : to};
    if (left.from >= left.to || size < arena->bins.paged_least) left.from = left.to = NULL;
    arena->tend.reused += span_size(clean) - span_size(left);
    return left;
}

/* The rest of a free chunk: header and foot. The chunk before it is in use. The rest of one that was purged is purged. */
static void set_free(struct arena *arena, struct chunk *chunk, size_t size, uint32_t purged, struct span clean) {
    bool paged = size >= arena->bins.paged_least;
    chunk_set(chunk, size, FLAG_P | arena->flag_a | (paged ? purged : 0), TAG_BINNED | arena->id);
    chunk_at(chunk, size)->prev_size = size;
    if (UNLIKELY(clean.from != NULL)) clean = span_left(arena, chunk, size, clean);
    if (paged) chunk->clean_from = clean.from, chunk->clean_to = clean.to;
}

/* Cuts `size` bytes off the front of a free chunk that is in no list; the rest goes to unsorted, or comes along if it is too small. */
static void *cut(struct arena *arena, struct chunk *chunk, size_t size) {
    uint64_t head = chunk_head(chunk);
    size_t whole = head_size(head);
    uint32_t p = head & FLAG_P;
    struct span clean = arena_clean(arena, chunk, whole);
    if (UNLIKELY(clean.from != NULL)) arena->fresh.pages = clean;
    if (whole - size < arena_least_rest(size)) {
        arena->tend.reused += span_size(clean);
        set_in_use(arena, chunk, whole, p);
        chunk_set_p(chunk_at(chunk, whole), true);
        bins_note_low(&arena->bins);
        return chunk_mem(chunk);
    }
    struct chunk *rest = chunk_at(chunk, size);
    set_free(arena, rest, whole - size, head & FLAG_PURGED, clean);
    bin_insert_unsorted(&arena->bins, rest);
    bins_note_low(&arena->bins);
    if (size < SMALL_LIMIT) arena->last_remainder = rest;
    set_in_use(arena, chunk, size, p);
    return chunk_mem(chunk);
}

/* Whether a chunk may be handed out, `size` bytes of it, as far as the limit goes: pages that went back come again, and what lost its name as such in a merge
 * may do so as well. */
static ALWAYS_INLINE bool may_hand_out(struct arena *arena, const struct chunk *chunk, size_t size) {
    if (LIKELY(load_relaxed(&os_counters.limit) == 0) || chunk_size(chunk) < arena->bins.paged_least) return true;
    size_t clean = span_size(arena_clean(arena, chunk, chunk_size(chunk)));
    size_t again = min_size(clean, size + size / REST_SHARE + 2 * os_page_size());
    if (!os_take(again)) return false;
    arena->counted_clean -= again;
    return true;
}

/* --- the steps ----------------------------------------------------------------------------------------------------------------------------------- */

static unsigned from_fast(struct arena *arena, size_t size, unsigned want, void **mem) {
    size_t index = size / CHUNK_ALIGN - 2;
    return index < FAST_BINS ? arena_pop_fast(arena, (unsigned)index, want, mem, "malloc(): memory corruption (fast)") : 0;
}

static void *from_small(struct arena *arena, size_t size) {
    unsigned index = bin_index(size);
    if (index >= BIN_FIRST_LARGE || bin_is_empty(&arena->bins, index)) return NULL;
    struct chunk *chunk = bin_chunk(&arena->bins, index)->bk;
    if (UNLIKELY(!bins_owns(&arena->bins, chunk) || chunk_size(chunk) != size)) {
        fatal("malloc(): smallbin double linked list corrupted",
              "small bin %u: its tail %p is not a free chunk of %zu bytes; something wrote to freed memory", index, (void *)chunk, size);
    }
    return cut(arena, arena_take_out(arena, chunk, "malloc(): smallbin double linked list corrupted"), size);
}

/* Step 4. NULL if there is no exact fit among the first ARENA_STEP. */
static ALWAYS_INLINE void *from_unsorted(struct arena *arena, size_t size) {
    struct chunk *bin = bin_chunk(&arena->bins, BIN_UNSORTED), *chunk = bin_last_unsorted(&arena->bins);
    for (unsigned step = 0; step < ARENA_STEP && chunk != NULL; step++, chunk = bin_sort_last(&arena->bins)) {
        size_t here = chunk_size(chunk);
        bool exact = here >= size && here - size < CHUNK_ALIGN; /* nothing can be cut from it */
        bool remainder = size < SMALL_LIMIT && chunk == arena->last_remainder && chunk->bk == bin && here >= size + CHUNK_MIN;
        if ((exact || remainder) && may_hand_out(arena, chunk, size))
            return cut(arena, arena_take_out(arena, chunk, BIN_UNSORTED_LINE), size);
    }
    return NULL;
}

/* Steps 5 and 6: the smallest chunk that holds `size`, taken out whole; for n blocks at most. */
static ALWAYS_INLINE struct chunk *best_fit(struct arena *arena, size_t size, unsigned n) {
    struct chunk *chunk = bin_best_fit(&arena->bins, size);
    return chunk != NULL && may_hand_out(arena, chunk, n * size) ? arena_take_out(arena, chunk, ARENA_LIST_LINE) : NULL;
}

static void *from_larger(struct arena *arena, size_t size) {
    struct chunk *chunk = best_fit(arena, size, 1);
    return chunk != NULL ? cut(arena, chunk, size) : NULL;
}

static size_t top_size(const struct arena *arena) { return arena->top != NULL ? (size_t)(arena->top_end - (char *)arena->top) : 0; }

static void top_was_cut(struct arena *arena) {
    char *used = chunk_mem(arena->top);
    if (arena->top_region->clean < used) arena->top_region->clean = used;
    arena->top_low = min_size(arena->top_low, arena_touched_top(arena));
}

/* Step 7: n blocks in address order. top keeps at least a smallest chunk. */
static unsigned from_top(struct arena *arena, size_t size, unsigned n, void **mem) {
    size_t have = top_size(arena);
    if (have < size + CHUNK_MIN || os_is_beyond(0)) return 0;
    struct chunk *chunk = arena->top;
    uint64_t head = chunk_head(chunk);
    if (UNLIKELY(head_tag(head, chunk) != (TAG_TOP | arena->id) || head_size(head) != have)) {
        fatal("malloc(): corrupted top size",
              "top chunk at %p: its header says %zu bytes, expected %zu; something wrote past the end of the last block", (void *)chunk,
              head_size(head), have);
    }
    n = (unsigned)min_size(n, (have - CHUNK_MIN) / size);
    char *clean = arena->top_region->clean;
    arena->fresh = (struct fresh){(char *)chunk_mem(chunk) >= clean, {clean, (char *)chunk + n * size}};
    uint32_t p = head & FLAG_P;
    for (unsigned i = 0; i < n; i++, p = FLAG_P) {
        set_in_use(arena, chunk, size, p);
        store_relaxed(&mem[i], chunk_mem(chunk));
        chunk = chunk_at(chunk, size);
    }
    arena_set_top(arena, chunk, arena->top_end);
    top_was_cut(arena);
    return n;
}

static bool much_unmerged(const struct arena *arena) { return arena_uncoalesced(arena) > arena->system_bytes / UNMERGED_SHARE; }

/* Steps 4 to 6. */
static ALWAYS_INLINE void *from_bins(struct arena *arena, size_t size) {
    void *mem = from_unsorted(arena, size);
    return mem != NULL ? mem : from_larger(arena, size);
}

/* Steps 1 to 7, without growth. */
static void *find_free(struct arena *arena, size_t size) {
    arena_receive(arena);
    void *mem;
    if (from_fast(arena, size, 1, &mem) != 0) {
        key_clear(mem);
        return mem;
    }
    mem = from_small(arena, size);
    if (mem != NULL) return mem;
    if (size >= SMALL_LIMIT && arena->fast_count != 0) arena_merge_backlog(arena, BACKLOG_FAST);
    mem = from_bins(arena, size);
    if (mem == NULL) from_top(arena, size, 1, &mem);
    return mem;
}

/* Lets others in before the next round. False: the lock is lost. */
static bool breathe(struct arena *arena) {
    lock_leave(&arena->lock);
    bool entered = arena_enter(arena);
    if (entered) arena->fresh = (struct fresh){0}; /* others may have cut blocks */
    return entered;
}

/* Step 8, with the lock let go between the rounds. All is merged before anything is cut from it: pieces of two or three blocks would leave rests that
 * nobody can use. Ends when nothing is left to merge or to sort. */
static void *merge_and_find(struct arena *arena, size_t size, bool *lost_lock) {
    bool merging = much_unmerged(arena);
    /* No more than lies there now: others may go on adding. */
    for (size_t rounds = arena_merge_rounds(arena); rounds != 0 && merging; rounds--) {
        *lost_lock = !breathe(arena);
        if (*lost_lock) return NULL;
        merging = arena_merge_backlog(arena, BACKLOG_ALL) != 0;
    }
    for (unsigned round = 0; round < SORT_ROUNDS; round++) {
        *lost_lock = !breathe(arena);
        if (*lost_lock) return NULL;
        bool last = arena_merge_backlog(arena, BACKLOG_INBOX) == 0 && bin_is_empty(&arena->bins, BIN_UNSORTED);
        void *mem = from_bins(arena, size);
        if (mem == NULL) from_top(arena, size, 1, &mem);
        if (mem != NULL || last) return mem;
    }
    return NULL;
}

/* Steps 8 and 9, when 1 to 7 found nothing. The lock is held, and still is at the end unless ARENA_REFUSED. */
static enum arena_status merge_or_grow(struct arena *arena, size_t size, unsigned means, void **mem) {
    bool lost_lock = false;
    void *found = means & MEANS_MERGE ? merge_and_find(arena, size, &lost_lock) : NULL;
    if (lost_lock) return ARENA_REFUSED;
    if (found == NULL && (means & (MEANS_MAP | MEANS_GROW)) && arena_await_purged(arena, size, &lost_lock)) {
        arena->fresh = (struct fresh){0};
        found = from_bins(arena, size);
    }
    if (lost_lock) return ARENA_REFUSED;
    if (found == NULL) {
        if ((means & MEANS_MAP) && size >= conf_get(CONF_MMAP_THRESHOLD) && conf_get(CONF_MMAP_MAX) != 0) return ARENA_MAP;
        if (!(means & MEANS_GROW) || !arena_grow(arena, size)) return ARENA_FULL;
        from_top(arena, size, 1, &found);
    }
    store_relaxed(mem, found);
    return found != NULL ? ARENA_OK : ARENA_FULL;
}

/* What of the arena has pages, as far as it knows. */
static size_t resident(const struct arena *arena) {
    return arena->system_bytes - arena->bins.clean - (top_size(arena) - arena_touched_top(arena));
}

/* Large blocks that come and go leave holes of all sizes. What is resident shall not be much more than was once needed: when a request brings new pages,
 * by growth or in a hole that was purged, as many of others' go back (arena_make_up). That costs no more than twice the faults. */
static void note_surplus(struct arena *arena, size_t before) {
    size_t after = resident(arena), needed = arena->system_bytes - arena->bins.bytes - top_size(arena) - arena_uncoalesced(arena);
    if (arena->purging != NULL) needed -= chunk_size(arena->purging);
    if (needed > arena->needed) store_relaxed(&arena->needed, needed);
    size_t room = arena->needed + min_size(max_size(arena->needed / SURPLUS_SHARE, SURPLUS_LEAST), footprint_spare());
    bool beyond = after > room && conf_slides();
    arena->debt = beyond ? arena->debt + (after > before ? after - before : 0) : 0;
    store_relaxed(&arena->surplus, beyond ? min_size(after - room, arena->debt) : 0);
}

/* Steps 1 to 9, likewise. */
static enum arena_status alloc_locked(struct arena *arena, size_t size, unsigned means, void **mem, struct fresh *fresh) {
    arena->fresh = (struct fresh){0};
    size_t before = size >= SURPLUS_SIZE ? resident(arena) : 0;
    void *found = find_free(arena, size);
    enum arena_status status = ARENA_OK;
    if (found == NULL) {
        status = merge_or_grow(arena, size, means, mem);
    } else {
        store_relaxed(mem, found);
    }
    if (status == ARENA_OK && size >= SURPLUS_SIZE) note_surplus(arena, before);
    if (status != ARENA_REFUSED) {
        arena_count_clean(arena);
        *fresh = arena->fresh;
    }
    return status;
}

void *arena_find(struct arena *arena, size_t size) {
    if (size < SMALL_LIMIT || size >= SURPLUS_SIZE || !arena_enter(arena)) return NULL;
    arena_receive(arena);
    if (arena->fast_count != 0) arena_merge_backlog(arena, BACKLOG_FAST);
    void *mem = from_bins(arena, size);
    if (mem == NULL) from_top(arena, size, 1, &mem);
    arena_count_clean(arena);
    lock_leave(&arena->lock);
    return mem;
}

enum arena_status arena_alloc(struct arena *arena, size_t size, unsigned means, void **mem, struct fresh *fresh) {
    if (!arena_enter(arena)) return ARENA_REFUSED;
    enum arena_status status = alloc_locked(arena, size, means, mem, fresh);
    if (status != ARENA_REFUSED) lock_leave(&arena->lock);
    return status;
}

/* Cuts what is more than `size` off the end of an in-use chunk. */
static void cut_tail(struct arena *arena, struct chunk *chunk, size_t size) {
    uint64_t head = chunk_head(chunk);
    size_t whole = head_size(head);
    if (whole - size < CHUNK_MIN) return;
    set_in_use(arena, chunk, size, head & FLAG_P);
    struct chunk *rest = chunk_at(chunk, size);
    set_in_use(arena, rest, whole - size, FLAG_P);
    arena_merge(arena, rest);
}

enum arena_status arena_alloc_aligned(struct arena *arena, size_t size, size_t align, unsigned means, void **mem, struct fresh *fresh) {
    if (!arena_enter(arena)) return ARENA_REFUSED;
    enum arena_status status = alloc_locked(arena, size + align + CHUNK_MIN, means, mem, fresh);
    if (status == ARENA_REFUSED) return status;
    if (status == ARENA_OK) {
        struct chunk *chunk = chunk_of(*mem);
        uintptr_t aligned = align_up((uintptr_t)*mem, align);
        if (aligned != (uintptr_t)*mem && aligned - (uintptr_t)*mem < CHUNK_MIN) aligned += align;
        size_t lead = aligned - (uintptr_t)*mem;
        if (lead != 0) {
            uint64_t head = chunk_head(chunk);
            struct chunk *second = chunk_at(chunk, lead);
            set_in_use(arena, second, head_size(head) - lead, FLAG_P);
            set_in_use(arena, chunk, lead, head & FLAG_P);
            arena_merge(arena, chunk);
            chunk = second;
        }
        cut_tail(arena, chunk, size);
        *mem = chunk_mem(chunk);
        fresh->zeroed = false;
    }
    lock_leave(&arena->lock);
    return status;
}

/* --- batches ---------------------------------------------------------------------------------------------------------------------------------------- */

/* Cuts a free chunk that is in no list into as many blocks of `size` as it holds, at most n. The rest is cut like any other. */
static unsigned carve(struct arena *arena, struct chunk *chunk, size_t size, unsigned n, void **mem) {
    uint64_t head = chunk_head(chunk);
    size_t whole = head_size(head);
    uint32_t p = head & FLAG_P;
    struct span clean = arena_clean(arena, chunk, whole);
    unsigned made = 0;
    for (; made + 1 < n && whole >= 2 * size; made++, p = FLAG_P) {
        set_in_use(arena, chunk, size, p);
        store_relaxed(&mem[made], chunk_mem(chunk));
        chunk = chunk_at(chunk, size);
        whole -= size;
    }
    if (made != 0) set_free(arena, chunk, whole, head & FLAG_PURGED, clean);
    store_relaxed(&mem[made], cut(arena, chunk, size));
    return made + 1;
}

/* From bins alone: exact small chunks first, then what fits best, hole by hole: small blocks must not break the holes that larger ones need. */
static unsigned take_from_bins(struct arena *arena, size_t size, unsigned want, void **mem) {
    unsigned n = from_fast(arena, size, want, mem);
    void *block;
    unsigned holes = 0;
    for (; n < want && holes < HOLES_MOST && (block = from_small(arena, size)) != NULL; holes++) store_relaxed(&mem[n++], block);
    if (n == 0 && size >= SMALL_LIMIT && arena->fast_count != 0) arena_merge_backlog(arena, BACKLOG_FAST);
    if (n == 0 && (block = from_unsorted(arena, size)) != NULL) store_relaxed(&mem[n++], block);
    for (struct chunk *chunk; n < want && holes < HOLES_MOST && (chunk = best_fit(arena, size, want - n)) != NULL; holes++)
        n += carve(arena, chunk, size, want - n, mem + n);
    return n;
}

/* Every other one first: small blocks that a thread gets in a row, and may give to other threads one by one, mostly share no cache line then. */
static void spread(void **mem, unsigned n) {
    void *copy[BATCH_MAX]; /* n <= BATCH_MAX */
    memcpy(copy, mem, n * sizeof *mem);
    for (unsigned i = 0; i < n; i++) store_relaxed(&mem[i % 2 ? (n + 1) / 2 + i / 2 : i / 2], copy[i]);
}

enum arena_status arena_take(struct arena *arena, size_t size, unsigned want, unsigned means, void **mem, unsigned *count) {
    if (!arena_enter(arena)) return ARENA_REFUSED;
    enum arena_status status = ARENA_OK;
    arena_receive(arena);
    unsigned n = take_from_bins(arena, size, want, mem);
    if (n == 0) n = from_top(arena, size, want, mem);
    if (n == 0) {
        status = merge_or_grow(arena, size, means, mem);
        n = status == ARENA_OK;
        if (n != 0 && want > 1) n += from_top(arena, size, want - 1, mem + 1);
    }
    if (n > 2 && size < CACHE_LINE && !key_matches(mem[n - 1])) spread(mem, n); /* fresh ones: those of lists carry the key */
    for (unsigned i = 0; i < n; i++) key_set(mem[i]);
    store_relaxed(count, n);
    if (status != ARENA_REFUSED) arena_count_clean(arena);
    if (status != ARENA_REFUSED) lock_leave(&arena->lock);
    return status;
}

/* --- in place ------------------------------------------------------------------------------------------------------------------------------------ */

static bool extend(struct arena *arena, struct chunk *chunk, size_t old, size_t size) {
    struct chunk *next = chunk_at(chunk, old);
    uint32_t p = chunk_head(chunk) & FLAG_P;
    if (next == arena->top) {
        size_t need = size - old;
        if (top_size(arena) < need + CHUNK_MIN && (size >= conf_get(CONF_MMAP_THRESHOLD) || !arena_grow(arena, need))) return false;
        if (next != arena->top || os_is_beyond(0)) return false; /* it grew elsewhere, or the limit was lowered */
        arena_set_top(arena, chunk_at(chunk, size), arena->top_end);
        arena_absorb(arena, next, chunk);
        top_was_cut(arena);
        set_in_use(arena, chunk, size, p);
        return true;
    }
    if (!bins_owns(&arena->bins, next) || old + chunk_size(next) < size || !may_hand_out(arena, next, size - old)) return false;
    size_t whole = old + chunk_size(next);
    arena_take_out(arena, next, ARENA_LIST_LINE);
    arena_absorb(arena, next, chunk);
    set_in_use(arena, chunk, whole, p);
    chunk_set_p(chunk_at(chunk, whole), true);
    cut_tail(arena, chunk, size);
    bins_note_low(&arena->bins);
    arena_count_clean(arena);
    return true;
}

/* Whether a block, whose seal was seen to be good, can't grow anyway: the one behind it is in use, or free and too small. */
static bool is_hemmed_in(const struct arena *arena, const struct chunk *chunk, size_t size) {
    size_t old = chunk_size(chunk);
    if (size <= old) return false;
    const struct chunk *next = chunk_at(chunk, old);
    uint64_t head = chunk_head(next);
    uint32_t tag = head_tag(head, next);
    return (head & FLAG_P) && (tag == (TAG_IN_USE | arena->id) || (tag == (TAG_BINNED | arena->id) && old + head_size(head) < size));
}

bool arena_resize(struct arena *arena, void *mem, size_t size) {
    if (is_hemmed_in(arena, chunk_of(mem), size)) return false; /* mostly: no need for the lock */
    if (!arena_enter(arena)) return false;
    struct chunk *chunk = arena_check_block(arena, mem, "realloc(): invalid pointer");
    size_t old = chunk_size(chunk);
    static const char line[] = "realloc(): invalid next size";
    arena_check_behind(arena, chunk, old, line);
    if (UNLIKELY(!(chunk_head(chunk_at(chunk, old)) & FLAG_P))) {
        fatal(line, "block at %p of %zu bytes: the chunk behind it says that it is free", mem, old);
    }
    bool done = true;
    if (size <= old) {
        cut_tail(arena, chunk, size);
    } else {
        done = extend(arena, chunk, old, size);
    }
    lock_leave(&arena->lock);
    return done;
}
