/* burst.c: after a burst memory goes home by itself. Four threads that stay alive allocate 1 GiB (sizes log-uniform by count, 16 bytes to 256 KiB), free 95 %
 * of it in random order, and work lightly for two seconds. Then the heap's resident pages are at most 1.10 times those that hold a byte that was asked for;
 * and when all is freed, after another two seconds, at most 2 MiB more than at the start. SPDX-License-Identifier: MIT */
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pages.h"

enum { THREADS = 4, SECONDS = 2 };
#define TOTAL ((size_t)1 << 30)
#define SIZE_LEAST 16.0
#define SIZE_MOST (256 * 1024.0)

static pthread_barrier_t barrier;
static struct block *blocks[THREADS];
static size_t counts[THREADS];

/* What a server does that waits for requests: some small blocks, a millisecond's sleep. */
static void work_lightly(uint64_t *random) {
    for (double end = pages_now() + SECONDS; pages_now() < end;) {
        void *some[20];
        for (unsigned i = 0; i < 20; i++) {
            size_t size = 16 + pages_random(random) % 2000;
            some[i] = memset(malloc(size), 1, size);
        }
        for (unsigned i = 0; i < 20; i++) free(some[i]);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static void *run(void *arg) {
    unsigned self = (unsigned)(uintptr_t)arg;
    uint64_t random = self + 1;
    struct block *mine = blocks[self];
    size_t count = 0;
    for (size_t total = 0; total < TOTAL / THREADS; count++) {
        double at = (double)(pages_random(&random) >> 11) * 0x1p-53;
        mine[count].size = (size_t)(SIZE_LEAST * pow(SIZE_MOST / SIZE_LEAST, at));
        mine[count].mem = memset(malloc(mine[count].size), 1, mine[count].size);
        total += mine[count].size;
    }
    pages_shuffle(mine, count, &random);
    size_t left = count / 20;
    for (size_t i = left; i < count; i++) free(mine[i].mem);
    counts[self] = left;
    work_lightly(&random);
    pthread_barrier_wait(&barrier); /* the main thread looks */
    pthread_barrier_wait(&barrier);
    for (size_t i = 0; i < left; i++) free(mine[i].mem);
    work_lightly(&random);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

static bool at_most(const char *what, double found, double most) {
    if (found <= most) return true;
    printf("FAILED: %s: %.3f, at most %.3f\n", what, found, most);
    return false;
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    size_t before = pages_of_heap();
    pthread_t threads[THREADS];
    for (unsigned t = 0; t < THREADS; t++) {
        blocks[t] = pages_map(TOTAL / 16);
        if (pthread_create(&threads[t], NULL, run, (void *)(uintptr_t)t) != 0) abort();
    }
    pthread_barrier_wait(&barrier);
    size_t live = pages_live((const struct block *const *)blocks, counts, THREADS), resident = pages_of_heap();
    struct vmas vmas = pages_vmas(); /* the blocks' lists, a mapping each, count as well */
    printf("95 %% freed: %zu pages resident, %zu hold a live byte: %.3f times; %zu mappings, %zu allowed\n", resident, live,
           (double)resident / (double)live, vmas.found, pages_vmas_allowed(vmas));
    pages_print_states();
    bool good = at_most("resident pages, in pages that hold a live byte", (double)resident / (double)live, 1.10);
    good &= at_most("mappings", (double)vmas.found, (double)pages_vmas_allowed(vmas));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    resident = pages_of_heap();
    printf("all freed: %zu KiB resident, %zu at the start\n", resident * page >> 10, before * page >> 10);
    pages_print_states();
    good &= at_most("KiB above the start", (double)(resident * page >> 10), (double)((before * page >> 10) + 2048));
    pthread_barrier_wait(&barrier);
    for (unsigned t = 0; t < THREADS; t++) pthread_join(threads[t], NULL);
    return !good;
}
