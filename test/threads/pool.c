/* pool.c: 64 threads hand blocks around for some seconds.
 *
 * usage: pool [SECONDS [THREADS [x]]] (x: says where the bytes are while the threads still work). A block is made by one thread, goes into a slot of a common table, and is taken out and freed by whichever thread makes
 * the next block for that slot; besides, each thread keeps a ring of its own and passes part of it on. The live set keeps its size, its blocks change
 * owners all the time. Heap at most 1.3 times the live peak, however long it runs.
 * SPDX-License-Identifier: MIT */
#include "work.h"

enum { SLOTS = 24000, RING = 64, MOST_THREADS = 256 };

static _Atomic(struct block *) table[SLOTS];
static atomic_int stop;
static atomic_ulong operations, foreign;

static void *run(void *arg) {
    unsigned self = (unsigned)(uintptr_t)arg;
    uint64_t state = (self + 1) * 0x9E3779B97F4A7C15u;
    struct block *ring[RING] = {0};
    unsigned long count = 0, others = 0;
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        for (int i = 0; i < 100; i++, count++) {
            unsigned at = work_random(&state) % RING;
            if (ring[at] && work_random(&state) % 4 == 0) {
                block_free(ring[at]);
                ring[at] = NULL;
            }
            struct block *made = ring[at] ? ring[at] : block_new(work_size(&state, 14), self);
            struct block *old = atomic_exchange(&table[work_random(&state) % SLOTS], made);
            ring[at] = NULL;
            if (!old) continue;
            others += old->mark != (self & 255);
            if (work_random(&state) % 8 == 0)
                ring[at] = old; /* goes on to a third thread, or is freed later */
            else
                block_free(old);
        }
    }
    for (int i = 0; i < RING; i++)
        if (ring[i]) block_free(ring[i]);
    atomic_fetch_add(&operations, count);
    atomic_fetch_add(&foreign, others);
    return NULL;
}

int main(int argc, char **argv) {
    double seconds = argc > 1 ? atof(argv[1]) : 10;
    int wanted = argc > 2 ? atoi(argv[2]) : 64;
    static pthread_t threads[MOST_THREADS];
    if (wanted < 1 || wanted > MOST_THREADS) return 2;
    probe_report(2);
    size_t before = resident_bytes();
    for (int i = 0; i < wanted; i++) threads[i] = work_thread(run, (void *)(intptr_t)i);
    for (double end = work_seconds() + seconds; work_seconds() < end;) work_pause(20000000);
    if (argc > 3) work_states("at work"); /* the walk holds up one arena after the other, and so raises the peak itself */
    atomic_store(&stop, 1);
    for (int i = 0; i < wanted; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < SLOTS; i++) {
        struct block *b = atomic_exchange(&table[i], NULL);
        if (b) block_free(b);
    }
    printf("%d threads, %.0f s: %lu operations, %lu blocks came from another thread\n", wanted, seconds, operations, foreign);
    work_check(foreign > 0 || wanted == 1, "nothing was handed over");
    work_check(atomic_load(&live_bytes) == 0, "%zu bytes were not freed", atomic_load(&live_bytes));
    if (argc > 3) work_states("all freed");
    work_judge("pool", 1.3, before, (size_t)wanted * 64 * 1024);
    return 0;
}
