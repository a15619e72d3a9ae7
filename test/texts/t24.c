/* t24.c: T24. A non-main arena takes heaps of HEAP_MAX_SIZE (64 MiB; 1 MiB on 32-bit) from mmap, reserved first and made usable as needed,
 * and releases a heap that is wholly free.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <pthread.h>

#define HEAP_MAX (sizeof(void *) == 8 ? MIB(64) : MIB(1))
#define BLOCK KIB(100)
#define MOST 4096
static void *blocks[MOST];

struct heap {
    uintptr_t start, end, limit;
    unsigned arena;
};

/* The heaps of the last picture. */
static struct heap heaps[32];
static size_t heap_count;

static void find_heaps(void) {
    look();
    heap_count = 0;
    for (size_t i = 0; i < view_count; i++)
        if (views[i].kind == SEEMALLOC_REGION_HEAP && !view_prev(&views[i]) && heap_count < COUNT_OF(heaps))
            heaps[heap_count++] = (struct heap){views[i].region_start, views[i].region_end, views[i].region_limit, views[i].arena};
}

static const struct heap *heap_of(void *mem) {
    for (size_t i = 0; i < heap_count; i++)
        if ((uintptr_t)mem >= heaps[i].start && (uintptr_t)mem < heaps[i].end) return &heaps[i];
    return NULL;
}

/* The usable part is readable and writable, the rest of the reservation is not, and takes no memory. */
static void check_heap(const struct heap *heap) {
    uintptr_t base = heap->start & ~(HEAP_MAX - 1);
    struct mapping m;
    CHECK_PTR("a heap is aligned to its size", heap->start - base < page_size * 16 ? base : heap->start, base);
    CHECK_PTR("and that large, reserved part included", heap->limit, base + HEAP_MAX);
    REQUIRE("its first page is mapped", mapping_of(heap->start, &m));
    CHECK("usable", !strncmp(m.perms, "rw-p", 4));
    REQUIRE("its last usable page is mapped", mapping_of(heap->end - 1, &m));
    CHECK("usable", !strncmp(m.perms, "rw-p", 4));
    CHECK_EQ("usable in whole pages", heap->end % page_size, 0);
    if (heap->end < heap->limit) {
        REQUIRE("what lies behind is mapped", mapping_of(heap->end, &m));
        CHECK("reserved: without access", !strncmp(m.perms, "---p", 4));
        CHECK_IN("up to the limit", m.end, heap->limit, UINTPTR_MAX);
        CHECK_EQ("no page of it is in memory", pages_resident(heap->end, heap->limit), 0);
    }
}

static void run(void *(*function)(void *)) {
    pthread_t thread;
    REQUIRE("a thread", pthread_create(&thread, NULL, function, NULL) == 0);
    pthread_join(thread, NULL);
}

static void *grows_in_steps(void *unused) {
    (void)unused;
    texts_set_up();
    struct seemalloc_stats before = stats_now();
    blocks[0] = get_filled(BLOCK);
    struct seemalloc_stats after = stats_now();
    CHECK_IN("the first block: one reservation (two, if alignment asks for more)", calls_between(&before, &after, SEEMALLOC_CALL_MMAP_HEAP),
             1, 2);
    CHECK_EQ("one step made usable", calls_between(&before, &after, SEEMALLOC_CALL_MPROTECT_GROW), 1);
    find_heaps();
    REQUIRE("there is one heap", heap_count == 1);
    check_heap(&heaps[0]);
    struct heap first = heaps[0];
    CHECK_IN("what is usable is as needed, with some more", first.end - first.start, BLOCK, BLOCK + MIB(1) + KIB(256));

    /* Up to near its end in this one heap. */
    size_t n = 1;
    before = after;
    while (n < 600) blocks[n++] = get_filled(BLOCK);
    after = stats_now();
    find_heaps();
    CHECK_EQ("60 MB of blocks: heaps", heap_count, 1);
    CHECK_EQ("reservations", calls_between(&before, &after, SEEMALLOC_CALL_MMAP_HEAP), 0);
    CHECK_IN("steps made usable: several, but fewer than blocks", calls_between(&before, &after, SEEMALLOC_CALL_MPROTECT_GROW), 10, 599);
    check_heap(&heaps[0]);
    CHECK_PTR("it began where it was", heaps[0].start, first.start);
    CHECK("it has grown", heaps[0].end > first.end);
    CHECK_IN("to what the blocks need, with some more", heaps[0].end - heaps[0].start, n * chunk_of(BLOCK),
             n * chunk_of(BLOCK) + MIB(1) + KIB(256));

    /* What does not fit any more goes into a second heap. */
    before = after;
    while (n < 1200) blocks[n++] = get_filled(BLOCK);
    after = stats_now();
    find_heaps();
    CHECK_EQ("120 MB of blocks: heaps", heap_count, 2);
    CHECK_IN("reservations", calls_between(&before, &after, SEEMALLOC_CALL_MMAP_HEAP), 1, 2);
    for (size_t i = 0; i < heap_count; i++) check_heap(&heaps[i]);
    CHECK("both are of the same arena, not the main one", heap_count == 2 && heaps[0].arena == heaps[1].arena && heaps[0].arena != 0);
    const struct heap *second = heap_of(blocks[n - 1]);
    REQUIRE("the last block is in a heap", second);
    CHECK("another than the first block's", second != heap_of(blocks[0]));
    struct heap kept = *second;
    CHECK("a fencepost ends the first heap, which can't grow any more", views_in(SEEMALLOC_FENCEPOST) >= 1);

    /* The blocks of the second freed: it is released. */
    before = stats_now();
    size_t virtual = virtual_bytes();
    while (n > 0 && heap_of(blocks[n - 1]) && heap_of(blocks[n - 1])->start == kept.start) put(blocks[--n]);
    after = stats_now();
    CHECK_EQ("the second heap is wholly free: it is unmapped", calls_between(&before, &after, SEEMALLOC_CALL_MUNMAP_HEAP), 1);
    CHECK("nothing of it can be read", !is_readable(kept.start) && !is_readable(kept.end - 1));
    CHECK_IN("virtual memory drops by its reservation", virtual - virtual_bytes(), HEAP_MAX - MIB(1), HEAP_MAX + MIB(1));
    find_heaps();
    CHECK_EQ("heaps left", heap_count, 1);
    CHECK_PTR("the first", heaps[0].start, first.start);
    texts_quiet = 1;
    for (size_t i = 0; i < n; i++) CHECK("the blocks of the first heap are as they were", filled(blocks[i], BLOCK, 0xA5));
    texts_quiet = 0;

    /* The arena goes on. */
    size_t again = n;
    while (n < again + 100) blocks[n++] = get_filled(BLOCK);
    find_heaps();
    CHECK_IN("it takes another when it needs one", heap_count, 1, 2);
    while (n > 0) put(blocks[--n]);
    return NULL;
}

static void in_steps(void) {
    run(grows_in_steps);
    find_heaps();
    CHECK_EQ("the thread is gone, all is free: heaps left", heap_count, 0);
}

static void *older_heap(void *unused) {
    (void)unused;
    size_t n = 0;
    while (n < 1800) blocks[n++] = get_filled(BLOCK);
    find_heaps();
    REQUIRE("180 MB are in three heaps", heap_count == 3);
    /* The first heap's blocks are freed, in an order without order: the heap is released, though younger ones live. */
    const struct heap *first = heap_of(blocks[0]);
    REQUIRE("the first block is in a heap", first);
    struct heap old = *first;
    static unsigned char freed[MOST];
    size_t in_first = 0;
    for (size_t i = 0; i < n; i++) in_first += heap_of(blocks[i]) == first;
    CHECK_IN("blocks in the first heap", in_first, 600, 660);
    struct seemalloc_stats before = stats_now();
    for (size_t i = 0; i < n; i++) {
        size_t j = i * 7 % n;
        if ((uintptr_t)blocks[j] >= old.start && (uintptr_t)blocks[j] < old.limit) {
            put(blocks[j]);
            freed[j] = 1;
        }
    }
    struct seemalloc_stats after = stats_now();
    CHECK_EQ("the oldest heap is wholly free: it is unmapped", calls_between(&before, &after, SEEMALLOC_CALL_MUNMAP_HEAP), 1);
    find_heaps();
    CHECK_EQ("heaps left", heap_count, 2);
    CHECK("the oldest is not among them", !heap_of(blocks[0]));
    CHECK("nothing of it can be read", !is_readable(old.start));
    size_t bad = 0;
    for (size_t i = 0; i < n; i++) bad += !freed[i] && !filled(blocks[i], BLOCK, 0xA5);
    CHECK_EQ("blocks in other heaps that were spoilt", bad, 0);
    for (size_t i = 0; i < n; i++)
        if (!freed[i]) put(blocks[i]);
    return NULL;
}

static void oldest_first(void) {
    run(older_heap);
    find_heaps();
    CHECK_EQ("the thread is gone, all is free: heaps left", heap_count, 0);
}

static void *leaves_some(void *unused) {
    (void)unused;
    for (size_t i = 0; i < 1200; i++) blocks[i] = get_filled(BLOCK);
    for (size_t i = 1; i < 1200; i++) put(blocks[i]);
    return NULL;
}

static void pinned(void) {
    /* A heap with a block in use stays, also after its thread; freed by another thread, it goes. */
    run(leaves_some);
    find_heaps();
    CHECK_EQ("the thread is gone, one block is in use: heaps left", heap_count, 1);
    CHECK("the block's", heap_of(blocks[0]) != NULL);
    CHECK("which is as it was", filled(blocks[0], BLOCK, 0xA5));
    if (heap_count)
        CHECK_IN("its free pages have gone back: bytes resident", pages_resident(heaps[0].start, heaps[0].limit) * page_size, BLOCK,
                 BLOCK + KIB(256));
    put(blocks[0]);
    find_heaps();
    CHECK_EQ("freed from the main thread: heaps left", heap_count, 0);
}

int main(int argc, char **argv) {
    (void)argc;
    static const struct texts_part parts[] = {{"in steps", in_steps}, {"oldest first", oldest_first}, {"pinned", pinned}};
    texts_parts(texts_begin(argv, "T24", NO_CACHE), NO_CACHE, parts, COUNT_OF(parts));
    return texts_end();
}
