/* thousand.c: a thousand threads, started and joined; each allocates 1 MiB in mixed sizes, frees half and leaves half to another thread.
 *
 * usage: thousand [THREADS [AT_ONCE]]. The halves go through a box: a thread puts its half in and takes out and frees what another one left there. What nobody
 * took is freed at the end by the main thread. Heap at most 1.3 times the live peak.
 * SPDX-License-Identifier: MIT */
#include "work.h"

enum { GOAL = 1 << 20, MOST_BLOCKS = 4096, BOX = 64 };

struct half {
    int count;
    struct block *blocks[];
};

static _Atomic(struct half *) box[BOX];
static atomic_int given, taken;

static void half_free(struct half *half) {
    for (int i = 0; i < half->count; i++) block_free(half->blocks[i]);
    atomic_fetch_sub(&live_bytes, sizeof *half + (size_t)half->count * sizeof *half->blocks);
    free(half);
}

static void *run(void *arg) {
    uint64_t state = ((uint64_t)(uintptr_t)arg + 1) * 0x9E3779B97F4A7C15u;
    struct block *blocks[MOST_BLOCKS];
    int count = 0;
    for (size_t sum = 0; sum < GOAL && count < MOST_BLOCKS; count++) {
        blocks[count] = block_new(work_size(&state, 15), work_random(&state));
        sum += blocks[count]->size;
    }
    for (int i = count - 1; i > 0; i--) {
        int k = (int)(work_random(&state) % (unsigned)(i + 1));
        struct block *b = blocks[i];
        blocks[i] = blocks[k];
        blocks[k] = b;
    }
    int rest = count / 2;
    size_t size = sizeof(struct half) + (size_t)rest * sizeof *blocks;
    struct half *half = malloc(size);
    if (!half) work_fail("malloc");
    live_add(size);
    half->count = rest;
    memcpy(half->blocks, blocks, (size_t)rest * sizeof *blocks);
    struct half *old = atomic_exchange(&box[work_random(&state) % BOX], half);
    atomic_fetch_add(&given, 1);
    for (int i = rest; i < count; i++) block_free(blocks[i]);
    if (old) {
        half_free(old);
        atomic_fetch_add(&taken, 1);
    }
    return NULL;
}

int main(int argc, char **argv) {
    int wanted = argc > 1 ? atoi(argv[1]) : 1000, at_once = argc > 2 ? atoi(argv[2]) : 50;
    enum { MOST = 1000 };
    static pthread_t threads[MOST];
    if (at_once < 1 || at_once > MOST) return 2;
    probe_report(2);
    size_t before = resident_bytes();
    for (int i = 0; i < wanted; i++) {
        if (i >= at_once) pthread_join(threads[i % at_once], NULL);
        threads[i % at_once] = work_thread(run, (void *)(intptr_t)i);
    }
    for (int i = wanted < at_once ? 0 : wanted - at_once; i < wanted; i++) pthread_join(threads[i % at_once], NULL);
    for (int i = 0; i < BOX; i++) {
        struct half *half = atomic_exchange(&box[i], NULL);
        if (half) half_free(half);
    }
    printf("%d threads, %d at once; %d halves given, %d taken by another thread\n", wanted, at_once, given, taken);
    work_check(atomic_load(&live_bytes) == 0, "%zu bytes were not freed", atomic_load(&live_bytes));
    work_judge("thousand threads", 1.3, before, (size_t)at_once * 96 * 1024);
    return 0;
}
