/* serve.c: a request is met from somewhere: when an arena refuses, the spare; when it has no memory, the main arena; at last a mapping.
 * SPDX-License-Identifier: MIT */
#include "arena/depot.h"
#include "base/probe.h"
#include "conf/conf.h"
#include "heap/huge.h"
#include "heap/mapped.h"

#define LEND_MAP KIB(128) /* while fork holds them, blocks of this size are mapped: the arena would stay that much larger */

static enum arena_status ask(struct arena *arena, size_t size, size_t align, unsigned means, void **mem, bool *zeroed) {
    if (align <= CHUNK_ALIGN) return arena_alloc(arena, size, means, mem, zeroed);
    *zeroed = false;
    return arena_alloc_aligned(arena, size, align, means, mem);
}

/* Before an arena grows: another one that has much free memory. A block may be of any arena, so memory that one phase or
 * thread has left behind serves the others. */
static struct arena *next_lender(const struct arena *borrower, uint32_t *looked) {
    uint32_t total = load_acquire(&seal.arenas);
    while (++*looked < total && *looked <= LENDERS) {
        struct arena *arena = arena_of_id((borrower->id + *looked) % total);
        size_t free_bytes = load_relaxed(&arena->bins.bytes) + load_relaxed(&arena->inbox_bytes);
        bool lends = !arena->is_spare && load_relaxed(&arena->lock.word) != LOCK_ABANDONED;
        if (lends && free_bytes >= LEND_BYTES && free_bytes > load_relaxed(&arena->system_bytes) / LEND_SHARE) {
            return arena;
        }
    }
    return NULL;
}

/* From an arena: what was left over goes back, and a large block may get huge pages. */
static void *served(struct arena *arena, size_t size, void *mem) {
    if (UNLIKELY(load_relaxed(&arena->surplus) != 0)) arena_make_up(arena);
    if (size >= HUGE_BLOCK) huge_note_new(mem, chunk_next(chunk_of(mem)));
    return mem;
}

void *arena_serve(struct arena *arena, size_t size, size_t align, bool *zeroed) {
    void *mem = NULL;
    if (UNLIKELY(size >= CHUNK_MAX || align >= CHUNK_MAX - size)) return NULL;
    bool much = depot_is_much(size); /* it shall be there when all is merged */
    enum arena_status status = ask(arena, size, align, much ? 0 : MEANS_MERGE | MEANS_MAP, &mem, zeroed);
    if (status == ARENA_FULL && much) {
        depot_empty(arena);
        status = ask(arena, size, align, MEANS_MERGE | MEANS_MAP, &mem, zeroed);
    }
    if (status == ARENA_REFUSED && !(load_relaxed(&arena_spare()->lock.word) & LOCK_FORK)) {
        arena = arena_spare();
        status = ask(arena, size, align, MEANS_MERGE | MEANS_MAP, &mem, zeroed);
    }
    if (status == ARENA_MAP) {
        mem = mapped_alloc(size, align, zeroed);
        if (mem != NULL) return mem;
        status = ARENA_FULL;
    }
    uint32_t looked = 0;
    bool forking = false;
    for (struct arena *lender; status == ARENA_FULL && (lender = next_lender(arena, &looked)) != NULL;) {
        enum arena_status lent = ask(lender, size, align, 0, &mem, zeroed);
        if (lent == ARENA_OK) {
            arena = lender;
            status = ARENA_OK;
        }
        forking |= lent == ARENA_REFUSED;
    }
    if (status == ARENA_FULL && forking && size >= LEND_MAP && conf_get(CONF_MMAP_MAX) != 0) {
        mem = mapped_alloc(size, align, zeroed);
        if (mem != NULL) return mem;
    }
    if (status == ARENA_FULL) status = ask(arena, size, align, MEANS_GROW, &mem, zeroed);
    if (status == ARENA_FULL && arena != &arena_main) {
        PROBE2(memory_arena_retry, size, arena);
        arena = &arena_main;
        status = ask(arena, size, align, MEANS_MERGE | MEANS_GROW, &mem, zeroed);
    }
    if (status == ARENA_OK) return served(arena, size, mem);
    /* Small mappings are wasteful, but better than none. */
    return mapped_alloc(size, align, zeroed);
}

void arena_serve_batch(struct arena *arena, size_t size, unsigned want, void **mem, unsigned *count) {
    store_relaxed(count, 0);
    bool much = depot_is_much(size);
    enum arena_status status = arena_take(arena, size, want, much ? 0 : MEANS_MERGE, mem, count);
    if (status == ARENA_FULL && much) {
        depot_empty(arena);
        status = arena_take(arena, size, want, MEANS_MERGE, mem, count);
    }
    uint32_t looked = 0;
    for (struct arena *lender; status == ARENA_FULL && (lender = next_lender(arena, &looked)) != NULL;) {
        if (arena_take(lender, size, want, 0, mem, count) == ARENA_OK) return;
    }
    if (status == ARENA_FULL) arena_take(arena, size, want, MEANS_GROW, mem, count);
}
