/* heaps.c: makes heaps of all shapes and has them written: heaps empty|states|threads|big BLOCKS BYTES. Runs with the dumper preloaded.
 * SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dumper.h"

static uint64_t random_state = 88172645463325252u;

static uint64_t next_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static char *block(size_t size) {
    char *mem = malloc(size);
    if (mem == NULL) {
        fputs("heaps: no memory\n", stderr);
        exit(2);
    }
    return memset(mem, 1, size);
}

/* Holes of all kinds, one live block that pins the pages beside it, large blocks in mappings, one of them aligned and one untouched. */
static void states(void) {
    enum { COUNT = 4000 };
    static char *blocks[COUNT], *large[8];
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = block(16 + next_random() % 2000);
        if (i % 500 == 0) heap_sample();
    }
    for (int i = 0; i < 8; i++) large[i] = block(((size_t)96 << 10) * (size_t)(i + 1));
    heap_sample();
    for (int i = 1000; i < 2000; i++) free(blocks[i]);
    heap_sample();
    for (int i = 2000; i < COUNT; i++)
        if (next_random() % 3 != 0) free(blocks[i]);
    free(large[2]);
    free(large[5]);
    free(block(40000));
    block(3000);
    void *volatile aligned = aligned_alloc(65536, 1 << 20); /* clang leaves out what nobody keeps */
    if (aligned == NULL || malloc((size_t)64 << 20) == NULL) exit(2);
    heap_show_cache();
    heap_dump();
}

/* --- threads --------------------------------------------------------------------------------------------------------------------------------- */

enum { WORKERS = 4, SHARED = 20000 };
static char *shared[WORKERS][SHARED];
static pthread_barrier_t barrier;

/* Each fills its own part and then frees most of its neighbour's, so that blocks travel to other arenas' inboxes. */
static void *work(void *arg) {
    int self = (int)(intptr_t)arg;
    uint64_t random = 1234567 + (uint64_t)self;
    for (int i = 0; i < SHARED; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        shared[self][i] = block(16 + (random >> 40) % (i % 16 == 0 ? 20000 : 700));
    }
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < SHARED; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        if ((random >> 60) < 11) free(shared[(self + 1) % WORKERS][i]);
    }
    heap_show_cache();
    pthread_barrier_wait(&barrier); /* the heap is written now */
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void threads(void) {
    pthread_t worker[WORKERS];
    pthread_barrier_init(&barrier, NULL, WORKERS + 1);
    for (intptr_t i = 0; i < WORKERS; i++)
        if (pthread_create(&worker[i], NULL, work, (void *)i) != 0) exit(2);
    heap_sample();
    pthread_barrier_wait(&barrier);
    heap_sample();
    pthread_barrier_wait(&barrier);
    heap_show_cache();
    heap_dump();
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < WORKERS; i++) pthread_join(worker[i], NULL);
}

/* `count` blocks in about `bytes`: mostly small, some large; a part is freed, in pieces of one or two neighbours and now and then thousands. */
static void big(size_t count, size_t bytes) {
    size_t mean = bytes / count;
    char **blocks = malloc(count * sizeof *blocks);
    if (blocks == NULL) exit(2);
    for (size_t i = 0; i < count; i++) {
        uint64_t random = next_random();
        size_t size = random % 64 == 0 ? random / 64 % (mean * 32) : random / 64 % (mean * 3 / 2);
        blocks[i] = malloc(size < 24 ? 24 : size);
        if (blocks[i] == NULL) exit(2);
        if (i % (count / 64 + 1) == 0 && count < 1000000) heap_sample();
    }
    for (size_t i = 0; i < count;) {
        uint64_t random = next_random();
        size_t live = 1 + random / 16 % 16, gone = random % 4096 == 0 ? random / 4096 % 20000 : 1 + random / 4096 % 2;
        for (i += live; gone != 0 && i < count; gone--) free(blocks[i++]);
    }
    heap_show_cache();
    heap_dump();
}

int main(int argc, char **argv) {
    if (heap_dump == NULL) {
        fputs("heaps: the dumper is not preloaded\n", stderr);
        return 2;
    }
    if (argc == 2 && strcmp(argv[1], "empty") == 0)
        heap_dump();
    else if (argc == 2 && strcmp(argv[1], "states") == 0)
        states();
    else if (argc == 2 && strcmp(argv[1], "threads") == 0)
        threads();
    else if (argc == 4 && strcmp(argv[1], "big") == 0)
        big(strtoul(argv[2], NULL, 10), strtoul(argv[3], NULL, 10));
    else {
        fputs("usage: heaps empty|states|threads|big BLOCKS BYTES\n", stderr);
        return 2;
    }
    return 0;
}
