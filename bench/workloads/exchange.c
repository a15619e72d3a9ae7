/* exchange.c: one thread allocates, another frees, through a bounded ring of batches; blocks of 16 to 400 bytes.
 * usage: exchange THOUSANDS
 * SPDX-License-Identifier: MIT */
#include <sched.h>

#include "workload.h"

enum { BATCH = 100, RING = 64 };

static unsigned char *ring[RING][BATCH];
static _Alignas(64) atomic_ulong head;
static _Alignas(64) atomic_ulong tail;
static unsigned long batches;
static uint64_t sum;

static void *consume(void *arg) {
    (void)arg;
    for (unsigned long at = 0; at < batches; at++) {
        while (at == atomic_load_explicit(&head, memory_order_acquire)) sched_yield();
        for (int i = 0; i < BATCH; i++) {
            unsigned char *b = ring[at % RING][i];
            sum += b[0];
            free(b);
        }
        atomic_store_explicit(&tail, at + 1, memory_order_release);
    }
    return NULL;
}

int main(int argc, char **argv) {
    batches = (unsigned long)argument(argc, argv, 1, 1000) * 1000 / BATCH;
    uint64_t state = rng_seed(4);
    pthread_t consumer = thread_start(consume, NULL);
    for (unsigned long at = 0; at < batches; at++) {
        while (at - atomic_load_explicit(&tail, memory_order_acquire) >= RING) sched_yield();
        for (int i = 0; i < BATCH; i++) {
            unsigned char *b = must(malloc(16 + rng_below(&state, 385)));
            b[0] = (unsigned char)i;
            ring[at % RING][i] = b;
        }
        atomic_store_explicit(&head, at + 1, memory_order_release);
    }
    pthread_join(consumer, NULL);
    return report("exchange", batches * BATCH, sum);
}
