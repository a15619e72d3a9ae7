/* region.c: see region.h. SPDX-License-Identifier: MIT */
#include "heap/region.h"

#include "base/probe.h"
#include "conf/conf.h"
#include "heap/chunk.h"
#include "heap/huge.h"
#include "os/lock.h"
#include "os/os.h"

/* The pool of descriptions. A few are static, so that a small program pays no mapping for them. */
static struct region first_regions[8];
struct region *region_free;
struct region *region_pools;
static size_t first_used;
static struct lock pool_lock = {.rank = RANK_META};

static struct region *description_new(void) {
    struct region *region = NULL;
    if (!lock_enter(&pool_lock)) return NULL; /* only in a signal handler, or while a fork runs: the caller does without growing */
    if (region_free == NULL && first_used == sizeof first_regions / sizeof first_regions[0]) {
        struct region *more = os_map_guarded(REGION_POOL);
        for (size_t i = 1; more != NULL && i < REGION_POOL / sizeof *more; i++) {
            more[i].next = region_free;
            region_free = &more[i];
        }
        if (more != NULL) { /* the first one stands for the mapping */
            more->next = region_pools;
            store_release(&region_pools, more);
        }
    }
    if (region_free != NULL) {
        region = region_free;
        region_free = region->next;
    } else if (first_used < sizeof first_regions / sizeof first_regions[0]) {
        region = &first_regions[first_used++];
    }
    lock_leave(&pool_lock);
    return region;
}

COLD void region_walk_books(void (*visit)(const void *start, size_t size, void *arg), void *arg) {
    for (const struct region *pool = load_acquire(&region_pools); pool != NULL; pool = pool->next) visit(pool, REGION_POOL, arg);
}

static void description_free(struct region *region) {
    if (!lock_enter(&pool_lock)) return; /* lost: some bytes, in a case that hardly exists */
    region->next = region_free;
    region_free = region;
    lock_leave(&pool_lock);
}

COLD void region_fork_child(void) {
    if (lock_settle_in_child(&pool_lock)) store_relaxed(&pool_lock.word, LOCK_FREE);
}

static struct region *open_region(char *start, char *end, char *limit, enum seemalloc_region_kind kind) {
    struct region *region = description_new();
    if (region == NULL) return NULL;
    *region = (struct region){.start = start, .end = end, .limit = limit, .clean = start, .kind = kind};
    return region;
}

/* --- the break --------------------------------------------------------------------------------------------------------------------------- */

static bool break_is_ours(const struct region *last) {
    return last != NULL && last->kind == SEEMALLOC_REGION_BRK && os_sbrk(0) == last->end;
}

static char *raise_break(size_t delta) {
    if (!os_take(delta)) return (char *)-1;
    char *start = os_sbrk((intptr_t)delta);
    if (start == (char *)-1) os_give(delta);
    return start;
}

static struct region *grow_break(struct region *last, size_t need, size_t fresh, size_t pad, bool *extended) {
    size_t page = os_page_size();
    char *now = os_sbrk(0);
    if (now == (char *)-1) return NULL;
    bool ours = last != NULL && last->kind == SEEMALLOC_REGION_BRK && now == last->end;
    size_t want = ours ? need : fresh + CHUNK_ALIGN;
    size_t delta = huge_end(align_up((size_t)now + want + pad, page)) - (size_t)now;
    if ((intptr_t)delta <= 0) return NULL;
    char *start = raise_break(delta);
    if (start == (char *)-1 && pad != 0) {
        delta = align_up((size_t)now + want, page) - (size_t)now;
        start = raise_break(delta);
    }
    if (start == (char *)-1) return NULL;
    char *advised = (char *)align_up((size_t)start, page), *advised_end = (char *)align_down((size_t)start + delta, page);
    if (advised < advised_end) huge_advise(advised, (size_t)(advised_end - advised));
    if (ours && start == last->end) {
        last->end = last->limit = start + delta;
        *extended = true;
        return last;
    }
    /* Somebody else moved the break between our two calls, or before: a new span. What came may be too small then. */
    char *aligned = (char *)align_up((size_t)start, CHUNK_ALIGN);
    char *end = (char *)align_down((size_t)start + delta, page); /* whole pages, so that giving back never touches a neighbour's */
    if (end < aligned || (size_t)(end - aligned) < fresh) {
        os_give(delta); /* nobody will touch it */
        return NULL;
    }
    struct region *region = open_region(aligned, end, end, SEEMALLOC_REGION_BRK);
    if (region == NULL) {
        os_sbrk(-(intptr_t)delta);
        os_give(delta);
        return NULL;
    }
    os_give(delta - (size_t)(end - aligned));
    region->clean = (char *)align_up((size_t)start, page); /* the first page may have been somebody's before */
    *extended = false;
    return region;
}

static struct region *open_mapping(size_t fresh, size_t pad) {
    size_t page = os_page_size();
    size_t sizes[] = {max_size(align_up(fresh + pad, page), REGION_MMAP_MIN), align_up(fresh, page)};
    for (size_t i = 0; i < 2; i++) {
        if (!os_take(sizes[i])) continue;
        char *start = os_map(NULL, sizes[i], true, SEEMALLOC_CALL_MMAP_REGION);
        struct region *region = start != NULL ? open_region(start, start + sizes[i], start + sizes[i], SEEMALLOC_REGION_MMAP) : NULL;
        if (region != NULL) {
            huge_advise(start, sizes[i]);
            os_name(start, sizes[i], OS_NAME_HEAP);
            return region;
        }
        os_give(sizes[i]);
        if (start == NULL) continue;
        os_unmap(start, sizes[i], SEEMALLOC_CALL_MUNMAP_HEAP);
        return NULL;
    }
    return NULL;
}

struct region *region_grow_main(struct region *last, size_t need, size_t fresh, size_t pad, bool *extended) {
    *extended = false;
    struct region *region = grow_break(last, need, fresh, pad, extended);
    return region != NULL ? region : open_mapping(fresh, pad);
}

/* --- heaps ------------------------------------------------------------------------------------------------------------------------------- */

size_t region_heap_size(void) {
    size_t limit = prim_address_space_limit();
    size_t size = HEAP_SIZE_MAX;
    while (size > MIB(1) && size > limit / 64) size /= 2;
    return size;
}

/* Reserves `size` bytes aligned to `align`, both multiples of the page size. */
static char *reserve_aligned(size_t size, size_t align) {
    static char *hint; /* the end of the last reservation is often aligned and free; only an optimisation, so a race is harmless */
    char *guess = load_relaxed(&hint);
    if (guess != NULL) {
        store_relaxed(&hint, NULL);
        char *start = os_map(guess, size, false, SEEMALLOC_CALL_MMAP_HEAP);
        if (start != NULL && ((size_t)start & (align - 1)) == 0) {
            store_relaxed(&hint, start + size);
            return start;
        }
        if (start != NULL) os_unmap(start, size, SEEMALLOC_CALL_MUNMAP_META);
    }
    if (size > PTRDIFF_MAX - align) return NULL;
    char *start = os_map(NULL, size + align, false, SEEMALLOC_CALL_MMAP_HEAP);
    if (start == NULL) return NULL;
    char *aligned = (char *)align_up((size_t)start, align);
    size_t before = (size_t)(aligned - start);
    if (before != 0) os_unmap(start, before, SEEMALLOC_CALL_MUNMAP_META);
    if (align - before != 0) os_unmap(aligned + size, align - before, SEEMALLOC_CALL_MUNMAP_META);
    store_relaxed(&hint, aligned + size);
    return aligned;
}

static bool make_usable(char *start, size_t size) {
    if (!os_take(size)) return false;
    bool done = os_make_usable(start, size);
    if (!done) os_give(size);
    return done;
}

/* Makes [end, end + need) usable, and some more so that a growing heap needs few calls. */
static bool extend_heap(struct region *heap, size_t need, size_t pad) {
    size_t page = os_page_size();
    size_t room = (size_t)(heap->limit - heap->end);
    need = align_up(need, page);
    if (need > room) return false;
    size_t used = (size_t)(heap->end - heap->start);
    size_t step = align_up(need + max_size(pad, used / 8 < MIB(1) ? used / 8 : MIB(1)), page);
    step = min_size(huge_end((size_t)heap->end + step) - (size_t)heap->end, room);
    if (!make_usable(heap->end, step)) {
        if (step == need || !make_usable(heap->end, need)) return false;
        step = need;
    }
    huge_advise(heap->end, step);
    heap->end += step;
    return true;
}

struct region *region_grow_heap(struct region *last, size_t need, size_t fresh, size_t pad, bool *extended) {
    *extended = last != NULL && last->kind == SEEMALLOC_REGION_HEAP && extend_heap(last, need, pad);
    if (*extended) {
        PROBE2(memory_heap_more, last->start, last->end - last->start);
        return last;
    }
    size_t page = os_page_size();
    size_t least = align_up(fresh, page);
    for (size_t size = region_heap_size(); size >= MIB(1) || size >= least; size /= 2) {
        /* A request that no heap of the usual size could hold gets one of its own size. */
        size_t reserved = max_size(size, least);
        char *start = reserve_aligned(reserved, HEAP_SIZE_MAX);
        if (start == NULL) start = os_map(NULL, reserved, false, SEEMALLOC_CALL_MMAP_HEAP);
        if (start == NULL) continue;
        os_name(start, reserved, OS_NAME_HEAP);
        struct region *heap = open_region(start, start, start + reserved, SEEMALLOC_REGION_HEAP);
        if (heap != NULL && extend_heap(heap, least, pad)) {
            PROBE2(memory_heap_new, heap->start, heap->end - heap->start);
            return heap;
        }
        if (heap != NULL) description_free(heap);
        os_unmap(start, reserved, SEEMALLOC_CALL_MUNMAP_HEAP);
        return NULL;
    }
    return NULL;
}

/* --- giving back ---------------------------------------------------------------------------------------------------------------------- */

bool region_shrink(struct region *region, char *new_end) {
    size_t size = (size_t)(region->end - new_end);
    bool shorter = false;
    if (region->kind == SEEMALLOC_REGION_BRK) {
        shorter = break_is_ours(region) && os_sbrk(-(intptr_t)size) == region->end;
    } else if (region->kind == SEEMALLOC_REGION_HEAP) {
        shorter = os_make_unusable(new_end, size);
        if (shorter) os_name(new_end, size, OS_NAME_HEAP);
    }
    if (shorter) {
        os_give(size);
        region->end = new_end;
        if (region->kind != SEEMALLOC_REGION_HEAP) {
            region->limit = new_end;
        } else {
            PROBE2(memory_heap_less, region->start, region->end - region->start);
        }
    } else if (!os_discard(new_end, size, SEEMALLOC_CALL_MADVISE_TRIM)) {
        return false;
    }
    if (region->clean > new_end) region->clean = new_end;
    return shorter;
}

void region_fix(struct region *region) {
    size_t rest = (size_t)(region->limit - region->end);
    if (rest != 0 && os_unmap(region->end, rest, SEEMALLOC_CALL_MUNMAP_META)) region->limit = region->end;
}

bool region_close(struct region *region) {
    if (region->kind == SEEMALLOC_REGION_BRK) return false;
    if (region->kind == SEEMALLOC_REGION_HEAP) PROBE2(memory_heap_free, region->start, region->end - region->start);
    if (!os_unmap(region->start, (size_t)(region->limit - region->start), SEEMALLOC_CALL_MUNMAP_HEAP)) return false;
    os_give((size_t)(region->end - region->start));
    description_free(region);
    return true;
}
