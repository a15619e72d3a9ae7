/* bin.c: see bin.h. SPDX-License-Identifier: MIT */
#include "heap/bin.h"

#include "os/lock.h"
#include "os/os.h"
#include "os/report.h"

#ifdef SEEMALLOC_DEBUG
size_t bin_steps;
#define COUNT_STEP() ((void)add_relaxed(&bin_steps, 1))
#else
#define COUNT_STEP() ((void)0)
#endif

void bins_init(struct bins *bins, uint32_t id) {
    bins->id = id;
    bins->binned = TAG_BINNED | id;
    bins->paged_least = max_size(os_page_size() + sizeof(struct chunk), SMALL_LIMIT);
    for (unsigned i = 1; i < BIN_COUNT; i++) bins->bin[i].fd = bins->bin[i].bk = bin_chunk(bins, i);
}

static inline bool is_pseudo(const struct bins *bins, const struct chunk *chunk) {
    uintptr_t at = (uintptr_t)chunk + offsetof(struct chunk, fd) - (uintptr_t)&bins->bin[1];
    _Static_assert(sizeof bins->bin[0] == 16, "turned round as in bins_range");
    return (at >> 4 | at << 60) < BIN_COUNT - 1;
}

static COLD _Noreturn void broken(const char *line, const struct chunk *chunk, const char *what, const void *found, const void *expected) {
    fatal(line,
          "free chunk at %p: %s is %p, expected %p; something wrote to this memory after it was freed, or past the end of the block before "
          "it",
          (void *)(uintptr_t)chunk, what, (void *)(uintptr_t)found, (void *)(uintptr_t)expected);
}

/* A link that does not lead to a free chunk at all. */
static COLD _Noreturn void astray(const char *line, const struct chunk *chunk, const char *what, const void *found) {
    fatal(line,
          "free chunk at %p: %s is %p, expected a free chunk of the same bin; something wrote to this memory after it was freed, or past "
          "the end of the block before it",
          (void *)(uintptr_t)chunk, what, (void *)(uintptr_t)found);
}

/* A neighbour in the ring: a binned chunk of ours or a bin's pseudo-chunk. */
static inline bool is_neighbour(const struct bins *bins, const struct chunk *chunk) {
    return is_pseudo(bins, chunk) || bins_owns(bins, chunk);
}

/* Links `chunk` between `before` and `after`, which are known to be good; the ring there must be whole. */
static ALWAYS_INLINE void ring_join(struct bins *bins, struct chunk *chunk, struct chunk *before, struct chunk *after, const char *line) {
    if (UNLIKELY(before->fd != after)) {
        if (!is_neighbour(bins, before->fd)) astray(line, before, "fd", before->fd);
        broken(line, before, "fd", before->fd, after);
    }
    if (UNLIKELY(after->bk != before)) broken(line, after, "bk", after->bk, before);
    chunk->fd = after;
    chunk->bk = before;
    before->fd = chunk;
    after->bk = chunk;
}

/* The same behind `before`. */
static inline void ring_link(struct bins *bins, struct chunk *chunk, struct chunk *before, const char *line) {
    struct chunk *after = before->fd;
    if (UNLIKELY(!is_neighbour(bins, after))) astray(line, before, "fd", after);
    ring_join(bins, chunk, before, after, line);
}

/* Takes `chunk` out from between two that are known to be good. */
static ALWAYS_INLINE void ring_part(struct chunk *chunk, struct chunk *fd, struct chunk *bk, const char *line) {
    if (UNLIKELY(fd->bk != chunk)) broken(line, fd, "bk", fd->bk, chunk);
    if (UNLIKELY(bk->fd != chunk)) broken(line, bk, "fd", bk->fd, chunk);
    fd->bk = bk;
    bk->fd = fd;
}

static inline void ring_unlink(struct bins *bins, struct chunk *chunk, const char *line) {
    struct chunk *fd = chunk->fd, *bk = chunk->bk;
    if (UNLIKELY(!is_neighbour(bins, fd))) astray(line, chunk, "fd", fd);
    if (UNLIKELY(!is_neighbour(bins, bk))) astray(line, chunk, "bk", bk);
    ring_part(chunk, fd, bk, line);
}

/* --- the search index of the large bins: by tree --------------------------------------------------------------------------------------- */

static const char tree_line[] = "corrupted double-linked list (not small)";

static struct chunk **tree_root(struct bins *bins, unsigned index) { return &bins->root[index - BIN_FIRST_TREE]; }

/* The highest bit in which two sizes of a bin can differ. */
static unsigned tree_bit(unsigned index) { return index <= 123 ? 14 : index <= 125 ? 17 : 47; }

/* A child or parent link, checked before it is followed. */
static inline struct chunk *tree_link(struct bins *bins, struct chunk *from, struct chunk *to) {
    COUNT_STEP();
    if (UNLIKELY(to != NULL && !bins_owns(bins, to))) astray(tree_line, from, "link", to);
    return to;
}
static inline struct chunk *tree_child(struct bins *bins, struct chunk *node, unsigned side) {
    struct chunk *child = tree_link(bins, node, node->child[side]);
    if (UNLIKELY(child != NULL && child->parent != node)) broken(tree_line, child, "parent in the search index", child->parent, node);
    return child;
}

/* Where a size is, or would be put. */
struct tree_place {
    struct chunk **slot, *parent;
    struct chunk *same;  /* the head of exactly that size, or NULL; */
    struct chunk *above; /* then the head of the smallest size above it, or NULL */
};

static ALWAYS_INLINE struct tree_place tree_find(struct bins *bins, unsigned index, size_t size) {
    struct tree_place place = {.slot = tree_root(bins, index)};
    struct chunk *right = NULL, *node = tree_link(bins, bin_chunk(bins, index), *place.slot);
    size_t above_size = SIZE_MAX;
    for (unsigned bit = tree_bit(index); node != NULL; bit--) {
        if (UNLIKELY(bit < 3)) astray(tree_line, place.parent, "link", node); /* deeper than sizes have bits */
        size_t here = chunk_size(node);
        if (here == size) {
            place.same = node;
            return place;
        }
        if (here > size && here < above_size) place.above = node, above_size = here;
        unsigned side = size >> bit & 1;
        if (side == 0 && node->child[1] != NULL) right = node; /* all sizes there are above `size` */
        place.parent = node;
        place.slot = &node->child[side];
        node = tree_link(bins, node, *place.slot);
    }
    /* The smallest of the nearest subtree on the right: the leftmost path holds it. */
    unsigned left = tree_bit(index);
    for (node = right != NULL ? tree_link(bins, right, right->child[1]) : NULL; node != NULL;
         node = tree_link(bins, node, node->child[node->child[0] == NULL])) {
        if (UNLIKELY(left-- < 3)) astray(tree_line, right, "link", node);
        if (chunk_size(node) < above_size) place.above = node, above_size = chunk_size(node);
    }
    return place;
}

/* Puts `node` where `old` hangs, with old's children. */
static void tree_replace(struct bins *bins, unsigned index, struct chunk *old, struct chunk *node) {
    struct chunk *parent = tree_link(bins, old, old->parent);
    struct chunk **slot = tree_root(bins, index);
    if (parent != NULL) slot = &parent->child[parent->child[1] == old];
    if (UNLIKELY(*slot != old)) broken(tree_line, old, "place in the search index", *slot, old);
    *slot = node;
    if (node == NULL) return;
    node->parent = parent;
    for (unsigned side = 0; side < 2; side++) {
        struct chunk *child = tree_child(bins, old, side);
        node->child[side] = child;
        if (child != NULL) child->parent = node;
    }
}

/* Takes a head out; any leaf below takes its place, for the bits above are the same. */
static void tree_remove(struct bins *bins, unsigned index, struct chunk *node) {
    struct chunk *leaf = node;
    for (unsigned left = tree_bit(index) + 1; leaf->child[0] != NULL || leaf->child[1] != NULL;) {
        if (UNLIKELY(left-- < 3)) astray(tree_line, node, "link", leaf); /* deeper than sizes have bits */
        leaf = tree_child(bins, leaf, leaf->child[1] != NULL ? 1 : 0);
    }
    if (leaf == node) {
        tree_replace(bins, index, node, NULL);
        return;
    }
    tree_replace(bins, index, leaf, NULL);
    tree_replace(bins, index, node, leaf);
}

/* --- by size ----------------------------------------------------------------------------------------------------------------------------- */

/* The smallest size there is from number `i` (size / CHUNK_ALIGN) up, or 0. */
static ALWAYS_INLINE size_t sized_from(const struct bins *bins, size_t i) {
    size_t word = i / 64;
    if (i >= INDEX_LIMIT / CHUNK_ALIGN) return 0;
    uint64_t bits = bins->sized[word] & ~0ull << i % 64, words = bins->sized_words & ~1ull << word;
    if (bits == 0 && words == 0) return 0;
    /* Either is as likely: no branch. */
    size_t above = low_bit(words | 1ull << 63);
    uint64_t bits_above = bins->sized[above];
    word = bits != 0 ? word : above;
    bits = bits != 0 ? bits : bits_above;
    return word * 64 + low_bit(bits);
}

static ALWAYS_INLINE struct chunk *sized_first(const struct bins *bins, size_t i) {
    struct chunk *first = bins->first[i];
    if (UNLIKELY(!bins_owns(bins, first) || chunk_size(first) != i * CHUNK_ALIGN)) {
        fatal("corrupted size vs. prev_size",
              "the first free chunk of %zu bytes, at %p, is none; something wrote to this memory after it was freed, or past the end of "
              "the block before it",
              i * CHUNK_ALIGN, (void *)first);
    }
    return first;
}

static ALWAYS_INLINE void sized_set(struct bins *bins, size_t i, struct chunk *first) {
    bins->first[i] = first;
    if (first != NULL) {
        bins->sized[i / 64] |= 1ull << i % 64;
        bins->sized_words |= 1ull << i / 64;
    } else if ((bins->sized[i / 64] &= ~(1ull << i % 64)) == 0) {
        bins->sized_words &= ~(1ull << i / 64);
    }
}

/* --- large bins ------------------------------------------------------------------------------------------------------------------------ */

static const char large_line[] = "malloc(): largebin double linked list corrupted (nextsize)";

static inline struct chunk *next_head(struct bins *bins, struct chunk *head, struct chunk *to) {
    if (UNLIKELY(!bins_owns(bins, to))) astray(large_line, head, "nextsize link", to);
    return to;
}

static ALWAYS_INLINE struct tree_place find_place(struct bins *bins, unsigned index, size_t size) {
    if (index >= BIN_FIRST_TREE) return tree_find(bins, index, size);
    size_t i = sized_from(bins, size / CHUNK_ALIGN);
    struct tree_place place = {0};
    struct chunk *bin = bin_chunk(bins, index);
    if (i == size / CHUNK_ALIGN) {
        place.same = sized_first(bins, i);
    } else if (bin->fd != bin && chunk_size(next_head(bins, bin, bin->fd)) > size) { /* the largest: the next size is one of this bin */
        place.above = sized_first(bins, i);
    }
    return place;
}

/* In the place of the head `old` stands `node`, or nothing. */
static ALWAYS_INLINE void index_replace(struct bins *bins, size_t size, struct chunk *old, struct chunk *node) {
    if (size < INDEX_LIMIT) {
        struct chunk *first = bins->first[size / CHUNK_ALIGN];
        if (UNLIKELY(first != old)) broken(tree_line, old, "place in the search index", first, old);
        sized_set(bins, size / CHUNK_ALIGN, node);
    } else if (node != NULL) {
        tree_replace(bins, bin_index(size), old, node);
    } else {
        tree_remove(bins, bin_index(size), old);
    }
}

/* As find_place, without a look at the bin's largest. */
static ALWAYS_INLINE struct tree_place place_for(struct bins *bins, unsigned index, size_t size) {
    if (index >= BIN_FIRST_TREE) return tree_find(bins, index, size);
    struct tree_place place = {NULL, NULL, NULL, NULL};
    size_t i = sized_from(bins, size / CHUNK_ALIGN), nearest = i * CHUNK_ALIGN;
    unsigned shift = bin_range_of(size).shift;
    if (nearest >> shift != size >> shift) return place; /* it is in another bin, or there is none */
    struct chunk *first = sized_first(bins, i);
    if (nearest == size) {
        place.same = first;
    } else {
        place.above = first;
    }
    return place;
}

/* A new size, below that of `above` (NULL: it is the largest). Heads descend along fd_nextsize, and the smallest leads round to the largest. Each neighbour
 * is checked once; where a size has one chunk, that is its neighbour in either ring. */
static ALWAYS_INLINE void insert_head(struct bins *bins, struct chunk *chunk, struct chunk *bin, struct chunk *above, size_t size) {
    static const char ring_line[] = "malloc(): largebin double linked list corrupted (bk)";
    struct chunk *below, *before = bin, *after = bin;
    if (above != NULL) {
        below = next_head(bins, above, above->fd_nextsize);
        if (UNLIKELY(below->bk_nextsize != above)) broken(large_line, below, "bk_nextsize", below->bk_nextsize, above);
        if (chunk_size(below) < size) after = below;
        before = after->bk;
        if (before != above && UNLIKELY(!is_neighbour(bins, before))) astray(large_line, below, "bk", before);
    } else if (bin->fd != bin) {
        after = below = next_head(bins, bin, bin->fd);
        above = next_head(bins, below, below->bk_nextsize);
        if (UNLIKELY(above->fd_nextsize != below)) broken(large_line, above, "fd_nextsize", above->fd_nextsize, below);
    } else {
        above = below = chunk;
    }
    ring_join(bins, chunk, before, after, ring_line);
    chunk->fd_nextsize = below;
    chunk->bk_nextsize = above;
    above->fd_nextsize = chunk;
    below->bk_nextsize = chunk;
}

static ALWAYS_INLINE void insert_large(struct bins *bins, struct chunk *chunk, unsigned index, size_t size) {
    struct tree_place place = place_for(bins, index, size);
    if (place.same != NULL) { /* second of its size: the head keeps its links */
        chunk->fd_nextsize = chunk->bk_nextsize = NULL;
        ring_link(bins, chunk, place.same, "malloc(): largebin double linked list corrupted (bk)");
        return;
    }
    insert_head(bins, chunk, bin_chunk(bins, index), place.above, size);
    if (index < BIN_FIRST_TREE) {
        sized_set(bins, size / CHUNK_ALIGN, chunk);
        return;
    }
    chunk->child[0] = chunk->child[1] = NULL;
    chunk->parent = place.parent;
    *place.slot = chunk;
}

static ALWAYS_INLINE void remove_head(struct bins *bins, struct chunk *chunk, size_t size, const char *line) {
    struct chunk *below = chunk->fd_nextsize, *above = chunk->bk_nextsize, *fd = chunk->fd, *bk = chunk->bk;
    next_head(bins, chunk, below);
    next_head(bins, chunk, above);
    if (UNLIKELY(below->bk_nextsize != chunk)) broken(tree_line, below, "bk_nextsize", below->bk_nextsize, chunk);
    if (UNLIKELY(above->fd_nextsize != chunk)) broken(tree_line, above, "fd_nextsize", above->fd_nextsize, chunk);
    /* Mostly the same chunks again. */
    if (fd != below && UNLIKELY(!is_neighbour(bins, fd))) astray(line, chunk, "fd", fd);
    if (bk != above && UNLIKELY(!is_neighbour(bins, bk))) astray(line, chunk, "bk", bk);
    ring_part(chunk, fd, bk, line);
    if (fd != below && !is_pseudo(bins, fd) && fd->fd_nextsize == NULL) { /* the next of the same size heads it now */
        fd->fd_nextsize = below == chunk ? fd : below;
        fd->bk_nextsize = above == chunk ? fd : above;
        fd->fd_nextsize->bk_nextsize = fd;
        fd->bk_nextsize->fd_nextsize = fd;
        index_replace(bins, size, chunk, fd);
    } else {
        above->fd_nextsize = below;
        below->bk_nextsize = above;
        index_replace(bins, size, chunk, NULL);
    }
}

struct chunk *bin_second_of_size(struct bins *bins, struct chunk *head) {
    struct chunk *second = head->fd;
    if (second == head->fd_nextsize || is_pseudo(bins, second)) return NULL;
    return bins_owns(bins, second) && chunk_size(second) == chunk_size(head) ? second : NULL;
}

/* Of heads of one size: taking the second leaves ring and index of the heads alone. */
static struct chunk *second_or_first(struct bins *bins, struct chunk *head) {
    struct chunk *second = bin_second_of_size(bins, head);
    return second != NULL ? second : head;
}

static struct chunk *last_of_bin(struct bins *bins, unsigned index, size_t size) {
    struct chunk *chunk = bin_chunk(bins, index)->bk; /* the smallest, or of its size the one that came first */
    if (UNLIKELY(!bins_owns(bins, chunk) || chunk_size(chunk) < size)) {
        fatal("malloc(): corrupted bin", "bin %u leads to %p, which is not a free chunk of at least %zu bytes", index, (void *)chunk, size);
    }
    return chunk;
}

struct chunk *bin_best_fit(struct bins *bins, size_t size) {
    unsigned index;
    if (size < SMALL_LIMIT) {
        index = bin_next_used(bins, bin_index(size));
        if (index == 0 || index < BIN_FIRST_LARGE) return index != 0 ? last_of_bin(bins, index, size) : NULL;
    }
    if (size < INDEX_LIMIT) {
        size_t i = sized_from(bins, max_size(size, SMALL_LIMIT) / CHUNK_ALIGN);
        if (i != 0) return second_or_first(bins, sized_first(bins, i));
        index = BIN_FIRST_TREE;
    } else {
        index = bin_index(size);
        struct chunk *bin = bin_chunk(bins, index);
        if (bin->fd != bin && chunk_size(next_head(bins, bin, bin->fd)) >= size) { /* the largest stands first */
            struct tree_place place = tree_find(bins, index, size);
            struct chunk *head = place.same != NULL ? place.same : place.above;
            if (UNLIKELY(head == NULL)) broken(tree_line, bin->fd, "place in the search index", NULL, bin->fd);
            return second_or_first(bins, head);
        }
        index++;
    }
    index = index < BIN_COUNT ? bin_next_used(bins, index) : 0;
    return index != 0 ? last_of_bin(bins, index, size) : NULL;
}

struct chunk *bin_head_at_most(struct bins *bins, unsigned index, size_t size) {
    struct chunk *bin = bin_chunk(bins, index);
    if (bin->fd == bin || bin_index(size) < index) return NULL;
    struct chunk *largest = next_head(bins, bin, bin->fd);
    if (chunk_size(largest) <= size) return largest;
    struct tree_place place = find_place(bins, index, size);
    if (place.same != NULL || place.above == NULL) return place.same;
    struct chunk *below = next_head(bins, place.above, place.above->fd_nextsize);
    return chunk_size(below) < size ? below : NULL; /* the smallest leads round to the largest */
}

/* A chunk that isn't the first of its size goes behind all others. */
static void move_to_end(struct bins *bins, unsigned index, struct chunk *head, struct chunk *chunk) {
    struct chunk *below = next_head(bins, head, head->fd_nextsize);
    struct chunk *last = chunk_size(below) < chunk_size(head) ? below->bk : bin_chunk(bins, index)->bk;
    if (UNLIKELY(!bins_owns(bins, last) || chunk_size(last) != chunk_size(head))) astray(large_line, below, "bk", last);
    if (last == chunk) return;
    ring_unlink(bins, chunk, large_line);
    ring_link(bins, chunk, last, large_line);
}

/* --- all bins -------------------------------------------------------------------------------------------------------------------------- */

/* `bytes` and `count` know of the chunk already. */
static void insert_sorted(struct bins *bins, struct chunk *chunk) {
    size_t size = chunk_size(chunk);
    unsigned index = bin_index(size);
    bins->bitmap[index / 64] |= 1ull << index % 64;
    if (index >= BIN_FIRST_LARGE) {
        insert_large(bins, chunk, index, size);
    } else {
        ring_link(bins, chunk, bin_chunk(bins, index), "malloc(): smallbin double linked list corrupted");
    }
}

static ALWAYS_INLINE void account(struct bins *bins, const struct chunk *chunk, bool more) {
    uint64_t head = chunk_head(chunk);
    size_t bytes = more ? head_size(head) : -head_size(head);
    store_relaxed(&bins->bytes, bins->bytes + bytes);
    store_relaxed(&bins->count, bins->count + (more ? 1 : (size_t)-1));
    if (head_size(head) < bins->paged_least) return;
    size_t clean = span_size(chunk_clean(chunk, head_size(head)));
    if (more) {
        bins->clean += clean;
        store_relaxed(&bins->dirty, bins->dirty + (bytes - clean));
    } else {
        bins->clean -= min_size(clean, bins->clean);
        store_relaxed(&bins->dirty, bins->dirty - min_size(head_size(head) - clean, bins->dirty));
    }
}

void bin_note_purged(struct bins *bins, struct chunk *chunk) {
    uint64_t head = chunk_head(chunk);
    size_t size = head_size(head);
    unsigned index = bin_index(size);
    chunk_set(chunk, size, (uint32_t)(head & FLAG_MASK) | FLAG_PURGED, bins->binned);
    struct chunk *first = bin_head_at_most(bins, index, size);
    if (chunk != first) move_to_end(bins, index, first, chunk);
}

void bin_insert_sorted(struct bins *bins, struct chunk *chunk) {
    account(bins, chunk, true);
    insert_sorted(bins, chunk);
}

void bin_insert_unsorted(struct bins *bins, struct chunk *chunk) {
    account(bins, chunk, true);
    if (chunk_size(chunk) >= SMALL_LIMIT) chunk->fd_nextsize = chunk->bk_nextsize = NULL;
    ring_link(bins, chunk, bin_chunk(bins, BIN_UNSORTED), "free(): corrupted unsorted chunks");
}

struct chunk *bin_last_unsorted(struct bins *bins) {
    struct chunk *bin = bin_chunk(bins, BIN_UNSORTED), *chunk = bin->bk;
    if (chunk == bin) return NULL;
    if (UNLIKELY(!bins_owns(bins, chunk))) astray(BIN_UNSORTED_LINE, bin, "bk", chunk);
    return chunk;
}

struct chunk *bin_sort_last(struct bins *bins) {
    lock_count_chunk();
    struct chunk *bin = bin_chunk(bins, BIN_UNSORTED), *chunk = bin->bk, *before = chunk->bk;
    if (before != bin && UNLIKELY(!bins_owns(bins, before))) astray(BIN_UNSORTED_LINE, chunk, "bk", before);
    if (UNLIKELY(before->fd != chunk)) broken(BIN_UNSORTED_LINE, before, "fd", before->fd, chunk);
    bin->bk = before;
    before->fd = bin;
    insert_sorted(bins, chunk);
    return before != bin ? before : NULL;
}

void bin_take(struct bins *bins, struct chunk *chunk, size_t size, const char *line) {
    account(bins, chunk, false);
    /* Sorted or not? A large chunk in the unsorted bin has no nextsize links. For the others removal is the same, and one that leaves its bin
     * empty had the bin's own chunk on both sides. */
    if (size >= SMALL_LIMIT && chunk->fd_nextsize != NULL) {
        remove_head(bins, chunk, size, line);
    } else {
        ring_unlink(bins, chunk, line);
    }
    if (chunk->fd == chunk->bk && is_pseudo(bins, chunk->fd)) {
        size_t index = ((uintptr_t)chunk->fd - (uintptr_t)bin_chunk(bins, 0)) / sizeof bins->bin[0];
        bins->bitmap[index / 64] &= ~(1ull << index % 64);
    }
}

void bin_remove(struct bins *bins, struct chunk *chunk, const char *line) {
    size_t size = chunk_size(chunk);
    struct chunk *next = chunk_at(chunk, size);
    if (UNLIKELY(!bins_range(bins, next) || next->prev_size != size)) {
        fatal("corrupted size vs. prev_size",
              "free chunk at %p has size %zu, but the chunk after it says %zu; something wrote past the end of a block", (void *)chunk,
              size, bins_range(bins, next) ? (size_t)next->prev_size : (size_t)0);
    }
    bin_take(bins, chunk, size, line);
}

unsigned bin_next_used(const struct bins *bins, unsigned index) {
    for (unsigned word = index / 64; word < BIN_COUNT / 64; word++) {
        uint64_t bits = bins->bitmap[word];
        if (word == index / 64) bits &= ~0ull << index % 64;
        if (bits != 0) return word * 64 + low_bit(bits);
    }
    return 0;
}
