/* probe.h: what a test program can learn about the allocator that serves it.
 *
 * The same binary runs on the system's malloc and on seemalloc, so our own functions are looked up at run time: by dlsym in a dynamic
 * program, as weak symbols in a static one (PROBE_STATIC), directly where the library carries prefixed names (SEEMALLOC_PREFIX).
 * With prefixed names the standard names below are mapped onto them, so that one source serves the sanitizer builds too: include this
 * header after all others.
 * SPDX-License-Identifier: MIT */
#ifndef TEST_PROGRAMS_PROBE_H
#define TEST_PROGRAMS_PROBE_H

#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "seemalloc.h"

#if defined(PROBE_STATIC)
#ifdef __cplusplus
extern "C" {
#endif
extern int seemalloc_get_stats(struct seemalloc_stats *stats) __attribute__((weak));
#ifdef __cplusplus
}
#endif
#elif !defined(SEEMALLOC_PREFIX)
#include <dlfcn.h>
#endif

#ifdef SEEMALLOC_PREFIX
void *seemalloc_malloc(size_t size);
void *seemalloc_calloc(size_t n, size_t size);
void *seemalloc_realloc(void *p, size_t size);
void seemalloc_free(void *p);
#define malloc seemalloc_malloc
#define calloc seemalloc_calloc
#define realloc seemalloc_realloc
#define free seemalloc_free
#endif

typedef int probe_stats_fn(struct seemalloc_stats *stats);

/* Our statistics function, or NULL on another allocator. */
static inline probe_stats_fn *probe_stats_function(void) {
#if defined(SEEMALLOC_PREFIX) || defined(PROBE_STATIC)
    return seemalloc_get_stats;
#else
    probe_stats_fn *fn = NULL;
    void *found = dlsym(RTLD_DEFAULT, "seemalloc_get_stats");
    memcpy(&fn, &found, sizeof fn);
    return fn;
#endif
}

/* Fills *stats; 0 on another allocator. */
static inline int probe_stats(struct seemalloc_stats *stats) {
    probe_stats_fn *fn = probe_stats_function();
    return fn && fn(stats) == 0;
}

/* Bytes that the allocator holds from the system for blocks now; 0 on another allocator. */
static inline size_t probe_heap_bytes(void) {
    struct seemalloc_stats stats;
    return probe_stats(&stats) ? stats.heap_bytes + stats.mapped_bytes : 0;
}

/* Says on `fd` whose malloc this program really runs on. It believes only what it sees: a block asked from malloc has to show up in
 * seemalloc's books. Scripts look for the line "allocator: seemalloc". Returns 1 for seemalloc. */
static inline int probe_report(int fd) {
    enum { SIZE = 50000 };
    struct seemalloc_stats before, after;
    if (!probe_stats(&before)) {
        const char *preload = getenv("LD_PRELOAD");
        (void)!write(fd, "allocator: system\n", 18);
        if (preload && strstr(preload, "libseemalloc")) _exit(3); /* it should have been there */
        return 0;
    }
    void *p = malloc(SIZE);
    int seen = p && probe_stats(&after) && after.bytes[SEEMALLOC_IN_USE] >= before.bytes[SEEMALLOC_IN_USE] + SIZE;
    free(p);
    const char *text = seen ? "allocator: seemalloc\n" : "allocator: seemalloc is loaded, but malloc is another's\n";
    (void)!write(fd, text, strlen(text));
    if (!seen) _exit(3);
    return 1;
}

#endif
