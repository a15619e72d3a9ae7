/* test_bin.c: the bins of an arena: which bin, in which order, the search index against a plain model, and the bound on its steps.
 *
 * The chunks here overlap nobody and are never walked: only headers and feet exist. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "heap/bin.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static struct bins bins;
static char *area;
static size_t area_size;

/* An area in which chunks may lie. */
static void begin(size_t size) {
    area_size = size;
    area = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(area != MAP_FAILED);
    if (seal.s1 == 0) seal_init();
    memset(&bins, 0, sizeof bins);
    bins_init(&bins, 5);
    bins_set_range(&bins, area, area + size);
}

static struct chunk *make(size_t offset, size_t size) {
    struct chunk *chunk = (struct chunk *)(area + offset);
    chunk_set(chunk, size, FLAG_P | FLAG_A, TAG_BINNED | 5);
    chunk_at(chunk, size)->prev_size = size;
    return chunk;
}

/* bin_remove may have a parameter for the message; tests of other layers see which message comes. */
#define REMOVE(chunk) bin_remove(&bins, chunk, "corrupted double-linked list")

/* The table of the texts, written out: 62 exact bins, then ranges of 64, 512, 4096, 32768, 262144 bytes, the rest. */
static void which_bin(void) {
    for (size_t size = 32; size < 1024; size += 16) CHECK_EQ(bin_index(size), size / 16);
    CHECK_EQ(bin_index(1024), 64);
    CHECK_EQ(bin_index(1087 & ~15), 64);
    CHECK_EQ(bin_index(1088), 65);
    unsigned index = 64;
    size_t began = 1024;
    for (size_t size = 1040; size <= (1 << 20); size += 16) {
        if (bin_index(size) == index) continue;
        CHECK_EQ(bin_index(size), index + 1); /* no bin is left out, none comes again */
        /* A bin ends at a multiple of its width, and is shorter only if it begins where narrower ones end. */
        size_t width = index <= 96 ? 64 : index <= 111 ? 512 : index <= 119 ? 4096 : index <= 123 ? 32768 : 262144;
        CHECK_EQ(size % width, 0);
        CHECK(size - began <= width);
        if (began % width == 0) CHECK_EQ(size - began, width);
        began = size;
        index++;
    }
    CHECK_EQ(index, 126);
    /* Sizes are of one bin if and only if they are equal without the bits that don't count in the smaller one's range. */
    for (size_t size = 1024; size < (1 << 18); size += 16) {
        unsigned shift = bin_range_of(size).shift;
        CHECK_EQ(bin_index(size) == bin_index(size + 16), size >> shift == (size + 16) >> shift);
    }
    CHECK_EQ(bin_index((size_t)1 << 40), 126);
    CHECK_EQ(bin_index(((size_t)1 << 47) - 16), 126);
}

static void small_is_fifo(void) {
    begin(1 << 20);
    struct chunk *chunk[10];
    for (unsigned i = 0; i < 10; i++) bin_insert_sorted(&bins, chunk[i] = make(1000 * 16 * i, 112));
    CHECK_EQ(bins.count, 10);
    CHECK_EQ(bins.bytes, 10 * 112);
    CHECK_EQ(bin_next_used(&bins, 2), 7);
    for (unsigned i = 0; i < 10; i++) {
        struct chunk *tail = bin_chunk(&bins, 7)->bk;
        CHECK_EQ(tail, chunk[i]);
        REMOVE(tail);
    }
    CHECK(bin_is_empty(&bins, 7));
    CHECK_EQ(bin_next_used(&bins, 2), 0);
    CHECK_EQ(bins.bytes, 0);
}

static void unsorted_is_fifo(void) {
    begin(1 << 20);
    struct chunk *first = make(0, 64), *second = make(4096, 2048);
    bin_insert_unsorted(&bins, first);
    bin_insert_unsorted(&bins, second);
    CHECK_EQ(bin_chunk(&bins, BIN_UNSORTED)->bk, first);
    CHECK_EQ(bin_chunk(&bins, BIN_UNSORTED)->fd, second);
    CHECK_EQ(bin_next_used(&bins, 2), 0); /* the bitmap speaks of sorted bins */
    REMOVE(second);
    REMOVE(first);
    CHECK(bin_is_empty(&bins, BIN_UNSORTED));
}

/* Descending from fd; heads of each size, and only they, in the ring of sizes. */
static void check_large(unsigned index) {
    struct chunk *bin = bin_chunk(&bins, index), *head = NULL, *first = NULL;
    size_t heads = 0, ring = 0;
    for (struct chunk *chunk = bin->fd; chunk != bin; chunk = chunk->fd) {
        CHECK_EQ(chunk->fd->bk, chunk);
        if (head == NULL || chunk_size(chunk) != chunk_size(head)) {
            CHECK(head == NULL || chunk_size(chunk) < chunk_size(head));
            CHECK(chunk->fd_nextsize != NULL);
            if (head != NULL) CHECK_EQ(head->fd_nextsize, chunk);
            if (head != NULL) CHECK_EQ(chunk->bk_nextsize, head);
            head = chunk;
            if (first == NULL) first = chunk;
            heads++;
        } else {
            CHECK(chunk->fd_nextsize == NULL);
        }
    }
    if (head != NULL) {
        CHECK_EQ(head->fd_nextsize, first);
        CHECK_EQ(first->bk_nextsize, head);
        struct chunk *at = first;
        do at = at->fd_nextsize, ring++;
        while (at != first);
    }
    CHECK_EQ(ring, heads);
}

/* Random insertions, removals and searches in one bin, against a table of counts by size. */
static void against_model(void) {
    enum { PLACES = 300 };
    static const struct {
        unsigned bin;
        size_t low, step, sizes;
    } cases[] = {{64, 1024, 16, 4},          {100, 512 * 9, 16, 32},        {120, INDEX_LIMIT - 40 * 16, 16, 40},
                 {121, INDEX_LIMIT, 16, 40}, {126, (size_t)600000, 16, 40}, {126, (size_t)600000, 48 * 1024 + 16, 60}};
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        begin((size_t)PLACES * (4 << 20));
        size_t spacing = 4 << 20, counts[64] = {0};
        struct chunk *at[PLACES] = {0};
        size_t which[PLACES] = {0};
        uint64_t random = c;
        unsigned bin = bin_index(cases[c].low);
        for (int step = 0; step < 20000; step++) {
            size_t place = unit_random(&random) % PLACES, kind = unit_random(&random) % cases[c].sizes;
            size_t size = cases[c].low + kind * cases[c].step;
            if (bin_index(size) != bin) continue;
            if (at[place] == NULL && step % 3000 < 2000) {
                bin_insert_sorted(&bins, at[place] = make(place * spacing, size));
                which[place] = kind;
                counts[kind]++;
            } else if (at[place] != NULL) {
                REMOVE(at[place]);
                counts[which[place]]--;
                at[place] = NULL;
            }
            size_t wanted = size + unit_random(&random) % 3 * 16 - 16, expected = 0; /* also of the bin below: the smallest then */
            if (bin_index(wanted) > bin) continue;
            for (size_t k = 0; k < cases[c].sizes && expected == 0; k++) {
                size_t s = cases[c].low + k * cases[c].step;
                if (counts[k] != 0 && s >= wanted) expected = s;
            }
            struct chunk *found = bin_best_fit(&bins, wanted);
            if (found != NULL) CHECK(chunk_size(found) >= wanted);
            CHECK_EQ(found != NULL ? chunk_size(found) : 0, expected);
            size_t below = 0;
            for (size_t k = 0; k < cases[c].sizes; k++) {
                size_t s = cases[c].low + k * cases[c].step;
                if (counts[k] != 0 && s <= wanted) below = s;
            }
            found = bin_head_at_most(&bins, bin, wanted);
            CHECK_EQ(found != NULL ? chunk_size(found) : 0, below);
            if (found != NULL) CHECK(found->fd_nextsize != NULL);
            if (step % 50 == 0) check_large(bin);
        }
        check_large(bin);
    }
}

/* 100,000 free chunks of distinct sizes in one bin. A list would take 50,000 steps for an insertion in the middle; the index takes at most one for each
 * bit in which sizes can differ (44: from 16 bytes to 2^47), for each of the walks that an operation makes: to its own place, to the size above,
 * and to that one's smallest. Two links may be read in a step. */
enum { MANY = 100000, STEP_LIMIT = 3 * 2 * 44 };

static void steps(const char *order) {
    size_t smallest = (size_t)16 << 20;
    begin(smallest + 100 * (size_t)MANY + 4096);
    uint32_t *rank = malloc(MANY * sizeof *rank);
    for (uint32_t i = 0; i < MANY; i++) rank[i] = strcmp(order, "descending") == 0 ? MANY - 1 - i : i;
    uint64_t random = 1;
    for (uint32_t i = MANY - 1; i > 0 && strcmp(order, "random") == 0; i--) {
        uint32_t k = (uint32_t)(unit_random(&random) % (i + 1)), swap = rank[i];
        rank[i] = rank[k];
        rank[k] = swap;
    }
    size_t worst = 0;
    for (uint32_t i = 0; i < MANY; i++) {
        /* Header at 80 · rank, foot 16 · rank further than that: all apart, although the chunks as such overlap. */
        struct chunk *chunk = make(80 * (size_t)rank[i], smallest + 16 * (size_t)rank[i]);
        size_t before = bin_steps;
        bin_insert_sorted(&bins, chunk);
        size_t taken = bin_steps - before;
        worst = taken > worst ? taken : worst;
    }
    CHECK_EQ(bins.count, MANY);
    CHECK_EQ(bin_next_used(&bins, 2), 126);
    CHECK(worst <= STEP_LIMIT);
    check_large(126);
    for (uint32_t i = 0; i < MANY; i++) { /* best fit, taken out and put back now and then, removed at last */
        size_t size = smallest + 16 * (unit_random(&random) % MANY) - unit_random(&random) % 16 / 8 * 16, before = bin_steps;
        struct chunk *found = bin_best_fit(&bins, size);
        CHECK_EQ(chunk_size(found), size < smallest ? smallest : size);
        REMOVE(found);
        bin_insert_sorted(&bins, found);
        size_t taken = bin_steps - before;
        worst = taken > worst ? taken : worst;
    }
    CHECK(worst <= 3 * STEP_LIMIT); /* three operations */
    for (uint32_t i = 0; i < MANY; i++) {
        size_t before = bin_steps;
        REMOVE((struct chunk *)(area + 80 * (size_t)rank[MANY - 1 - i]));
        CHECK(bin_steps - before <= STEP_LIMIT);
    }
    CHECK_EQ(bins.count, 0);
    CHECK_EQ(bins.bytes, 0);
    CHECK(bins.root[126 - BIN_FIRST_TREE] == NULL);
    free(rank);
}

static void ascending(void) { steps("ascending"); }
static void descending(void) { steps("descending"); }
static void shuffled(void) { steps("random"); }

/* Sizes that lengthen one path as much as possible: each shares one bit less with the last. */
static void one_path(void) {
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
    return; /* they leave no room for what this reserves */
#endif
    begin((size_t)1 << 46); /* reserved by the system without memory behind it */
    size_t before = bin_steps;
    unsigned n = 0;
    for (unsigned bit = 44; bit >= 20; bit--) bin_insert_sorted(&bins, make(4096 * (size_t)n++, ((size_t)1 << bit) + 16));
    for (unsigned bit = 20; bit >= 5; bit--) bin_insert_sorted(&bins, make(4096 * (size_t)n++, ((size_t)1 << 20) + ((size_t)1 << bit)));
    CHECK(bin_steps - before <= (size_t)n * STEP_LIMIT);
    check_large(126);
    before = bin_steps;
    CHECK(bin_best_fit(&bins, (size_t)1 << 20) != NULL);
    CHECK(bin_steps - before <= STEP_LIMIT);
}

/* --- Broken links abort before they are followed --- */

struct forged {
    struct chunk *chunk;
    struct chunk **link;
    struct chunk *value;
};

static void remove_forged(void *arg) {
    struct forged *forged = arg;
    *forged->link = forged->value;
    REMOVE(forged->chunk);
}

static void insert_behind_forged(void *arg) {
    struct forged *forged = arg;
    *forged->link = forged->value;
    bin_insert_sorted(&bins, forged->chunk);
}

static void broken_small(void) {
    begin(1 << 20);
    struct chunk *a = make(0, 96), *b = make(4096, 96), *c = make(8192, 96), *outside = malloc(256);
    bin_insert_sorted(&bins, a);
    bin_insert_sorted(&bins, b);
    bin_insert_sorted(&bins, c);
    struct chunk *values[] = {NULL, outside, (struct chunk *)((char *)a + 8), a, (struct chunk *)(area + 12288)};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct forged fd = {b, &b->fd, values[i]}, bk = {b, &b->bk, values[i]};
        if (values[i] != b->fd) CHECK_ABORTS(remove_forged, &fd, "corrupted double-linked list");
        if (values[i] != b->bk) CHECK_ABORTS(remove_forged, &bk, "corrupted double-linked list");
    }
    struct forged foot = {b, (struct chunk **)&chunk_next(b)->prev_size, (struct chunk *)112};
    CHECK_ABORTS(remove_forged, &foot, "corrupted size vs. prev_size");
    struct forged newest = {make(16384, 96), &c->bk, outside};
    CHECK_ABORTS(insert_behind_forged, &newest, "malloc(): smallbin double linked list corrupted");
}

static void broken_large(void) {
    begin(1 << 20);
    struct chunk *a = make(0, 4096), *b = make(16384, 4112), *c = make(32768, 4128), *outside = malloc(256);
    bin_insert_sorted(&bins, a);
    bin_insert_sorted(&bins, b);
    bin_insert_sorted(&bins, c);
    struct chunk *values[] = {outside, (struct chunk *)((char *)a + 16), (struct chunk *)(area + 65536)};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        struct forged fd = {b, &b->fd_nextsize, values[i]}, bk = {b, &b->bk_nextsize, values[i]};
        CHECK_ABORTS(remove_forged, &fd, "malloc(): largebin double linked list corrupted (nextsize)");
        CHECK_ABORTS(remove_forged, &bk, "malloc(): largebin double linked list corrupted (nextsize)");
    }
    struct forged other = {b, &b->fd_nextsize, c};
    CHECK_ABORTS(remove_forged, &other, "corrupted double-linked list (not small)");
}

static void search_zeroed(void *arg) {
    struct chunk *root = arg;
    root->child[0] = root->child[1] = NULL;
    bin_best_fit(&bins, MIB(1) + 4096);
}

static void search_sized(void *arg) {
    (void)arg;
    bin_best_fit(&bins, 1500);
}

/* The search index is wiped: by a link that is zero, and, in the table of sizes, by a first chunk that is none any more. */
static void broken_index(void) {
    begin(8 << 20);
    struct chunk *root = make(0, MIB(1)), *other = make(65536, MIB(1) + 8192), *sized = make(131072, 2048);
    bin_insert_sorted(&bins, root);
    bin_insert_sorted(&bins, other);
    bin_insert_sorted(&bins, sized);
    CHECK_EQ(bin_best_fit(&bins, MIB(1) + 4096), other);
    CHECK_ABORTS(search_zeroed, root, "corrupted double-linked list (not small)");
    CHECK_EQ(bin_best_fit(&bins, 1500), sized);
    sized->head ^= 0x100;
    CHECK_ABORTS(search_sized, NULL, "corrupted size vs. prev_size");
}

UNIT_MAIN({"broken_index", broken_index}, {"which_bin", which_bin}, {"small_is_fifo", small_is_fifo},
          {"unsorted_is_fifo", unsorted_is_fifo}, {"against_model", against_model}, {"ascending", ascending}, {"descending", descending},
          {"shuffled", shuffled}, {"one_path", one_path}, {"broken_small", broken_small}, {"broken_large", broken_large})
