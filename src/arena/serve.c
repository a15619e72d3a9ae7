/* serve.c: a request is met from somewhere: when an arena refuses, the spare; when it has no memory, the main arena; at last a mapping.
 * SPDX-License-Identifier: MIT */
#include "arena/depot.h"
#include "base/probe.h"
#include "conf/conf.h"
#include "heap/mapped.h"

#define LEND_MAP KIB(128) /* while fork holds them, blocks of this size are mapped: the arena would stay that much larger */

/* One block, aligned; or (count is set) a batch. */
struct request {
    size_t size, align;
    unsigned want, *count;
    void **mem;
    struct fresh fresh;
};

static enum arena_status ask(struct arena *arena, struct request *request, unsigned means) {
    if (request->count != NULL) return arena_take(arena, request->size, request->want, means, request->mem, request->count);
    if (request->align <= CHUNK_ALIGN) return arena_alloc(arena, request->size, means, request->mem, &request->fresh);
    return arena_alloc_aligned(arena, request->size, request->align, means, request->mem, &request->fresh);
}

/* Of one arena, before anybody grows. What is in the depot shall be there when all is merged; where the caller has idle blocks it gives those back before that. */
static enum arena_status ask_first(struct arena *arena, struct request *request, unsigned means, bool idle) {
    bool much = depot_is_much(request->size);
    enum arena_status status = ask(arena, request, much || idle ? 0 : means);
    if (status != ARENA_FULL || idle || !much) return status;
    depot_empty(arena);
    return ask(arena, request, means);
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

/* *arena, which has nothing, becomes the lender that had something. *forking: one could not be asked. */
static enum arena_status ask_lenders(struct arena **arena, struct request *request, bool *forking) {
    uint32_t looked = 0;
    for (struct arena *lender; (lender = next_lender(*arena, &looked)) != NULL;) {
        enum arena_status lent = ask(lender, request, 0);
        *forking |= lent == ARENA_REFUSED;
        if (lent != ARENA_OK) continue;
        *arena = lender;
        return ARENA_OK;
    }
    return ARENA_FULL;
}

/* The whole pages of the block in `pages`. */
static struct span within(char *mem, struct span pages) {
    char *end = (char *)chunk_next(chunk_of(mem));
    char *from = (char *)align_up((size_t)(pages.from > mem ? pages.from : mem), os_page_size());
    char *to = (char *)align_down((size_t)(pages.to < end ? pages.to : end), os_page_size());
    return from < to ? (struct span){from, to} : (struct span){NULL, NULL};
}

/* What was left over moves or goes back. Where the caller asks whether the block reads as zero, it shall. */
static void *served(struct arena *arena, void *mem, const struct fresh *fresh, bool *zeroed) {
    if (zeroed != NULL) *zeroed = fresh->zeroed;
    struct span into = {NULL, NULL};
    if (zeroed == NULL && fresh->pages.from != NULL && conf_slides()) into = within(mem, fresh->pages);
    if (load_relaxed(&arena->surplus) != 0 || span_size(into) != 0) arena_make_up(arena, into);
    return mem;
}

static void *map(size_t size, size_t align, bool *zeroed) {
    bool ignored;
    return mapped_alloc(size, align, zeroed != NULL ? zeroed : &ignored);
}

void *arena_serve(struct arena *arena, size_t size, size_t align, bool idle, bool *zeroed) {
    void *mem = NULL;
    if (UNLIKELY(size >= CHUNK_MAX || align >= CHUNK_MAX - size)) return NULL;
    struct request request = {.size = size, .align = align, .mem = &mem};
    enum arena_status status = ask_first(arena, &request, MEANS_MERGE | MEANS_MAP, idle);
    if (status == ARENA_FULL && idle) return NULL;
    if (status == ARENA_REFUSED && !(load_relaxed(&arena_spare()->lock.word) & LOCK_FORK)) {
        arena = arena_spare();
        status = ask(arena, &request, MEANS_MERGE | MEANS_MAP);
    }
    if (status == ARENA_MAP) {
        mem = map(size, align, zeroed);
        if (mem != NULL) return mem;
        status = ARENA_FULL;
    }
    bool forking = false;
    if (status == ARENA_FULL) status = ask_lenders(&arena, &request, &forking);
    if (status == ARENA_FULL && forking && size >= LEND_MAP && conf_get(CONF_MMAP_MAX) != 0) {
        mem = map(size, align, zeroed);
        if (mem != NULL) return mem;
    }
    if (status == ARENA_FULL) status = ask(arena, &request, MEANS_GROW);
    if (status == ARENA_FULL && arena != &arena_main) {
        PROBE2(memory_arena_retry, size, arena);
        arena = &arena_main;
        status = ask(arena, &request, MEANS_MERGE | MEANS_GROW);
    }
    if (status == ARENA_OK) return served(arena, mem, &request.fresh, zeroed);
    /* Small mappings are wasteful, but better than none. */
    return map(size, align, zeroed);
}

void arena_serve_batch(struct arena *arena, size_t size, unsigned want, bool idle, void **mem, unsigned *count) {
    struct request request = {.size = size, .want = want, .mem = mem, .count = count};
    bool forking = false;
    store_relaxed(count, 0);
    enum arena_status status = ask_first(arena, &request, MEANS_MERGE, idle);
    if (status != ARENA_FULL || idle) return;
    if (ask_lenders(&arena, &request, &forking) == ARENA_FULL) ask(arena, &request, MEANS_GROW);
}
