/* idle.c: many threads, of which few work at a time: each in turn serves a burst of requests, as a thread per connection does, and then sleeps.
 * What a thread holds back while it sleeps is what the peak shows.
 * usage: idle THREADS BURSTS BLOCKS [QUIET]: BURSTS bursts in all, each of BLOCKS blocks of 16 bytes to 8 KiB, of which an eighth lives on to the
 * thread's next burst. As a memory workload, at the end the main thread works lightly for QUIET milliseconds, and the others sleep.
 * SPDX-License-Identifier: MIT */
#include <semaphore.h>

#include "memory.h"

enum { MOST = 256 };

struct worker {
    sem_t turn, done;
    long blocks;
    uint64_t sum;
    int stop;
};

static void *work(void *arg) {
    struct worker *worker = arg;
    uint64_t state = rng_seed((uint64_t)(uintptr_t)worker->sum);
    unsigned char **blocks = must(calloc((size_t)worker->blocks, sizeof *blocks));
    worker->sum = 0;
    for (;;) {
        sem_wait(&worker->turn);
        if (worker->stop) break;
        for (long i = 0; i < worker->blocks; i++) {
            if (blocks[i]) worker->sum += *blocks[i];
            free(blocks[i]);
            size_t size = rng_log_size(&state, 16, 8192);
            blocks[i] = memset(must(malloc(size)), (int)(i & 255), size);
        }
        for (long i = 0; i < worker->blocks; i++) {
            if (i % 8 == 0) continue;
            worker->sum += *blocks[i];
            free(blocks[i]);
            blocks[i] = NULL;
        }
        sem_post(&worker->done);
    }
    for (long i = 0; i < worker->blocks; i++) free(blocks[i]);
    free(blocks);
    return NULL;
}

int main(int argc, char **argv) {
    long threads = argument(argc, argv, 1, 100), bursts = argument(argc, argv, 2, 1000), blocks = argument(argc, argv, 3, 500);
    long quiet = argument(argc, argv, 4, 0);
    static struct worker workers[MOST];
    pthread_t thread[MOST];
    uint64_t state = rng_seed(9), sum = 0;
    if (threads < 1 || threads > MOST) return 2;
    for (long i = 0; i < threads; i++) {
        sem_init(&workers[i].turn, 0, 0);
        sem_init(&workers[i].done, 0, 0);
        workers[i].blocks = blocks;
        workers[i].sum = (uint64_t)i;
        thread[i] = thread_start(work, &workers[i]);
    }
    for (long i = 0; i < bursts; i++) {
        struct worker *worker = &workers[rng_below(&state, (uint32_t)threads)];
        sem_post(&worker->turn);
        sem_wait(&worker->done);
    }
    work_lightly(&state, quiet, &sum);
    look();
    for (long i = 0; i < threads; i++) {
        workers[i].stop = 1;
        sem_post(&workers[i].turn);
        pthread_join(thread[i], NULL);
        sum += workers[i].sum;
    }
    return report("idle", (uint64_t)(bursts * blocks), sum);
}
