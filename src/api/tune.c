/* tune.c: mallopt, trim and the statistics of <malloc.h>. SPDX-License-Identifier: MIT */
#include "api/names.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#include "base/probe.h"
#include "cache/cache.h"
#include "conf/conf.h"
#include "heap/retain.h"
#include "inspect/stats.h"
#include "os/os.h"

/* As in glibc each parameter has a point as well: the new value, the old one, and, where thresholds slide, whether they have stopped. */
static void probe_mallopt(int parameter, int value) {
    enum conf_id id = 0;
    while (id < CONF_COUNT && conf_rows[id].parameter != parameter) id++;
    size_t old = id < CONF_COUNT ? conf_get(id) : 0;
    int stopped = !conf_slides();
    PROBE2(memory_mallopt, parameter, value);
    switch (id) {
    case CONF_MXFAST: PROBE2(memory_mallopt_mxfast, value, old); break;
    case CONF_TRIM_THRESHOLD: PROBE3(memory_mallopt_trim_threshold, value, old, stopped); break;
    case CONF_TOP_PAD: PROBE3(memory_mallopt_top_pad, value, old, stopped); break;
    case CONF_MMAP_THRESHOLD: PROBE3(memory_mallopt_mmap_threshold, value, old, stopped); break;
    case CONF_MMAP_MAX: PROBE3(memory_mallopt_mmap_max, value, old, stopped); break;
    case CONF_CHECK: PROBE2(memory_mallopt_check_action, value, old); break;
    case CONF_PERTURB: PROBE2(memory_mallopt_perturb, value, old); break;
    case CONF_ARENA_TEST: PROBE2(memory_mallopt_arena_test, value, old); break;
    case CONF_ARENA_MAX: PROBE2(memory_mallopt_arena_max, value, old); break;
    default: break;
    }
}

EXPORT int mallopt(int parameter, int value) {
    cache_init();
    probe_mallopt(parameter, value);
    if (!conf_set(parameter, value)) return 0;
    cache_settings_changed();
    return 1;
}

EXPORT int malloc_trim(size_t pad) {
    cache_init();
    cache_flush();
    depot_empty(&arena_main);
    int any = retain_release();
    for (uint32_t id = 0; id < load_acquire(&seal.arenas); id++) any |= arena_trim(arena_of_id(id), pad, true);
    return any;
}

EXPORT void malloc_stats(void) {
    cache_init();
    stats_print_glibc();
}

struct stats_mallinfo mallinfo2(void);
EXPORT struct stats_mallinfo mallinfo2(void) {
    cache_init();
    return stats_mallinfo();
}

/* The old interface counts in int, and wraps as glibc's does. */
struct old_mallinfo {
    int arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct old_mallinfo mallinfo(void);
EXPORT struct old_mallinfo mallinfo(void) {
    cache_init();
    struct stats_mallinfo info = stats_mallinfo();
    return (struct old_mallinfo){(int)info.arena,   (int)info.ordblks, (int)info.smblks,   (int)info.hblks,    (int)info.hblkhd,
                                 (int)info.usmblks, (int)info.fsmblks, (int)info.uordblks, (int)info.fordblks, (int)info.keepcost};
}

/* Formatted under the locks into a mapping of ours; written after, for stdio allocates. */
int malloc_info(int options, FILE *stream);
EXPORT int malloc_info(int options, FILE *stream) {
    if (options != 0) return EINVAL;
    cache_init();
    for (size_t size = KIB(64);; size *= 4) {
        char *data = os_map(NULL, size, true, SEEMALLOC_CALL_MMAP_META);
        if (data == NULL) {
            errno = ENOMEM;
            return -1;
        }
        struct text text = text_of(data, size);
        bool whole = stats_xml(&text);
        if (whole) fputs(text.data, stream);
        os_unmap_meta(data, size);
        if (whole) return 0;
    }
}

#ifndef SEEMALLOC_PREFIX
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmissing-attributes" /* the C library's header gives the standard names some that don't matter here */
#endif
#undef ALIAS
#define ALIAS(of) EXPORT __attribute__((alias(#of)))
ALIAS(mallopt) int __libc_mallopt(int parameter, int value);
ALIAS(mallinfo) struct old_mallinfo __libc_mallinfo(void);
#endif
