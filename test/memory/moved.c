/* moved.c: large blocks of mixed lifetimes: pages of holes move to new blocks instead of going back and coming anew. Each page of a block is marked when it is
 * handed out and read when it is freed; every fourth comes from calloc and must be zero. Counted are page faults, mappings and resident pages.
 * usage: moved THREADS MIB [locked]: blocks of 64 KiB to so many MiB; locked: with all memory locked, where nothing may move: what it left would not be locked.
 * SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "pages.h"

enum { SLOTS = 12, ROUNDS = 400, THREADS_MOST = 4, PAGE = 4096, STALE = 0x55 };

struct work {
    pthread_t thread;
    uint64_t seed;
    size_t most, written, live, live_peak; /* bytes */
    struct block blocks[SLOTS];
};

static struct work works[THREADS_MOST];

static void fail(const char *what, const struct block *block, size_t at) {
    fprintf(stderr, "FAILED: block of %zu bytes at %p: %s at %zu\n", block->size, (void *)block->mem, what, at);
    exit(1);
}

static void mark(struct block *block, bool zeroed) {
    for (size_t at = 0; at + sizeof(size_t) <= block->size; at += PAGE) {
        for (size_t i = 0; zeroed && i < PAGE && at + i < block->size; i++) {
            if (block->mem[at + i] != 0) fail("not zero", block, at + i);
        }
        memset(block->mem + at, STALE, block->size - at < PAGE ? block->size - at : PAGE);
        size_t stamp = (size_t)block->mem + at;
        memcpy(block->mem + at, &stamp, sizeof stamp);
    }
}

static void check(const struct block *block) {
    for (size_t at = 0; at + sizeof(size_t) <= block->size; at += PAGE) {
        size_t stamp;
        memcpy(&stamp, block->mem + at, sizeof stamp);
        if (stamp != (size_t)block->mem + at) fail("the mark is gone", block, at);
    }
}

static void *run(void *arg) {
    struct work *work = arg;
    for (int round = 0; round < ROUNDS; round++) {
        struct block *block = &work->blocks[pages_random(&work->seed) % SLOTS];
        check(block);
        free(block->mem);
        work->live -= block->size;
        size_t doublings = 0;
        while ((size_t)(64 << 10) << (doublings + 1) < work->most) doublings++;
        block->size = (size_t)(64 << 10) << pages_random(&work->seed) % (doublings + 1);
        block->size += pages_random(&work->seed) % block->size;
        bool zeroed = round % 4 == 0;
        block->mem = zeroed ? calloc(1, block->size) : malloc(block->size);
        if (block->mem == NULL) abort();
        mark(block, zeroed);
        work->written += block->size;
        work->live += block->size;
        if (work->live > work->live_peak) work->live_peak = work->live;
    }
    return NULL;
}

static size_t faults(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (size_t)usage.ru_minflt;
}

static bool kernel_moves(void) {
    struct utsname name;
    unsigned major = 0, minor = 0;
    uname(&name);
    return sscanf(name.release, "%u.%u", &major, &minor) == 2 && (major > 5 || (major == 5 && minor >= 7));
}

int main(int argc, char **argv) {
    unsigned threads = argc > 1 ? (unsigned)atoi(argv[1]) : 1;
    size_t mib = argc > 2 ? (size_t)atoi(argv[2]) : 16;
    bool locked = argc > 3;
    for (int i = 0; i < 2; i++) free(malloc((32 << 20) - 64)); /* the threshold has slid */
    if (locked && mlockall(MCL_CURRENT | MCL_FUTURE) != 0) {
        printf("memory can't be locked: skipped\n");
        return 77;
    }
    size_t before = faults();
    for (unsigned i = 0; i < threads; i++) {
        works[i].seed = i + 1;
        works[i].most = mib << 20;
        if (threads > 1) pthread_create(&works[i].thread, NULL, run, &works[i]);
    }
    if (threads == 1) run(&works[0]);
    size_t written = 0, peak = 0;
    for (unsigned i = 0; i < threads; i++) {
        if (threads > 1) pthread_join(works[i].thread, NULL);
        written += works[i].written / PAGE;
        peak += works[i].live_peak / PAGE;
    }
    size_t made = faults() - before, resident = pages_of_heap();
    struct vmas vmas = pages_vmas();
    struct seemalloc_stats stats;
    pages_stats(&stats);
    uint64_t moves = stats.calls[SEEMALLOC_CALL_MREMAP_MOVE];
    printf("%zu pages written, %zu live at most: %zu faults, %zu resident at the end, %zu mappings of %zu, %llu moves\n", written, peak,
           made, resident, vmas.found, pages_vmas_allowed(vmas), (unsigned long long)moves);
    bool bad = vmas.found > pages_vmas_allowed(vmas) || (!locked && resident > peak + peak / 4) || (locked && moves != 0);
    if (kernel_moves() && !locked)
        bad |= (mib > 4 && moves == 0) || made > (threads == 1 ? 2 : 3) * peak; /* small ones fit well enough without */
    if (bad) printf("FAILED\n");
    for (unsigned i = 0; i < threads; i++) {
        for (unsigned k = 0; k < SLOTS; k++) {
            check(&works[i].blocks[k]);
            free(works[i].blocks[k].mem);
        }
    }
    return bad;
}
