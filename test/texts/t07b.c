/* t07b.c: T7, the sliding. After the first free of a mapped block the thresholds slide: its size is served from the heap from then on, and
 * twice as much may lie at the top. Any setting by the user stops that.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <malloc.h>
#include <stdio.h>

static int is_mapped(void *mem) {
    look();
    const struct view *v = view_of(mem);
    REQUIRE("the walk knows the block", v);
    return v->state == SEEMALLOC_MAPPED;
}

static size_t mapped_size(void *mem) {
    look();
    const struct view *v = view_of(mem);
    return v ? v->size : 0;
}

static void slides(void) {
    struct seemalloc_stats stats = stats_now();
    CHECK_EQ("the threshold for mappings at the start", stats.mmap_threshold, KIB(128));
    CHECK_EQ("the threshold for trimming at the start", stats.trim_threshold, KIB(128));

    void *c = get_filled(KIB(200));
    CHECK("200 KiB are mapped the first time", is_mapped(c));
    size_t size = mapped_size(c);
    put(c);
    stats = stats_now();
    CHECK_EQ("freed: the threshold for mappings is the size of its chunk", stats.mmap_threshold, size);
    CHECK_EQ("the threshold for trimming is twice that", stats.trim_threshold, 2 * size);

    c = get_filled(KIB(200));
    CHECK("200 KiB come from the heap the second time", !is_mapped(c));
    put(c);
    struct seemalloc_stats before = stats_now();
    uint64_t faults = minor_faults();
    c = get_filled(KIB(200));
    faults = minor_faults() - faults;
    struct seemalloc_stats after = stats_now();
    CHECK_EQ("the third time there is no system call", calls_all_between(&before, &after), 0);
    CHECK_EQ("and no page fault", faults, 0);
    put(c);

    void *heap = get_filled(request_of(size - 16)), *mapping = get_filled(request_of(size));
    CHECK("the largest chunk below the new threshold is of the heap", !is_mapped(heap));
    CHECK("a chunk of the new threshold is mapped", is_mapped(mapping));
    put(heap);
    put(mapping);

    /* It slides up only. */
    void *large = get_filled(KIB(800)), *middle = get_filled(KIB(400));
    CHECK("800 KiB are mapped", is_mapped(large));
    CHECK("400 KiB are mapped", is_mapped(middle));
    size = mapped_size(large);
    put(large);
    CHECK_EQ("it slides up with a larger block", stats_now().mmap_threshold, size);
    put(middle);
    CHECK_EQ("and not down with a smaller", stats_now().mmap_threshold, size);
    CHECK_EQ("twice that for trimming", stats_now().trim_threshold, 2 * size);

    /* Up to 32 MiB. */
    void *huge = get(MIB(33));
    CHECK("33 MiB are mapped", is_mapped(huge));
    put(huge);
    CHECK_EQ("a block above 32 MiB does not move it", stats_now().mmap_threshold, size);
    huge = get(MIB(31));
    CHECK("31 MiB are mapped", is_mapped(huge));
    size = mapped_size(huge);
    put(huge);
    CHECK_EQ("one below does", stats_now().mmap_threshold, size);
    CHECK_EQ("and trimming", stats_now().trim_threshold, 2 * size);
    huge = get(MIB(20));
    CHECK("20 MiB then come from the heap", !is_mapped(huge));
    put(huge);
    huge = get(MIB(33));
    CHECK("33 MiB are still mapped", is_mapped(huge));
    put(huge);
}

static void stays(void) {
    size_t mmap_threshold = stats_now().mmap_threshold, trim_threshold = stats_now().trim_threshold;
    for (int i = 0; i < 3; i++) {
        void *c = get_filled(KIB(200));
        CHECK("200 KiB are mapped every time", is_mapped(c));
        put(c);
        CHECK_EQ("the threshold for mappings stays", stats_now().mmap_threshold, mmap_threshold);
        CHECK_EQ("the threshold for trimming stays", stats_now().trim_threshold, trim_threshold);
    }
}

int main(int argc, char **argv) {
    (void)argc;
    const char *part = texts_begin(argv, "T7b", NO_CACHE);
    int parameter, value;
    if (sscanf(part, "mallopt %d %d", &parameter, &value) == 2) {
        CHECK_EQ("mallopt", mallopt(parameter, value), 1);
        stays();
        return texts_end();
    }
    if (*part) {
        stays();
        return texts_end();
    }
    slides();

    const char *const set[] = {"SEEMALLOC_CONF=" NO_CACHE, NULL};
    texts_again("mallopt -1 131072", set);
    texts_again("mallopt -2 131072", set);
    texts_again("mallopt -3 131072", set);
    texts_again("mallopt -4 65536", set);
    static const char *const settings[] = {
        "MALLOC_TRIM_THRESHOLD_=131072",
        "MALLOC_TOP_PAD_=131072",
        "MALLOC_MMAP_THRESHOLD_=131072",
        "MALLOC_MMAP_MAX_=65536",
        "GLIBC_TUNABLES=glibc.malloc.trim_threshold=131072",
        "GLIBC_TUNABLES=glibc.malloc.top_pad=131072",
        "GLIBC_TUNABLES=glibc.malloc.mmap_threshold=131072",
        "GLIBC_TUNABLES=glibc.malloc.mmap_max=65536",
        "SEEMALLOC_TRIM_THRESHOLD=131072",
        "SEEMALLOC_TOP_PAD=131072",
        "SEEMALLOC_MMAP_THRESHOLD=131072",
        "SEEMALLOC_MMAP_MAX=65536",
    };
    for (size_t i = 0; i < COUNT_OF(settings); i++) {
        const char *const one[] = {"SEEMALLOC_CONF=" NO_CACHE, settings[i], NULL};
        texts_again(settings[i], one);
    }
    const char *const conf[] = {"SEEMALLOC_CONF=" NO_CACHE_NO_SLIDING, NULL};
    texts_again("SEEMALLOC_CONF", conf);
    return texts_end();
}
