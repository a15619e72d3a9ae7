/* tasks.c: a thread per task: each allocates some hundred blocks, frees most, and leaves one to the thread that joins it.
 * usage: tasks COUNT AT_ONCE
 * SPDX-License-Identifier: MIT */
#include "workload.h"

enum { BLOCKS = 300, MOST = 64 };

static void *task(void *arg) {
    uint64_t state = rng_seed((uint64_t)(uintptr_t)arg);
    unsigned char *blocks[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        size_t size = rng_log_size(&state, 16, 2048);
        blocks[i] = must(malloc(size));
        memset(blocks[i], i, size < 64 ? size : 64);
    }
    for (int i = 1; i < BLOCKS; i++) free(blocks[i]);
    blocks[0][0] = (unsigned char)(uintptr_t)arg;
    return blocks[0];
}

int main(int argc, char **argv) {
    long count = argument(argc, argv, 1, 5000), at_once = argument(argc, argv, 2, 4);
    pthread_t threads[MOST];
    uint64_t sum = 0;
    if (at_once < 1 || at_once > MOST || count < at_once) return 2;
    for (long i = 0; i < count + at_once; i++) {
        if (i >= at_once) {
            void *left;
            pthread_join(threads[i % at_once], &left);
            sum += *(unsigned char *)left;
            free(left);
        }
        if (i < count) threads[i % at_once] = thread_start(task, (void *)(uintptr_t)i);
    }
    return report("tasks", (uint64_t)count * BLOCKS, sum);
}
