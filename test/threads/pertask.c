/* pertask.c: a thread per task: thousands of short threads, of which each leaves its result to the one that joins it.
 *
 * usage: pertask [TASKS [AT_ONCE]]. Caches and arenas of ended threads have to serve the next ones: heap, books and resident memory at the end are those
 * after the first tenth.
 * SPDX-License-Identifier: MIT */
#include "work.h"

#define MAIN_CACHE (1 << 20) /* the main thread frees what tasks leave: its cache may fill up to its bound, once */

enum { AT_ONCE = 64 };

static pthread_barrier_t together; /* the first tasks live at once, so that none later needs more */
static int first;

static void *run(void *arg) {
    uint64_t state = ((uint64_t)(uintptr_t)arg + 1) * 0x9E3779B97F4A7C15u;
    struct block *blocks[60];
    for (int i = 0; i < 60; i++) blocks[i] = block_new(work_size(&state, 12), work_random(&state));
    if ((int)(intptr_t)arg < first) pthread_barrier_wait(&together);
    for (int i = 1; i < 60; i++) block_free(blocks[i]);
    return blocks[0];
}

int main(int argc, char **argv) {
    int tasks = argc > 1 ? atoi(argv[1]) : 10000, at_once = argc > 2 ? atoi(argv[2]) : 8;
    static pthread_t threads[AT_ONCE];
    if (tasks < 100 || at_once < 1 || at_once > AT_ONCE) return 2;
    int ours = probe_report(2);
    first = at_once;
    if (pthread_barrier_init(&together, NULL, (unsigned)at_once)) return 2;
    struct seemalloc_stats warm = {0}, end = {0};
    size_t warm_resident = 0;
    for (int i = 0; i < tasks + at_once; i++) {
        void *result;
        if (i >= at_once) {
            pthread_join(threads[i % at_once], &result);
            block_free(result);
        }
        if (i < tasks) threads[i % at_once] = work_thread(run, (void *)(intptr_t)i);
        if (i == tasks / 10) {
            warm_resident = resident_bytes();
            probe_stats(&warm);
        }
    }
    size_t resident = resident_bytes();
    probe_stats(&end);
    printf("%d tasks: resident %.2f -> %.2f MiB, heap %.2f -> %.2f MiB, books %.2f -> %.2f MiB, arenas %u -> %u, caches %u -> %u\n", tasks,
           MIB(warm_resident), MIB(resident), MIB(warm.heap_bytes), MIB(end.heap_bytes), MIB(warm.metadata_bytes), MIB(end.metadata_bytes),
           warm.arenas, end.arenas, warm.threads, end.threads);
    work_check(atomic_load(&live_bytes) == 0, "%zu bytes were not freed", atomic_load(&live_bytes));
#ifndef __SANITIZE_ADDRESS__ /* its own memory grows with every thread */
    work_check(resident <= warm_resident + warm_resident / 5 + (2 << 20), "resident memory grew with the number of tasks");
#endif
    if (!ours) return 0;
    work_check(end.heap_bytes <= warm.heap_bytes + warm.heap_bytes / 5 + (512 << 10) + MAIN_CACHE,
               "the heap grew with the number of tasks");
    work_check(end.metadata_bytes <= warm.metadata_bytes + warm.metadata_bytes / 5 + (64 << 10), "our books grew with the number of tasks");
    work_check(end.threads == 1, "%u caches count as live, one thread is", end.threads);
    return 0;
}
