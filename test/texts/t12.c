/* t12.c: T12. Why not mmap for all: every call is a system call, every reuse faults its pages again (1 MiB: 256 faults each time), VMAs
 * multiply. The same work is done with a threshold that maps its blocks and with one that serves them from the heap; what differs is
 * counted, not timed.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#define ROUNDS 20
#define BLOCK MIB(1)
#define BLOCKS 100

struct cost {
    uint64_t calls, maps, unmaps, faults;
    size_t vmas;
};

static struct cost work(void) {
    static void *blocks[BLOCKS];
    struct cost cost = {0, 0, 0, 0, 0};
    put(get_filled(BLOCK)); /* the first time costs the same both ways */
    struct seemalloc_stats before = stats_now();
    cost.faults = minor_faults();
    for (int i = 0; i < ROUNDS; i++) put(get_filled(BLOCK));
    cost.faults = minor_faults() - cost.faults;
    struct seemalloc_stats after = stats_now();
    cost.calls = calls_all_between(&before, &after);
    cost.maps = calls_between(&before, &after, SEEMALLOC_CALL_MMAP_BLOCK);
    cost.unmaps = calls_between(&before, &after, SEEMALLOC_CALL_MUNMAP_BLOCK);

    /* A first round for the library's own books. */
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < BLOCKS; i++) REQUIRE("a block was had", (blocks[i] = get(BLOCK)) != NULL);
        if (round == 0)
            for (size_t i = 0; i < BLOCKS; i++) put(blocks[i]);
    }
    size_t vmas = mapping_count();
    for (size_t i = 0; i < BLOCKS; i += 2) put(blocks[i]);
    cost.vmas = mapping_count() - vmas;
    for (size_t i = 1; i < BLOCKS; i += 2) put(blocks[i]);
    texts_say("%d times 1 MiB: %llu system calls, %llu faults; every second of %d freed: %zu VMAs more", ROUNDS,
              (unsigned long long)cost.calls, (unsigned long long)cost.faults, BLOCKS, cost.vmas);
    return cost;
}

int main(int argc, char **argv) {
    (void)argc;
    const char *part = texts_begin(argv, "T12", NO_CACHE_NO_SLIDING);
    size_t pages = BLOCK / page_size;
    texts_quiet = 1;
    if (!*part) {
        const char *const mapped[] = {"SEEMALLOC_CONF=" NO_CACHE_NO_SLIDING ",mmap_threshold:131072", NULL};
        const char *const heap[] = {"SEEMALLOC_CONF=" NO_CACHE ",mmap_threshold:33554432,trim_threshold:268435456", NULL};
        texts_again("mapped", mapped);
        texts_again("heap", heap);
        return texts_end();
    }
    struct cost cost = work();
    texts_quiet = 0;
    if (!strcmp(part, "mapped")) {
        CHECK_EQ("every malloc is an mmap", cost.maps, ROUNDS);
        CHECK_EQ("every free is a munmap", cost.unmaps, ROUNDS);
        CHECK_EQ("system calls in all", cost.calls, 2 * ROUNDS);
        CHECK_IN("every reuse faults all its pages again", cost.faults, ROUNDS * pages, ROUNDS * (pages + 1));
        CHECK_IN("256 faults for 1 MiB (and the page of the header) where pages have 4 KiB", cost.faults / ROUNDS * page_size / KIB(4), 256,
                 257);
        CHECK_IN("VMAs multiply: one for each block that stays", cost.vmas, BLOCKS / 2 - 2, BLOCKS / 2 + 1);
    } else {
        CHECK_EQ("system calls for reuse in the heap", cost.calls, 0);
        CHECK_EQ("faults for reuse in the heap", cost.faults, 0);
        CHECK_IN("the heap stays one VMA", cost.vmas, 0, 1);
    }
    return texts_end();
}
