/* sessions.c: sessions of 20 to 180 objects (16 bytes to 16 KiB, small ones more often) come and go in a sliding window, two threads with a window each. Every
 * hundredth of a second four sessions begin in each, and as many end, mostly the oldest, that the window has its size: that rises from an eighth of MOST
 * sessions to MOST and falls again, WAVES times within TICKS hundredths. Then the window stays as it is, and the threads work lightly for QUIET milliseconds.
 * usage: sessions TICKS WAVES MOST QUIET
 * SPDX-License-Identifier: MIT */
#include "memory.h"

enum { THREADS = 2, BEGIN = 4, LEAST = 20, OBJECTS = 161 };

struct session {
    unsigned count;
    unsigned char *objects[];
};

struct worker {
    pthread_t thread;
    uint64_t state, operations, sum;
    struct session **window; /* a ring: the oldest at `first` */
    size_t room, first, count;
};

static long ticks, waves, most, quiet;
static pthread_barrier_t barrier;

static void begin(struct worker *worker) {
    unsigned count = LEAST + rng_below(&worker->state, OBJECTS);
    struct session *session = must(malloc(sizeof *session + count * sizeof session->objects[0]));
    session->count = count;
    for (unsigned i = 0; i < count; i++) {
        size_t size = rng_log_size(&worker->state, 16, 16 << 10);
        session->objects[i] = memset(must(malloc(size)), (int)(i & 255), size);
    }
    worker->window[(worker->first + worker->count++) % worker->room] = session;
    worker->operations += count;
}

static void end(struct worker *worker) {
    size_t at = worker->first;
    if (rng_below(&worker->state, 4) == 0) at = (at + rng_below(&worker->state, (uint32_t)worker->count)) % worker->room;
    struct session *session = worker->window[at];
    worker->window[at] = worker->window[worker->first];
    worker->first = (worker->first + 1) % worker->room;
    worker->count--;
    for (unsigned i = 0; i < session->count; i++) {
        worker->sum += *session->objects[i];
        free(session->objects[i]);
    }
    free(session);
}

/* Sessions that the window has at a moment. */
static size_t level(long tick) {
    long low = most / 8, half = ticks / waves / 2, at = tick % (2 * half);
    return (size_t)(low + (most - low) * (at < half ? at : 2 * half - at) / half);
}

static void *run(void *arg) {
    struct worker *worker = arg;
    struct timespec next = pace_start();
    worker->room = (size_t)most + BEGIN;
    worker->window = must(calloc(worker->room, sizeof *worker->window));
    for (long tick = 0; tick < ticks; tick++) {
        for (unsigned i = 0; i < BEGIN; i++) begin(worker);
        while (worker->count > level(tick)) end(worker);
        pace_wait(&next, 10000000);
    }
    work_lightly(&worker->state, quiet, &worker->sum);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier); /* the main thread has looked */
    while (worker->count) end(worker);
    free(worker->window);
    return NULL;
}

int main(int argc, char **argv) {
    static struct worker workers[THREADS];
    uint64_t operations = 0, sum = 0;
    ticks = argument(argc, argv, 1, 6000);
    waves = argument(argc, argv, 2, 6);
    most = argument(argc, argv, 3, 200);
    quiet = argument(argc, argv, 4, 2000);
    if (waves < 1 || ticks < 2 * waves || most < 8) return 2;
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i].state = rng_seed(30 + i);
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
    return report("sessions", operations, sum);
}
