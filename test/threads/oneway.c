/* oneway.c: one thread allocates, another only frees.
 *
 * usage: oneway stream|idle|exited [ROUNDS]
 *   stream: the producer goes on allocating while the consumer frees what comes through a bounded queue;
 *   idle:   in each round a new producer makes 4 MiB, then sleeps until the end; the consumer frees it all meanwhile;
 *   exited: the same, but the producer has ended before the first of its blocks is freed.
 * What was freed has to be found again: the heap stays near what is live at once, however much goes through.
 * SPDX-License-Identifier: MIT */
#include "work.h"

enum { QUEUE = 4096, BATCH = 4 << 20, MOST_BLOCKS = 32768, MOST_ROUNDS = 400 };

static struct block *queue[QUEUE];
static atomic_size_t head, tail;
static atomic_int stop, ended;
static unsigned long passed;

static void *stream_consume(void *arg) {
    (void)arg;
    for (;;) {
        size_t at = atomic_load_explicit(&tail, memory_order_relaxed);
        if (at == atomic_load_explicit(&head, memory_order_acquire)) {
            if (atomic_load(&ended) && at == atomic_load(&head)) return NULL;
            sched_yield();
            continue;
        }
        struct block *b = queue[at % QUEUE];
        atomic_store_explicit(&tail, at + 1, memory_order_release);
        block_free(b);
    }
}

static void stream(int rounds) {
    pthread_t consumer = work_thread(stream_consume, NULL);
    uint64_t state = 99;
    for (int r = 0; r < rounds * 5000; r++) {
        size_t at = atomic_load_explicit(&head, memory_order_relaxed);
        while (at - atomic_load_explicit(&tail, memory_order_acquire) >= QUEUE) sched_yield();
        queue[at % QUEUE] = block_new(work_size(&state, 13), (unsigned)r);
        atomic_store_explicit(&head, at + 1, memory_order_release);
        passed++;
    }
    atomic_store(&ended, 1);
    pthread_join(consumer, NULL);
}

struct batch {
    int round, count;
    atomic_int ready;
    int idle;
    struct block *blocks[MOST_BLOCKS];
};

static void *batch_produce(void *arg) {
    struct batch *batch = arg;
    uint64_t state = (uint64_t)(batch->round + 1) * 0x9E3779B97F4A7C15u;
    int idle = batch->idle;
    size_t sum = 0;
    batch->count = 0;
    while (sum < BATCH && batch->count < MOST_BLOCKS) {
        struct block *b = block_new(work_size(&state, 13), work_random(&state));
        sum += b->size;
        batch->blocks[batch->count++] = b;
    }
    atomic_store(&batch->ready, 1);
    while (idle && !atomic_load(&stop)) work_pause(5000000);
    return NULL;
}

static void batches(int rounds, int idle) {
    static struct batch batch;
    static pthread_t threads[MOST_ROUNDS];
    for (int r = 0; r < rounds; r++) {
        batch.round = r;
        batch.idle = idle;
        atomic_store(&batch.ready, 0);
        threads[r] = work_thread(batch_produce, &batch);
        if (!idle) pthread_join(threads[r], NULL);
        while (!atomic_load(&batch.ready)) sched_yield();
        for (int i = 0; i < batch.count; i++) block_free(batch.blocks[r % 2 ? i : batch.count - 1 - i]);
        passed += (unsigned long)batch.count;
    }
    atomic_store(&stop, 1);
    for (int r = 0; idle && r < rounds; r++) pthread_join(threads[r], NULL);
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    int rounds = argc > 2 ? atoi(argv[2]) : 100;
    if (rounds < 1 || rounds > MOST_ROUNDS) return 2;
    probe_report(2);
    size_t before = resident_bytes();
    if (!strcmp(mode, "stream"))
        stream(rounds);
    else if (!strcmp(mode, "idle"))
        batches(rounds, 1);
    else if (!strcmp(mode, "exited"))
        batches(rounds, 0);
    else
        return 2;
    printf("%lu blocks passed\n", passed);
    work_check(atomic_load(&live_bytes) == 0, "%zu bytes were not freed", atomic_load(&live_bytes));
    /* Beside what is live: 256 KiB in the inbox of each arena, 64 KiB in the cache of each idle producer, 1 MiB in that of a thread at work. */
    struct seemalloc_stats stats;
    size_t share = probe_stats(&stats)
                       ? (size_t)stats.arenas * (256 << 10) + (!strcmp(mode, "idle") ? (size_t)rounds * (64 << 10) : 0) + (1 << 20)
                       : 0;
    double live = (double)atomic_load(&live_peak);
    work_judge(mode, 1.3 + (double)share / live, before, (size_t)rounds * 16 * 1024 + (1 << 20));
    return 0;
}
