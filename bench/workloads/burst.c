/* burst.c: a burst, and then little to do: four threads that stay alive allocate MIB together (16 bytes to 256 KiB, each doubling as frequent as the next),
 * free 95 % of it in random order, and work lightly for QUIET milliseconds.
 * usage: burst MIB QUIET
 * SPDX-License-Identifier: MIT */
#include "memory.h"

enum { THREADS = 4, KEPT = 20 };

struct worker {
    pthread_t thread;
    uint64_t seed, operations, sum;
};

static size_t bytes;
static long quiet;
static pthread_barrier_t barrier;

static void *run(void *arg) {
    struct worker *worker = arg;
    uint64_t state = rng_seed(worker->seed);
    size_t room = bytes / 4096, count = 0;
    void **blocks = must(malloc(room * sizeof *blocks));
    for (size_t total = 0; total < bytes && count < room; count++) {
        size_t size = rng_log_size(&state, 16, 256 << 10);
        blocks[count] = memset(must(malloc(size)), (int)(count & 255), size);
        total += size;
    }
    rng_shuffle(&state, blocks, count);
    for (size_t i = 0; i < count; i++) {
        worker->sum += *(unsigned char *)blocks[i];
        if (i >= count / KEPT) free(blocks[i]);
    }
    worker->operations = count;
    work_lightly(&state, quiet, &worker->sum);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); /* the main thread has looked */
    for (size_t i = 0; i < count / KEPT; i++) free(blocks[i]);
    free(blocks);
    return NULL;
}

int main(int argc, char **argv) {
    static struct worker workers[THREADS];
    uint64_t operations = 0, sum = 0;
    bytes = ((size_t)argument(argc, argv, 1, 256) << 20) / THREADS;
    quiet = argument(argc, argv, 2, 2000);
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].seed = 20 + i;
        workers[i].thread = thread_start(run, &workers[i]);
    }
    pthread_barrier_wait(&barrier);
    look();
    pthread_barrier_wait(&barrier);
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        operations += workers[i].operations;
        sum += workers[i].sum;
    }
    return report("burst", operations, sum);
}
