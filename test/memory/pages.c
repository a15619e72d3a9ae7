/* pages.c: see pages.h. SPDX-License-Identifier: MIT */
#include "pages.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define RANGES_MOST 4096

static struct { uintptr_t start, end; } ranges[RANGES_MOST];
static size_t range_count, heap_regions, mapped_blocks;
static size_t by_state[SEEMALLOC_STATE_COUNT];

void *pages_map(size_t bytes) {
    void *mem = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mem == MAP_FAILED) abort();
    return mem;
}

static void *ours(const char *name) {
    void *function = dlsym(RTLD_DEFAULT, name);
    if (function != NULL) return function;
    fprintf(stderr, "%s: not found; run it with LD_PRELOAD=libseemalloc.so\n", name);
    exit(2);
}

static int note_region(const struct seemalloc_chunk *chunk, void *arg) {
    (void)arg;
    by_state[chunk->state] += chunk->size;
    uintptr_t start = (uintptr_t)chunk->region->start;
    if (range_count != 0 && ranges[range_count - 1].start == start) return 0;
    if (range_count == RANGES_MOST) abort();
    ranges[range_count].start = start;
    ranges[range_count++].end = (uintptr_t)chunk->region->end;
    heap_regions += chunk->region->kind != SEEMALLOC_REGION_BLOCK;
    mapped_blocks += chunk->region->kind == SEEMALLOC_REGION_BLOCK;
    return 0;
}

size_t pages_resident(void) {
    int (*walk)(int (*)(const struct seemalloc_chunk *, void *), void *) =
        (int (*)(int (*)(const struct seemalloc_chunk *, void *), void *))ours("seemalloc_walk");
    range_count = heap_regions = mapped_blocks = 0;
    memset(by_state, 0, sizeof by_state);
    if (walk(note_region, NULL) != 0) abort();
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0) abort();
    static uint64_t entries[4096];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), resident = 0;
    for (size_t i = 0; i < range_count; i++) {
        for (uintptr_t at = ranges[i].start / page, end = (ranges[i].end + page - 1) / page; at < end;) {
            size_t n = end - at < 4096 ? end - at : 4096;
            if (pread(pagemap, entries, n * sizeof *entries, (off_t)(at * sizeof *entries)) != (ssize_t)(n * sizeof *entries)) abort();
            for (size_t k = 0; k < n; k++) resident += entries[k] >> 63; /* present */
            at += n;
        }
    }
    close(pagemap);
    return resident;
}

size_t pages_vmas_allowed(void) {
    int (*get)(struct seemalloc_stats *) = (int (*)(struct seemalloc_stats *))ours("seemalloc_get_stats");
    struct seemalloc_stats stats;
    if (get(&stats) != 0) abort();
    return 32 + 2 * heap_regions + 2 * stats.threads + mapped_blocks;
}

void pages_print_states(void) {
    for (unsigned s = 0; s < SEEMALLOC_STATE_COUNT; s++) {
        const char *(*name)(enum seemalloc_state) = (const char *(*)(enum seemalloc_state))ours("seemalloc_state_name");
        if (by_state[s] != 0) printf("   %s %zu KiB", name(s), by_state[s] >> 10);
    }
    printf("\n");
}

size_t pages_vmas(void) {
    static char text[1 << 16];
    size_t lines = 0;
    int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (ssize_t n; (n = read(maps, text, sizeof text)) > 0;) {
        for (ssize_t i = 0; i < n; i++) lines += text[i] == '\n';
    }
    close(maps);
    return lines;
}

static int by_address(const void *a, const void *b) {
    const uintptr_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

size_t pages_live(const struct block *const *groups, const size_t *counts, unsigned n) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), all = 0, distinct = 0;
    for (unsigned g = 0; g < n; g++) {
        for (size_t i = 0; i < counts[g]; i++) all += groups[g][i].size / page + 2;
    }
    uintptr_t *list = pages_map((all + 1) * sizeof *list);
    size_t bytes = (all + 1) * sizeof *list;
    all = 0;
    for (unsigned g = 0; g < n; g++) {
        for (size_t i = 0; i < counts[g]; i++) {
            uintptr_t start = (uintptr_t)groups[g][i].mem, end = start + groups[g][i].size;
            for (uintptr_t at = start / page; at <= (end - 1) / page; at++) list[all++] = at;
        }
    }
    qsort(list, all, sizeof *list, by_address);
    for (size_t i = 0; i < all; i++) distinct += i == 0 || list[i] != list[i - 1];
    munmap(list, bytes);
    return distinct;
}

uint64_t pages_random(uint64_t *state) {
    uint64_t x = *state += 0x9e3779b97f4a7c15u; /* splitmix64 */
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void pages_shuffle(struct block *blocks, size_t count, uint64_t *random) {
    for (size_t i = count - 1; i > 0; i--) { /* Fisher and Yates */
        size_t j = pages_random(random) % (i + 1);
        struct block other = blocks[i];
        blocks[i] = blocks[j];
        blocks[j] = other;
    }
}

double pages_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}
