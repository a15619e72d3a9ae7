/* check.c: one function per invariant. SPDX-License-Identifier: MIT */
#include "inspect/check.h"

#include "base/format.h"
#include "cache/cache.h"
#include "conf/conf.h"
#include "heap/mapped.h"
#include "inspect/walk.h"

static APART char message[320];

static const char *fault(const char *format, ...) PRINTF_LIKE(1, 2);
static const char *fault(const char *format, ...) {
    struct text text = text_of(message, sizeof message);
    va_list args;
    va_start(args, format);
    text_add_va(&text, format, args);
    va_end(args);
    return message;
}

struct census {
    size_t binned_bytes, binned_count, all_bytes, free_in_use_bytes;
    size_t inbox, fast, loose;
};

/* 1 to 3: the chunks of a region follow one another to its end; seals, P bits and feet are right; no two free neighbours. */
static const char *check_region(struct arena *arena, const struct marks *marks, const struct region *region, struct census *census) {
    const struct chunk *chunk = (const struct chunk *)region->start, *before = NULL;
    bool before_free = false;
    while ((const char *)chunk < region->end) {
        uint64_t head = chunk_head(chunk);
        uint32_t tag = head_tag(head, chunk), state = tag & TAG_STATE;
        size_t size = head_size(head);
        if ((tag & TAG_ID) != arena->id || state == TAG_MAPPED || state == TAG_STATE) {
            return fault("arena %u: chunk %p: bad seal, tag 0x%x", arena->id, (const void *)chunk, tag);
        }
        if ((head & FLAG_A) != arena->flag_a || ((head & FLAG_PURGED) && (state != TAG_BINNED || size < arena->bins.paged_least)))
            return fault("arena %u: chunk %p: flags 0x%lx", arena->id, (const void *)chunk, head & 15);
        if (size > (size_t)(region->end - (const char *)chunk) || (size < CHUNK_MIN && state != TAG_FENCE && state != TAG_TOP)) {
            return fault("arena %u: chunk %p: size %zu", arena->id, (const void *)chunk, size);
        }
        if (((head & FLAG_P) == 0) != before_free) return fault("arena %u: chunk %p: P bit wrong", arena->id, (const void *)chunk);
        if (before_free && chunk->prev_size != chunk_size(before)) {
            return fault("arena %u: chunk %p: prev_size %zu, chunk before has %zu", arena->id, (const void *)chunk,
                         (size_t)chunk->prev_size, chunk_size(before));
        }
        bool is_free = state == TAG_BINNED;
        if (is_free && before_free) return fault("arena %u: chunk %p: free, and so is the one before", arena->id, (const void *)chunk);
        if ((state == TAG_TOP) != (chunk == arena->top)) return fault("arena %u: chunk %p: top or not", arena->id, (const void *)chunk);
        if ((state == TAG_PURGING) != (chunk == arena->purging)) {
            return fault("arena %u: chunk %p: being purged or not", arena->id, (const void *)chunk);
        }
        if (state == TAG_TOP && before_free) return fault("arena %u: top %p: the chunk before is free", arena->id, (const void *)chunk);
        if (state == TAG_TOP &&
            (region != arena->top_region || (const char *)chunk + size != arena->top_end || arena->top_end != region->end)) {
            return fault("arena %u: top %p: wrong end", arena->id, (const void *)chunk);
        }
        enum seemalloc_state marked = marks_find(marks, chunk_mem(chunk), SEEMALLOC_IN_USE);
        if (is_free) {
            census->binned_bytes += size;
            census->binned_count++;
            if (marked != SEEMALLOC_IN_USE && marked != SEEMALLOC_UNSORTED) {
                return fault("arena %u: chunk %p: binned, but also %s", arena->id, (const void *)chunk, seemalloc_state_name(marked));
            }
        } else if (marked != SEEMALLOC_IN_USE && state != (marked == SEEMALLOC_FAST ? TAG_LOOSE : TAG_IN_USE)) {
            return fault("arena %u: chunk %p: %s, but its tag is 0x%x", arena->id, (const void *)chunk, seemalloc_state_name(marked), tag);
        }
        if (marked == SEEMALLOC_INBOX) census->inbox += size;
        if (state == TAG_LOOSE) census->fast += size;
        census->loose += state == TAG_LOOSE && marked != SEEMALLOC_FAST;
        census->all_bytes += size;
        before = chunk;
        before_free = is_free;
        chunk = chunk_at(chunk, size);
    }
    if ((const char *)chunk != region->end)
        return fault("arena %u: region %p: walk ends at %p", arena->id, (void *)region->start, (const void *)chunk);
    if (before_free) return fault("arena %u: region %p: ends with a free chunk", arena->id, (void *)region->start);
    if (region->clean < region->start + CHUNK_HEADER)
        return fault("arena %u: region %p: clean below its first header", arena->id, (void *)region->start);
    if (region == arena->top_region && region->clean < (char *)chunk_mem(arena->top)) {
        return fault("arena %u: region %p: clean below top", arena->id, (void *)region->start);
    }
    return NULL;
}

static size_t tree_count(struct bins *bins, const struct chunk *node, const struct chunk *parent, unsigned depth) {
    if (node == NULL) return 0;
    if (!bins_owns(bins, node) || node->parent != parent || depth > 48 || node->fd_nextsize == NULL) return SIZE_MAX / 4;
    return 1 + tree_count(bins, node->child[0], node, depth + 1) + tree_count(bins, node->child[1], node, depth + 1);
}

static const char *check_large(struct arena *arena, unsigned index) {
    struct bins *bins = &arena->bins;
    struct chunk *bin = bin_chunk(bins, index), *head = NULL;
    size_t heads = 0;
    for (struct chunk *chunk = bin->fd; chunk != bin; chunk = chunk->fd) {
        size_t size = chunk_size(chunk);
        if (head != NULL && size > chunk_size(head)) return fault("arena %u: bin %u: not sorted at %p", arena->id, index, (void *)chunk);
        bool is_head = head == NULL || size < chunk_size(head);
        if (is_head != (chunk->fd_nextsize != NULL))
            return fault("arena %u: bin %u: %p heads its size or not", arena->id, index, (void *)chunk);
        if (!is_head) continue;
        if (head != NULL && (head->fd_nextsize != chunk || chunk->bk_nextsize != head)) {
            return fault("arena %u: bin %u: nextsize ring broken at %p", arena->id, index, (void *)chunk);
        }
        const struct chunk *found = bin_best_fit(bins, size);
        if (found == NULL || chunk_size(found) != size || (size < INDEX_LIMIT && bins->first[size / CHUNK_ALIGN] != chunk)) {
            return fault("arena %u: bin %u: %p is not in the search index", arena->id, index, (void *)chunk);
        }
        head = chunk;
        heads++;
    }
    if (head != NULL && (head->fd_nextsize != bin->fd || bin->fd->bk_nextsize != head)) {
        return fault("arena %u: bin %u: nextsize ring not closed", arena->id, index);
    }
    if (index < BIN_FIRST_TREE) return NULL;
    size_t nodes = tree_count(bins, bins->root[index - BIN_FIRST_TREE], NULL, 0);
    if (nodes != heads) return fault("arena %u: bin %u: %zu sizes, %zu nodes in the index", arena->id, index, heads, nodes);
    return NULL;
}

/* 4: every binned chunk is in its bin or in unsorted, the bitmap says so, large bins are sorted and indexed. */
static const char *check_bins(struct arena *arena, const struct census *census) {
    struct bins *bins = &arena->bins;
    size_t bytes = 0, clean = 0, dirty = 0, count = 0;
    for (unsigned index = 1; index < BIN_COUNT; index++) {
        struct chunk *bin = bin_chunk(bins, index);
        bool used = bin->fd != bin;
        for (struct chunk *chunk = bin->fd, *before = bin; chunk != bin; before = chunk, chunk = chunk->fd) {
            if (!bins_owns(bins, chunk)) return fault("arena %u: bin %u leads to %p", arena->id, index, (void *)chunk);
            if (chunk->bk != before) return fault("arena %u: bin %u: bk of %p", arena->id, index, (void *)chunk);
            if (index != BIN_UNSORTED && bin_index(chunk_size(chunk)) != index) {
                return fault("arena %u: bin %u holds %p of %zu bytes", arena->id, index, (void *)chunk, chunk_size(chunk));
            }
            bytes += chunk_size(chunk);
            if (chunk_size(chunk) >= bins->paged_least) {
                size_t here = span_size(chunk_clean(chunk, chunk_size(chunk)));
                clean += here;
                dirty += chunk_size(chunk) - here;
            }
            if (++count > census->binned_count) return fault("arena %u: bin %u: more chunks in bins than free chunks", arena->id, index);
        }
        bool bit = bins->bitmap[index / 64] >> index % 64 & 1;
        if (index > BIN_UNSORTED && used != bit) return fault("arena %u: bin %u: bitmap says %d", arena->id, index, bit);
        if (index >= BIN_FIRST_LARGE && index <= BIN_LAST) {
            const char *bad = check_large(arena, index);
            if (bad != NULL) return bad;
        }
    }
    for (size_t i = 0; i < INDEX_LIMIT / CHUNK_ALIGN; i++) {
        bool bit = bins->sized[i / 64] >> i % 64 & 1;
        if (bit != (bins->first[i] != NULL) || (bit && chunk_size(bins->first[i]) != i * CHUNK_ALIGN)) {
            return fault("arena %u: sizes: %zu: bit %d, first %p", arena->id, i * CHUNK_ALIGN, bit, (void *)bins->first[i]);
        }
    }
    for (size_t word = 0; word < sizeof bins->sized / sizeof bins->sized[0]; word++) {
        if ((bins->sized[word] != 0) != (bins->sized_words >> word & 1)) return fault("arena %u: sizes: word %zu", arena->id, word);
    }
    if (clean != bins->clean || dirty != bins->dirty) {
        return fault("arena %u: bins hold %zu clean bytes and %zu others, counters say %zu and %zu", arena->id, clean, dirty, bins->clean,
                     bins->dirty);
    }
    if (count != census->binned_count || count != bins->count || bytes != census->binned_bytes || bytes != bins->bytes) {
        return fault("arena %u: bins hold %zu chunks, %zu bytes; walk found %zu, %zu; counters say %zu, %zu", arena->id, count, bytes,
                     census->binned_count, census->binned_bytes, bins->count, bins->bytes);
    }
    return NULL;
}

/* 5: the sums. */
static const char *check_sums(struct arena *arena, const struct census *census) {
    if (census->all_bytes != arena->system_bytes) {
        return fault("arena %u: chunks add up to %zu bytes, taken from the system: %zu", arena->id, census->all_bytes, arena->system_bytes);
    }
    if (census->inbox != load_relaxed(&arena->inbox_bytes) || census->fast != arena->fast_bytes) {
        return fault("arena %u: inbox %zu fast %zu by walk; counters say %zu %zu", arena->id, census->inbox, census->fast,
                     load_relaxed(&arena->inbox_bytes), arena->fast_bytes);
    }
    if (census->loose != arena->sweep.loose)
        return fault("arena %u: %zu loose blocks, counter says %zu", arena->id, census->loose, arena->sweep.loose);
    if (census->loose != 0 && arena->sweep.region == NULL)
        return fault("arena %u: %zu loose blocks, and no sweep", arena->id, census->loose);
    return NULL;
}

/* 6: a block is in one place. */
static const char *check_marks(const struct marks *marks) {
    for (size_t i = 1; i < marks->count; i++) {
        if ((marks->entry[i] ^ marks->entry[i - 1]) < 16) {
            return fault("block %p is in two places: %s and %s", (void *)(marks->entry[i] & ~(uintptr_t)15),
                         seemalloc_state_name(marks->entry[i - 1] & 15), seemalloc_state_name(marks->entry[i] & 15));
        }
    }
    return NULL;
}

static const char *check_arena(struct arena *arena) {
    if (!lock_enter(&arena->lock)) return NULL;
    struct marks marks = {0};
    struct census census = {0};
    marks_add_caches(&marks);
    marks_add_arena(&marks, arena);
    marks_sort(&marks);
    const char *bad = marks.failed ? NULL : check_marks(&marks);
    if (!marks.failed) {
        for (const struct region *region = arena->regions; region != NULL && bad == NULL; region = region->next) {
            bad = check_region(arena, &marks, region, &census);
        }
        if (bad == NULL) bad = check_bins(arena, &census);
        if (bad == NULL) bad = check_sums(arena, &census);
    }
    lock_leave(&arena->lock);
    marks_free(&marks);
    return bad;
}

static int check_mapped(const struct mapped_record *record, void *arg) {
    const struct chunk *chunk = (const struct chunk *)record->chunk;
    const char **bad = arg;
    if (chunk_tag(chunk) == TAG_MAPPED && chunk->prev_size == record->lead && chunk_size(chunk) == record->length - record->lead) return 0;
    *bad = fault("mapped block %p: header does not agree with its record", (const void *)chunk);
    return 1;
}

/* 7: what counts towards the limit. */
static const char *check_taken(void) {
    if (conf_get(CONF_BACKGROUND) != 0) return NULL; /* that thread is never quiet */
    size_t taken = load_relaxed(&os_counters.taken), expected = arena_counted();
    return taken == expected ? NULL : fault("taken from the system: %zu bytes counted, %zu in sum", taken, expected);
}

const char *check_heap(void) {
    const char *bad = NULL;
    for (uint32_t id = 0; id < load_acquire(&seal.arenas) && bad == NULL; id++) bad = check_arena(arena_of_id(id));
    if (bad == NULL) mapped_walk(check_mapped, &bad);
    if (bad == NULL && conf_get(CONF_BACKGROUND) == 0 && !depot_adds_up())
        bad = fault("the depot: its counts do not add up, %zu bytes", depot_bytes);
    return bad != NULL ? bad : check_taken();
}
