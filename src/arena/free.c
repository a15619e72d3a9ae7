/* free.c: how a block comes back.
 *
 *   fast        small and no cache took it, or in a batch that will be wanted again: into its fast bin, unmerged
 *   merge       with a free chunk before it, with a free chunk or the top behind it; into top, or into the unsorted bin
 *   trim        when much touched memory lies at the top, when a region other than the top's is wholly free
 *   send        batches that are of an arena that isn't the thread's: into its inbox
 *
 * A block is what its seal says. Everything read from a neighbour is checked against that neighbour's own seal before it is believed.
 * SPDX-License-Identifier: MIT */
#include "arena/arena.h"

#include <string.h>

#include "conf/conf.h"
#include "heap/move.h"
#include "heap/retain.h"
#include "os/os.h"
#include "os/report.h"

#define FAST_CONSOLIDATE KIB(64) /* a free that makes a chunk this big merges the fast bins as well, as ptmalloc's does */
#define FAST_MOST ((FAST_BINS + 1) * CHUNK_ALIGN)
#define REGRET_LEAST KIB(64)     /* that a trim counts as having left */
#define REGRET_DESERTED KIB(256) /* what of it an arena without threads may keep */
#define REGRET_MOST MIB(4)
#define PREFETCH_HEAP MIB(1) /* in a smaller one everything is near */
#define INBOX_SHARE 256
#define INBOX_BYTES KIB(16)

void arena_set_top(struct arena *arena, struct chunk *top, char *end) {
    store_relaxed(&arena->top, top);
    store_relaxed(&arena->top_end, end);
    chunk_set(top, (size_t)(end - (char *)top), FLAG_P | arena->flag_a, TAG_TOP | arena->id);
}

static void set_system_bytes(struct arena *arena, size_t bytes) {
    add_relaxed(&heap_bytes, bytes - arena->system_bytes);
    store_relaxed(&arena->system_bytes, bytes);
    if (bytes > arena->system_peak) store_relaxed(&arena->system_peak, bytes);
}

static COLD _Noreturn void bad_block(struct arena *arena, void *mem, uint64_t head, uint32_t tag, const char *line) {
    bool is_free = strcmp(line, "free(): invalid pointer") == 0;
    if (is_free && tag == (TAG_BINNED | arena->id)) {
        fatal("double free or corruption (!prev)",
              "block at %p of %zu bytes is free already: it lies in a bin of arena %u; it was freed twice", mem, head_size(head),
              arena->id);
    }
    if (is_free && tag == (TAG_TOP | arena->id)) {
        fatal("double free or corruption (top)", "block at %p is free already: it became part of the top of arena %u; it was freed twice",
              mem, arena->id);
    }
    fatal(line,
          "block at %p: header 0x%lx does not carry the seal of a block in use of arena %u; the pointer is wrong, the block was freed "
          "already, or its header was overwritten",
          mem, (unsigned long)head, arena->id);
}

static COLD _Noreturn void outside(struct arena *arena, void *mem, const char *line) {
    fatal(line, "block at %p lies outside arena %u (%p to %p); the pointer is wrong, or a link was overwritten", mem, arena->id,
          (void *)(uintptr_t)arena->bins.low, (void *)(uintptr_t)arena->bins.high);
}

static ALWAYS_INLINE struct chunk *check_block(struct arena *arena, void *mem, const char *line) {
    struct chunk *chunk = chunk_of(mem);
    if (UNLIKELY(!bins_range(&arena->bins, chunk))) outside(arena, mem, line);
    uint64_t head = chunk_head(chunk);
    uint32_t tag = head_tag(head, chunk);
    if (UNLIKELY(tag != (TAG_IN_USE | arena->id) || head_size(head) < CHUNK_MIN)) bad_block(arena, mem, head, tag, line);
    return chunk;
}

struct chunk *arena_check_block(struct arena *arena, void *mem, const char *line) {
    return check_block(arena, mem, line);
}

static const char next_line[] = "free(): invalid next size (normal)";

/* --- merging --------------------------------------------------------------------------------------------------------------------------------- */

struct chunk *arena_take_out(struct arena *arena, struct chunk *chunk, const char *line) {
    bin_remove(&arena->bins, chunk, line);
    if (chunk == arena->last_remainder) arena->last_remainder = NULL;
    return chunk;
}

/* The free chunk before `chunk`, whose P bit is clear. */
static struct chunk *previous(struct arena *arena, struct chunk *chunk) {
    size_t size = chunk->prev_size;
    struct chunk *before = (struct chunk *)((uintptr_t)chunk - size);
    if (UNLIKELY(size < CHUNK_MIN || !bins_owns(&arena->bins, before) || chunk_size(before) != size)) {
        fatal("corrupted size vs. prev_size",
              "chunk at %p says that a free chunk of %zu bytes stands before it; none does; something wrote past the end of a block",
              (void *)chunk, size);
    }
    return before;
}

static COLD _Noreturn void bad_behind(struct arena *arena, const struct chunk *chunk, size_t size, const char *line) {
    struct chunk *next = chunk_at(chunk, size);
    bool inside = bins_range(&arena->bins, next);
    if (!inside && strcmp(line, next_line) == 0) {
        fatal("double free or corruption (out)", "block at %p of %zu bytes would end outside arena %u", chunk_mem(chunk), size, arena->id);
    }
    fatal(line,
          "block at %p of %zu bytes: header 0x%lx behind it, at %p, carries no seal of arena %u; something wrote past the end of this "
          "block",
          chunk_mem(chunk), size, inside ? (unsigned long)chunk_head(next) : 0ul, (void *)next, arena->id);
}

static ALWAYS_INLINE uint32_t check_behind(struct arena *arena, const struct chunk *chunk, size_t size, const char *line) {
    struct chunk *next = chunk_at(chunk, size);
    uint32_t tag = bins_range(&arena->bins, next) ? chunk_tag(next) : TAG_STATE, state = tag & TAG_STATE;
    if (UNLIKELY((tag & TAG_ID) != arena->id || state == TAG_STATE || state == TAG_MAPPED)) bad_behind(arena, chunk, size, line);
    return tag;
}

uint32_t arena_check_behind(struct arena *arena, const struct chunk *chunk, size_t size, const char *line) {
    return check_behind(arena, chunk, size, line);
}

static bool close_if_free(struct arena *arena, struct chunk *chunk, size_t size);

/* Of two the larger: a chunk knows of one. */
static inline void larger_span(const struct arena *arena, struct span *span, const struct chunk *chunk, size_t size) {
    struct span other = arena_clean(arena, chunk, size);
    if (span_size(other) > span_size(*span)) *span = other;
}

size_t arena_merge(struct arena *arena, struct chunk *chunk) { return arena_merge_clean(arena, chunk, (struct span){NULL, NULL}); }

size_t arena_merge_clean(struct arena *arena, struct chunk *chunk, struct span clean) {
    lock_count_chunk();
    uint64_t head = chunk_head(chunk);
    size_t size = head_size(head);
    struct chunk *next = chunk_at(chunk, size);
    uint32_t tag = check_behind(arena, chunk, size, next_line);
    uint64_t next_head = chunk_head(next);
    if (UNLIKELY(!(next_head & FLAG_P))) {
        fatal("double free or corruption (!prev)", "block at %p of %zu bytes: the chunk behind it says that it is free already",
              chunk_mem(chunk), size);
    }
    if (!(head & FLAG_P)) {
        struct chunk *before = previous(arena, chunk);
        size_t more = chunk->prev_size;
        bin_take(&arena->bins, before, more, ARENA_LIST_LINE);
        if (before == arena->last_remainder) arena->last_remainder = NULL;
        arena_absorb(arena, chunk, before);
        larger_span(arena, &clean, before, more);
        size += more;
        chunk = before;
    }
    if (next == arena->top) {
        arena_absorb(arena, next, chunk);
        arena_set_top(arena, chunk, arena->top_end);
        arena_count_clean(arena);
        return size;
    }
    bool may_close = (tag & TAG_STATE) == TAG_FENCE;
    if ((tag & TAG_STATE) == TAG_BINNED) {
        arena_take_out(arena, next, ARENA_LIST_LINE);
        arena_absorb(arena, next, chunk);
        larger_span(arena, &clean, next, head_size(next_head));
        size += head_size(next_head);
        may_close = true;
    } else {
        chunk_set(next, head_size(next_head), (uint32_t)(next_head & (FLAG_MASK & ~FLAG_P)), tag);
    }
    chunk_set(chunk, size, FLAG_P | arena->flag_a, TAG_BINNED | arena->id);
    chunk_at(chunk, size)->prev_size = size;
    if (size >= arena->bins.paged_least) chunk->clean_from = clean.from, chunk->clean_to = clean.to;
    if (!may_close || !close_if_free(arena, chunk, size)) bin_insert_unsorted(&arena->bins, chunk);
    arena_count_clean(arena);
    return size;
}

/* The headers of its neighbours. Nothing read here is believed. */
static ALWAYS_INLINE void prefetch_beside(const struct chunk *chunk, uint64_t head) {
    prefetch(chunk_at(chunk, head_size(head)));
    if (!(head & FLAG_P)) prefetch((const char *)chunk - chunk->prev_size);
}

/* What merging n blocks will touch, asked for at once: first the neighbours, then those that stand beside them in their bins. Their misses overlap;
 * in the merges themselves one waits for the other. Nothing read here is believed. */
static void prefetch_neighbours(const struct arena *arena, void **mem, unsigned n) {
    struct chunk *before[ARENA_STEP];
    _Static_assert(BATCH_MAX <= ARENA_STEP, "batches fit");
    for (unsigned i = 0; i < n; i++) {
        struct chunk *chunk = chunk_of(mem[i]);
        /* prev_size is the user's where the chunk before is in use. */
        before[i] = chunk_head(chunk) & FLAG_P ? NULL : (struct chunk *)((uintptr_t)chunk - chunk->prev_size);
        prefetch(chunk_next(chunk));
        if (before[i] != NULL) prefetch(before[i]);
    }
    for (unsigned i = 0; i < n; i++) {
        struct chunk *next = chunk_next(chunk_of(mem[i]));
        if (before[i] != NULL && bins_range(&arena->bins, before[i])) {
            prefetch(before[i]->fd);
            prefetch(before[i]->bk);
        }
        if (bins_owns(&arena->bins, next)) {
            prefetch(next->fd);
            prefetch(next->bk);
        }
    }
}

/* arena_merge for n blocks that carry the key. Those that follow each other in the list and in memory, up or down, become one chunk first: a batch
 * was often cut from one piece. Bytes of the largest chunk that came of it. */
static size_t merge_blocks(struct arena *arena, void **mem, unsigned n, const char *line) {
    size_t largest = 0;
    if (n > 4 && arena->system_bytes > PREFETCH_HEAP) prefetch_neighbours(arena, mem, n);
    for (unsigned i = 0; i < n;) {
        struct chunk *first = check_block(arena, mem[i], line);
        size_t size = chunk_size(first), single = size;
        key_clear(mem[i]);
        for (i++; i < n; i++) {
            struct chunk *chunk = chunk_of(mem[i]), *low = first;
            if (chunk != chunk_at(first, size)) {
                if (chunk >= first || chunk_at(chunk, single) != first) break; /* of one size mostly: looked at only where it may fit */
                low = chunk;
            }
            struct chunk *high = low == chunk ? first : chunk;
            size_t here = chunk_size(check_block(arena, mem[i], line));
            if (low == chunk && here != single) break;
            if (UNLIKELY(!(chunk_head(high) & FLAG_P))) {
                fatal("double free or corruption (!prev)", "block at %p: its header says that the block before it is free already",
                      chunk_mem(high));
            }
            key_clear(mem[i]);
            arena_absorb(arena, high, low);
            size += here;
            first = low;
        }
        if (size != single) chunk_set(first, size, (chunk_head(first) & FLAG_P) | arena->flag_a, TAG_IN_USE | arena->id);
        largest = max_size(largest, arena_merge(arena, first));
    }
    return largest;
}

/* --- regions ---------------------------------------------------------------------------------------------------------------------------------- */

static void recompute_range(struct arena *arena) {
    const char *low = NULL, *high = NULL;
    for (struct region *region = arena->regions; region != NULL; region = region->next) {
        if (low == NULL || region->start < low) low = region->start;
        if (region->end > high) high = region->end;
    }
    bins_set_range(&arena->bins, low, high);
}

static bool drop_region(struct arena *arena, struct region *region) {
    size_t bytes = (size_t)(region->end - region->start);
    move_forget(region->start, region->limit);
    struct region **link = &arena->regions, *next = region->next;
    while (*link != region) link = &(*link)->next;
    arena_count_clean(arena);
    if (!region_close(region)) return false;
    *link = next;
    if (arena->sweep.region == region) arena_sweep_region(arena, next);
    set_system_bytes(arena, arena->system_bytes - bytes);
    recompute_range(arena);
    return true;
}

/* A free chunk in no bin that fills a region other than the top's, but for the fencepost: the region goes back. */
static bool close_if_free(struct arena *arena, struct chunk *chunk, size_t size) {
    struct chunk *next = chunk_at(chunk, size);
    if (chunk_tag(next) != (TAG_FENCE | arena->id)) return false;
    for (struct region *region = arena->regions; region != NULL; region = region->next) {
        if (region->start == (char *)chunk) return region->end == (char *)next + CHUNK_FENCE && drop_region(arena, region);
    }
    return false;
}

/* The top of a region that will not grow any more becomes a free chunk and a fencepost. */
static void retire_top(struct arena *arena) {
    struct chunk *top = arena->top;
    if (top == NULL) return;
    size_t size = (size_t)(arena->top_end - (char *)top) - CHUNK_FENCE;
    uint32_t p = chunk_head(top) & FLAG_P;
    region_fix(arena->top_region);
    store_relaxed(&arena->top, NULL);
    arena->top_region = NULL;
    if (size >= CHUNK_MIN) {
        struct chunk *fence = chunk_at(top, size);
        chunk_set(fence, CHUNK_FENCE, FLAG_P | arena->flag_a, TAG_FENCE | arena->id);
        chunk_set(top, size, p | arena->flag_a, TAG_IN_USE | arena->id);
        arena_merge(arena, top);
        return;
    }
    for (size_t at = 0; at <= size; at += CHUNK_FENCE, p = FLAG_P) {
        chunk_set(chunk_at(top, at), CHUNK_FENCE, p | arena->flag_a, TAG_FENCE | arena->id);
    }
}

bool arena_grow(struct arena *arena, size_t size) {
    size_t have = arena->top != NULL ? (size_t)(arena->top_end - (char *)arena->top) : 0;
    size_t fresh = size + CHUNK_MIN, need = fresh > have ? fresh - have : CHUNK_MIN;
    bool extended = false;
    struct region *old = arena->top_region;
    size_t old_end = old != NULL ? (size_t)old->end : 0, pad = conf_get(CONF_TOP_PAD);
    struct region *region =
        arena == &arena_main ? region_grow_main(old, need, fresh, pad, &extended) : region_grow_heap(old, need, fresh, pad, &extended);
    if (region == NULL) return false;
    size_t again = min_size(arena->tend.regrow, need);
    arena->tend.regrow -= again;
    arena->tend.reused += again;
    if (arena->trimmed != 0) {
        size_t much = arena_much(arena), twice = 2 * max_size(arena->trimmed, arena->regret);
        arena->regret = max_size(arena->regret, min_size(max_size(twice, much), max_size(REGRET_MOST, much)));
        arena->trimmed = 0;
    }
    if (extended) {
        set_system_bytes(arena, arena->system_bytes + ((size_t)region->end - old_end));
    } else {
        arena->top_low = 0;
        retire_top(arena);
        region->next = arena->regions;
        arena->regions = region;
        arena->top_region = region;
        set_system_bytes(arena, arena->system_bytes + (size_t)(region->end - region->start));
    }
    recompute_range(arena);
    struct chunk *top = extended ? arena->top : (struct chunk *)region->start;
    if (!extended && region->clean < (char *)chunk_mem(top)) region->clean = chunk_mem(top);
    arena_set_top(arena, top, region->end);
    return true;
}

/* After the top's region went back: the free end of the newest region that is left becomes top again. */
static void reopen_top(struct arena *arena) {
    struct region *region = arena->regions;
    if (region == NULL) return;
    struct chunk *fence = (struct chunk *)(region->end - CHUNK_FENCE);
    if (chunk_tag(fence) != (TAG_FENCE | arena->id) || (chunk_head(fence) & FLAG_P)) return;
    struct chunk *last = previous(arena, fence);
    arena_take_out(arena, last, ARENA_LIST_LINE);
    arena_absorb(arena, fence, last);
    arena->top_region = region;
    region->clean = region->end; /* what was handed out from the bins meanwhile nobody noted */
    arena_set_top(arena, last, region->end);
    arena_count_clean(arena);
}

size_t arena_touched_top(const struct arena *arena) {
    if (arena->top == NULL) return 0;
    const char *top = (const char *)arena->top, *touched = arena->top_region->clean;
    if (touched > arena->top_end) touched = arena->top_end;
    return touched > top + CHUNK_HEADER ? (size_t)(touched - top) : 0;
}

static void shrink_top(struct arena *arena, char *new_end) {
    char *old_end = arena->top_end;
    if (!region_shrink(arena->top_region, new_end)) return;
    move_forget(new_end, old_end);
    set_system_bytes(arena, arena->system_bytes - (size_t)(old_end - new_end));
    recompute_range(arena);
    arena_set_top(arena, arena->top, new_end);
}

/* Gives back what lies touched at the top beyond `threshold`, but for `pad` bytes. */
void arena_trim_top(struct arena *arena, size_t threshold, size_t pad) {
    struct region *region = arena->top_region;
    char *top = (char *)arena->top;
    size_t touched_bytes = arena_touched_top(arena);
    if (touched_bytes <= threshold) return;
    char *touched = top + touched_bytes;
    if (top == region->start && region->kind != SEEMALLOC_REGION_BRK &&
        (arena->regions->next != NULL || load_relaxed(&arena->threads) == 0)) {
        /* Wholly free, and not all that a working arena has. */
        store_relaxed(&arena->top, NULL);
        arena->top_region = NULL;
        if (drop_region(arena, region)) {
            reopen_top(arena);
            arena_trim_top(arena, threshold, pad);
            return;
        }
        store_relaxed(&arena->top, (struct chunk *)top);
        arena->top_region = region;
    }
    size_t page = os_page_size();
    if (pad > (size_t)(arena->top_end - top)) return;
    char *new_end = (char *)align_up((size_t)top + CHUNK_MIN + pad, page);
    if (new_end >= touched) return;
    shrink_top(arena, new_end);
}

COLD void arena_trim_whole_top(struct arena *arena) {
    arena_trim_top(arena, 0, 0);
    if (arena->top == NULL) return;
    char *new_end = (char *)align_up((size_t)arena->top + CHUNK_MIN, os_page_size());
    if (new_end < arena->top_end) shrink_top(arena, new_end);
}

/* Giving back what is needed again at once costs a system call and faults each time: every growth that follows a trim lets the arena keep twice as
 * much, and most of the threshold stays, unless the user has set the thresholds. An arena without threads keeps nothing else, and not all of that. */
static void trim_by_threshold(struct arena *arena) {
    size_t touched = arena_touched_top(arena);
    if (touched < KIB(4)) return;
    bool deserted = arena != &arena_main && load_relaxed(&arena->threads) == 0;
    if (touched <= conf_get(CONF_TRIM_THRESHOLD) && touched <= footprint_spare() && !deserted) return; /* mostly, and below any threshold */
    size_t threshold = conf_get(CONF_TRIM_THRESHOLD), pad = conf_get(CONF_TOP_PAD), before = arena->system_bytes;
    if (deserted) threshold = pad = 0;
    if (conf_slides()) {
        size_t keep = min_size(arena->regret, deserted ? REGRET_DESERTED : conf_get(CONF_RETAIN_MAX));
        threshold = min_size(max_size(threshold, keep), footprint_spare());
        pad = max_size(pad, deserted ? threshold : threshold - threshold / 8); /* the next blocks find their pages there */
    }
    if (touched <= threshold) return;
    arena_trim_top(arena, threshold, pad);
    if (arena->system_bytes < before) arena->trimmed = max_size(arena_touched_top(arena), REGRET_LEAST);
}

/* --- backlogs -------------------------------------------------------------------------------------------------------------------------------- */

static ALWAYS_INLINE void fast_push(struct arena *arena, struct chunk *chunk, uint64_t head) {
    lock_count_chunk();
    void *mem = chunk_mem(chunk);
    size_t size = head_size(head);
    struct fast_bin *bin = &arena->fast[size / CHUNK_ALIGN - 2];
    void **lane = &bin->lane[bin->count++ % FAST_LANES];
    chunk_set(chunk, size, (uint32_t)(head & FLAG_MASK),
              TAG_LOOSE | arena->id); /* now, while it is near: a sweep need not come by for that */
    link_store(mem, *lane);
    key_set(mem);
    *lane = mem;
    arena_count_fast(arena, 1, (ptrdiff_t)size);
}

/* The link in a block of a chain, checked before anybody follows it. */
void *arena_next_in_chain(struct arena *arena, const void *mem, const char *line) {
    void *next = link_load(mem);
    if (UNLIKELY(next != NULL && (!bins_range(&arena->bins, chunk_of(next)) || chunk_tag(chunk_of(next)) != (TAG_IN_USE | arena->id)))) {
        fatal(line,
              "free block at %p: its link leads to %p, which is no block of arena %u; something wrote to this memory after it was freed",
              (void *)(uintptr_t)mem, next, arena->id);
    }
    return next;
}

/* Takes up to `most` blocks off a chain inside blocks, all checked; a block that comes round again has lost its key. */
static unsigned chain_pop(struct arena *arena, void **chain, unsigned most, void **mem, const char *line) {
    unsigned n = 0;
    for (; n < most && *chain != NULL; n++) {
        check_block(arena, *chain, line);
        if (UNLIKELY(!key_matches(*chain))) {
            fatal(line, "block at %p is in a list of arena %u twice, or something wrote to it after it was freed", *chain, arena->id);
        }
        key_clear(*chain);
        mem[n] = *chain;
        *chain = arena_next_in_chain(arena, *chain, line);
    }
    return n;
}

/* How much may lie unmerged before the inbox is merged. */
static size_t unmerged_room(const struct arena *arena) { return max_size(RECEIVE_BYTES, arena->system_bytes / RECEIVE_SHARE); }

static size_t bytes_of(void **mem, unsigned n) {
    size_t bytes = 0;
    for (unsigned i = 0; i < n; i++) bytes += chunk_size(chunk_of(mem[i]));
    return bytes;
}

/* Chunk sizes up to this go into fast bins, 0: none; `all`: those that soon will be wanted again. */
static size_t fast_most(bool all) {
    size_t limit = align_down(conf_get(CONF_MXFAST) + CHUNK_OVERHEAD, CHUNK_ALIGN);
    return limit < CHUNK_MIN || conf_get(CONF_MXFAST) == 0 ? 0 : all ? FAST_MOST : limit;
}

/* Of n blocks, whose seals the caller has checked, those up to `most` bytes go into fast bins, the others are merged. Bytes of the largest chunk that
 * came of it. */
static size_t put(struct arena *arena, void **mem, unsigned n, size_t most, const char *line) {
    if (arena->sweep.region != NULL) most = 0; /* it would not know which are in lists */
    unsigned rest = most == 0 ? n : 0;
    for (unsigned i = 0; most != 0 && i < n; i++) {
        struct chunk *chunk = chunk_of(mem[i]);
        uint64_t head = chunk_head(chunk);
        if (head_size(head) - CHUNK_MIN <= most - CHUNK_MIN) { /* smaller than any: no size of ours */
            fast_push(arena, chunk, head);
        } else {
            store_relaxed(&mem[rest++], mem[i]); /* a walk may look at the caller's array */
        }
    }
    return merge_blocks(arena, mem, rest, line);
}

/* Of `wanted` chunks as many as the critical section may still handle. */
static unsigned spend(struct arena *arena, unsigned wanted) {
    unsigned n = min_unsigned(wanted, arena->steps);
    arena->steps -= n;
    return n;
}

static unsigned empty_inbox(struct arena *arena, size_t most) {
    static const char line[] = "free(): invalid pointer";
    void *mem[ARENA_STEP];
    unsigned n = 0, step = arena->steps;
    for (unsigned got = 1; got != 0 && n < step; n += got) {
        if (arena->inbox_rest == NULL && load_relaxed(&arena->inbox) != NULL) arena->inbox_rest = exchange_acquire(&arena->inbox, NULL);
        got = chain_pop(arena, &arena->inbox_rest, step - n, mem, line);
        if (got == 0) break;
        size_t bytes = bytes_of(mem, got);
        if (UNLIKELY(bytes > load_relaxed(&arena->inbox_bytes))) {
            fatal(line, "the inbox of arena %u holds more than was sent to it; a link was overwritten, at %p or after", arena->id, mem[0]);
        }
        sub_relaxed(&arena->inbox_bytes, bytes);
        put(arena, mem, got, most, line);
    }
    return spend(arena, n);
}

/* What others sent home is mostly of sizes that this arena's threads ask for again: as long as little lies unmerged, it stays as it is. */
void arena_receive(struct arena *arena) {
    if (arena->inbox_rest == NULL && load_relaxed(&arena->inbox) == NULL) return;
    empty_inbox(arena, arena_uncoalesced(arena) <= unmerged_room(arena) ? fast_most(true) : 0);
}

static COLD _Noreturn void bad_fast(struct arena *arena, const void *from, void *mem, size_t size, const char *line) {
    struct chunk *chunk = chunk_of(mem);
    bool ours = bins_range(&arena->bins, chunk) && chunk_tag(chunk) == (TAG_LOOSE | arena->id);
    if (!ours || !key_matches(mem)) {
        fatal(line,
              "the fast bin for chunks of %zu bytes leads to %p, which is no free block of arena %u; something wrote to the block at %p "
              "after it was freed",
              size, mem, arena->id, from);
    }
    if (chunk_size(chunk) != size) fatal(line, "fast bin for chunks of %zu bytes holds one of %zu at %p", size, chunk_size(chunk), mem);
    fatal(line, "free block at %p: its link is %p, which can't be; something wrote to this memory after it was freed", mem, link_load(mem));
}

/* What a link says is believed when the block that it leads to is taken: in range, sealed as loose, of the bin's size, with the key. The last of each lane
 * has none. Taken, a block is in use for the arena. */
unsigned arena_pop_fast(struct arena *arena, unsigned index, unsigned most, void **mem, const char *line) {
    struct fast_bin *bin = &arena->fast[index];
    size_t size = (index + 2) * CHUNK_ALIGN;
    unsigned count = bin->count, n = 0;
    for (; n < most && count != 0; n++) {
        unsigned at = --count % FAST_LANES;
        void *block = bin->lane[at];
        struct chunk *chunk = chunk_of(block);
        uint64_t head = bins_range(&arena->bins, chunk) ? chunk_head(chunk) : 0;
        bool good = head != 0 && head_tag(head, chunk) == (TAG_LOOSE | arena->id) && head_size(head) == size && key_matches(block) &&
                    (link_load(block) != NULL) == (count >= FAST_LANES);
        if (UNLIKELY(!good)) bad_fast(arena, bin->from[at], block, size, line);
        chunk_set(chunk, size, (uint32_t)(head & FLAG_MASK), TAG_IN_USE | arena->id);
        bin->lane[at] = link_load(block);
        bin->from[at] = block;
        prefetch(bin->lane[at]);
        store_relaxed(&mem[n], block);
    }
    bin->count = count;
    arena_count_fast(arena, -(int)n, -(ptrdiff_t)(n * size));
    arena_note_fast(arena);
    return n;
}

static unsigned merge_fast(struct arena *arena, unsigned step) {
    static const char line[] = "malloc_consolidate(): invalid chunk size";
    if (arena_sweeps(arena)) return arena_sweep(arena, step);
    void *mem[ARENA_STEP];
    unsigned n = 0;
    for (unsigned index = 0; index < FAST_BINS && n < step && arena->fast_count != 0; index++) {
        unsigned got = arena_pop_fast(arena, index, step - n, mem, line);
        merge_blocks(arena, mem, got, line);
        n += got;
    }
    return n;
}

unsigned arena_merge_backlog(struct arena *arena, unsigned kinds) {
    unsigned n = 0;
    if (kinds & BACKLOG_INBOX && (arena->inbox_rest != NULL || load_relaxed(&arena->inbox) != NULL)) n += empty_inbox(arena, 0);
    if (kinds & BACKLOG_FAST) n += spend(arena, merge_fast(arena, arena->steps));
    return n;
}

/* --- coming back ------------------------------------------------------------------------------------------------------------------------------ */

/* After blocks came back: `largest` is the chunk that came of it. */
static void settle_in(struct arena *arena, size_t largest) {
    if (largest >= FAST_CONSOLIDATE && arena->fast_count != 0) arena_merge_backlog(arena, BACKLOG_FAST);
    trim_by_threshold(arena);
}

void arena_free(struct arena *arena, void *mem, unsigned *left) {
    if (!arena_enter(arena)) {
        arena_send(arena, &mem, 1, left);
        return;
    }
    store_relaxed(left, *left - 1);
    struct chunk *chunk = check_block(arena, mem, "free(): invalid pointer");
    uint64_t head = chunk_head(chunk);
    size_t size = head_size(head);
    prefetch_beside(chunk, head);
    if (size <= FAST_MOST && size <= fast_most(false) && arena->sweep.region == NULL) {
        arena_check_behind(arena, chunk, size, "free(): invalid next size (fast)");
        fast_push(arena, chunk, head);
    } else {
        key_clear(mem);
        settle_in(arena, arena_merge(arena, chunk));
    }
    lock_leave(&arena->lock);
}

void arena_put(struct arena *arena, enum arena_way way, void **mem, unsigned n, unsigned *left) {
    if (!arena_enter(arena)) {
        arena_send(arena, mem, n, left);
        return;
    }
    store_relaxed(left, *left - n);
    spend(arena, n);
    size_t most = way == ARENA_FAST ? fast_most(false) : arena_sweeps(arena) ? fast_most(true) : 0;
    settle_in(arena, put(arena, mem, n, most, "free(): invalid pointer"));
    lock_leave(&arena->lock);
}

void arena_return(struct arena *mine, enum arena_way way, void **mem, unsigned *count, uint32_t *torn) {
    while (*count != 0) {
        unsigned total = *count, rest = total;
        struct chunk *last = chunk_of(mem[total - 1]);
        uint32_t id = chunk_tag(last);
        if (UNLIKELY(!tag_in_use(id))) {
            fatal("free(): invalid pointer", "cached block at %p: its header 0x%lx was overwritten after it was freed", chunk_mem(last),
                  (unsigned long)chunk_head(last));
        }
        /* Those of the same owner move to the end; mostly they all are. */
        if (torn != NULL) store_relaxed(torn, 1);
        for (unsigned i = total; i-- > 0;) {
            void *block = mem[i];
            if (chunk_tag(chunk_of(block)) != id) continue;
            if (--rest == i) continue;
            store_relaxed(&mem[i], mem[rest]);
            store_relaxed(&mem[rest], block);
        }
        if (torn != NULL) store_relaxed(torn, 0);
        struct arena *arena = arena_of_id(id);
        if (arena == mine) {
            arena_put(arena, way, mem + rest, total - rest, count);
        } else {
            arena_send(arena, mem + rest, total - rest, count);
        }
    }
}

/* --- the inbox --------------------------------------------------------------------------------------------------------------------------------- */

/* Whoever finds the inbox too full, or its owner gone, empties it if the lock is free; far too full, also if it has to wait: when a thread
 * that holds the lock is not running, all the others' frees would pile up here meanwhile, and their arenas grow instead. */
static void drain_for_owner(struct arena *arena) {
    bool deserted = load_relaxed(&arena->threads) == 0 && arena != &arena_main;
    size_t room = deserted ? 0 : max_size(INBOX_BYTES, load_relaxed(&arena->system_bytes) / INBOX_SHARE);
    for (size_t bytes; (bytes = load_relaxed(&arena->inbox_bytes)) > room;) {
        if (!(bytes > 2 * room + INBOX_BYTES ? lock_enter(&arena->lock) : lock_try(&arena->lock))) return;
        arena_entered(arena);
        unsigned n = empty_inbox(arena, 0);
        trim_by_threshold(arena);
        lock_leave(&arena->lock);
        if (n == 0) return;
    }
}

void arena_send(struct arena *arena, void **mem, unsigned n, unsigned *left) {
    store_relaxed(left, *left - n); /* a fork right here loses them; the other order would show them twice */
    if (n == 0 || load_relaxed(&arena->lock.word) == LOCK_ABANDONED) return; /* lost with its arena when the process was forked */
    size_t bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        bytes += chunk_size(chunk_of(mem[i]));
        key_set(mem[i]);
        if (i + 1 < n) link_store(mem[i], mem[i + 1]);
    }
    add_relaxed(&arena->inbox_bytes, bytes);
    void *head = load_relaxed(&arena->inbox);
    do {
        link_store(mem[n - 1], head);
    } while (!cas_release(&arena->inbox, &head, mem[0]));
    drain_for_owner(arena);
}

/* --- on demand ------------------------------------------------------------------------------------------------------------------------------- */

/* Everything that is free but unmerged, and no more than lies there now, with the lock let go between the steps. False if it could not be had. */
bool arena_merge_all(struct arena *arena) {
    size_t rounds = arena_merge_rounds(arena);
    for (bool more = true; more && rounds != 0; rounds--) {
        if (!arena_enter(arena)) return false;
        more = arena_merge_backlog(arena, BACKLOG_ALL) != 0;
        lock_leave(&arena->lock);
    }
    return true;
}

void arena_settle(struct arena *arena) {
    if (!arena_merge_all(arena) || !arena_enter(arena)) return;
    trim_by_threshold(arena);
    lock_leave(&arena->lock);
}

/* Whether a chain inside blocks holds `mem`. A broken chain ends the search: who pops from it will say so. */
static COLD bool chain_holds(struct arena *arena, const void *chain, const void *mem) {
    size_t left = arena->system_bytes / CHUNK_MIN;
    while (chain != NULL && chain != mem) {
        struct chunk *chunk = chunk_of(chain);
        if (left-- == 0 || !bins_range(&arena->bins, chunk) || chunk_tag(chunk) != (TAG_IN_USE | arena->id)) return false;
        chain = link_load(chain);
    }
    return chain == mem;
}

COLD const char *arena_holds(struct arena *arena, const void *mem) {
    if (!arena_enter(arena)) return NULL;
    const char *where = NULL;
    if (chain_holds(arena, load_acquire(&arena->inbox), mem) || chain_holds(arena, arena->inbox_rest, mem)) where = "the inbox";
    lock_leave(&arena->lock);
    return where;
}
