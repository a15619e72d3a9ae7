/* backlog.c: a producer and a consumer that falls behind: in each of WAVES the producer sends THOUSANDS thousand messages of 64 bytes to 4 KiB, now and then
 * one of 64 KiB. Of those the consumer frees one for every two that come, and the rest when all are there. At the end the consumer waits for more, and the
 * producer works lightly for QUIET milliseconds.
 * usage: backlog THOUSANDS WAVES QUIET
 * SPDX-License-Identifier: MIT */
#include <semaphore.h>

#include "memory.h"

enum { BATCH = 100, SLACK = 8 };

static unsigned char **messages; /* of one wave */
static size_t batches;           /* likewise */
static long waves;
static sem_t sent, consumed, leave; /* batches, batches, and once */
static uint64_t sum;

static void *consume(void *arg) {
    (void)arg;
    for (long wave = 0; wave < waves; wave++) {
        size_t seen = 0;
        for (size_t at = 0; at < batches; at++) {
            size_t wanted = 2 * at + 2 < batches ? 2 * at + 2 : batches;
            for (; seen < wanted; seen++) sem_wait(&sent);
            for (size_t i = at * BATCH; i < (at + 1) * BATCH; i++) {
                sum += *messages[i];
                free(messages[i]);
            }
            sem_post(&consumed);
        }
    }
    sem_wait(&leave);
    return NULL;
}

static void produce(uint64_t *state) {
    for (long wave = 0; wave < waves; wave++) {
        size_t done = 0;
        for (size_t at = 0; at < batches; at++) {
            for (; done + SLACK < at / 2; done++) sem_wait(&consumed); /* one for two, on every machine */
            for (size_t i = at * BATCH; i < (at + 1) * BATCH; i++) {
                size_t size = rng_below(state, 500) == 0 ? 64 << 10 : rng_log_size(state, 64, 4096);
                messages[i] = memset(must(malloc(size)), (int)(i & 255), size);
            }
            sem_post(&sent);
        }
        for (; done < batches; done++) sem_wait(&consumed);
    }
}

int main(int argc, char **argv) {
    batches = (size_t)argument(argc, argv, 1, 100) * 1000 / BATCH;
    waves = argument(argc, argv, 2, 10);
    long quiet = argument(argc, argv, 3, 2000);
    uint64_t state = rng_seed(40), light = 0;
    messages = must(calloc(batches * BATCH, sizeof *messages));
    sem_init(&sent, 0, 0);
    sem_init(&consumed, 0, 0);
    sem_init(&leave, 0, 0);
    pthread_t consumer = thread_start(consume, NULL);
    produce(&state);
    work_lightly(&state, quiet, &light);
    look();
    sem_post(&leave);
    pthread_join(consumer, NULL);
    free(messages);
    return report("backlog", (uint64_t)waves * batches * BATCH, sum + light);
}
