/* pages.c: see pages.h. SPDX-License-Identifier: MIT */
#include "pages.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../kernel.h"

#define RANGES_MOST 4096

static struct { uintptr_t start, end; } ranges[RANGES_MOST];
static size_t range_count;
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
    return 0;
}

void pages_walk(int (*visit)(const struct seemalloc_chunk *chunk, void *arg), void *arg) {
    int (*walk)(int (*)(const struct seemalloc_chunk *, void *), void *) =
        (int (*)(int (*)(const struct seemalloc_chunk *, void *), void *))ours("seemalloc_walk");
    if (walk(visit, arg) != 0) abort();
}

void pages_stats(struct seemalloc_stats *stats) {
    int (*get)(struct seemalloc_stats *) = (int (*)(struct seemalloc_stats *))ours("seemalloc_get_stats");
    if (get(stats) != 0) abort();
}

static void look_at_regions(void) {
    range_count = 0;
    memset(by_state, 0, sizeof by_state);
    pages_walk(note_region, NULL);
}

size_t pages_of_heap(void) {
    size_t resident = 0;
    look_at_regions();
    for (size_t i = 0; i < range_count; i++) resident += pages_resident(ranges[i].start, ranges[i].end);
    return resident;
}

void pages_print_states(void) {
    for (unsigned s = 0; s < SEEMALLOC_STATE_COUNT; s++) {
        const char *(*name)(enum seemalloc_state) = (const char *(*)(enum seemalloc_state))ours("seemalloc_state_name");
        if (by_state[s] != 0) printf("   %s %zu KiB", name(s), by_state[s] >> 10);
    }
    printf("\n");
}

struct regions {
    const void *last;
    size_t heaps, blocks;
};

static int count_region(const struct seemalloc_chunk *chunk, void *arg) {
    struct regions *regions = arg;
    if (chunk->region->start == regions->last) return 0;
    regions->last = chunk->region->start;
    *(chunk->region->kind == SEEMALLOC_REGION_BLOCK ? &regions->blocks : &regions->heaps) += 1;
    return 0;
}

struct maps {
    struct mapping before;
    size_t page, count;
};

/* The stack of a thread: a power of two, by its size, behind its guard. */
static bool is_stack(const struct mapping *below, const struct mapping *mapping) {
    size_t size = mapping->end - mapping->start;
    return below->end == mapping->start && below->perms[1] == '-' && mapping->perms[1] == 'w' && size >= 1 << 20 &&
           (size & (size - 1)) == 0;
}

static int count_mapping(const struct mapping *mapping, void *arg) {
    struct maps *maps = arg;
    const struct mapping *before = &maps->before;
    bool anonymous = mapping->name[0] == 0 || strcmp(mapping->name, "[heap]") == 0;
    bool zeroed_data = before->name[0] == '/' && before->end == mapping->start; /* a library's, behind what is read from its file */
    bool stack = before->name[0] == 0 && is_stack(before, mapping);
    if (anonymous && !zeroed_data && !stack) maps->count++;
    if (anonymous && stack && before->end - before->start == maps->page)
        maps->count--; /* its guard; a larger one is also that of what lies below */
    maps->before = *mapping;
    return 0;
}

struct vmas pages_vmas(void) {
    int (*get)(struct seemalloc_stats *) = (int (*)(struct seemalloc_stats *))ours("seemalloc_get_stats");
    struct maps maps = {.page = (size_t)sysconf(_SC_PAGESIZE)};
    struct regions regions = {0};
    struct seemalloc_stats stats;
    if (mappings_visit(count_mapping, &maps) != 0 || get(&stats) != 0) abort();
    pages_walk(count_region, &regions);
    return (struct vmas){maps.count, regions.heaps, regions.blocks, stats.threads, stats.arenas};
}

size_t pages_vmas_allowed(struct vmas vmas) { return 32 + 2 * vmas.heaps + 2 * vmas.caches + vmas.blocks; }

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
