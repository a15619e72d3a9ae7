/* sharing.c: false sharing that an allocator causes (active) or keeps up (passive), after Hoard's active-false and passive-false: every thread
 * writes often to small blocks of its own, and is slowed down if another thread's block lies in the same cache line.
 * usage: sharing active|passive ROUNDS THREADS WRITES: each round a thread takes a block of 8 bytes, writes it WRITES times and frees it;
 * passive: its first block came from the main thread, which allocated those of all threads side by side.
 * SPDX-License-Identifier: MIT */
#include "workload.h"

enum { MOST = 64 };

static long rounds, writes;

static void *run(void *first) {
    uint64_t sum = 0;
    volatile unsigned char *block = first;
    for (long round = 0; round < rounds; round++) {
        if (!block) block = must(malloc(8));
        for (long i = 0; i < writes; i++) block[i & 7] = (unsigned char)(block[i & 7] + i);
        sum += block[0] & 1;
        free((void *)(uintptr_t)block);
        block = NULL;
    }
    return (void *)(uintptr_t)(sum == (uint64_t)-1);
}

int main(int argc, char **argv) {
    int passive = argc > 1 && strcmp(argv[1], "passive") == 0;
    rounds = argument(argc, argv, 2, 10000);
    long threads = argument(argc, argv, 3, 2);
    writes = argument(argc, argv, 4, 1000);
    pthread_t thread[MOST];
    void *block[MOST] = {0};
    if (threads < 1 || threads > MOST) return 2;
    for (long i = 0; passive && i < threads; i++) block[i] = must(calloc(1, 8));
    for (long i = 0; i < threads; i++) thread[i] = thread_start(run, block[i]);
    uint64_t sum = 0;
    for (long i = 0; i < threads; i++) {
        void *result;
        pthread_join(thread[i], &result);
        sum += (uintptr_t)result;
    }
    return report(passive ? "passive sharing" : "active sharing", (uint64_t)(rounds * threads), sum);
}
