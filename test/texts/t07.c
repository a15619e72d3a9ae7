/* t07.c: T7. A request from 128 KiB (M_MMAP_THRESHOLD, mallopt or environment) gets its own mmap, zeroed, and its free unmaps at once:
 * virtual and physical memory both drop. A user's setting fixes the threshold. (t07b.c shows the sliding.)
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <malloc.h>

/* No pad at the top, which could serve a request of the threshold's size. */
#define CONF NO_CACHE_NO_SLIDING ",top_pad:0"

/* Takes a request that must be mapped, looks at everything the point says, frees it. */
static void mapped_life(size_t request) {
    malloc_trim(0);
    put(get(request)); /* the books for mapped blocks, and code that was not run before */
    resident_bytes();
    uintptr_t brk0 = brk_now();
    struct seemalloc_stats before = stats_now();
    size_t virtual0 = virtual_bytes(), resident0 = resident_bytes();
    char *mem = get(request);
    size_t virtual1 = virtual_bytes();
    struct seemalloc_stats after = stats_now();
    texts_say("%zu bytes", request);
    REQUIRE("the block was had", mem);
    CHECK_EQ("its own mmap: one call", calls_between(&before, &after, SEEMALLOC_CALL_MMAP_BLOCK), 1);
    CHECK_EQ("and no other", calls_all_between(&before, &after), 1);
    CHECK("zeroed", filled(mem, request, 0));
    fill(mem, request, 0xA5);
    size_t resident1 = resident_bytes();

    look();
    const struct view *v = view_of(mem);
    REQUIRE("the walk knows the block", v);
    CHECK_EQ("its state", v->state, SEEMALLOC_MAPPED);
    CHECK("M is set", v->flags & SEEMALLOC_FLAG_M);
    CHECK_EQ("it is in no bin", v->bin, -1);
    CHECK_EQ("it is a region of its own", v->kind, SEEMALLOC_REGION_BLOCK);
    CHECK_EQ("whole pages", (v->region_end - v->region_start) % page_size, 0);
    CHECK_IN("as many as the request and its header need", v->region_end - v->region_start, round_up(request + 16, page_size),
             round_up(request + 16, page_size) + page_size);
    size_t size = v->region_end - v->region_start;
    CHECK("outside the heap", v->region_start >= brk0);
    CHECK_EQ("usable: the chunk but 16 bytes", malloc_usable_size(mem), v->size - 16);
    CHECK_PTR("brk stays", brk_now(), brk0);
    struct mapping m;
    REQUIRE("the kernel has a mapping there", mapping_of((uintptr_t)mem, &m));
    CHECK("readable, writable, private, not the heap", !strcmp(m.perms, "rw-p") && strcmp(m.name, "[heap]"));
    CHECK_EQ("virtual memory has grown by the mapping", virtual1 - virtual0, size);
    CHECK_IN("physical memory has grown by the pages written", (resident1 - resident0) / page_size, (request + 16) / page_size,
             size / page_size);

    before = stats_now();
    size_t virtual2 = virtual_bytes(), resident2 = resident_bytes();
    put(mem);
    size_t virtual3 = virtual_bytes(), resident3 = resident_bytes();
    after = stats_now();
    CHECK_EQ("free unmaps at once: one call", calls_between(&before, &after, SEEMALLOC_CALL_MUNMAP_BLOCK), 1);
    CHECK_EQ("and no other", calls_all_between(&before, &after), 1);
    CHECK_EQ("virtual memory drops by the mapping", virtual2 - virtual3, size);
    CHECK_IN("physical memory drops by its pages", (resident2 - resident3) / page_size, (request + 16) / page_size, size / page_size);
    CHECK("nothing can be read there any more", !is_readable((uintptr_t)mem));
    look();
    CHECK("the walk does not know it any more", !view_of(mem));

    mem = get(request);
    CHECK("the next one is zeroed again", mem && filled(mem, request, 0));
    put(mem);
}

/* The border lies at the chunk size. What is free in the heap serves first, so the top is given back before. */
static void border(size_t threshold) {
    malloc_trim(0);
    void *below = get_filled(threshold - 24), *from = get_filled(threshold - 23);
    look();
    const struct view *v = view_of(below), *w = view_of(from);
    REQUIRE("the walk knows both", v && w);
    CHECK_EQ("the largest chunk below the threshold", v->size, threshold - 16);
    CHECK_EQ("is in the heap", v->state, SEEMALLOC_IN_USE);
    CHECK_EQ("one byte more reaches the threshold: mapped", w->state, SEEMALLOC_MAPPED);
    put(below);
    put(from);
}

static void fixed(size_t threshold) {
    CHECK_EQ("the threshold is what the user set", stats_now().mmap_threshold, threshold);
    border(threshold);
    mapped_life(threshold);
    mapped_life(threshold + KIB(300));
    CHECK_EQ("the threshold is fixed: freeing mapped blocks has not moved it", stats_now().mmap_threshold, threshold);
    border(threshold);
}

int main(int argc, char **argv) {
    (void)argc;
    const char *part = texts_begin(argv, "T7", CONF);
    if (!strcmp(part, "64 KiB")) {
        fixed(KIB(64));
        return texts_end();
    }
    if (!strcmp(part, "1 MiB")) {
        fixed(MIB(1));
        return texts_end();
    }

    /* 128 KiB, with the sliding stopped by the trim threshold. */
    fixed(KIB(128));
    mapped_life(KIB(200));
    mapped_life(MIB(64));

    /* mallopt moves it. */
    CHECK_EQ("mallopt(M_MMAP_THRESHOLD, 64 KiB)", mallopt(M_MMAP_THRESHOLD, (int)KIB(64)), 1);
    fixed(KIB(64));
    CHECK_EQ("mallopt(M_MMAP_THRESHOLD, 1 MiB)", mallopt(M_MMAP_THRESHOLD, (int)MIB(1)), 1);
    fixed(MIB(1));

    /* So does the environment, under each name. */
    const char *const glibc_name[] = {"SEEMALLOC_CONF=" NO_CACHE ",top_pad:0", "MALLOC_MMAP_THRESHOLD_=65536", NULL};
    texts_again("64 KiB", glibc_name);
    const char *const tunable[] = {"SEEMALLOC_CONF=" NO_CACHE ",top_pad:0", "GLIBC_TUNABLES=glibc.malloc.mmap_threshold=65536", NULL};
    texts_again("64 KiB", tunable);
    const char *const conf[] = {"SEEMALLOC_CONF=" NO_CACHE ",top_pad:0"
                                ",mmap_threshold:1048576",
                                NULL};
    texts_again("1 MiB", conf);
    const char *const own_name[] = {"SEEMALLOC_CONF=" NO_CACHE ",top_pad:0", "SEEMALLOC_MMAP_THRESHOLD=1048576", NULL};
    texts_again("1 MiB", own_name);
    return texts_end();
}
