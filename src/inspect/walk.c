/* walk.c: see walk.h. SPDX-License-Identifier: MIT */
#include "inspect/walk.h"

#include <errno.h>
#include <string.h>

#include "cache/cache.h"
#include "heap/mapped.h"
#include "os/os.h"
#include "seemalloc_descriptor.h"

static const char *const state_names[SEEMALLOC_STATE_COUNT] = SEEMALLOC_STATE_NAMES;

EXPORT const char *seemalloc_state_name(enum seemalloc_state state) {
    return (unsigned)state < SEEMALLOC_STATE_COUNT ? state_names[state] : "?";
}

/* --- marks ------------------------------------------------------------------------------------------------------------------------------------- */

static size_t marks_bytes(size_t capacity) { return align_up(capacity * sizeof(uintptr_t), os_page_size()); }

void marks_add(struct marks *marks, const void *mem, enum seemalloc_state state) {
    if (marks->count == marks->capacity) {
        size_t capacity = marks->capacity != 0 ? 4 * marks->capacity : os_page_size() / sizeof(uintptr_t);
        uintptr_t *bigger = os_map(NULL, marks_bytes(capacity), true, SEEMALLOC_CALL_MMAP_META);
        if (bigger == NULL) {
            marks->failed = true;
            return;
        }
        if (marks->count != 0) memcpy(bigger, marks->entry, marks->count * sizeof *bigger);
        if (marks->capacity != 0) os_unmap_meta(marks->entry, marks_bytes(marks->capacity));
        marks->entry = bigger;
        marks->capacity = capacity;
    }
    marks->entry[marks->count++] = ((uintptr_t)mem & ~(uintptr_t)15) | (uintptr_t)state;
}

void marks_free(struct marks *marks) {
    if (marks->capacity != 0) os_unmap_meta(marks->entry, marks_bytes(marks->capacity));
    *marks = (struct marks){0};
}

static void sift(uintptr_t *heap, size_t at, size_t count) {
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && heap[child + 1] > heap[child]) child++;
        if (heap[at] >= heap[child]) return;
        uintptr_t lower = heap[at];
        heap[at] = heap[child];
        heap[child] = lower;
    }
}

/* Heapsort: in place, no worst case. qsort may allocate. */
void marks_sort(struct marks *marks) {
    for (size_t i = marks->count / 2; i-- > 0;) sift(marks->entry, i, marks->count);
    for (size_t i = marks->count; i-- > 1;) {
        uintptr_t largest = marks->entry[0];
        marks->entry[0] = marks->entry[i];
        marks->entry[i] = largest;
        sift(marks->entry, 0, i);
    }
}

enum seemalloc_state marks_find(const struct marks *marks, const void *mem, enum seemalloc_state otherwise) {
    size_t low = 0, high = marks->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uintptr_t here = marks->entry[middle] & ~(uintptr_t)15;
        if (here == (uintptr_t)mem) return (enum seemalloc_state)(marks->entry[middle] & 15);
        if (here < (uintptr_t)mem) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return otherwise;
}

static void add_cached(void *arg, void *mem) { marks_add(arg, mem, SEEMALLOC_CACHED); }
static void add_parked(void *arg, void *mem) { marks_add(arg, mem, SEEMALLOC_PARKED); }

void marks_add_caches(struct marks *marks) {
    cache_walk(add_cached, marks);
    depot_walk(add_parked, marks);
}

/* A chain inside blocks; ends at the first link that does not hold, or when it must be leading in a circle. */
static void add_chain(struct marks *marks, struct arena *arena, const void *chain, uint32_t tag, enum seemalloc_state state) {
    size_t left = arena->system_bytes / CHUNK_MIN;
    while (left-- != 0 && chain != NULL && bins_range(&arena->bins, chunk_of(chain)) && chunk_tag(chunk_of(chain)) == (tag | arena->id) &&
           !marks->failed) {
        marks_add(marks, chain, state);
        chain = link_load(chain);
    }
}

void marks_add_arena(struct marks *marks, struct arena *arena) {
    add_chain(marks, arena, load_acquire(&arena->inbox), TAG_IN_USE, SEEMALLOC_INBOX);
    add_chain(marks, arena, arena->inbox_rest, TAG_IN_USE, SEEMALLOC_INBOX);
    for (unsigned i = 0; i < FAST_BINS * FAST_LANES; i++) {
        add_chain(marks, arena, arena->fast[i / FAST_LANES].lane[i % FAST_LANES], TAG_LOOSE, SEEMALLOC_FAST);
    }
    struct chunk *bin = bin_chunk(&arena->bins, BIN_UNSORTED);
    for (struct chunk *chunk = bin->fd; chunk != bin && bins_owns(&arena->bins, chunk) && !marks->failed; chunk = chunk->fd) {
        marks_add(marks, chunk_mem(chunk), SEEMALLOC_UNSORTED);
    }
}

/* --- the walk ------------------------------------------------------------------------------------------------------------------------------------- */

typedef int visitor(const struct seemalloc_chunk *chunk, void *arg);

static void classify(struct arena *arena, const struct marks *marks, const struct chunk *chunk, struct seemalloc_chunk *seen) {
    uint64_t head = chunk_head(chunk);
    *seen = (struct seemalloc_chunk){
        .chunk = chunk,
        .mem = chunk_mem(chunk),
        .size = head_size(head),
        .prev_size = head & FLAG_P ? 0 : chunk->prev_size,
        .flags = head & (FLAG_P | FLAG_A), /* M would mean purged */
        .arena = arena->id,
        .bin = -1,
        .region = seen->region,
    };
    switch (head_tag(head, chunk) & TAG_STATE) {
    case TAG_TOP: seen->state = SEEMALLOC_TOP; return;
    case TAG_FENCE: seen->state = SEEMALLOC_FENCEPOST; return;
    case TAG_PURGING: seen->state = SEEMALLOC_PURGING; return;
    case TAG_LOOSE: seen->state = SEEMALLOC_FAST; break;
    case TAG_IN_USE: seen->state = marks_find(marks, seen->mem, SEEMALLOC_IN_USE); break;
    case TAG_BINNED: {
        bool unsorted = marks_find(marks, seen->mem, SEEMALLOC_IN_USE) == SEEMALLOC_UNSORTED;
        seen->bin = unsorted ? BIN_UNSORTED : (int)bin_index(seen->size);
        seen->state = chunk == arena->last_remainder     ? SEEMALLOC_LAST_REMAINDER
                      : unsorted                         ? SEEMALLOC_UNSORTED
                      : seen->bin < (int)BIN_FIRST_LARGE ? SEEMALLOC_SMALL
                                                         : SEEMALLOC_LARGE;
        return;
    }
    default: seen->state = SEEMALLOC_IN_USE; break;
    }
    if (seen->state == SEEMALLOC_FAST) seen->bin = (int)(seen->size / CHUNK_ALIGN) - 2;
}

static struct seemalloc_region show_region(const struct arena *arena, const struct region *region) {
    return (struct seemalloc_region){
        .start = region->start, .end = region->end, .limit = region->limit, .arena = arena->id, .kind = region->kind};
}

static int walk_region(struct arena *arena, const struct marks *marks, const struct region *region, visitor *visit, void *arg) {
    struct seemalloc_region shown = show_region(arena, region);
    struct seemalloc_chunk seen = {.region = &shown};
    const struct chunk *chunk = (const struct chunk *)region->start;
    while ((const char *)chunk < region->end) {
        classify(arena, marks, chunk, &seen);
        if (seen.size < CHUNK_FENCE || seen.size > (size_t)(region->end - (const char *)chunk)) break; /* corrupted: the checker says so */
        int result = visit(&seen, arg);
        if (result != 0) return result;
        chunk = chunk_at(chunk, seen.size);
    }
    return 0;
}

/* An arena that was lost to a fork is shown as one piece a region: its lists were being changed. */
static int walk_abandoned(struct arena *arena, visitor *visit, void *arg) {
    for (const struct region *region = arena->regions; region != NULL; region = region->next) {
        struct seemalloc_region shown = show_region(arena, region);
        struct seemalloc_chunk seen = {.chunk = region->start,
                                       .mem = region->start + CHUNK_HEADER,
                                       .size = (size_t)(region->end - region->start),
                                       .flags = FLAG_P | arena->flag_a,
                                       .arena = arena->id,
                                       .bin = -1,
                                       .state = SEEMALLOC_ABANDONED,
                                       .region = &shown};
        int result = visit(&seen, arg);
        if (result != 0) return result;
    }
    return 0;
}

/* The marks of one arena: caches may hold blocks of any, so they are read for each, with its lock held. */
static int walk_arena(struct arena *arena, visitor *visit, void *arg) {
    if (!lock_enter(&arena->lock)) return load_relaxed(&arena->lock.word) == LOCK_ABANDONED ? walk_abandoned(arena, visit, arg) : 0;
    struct marks marks = {0};
    marks_add_caches(&marks);
    marks_add_arena(&marks, arena);
    int result = marks.failed ? -1 : 0;
    if (result != 0) errno = ENOMEM;
    marks_sort(&marks);
    for (const struct region *region = arena->regions; region != NULL && result == 0; region = region->next) {
        result = walk_region(arena, &marks, region, visit, arg);
    }
    lock_leave(&arena->lock);
    marks_free(&marks);
    return result;
}

struct mapped_visit {
    visitor *visit;
    void *arg;
};

static int visit_mapped(const struct mapped_record *record, void *arg) {
    const struct mapped_visit *to = arg;
    const char *chunk = (const char *)record->chunk;
    struct seemalloc_region region = {.start = chunk - record->lead, .kind = SEEMALLOC_REGION_BLOCK};
    region.end = region.limit = (const char *)region.start + record->length;
    struct seemalloc_chunk seen = {.chunk = chunk,
                                   .mem = chunk + CHUNK_HEADER,
                                   .size = record->length - record->lead,
                                   .prev_size = record->lead,
                                   .flags = FLAG_M,
                                   .bin = -1,
                                   .state = SEEMALLOC_MAPPED,
                                   .region = &region};
    return to->visit(&seen, to->arg);
}

EXPORT int seemalloc_walk(int (*visit)(const struct seemalloc_chunk *chunk, void *arg), void *arg) {
    cache_init();
    for (uint32_t id = 0; id < load_acquire(&seal.arenas); id++) {
        int result = walk_arena(arena_of_id(id), visit, arg);
        if (result != 0) return result;
    }
    return mapped_walk(visit_mapped, &(struct mapped_visit){visit, arg});
}

/* --- sums ------------------------------------------------------------------------------------------------------------------------------------------- */

static void add_to_bin(struct bin_sum *bin, size_t size) {
    if (bin->count == 0 || size < bin->from) bin->from = size;
    if (size > bin->to) bin->to = size;
    bin->total += size;
    bin->count++;
}

static int add_chunk(const struct seemalloc_chunk *chunk, void *arg) {
    struct heap_sum *sum = arg;
    sum->bytes[chunk->state] += chunk->size;
    sum->count[chunk->state]++;
    if (chunk->state == SEEMALLOC_CACHED || chunk->state == SEEMALLOC_PARKED || chunk->state == SEEMALLOC_INBOX ||
        chunk->state == SEEMALLOC_FAST) {
        add_to_bin(&sum->fast[bin_index(chunk->size)], chunk->size);
    } else if (chunk->bin > 0) {
        add_to_bin(&sum->bin[chunk->bin], chunk->size);
    }
    return 0;
}

bool heap_sum_arena(struct arena *arena, struct heap_sum *sum) {
    if (walk_arena(arena, add_chunk, sum) != 0) return false;
    bool locked = lock_enter(&arena->lock);
    sum->system_bytes += arena->system_bytes;
    sum->system_peak += arena->system_peak;
    for (const struct region *region = arena->regions; region != NULL; region = region->next) {
        sum->reserved_bytes += (size_t)(region->limit - region->start);
        sum->heaps += region->kind == SEEMALLOC_REGION_HEAP;
    }
    if (locked) lock_leave(&arena->lock);
    return true;
}
