/* tail.c: how long single calls take. Two threads, each of which replaces random blocks of its own set of 5000, of 10 to 1000 bytes, as a server in the manner
 * of Larson and Krishnan does; every 16th replaced block goes to the other thread through a ring and is freed there. Each malloc and each free is timed.
 * Percentiles and maximum of both go in words to standard error and, as JSON, to the file that BENCH_FIGURES names, in nanoseconds. They contain the reading of
 * the clock, whose own median and step are given too, and whatever else the machine did during a call.
 * usage: tail THOUSANDS (of replacements in each thread)
 * SPDX-License-Identifier: MIT */
#include <sched.h>
#include <time.h>

#include "workload.h"

enum { THREADS = 2, SLOTS = 5000, LEAST = 10, MOST = 1000, EACH = 16, RING = 256 };

/* Counts of durations in ticks, in 16 buckets per doubling; below 16 each has its own. */
enum { STEPS_LOG2 = 4, STEPS = 1 << STEPS_LOG2, BUCKETS = (64 - STEPS_LOG2 + 1) * STEPS };

struct histogram {
    uint64_t most, counts[BUCKETS];
};

/* One thread's part. The ring holds what the other thread has yet to free. */
struct worker {
    struct histogram mallocs, frees;
    unsigned char *blocks[SLOTS];
    uint64_t state, sum, taken;
    struct worker *other;
    unsigned char *ring[RING];
    _Alignas(64) atomic_ulong put;
    _Alignas(64) atomic_ulong got;
};

static struct worker workers[THREADS];
static double step; /* of the clock, in ticks */
static uint64_t replacements;
static pthread_barrier_t filled;

static uint64_t wall_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The fence lets what came before end first: a miss in the cache belongs to the call that had it. */
static inline uint64_t ticks(void) {
#if defined __x86_64__
    __builtin_ia32_lfence();
    return __builtin_ia32_rdtsc();
#else
    return wall_ns();
#endif
}

static inline void count(struct histogram *h, uint64_t start, uint64_t end) {
    uint64_t t = end > start ? end - start : 0; /* the processors' counters may differ a little */
    if (t > h->most) h->most = t;
    if (t < STEPS) {
        h->counts[t]++;
        return;
    }
    unsigned shift = 63 - (unsigned)__builtin_clzll(t) - STEPS_LOG2;
    h->counts[(shift + 1) * STEPS + (unsigned)(t >> shift) - STEPS]++;
}

/* In how large steps the clock goes, which may be many ticks: the least difference between what loops of several lengths take, but for rounding. */
static double clock_step(void) {
    enum { TRIES = 256 };
    uint64_t taken[TRIES], least = UINT64_MAX;
    for (unsigned i = 0; i < TRIES; i++) {
        uint64_t start = ticks();
        for (volatile unsigned k = 0; k < i % 64; k++) continue;
        uint64_t t = ticks() - start;
        unsigned at = i;
        for (; at && taken[at - 1] > t; at--) taken[at] = taken[at - 1];
        taken[at] = t;
    }
    for (unsigned i = 1; i < TRIES; i++) {
        uint64_t gap = taken[i] - taken[i - 1];
        if (gap > 2 && gap < least) least = gap;
    }
    return least == UINT64_MAX ? 1 : (double)least;
}

/* Within a bucket, or a step of the clock if that is larger, durations are taken to lie evenly. */
static double percentile(const struct histogram *h, double percent) {
    uint64_t all = 0, before = 0;
    for (unsigned i = 0; i < BUCKETS; i++) all += h->counts[i];
    double wanted = (double)all * percent / 100;
    for (unsigned i = 0; i < BUCKETS; before += h->counts[i++]) {
        if (!h->counts[i] || (double)(before + h->counts[i]) < wanted) continue;
        double width = i < STEPS ? 1 : (double)((uint64_t)1 << (i / STEPS - 1));
        double middle = (i < STEPS ? i : i % STEPS + STEPS) * width + (width - 1) / 2;
        double found = middle + (width > step ? width : step) * ((wanted - (double)before) / (double)h->counts[i] - 0.5);
        return found < 0 ? 0 : found < (double)h->most ? found : (double)h->most;
    }
    return 0;
}

static void add(struct histogram *to, const struct histogram *from) {
    if (from->most > to->most) to->most = from->most;
    for (unsigned i = 0; i < BUCKETS; i++) to->counts[i] += from->counts[i];
}

static unsigned char *make(struct worker *w) {
    size_t size = LEAST + rng_below(&w->state, MOST - LEAST + 1);
    uint64_t start = ticks();
    unsigned char *b = malloc(size);
    uint64_t end = ticks();
    count(&w->mallocs, start, end);
    return memset(must(b), (int)(size & 255), size < 64 ? size : 64);
}

static void drop(struct worker *w, unsigned char *b) {
    w->sum += *b;
    uint64_t start = ticks();
    free(b);
    uint64_t end = ticks();
    count(&w->frees, start, end);
}

/* Frees what the other thread handed over so far. */
static void take(struct worker *w) {
    struct worker *from = w->other;
    for (unsigned long put = atomic_load_explicit(&from->put, memory_order_acquire); w->taken < put; w->taken++) {
        drop(w, from->ring[w->taken % RING]);
        atomic_store_explicit(&from->got, w->taken + 1, memory_order_release);
    }
}

/* Hands a block to the other thread; while the ring is full, does its own part, lest both wait. */
static void give(struct worker *w, unsigned char *b) {
    unsigned long at = atomic_load_explicit(&w->put, memory_order_relaxed);
    take(w);
    while (at - atomic_load_explicit(&w->got, memory_order_acquire) >= RING) {
        sched_yield();
        take(w);
    }
    w->ring[at % RING] = b;
    atomic_store_explicit(&w->put, at + 1, memory_order_release);
}

static void *work(void *arg) {
    struct worker *w = arg;
    for (int i = 0; i < SLOTS; i++) w->blocks[i] = make(w);
    memset(&w->mallocs, 0, sizeof w->mallocs); /* also touches them */
    memset(&w->frees, 0, sizeof w->frees);
    pthread_barrier_wait(&filled);
    for (uint64_t i = 1; i <= replacements; i++) {
        unsigned char **slot = &w->blocks[rng_below(&w->state, SLOTS)];
        if (i % EACH == 0)
            give(w, *slot);
        else
            drop(w, *slot);
        *slot = make(w);
    }
    while (w->taken < replacements / EACH) {
        sched_yield();
        take(w);
    }
    return NULL;
}

int main(int argc, char **argv) {
    static struct histogram clock, mallocs, frees;
    static const struct {
        const char *name;
        double percent;
    } percentiles[] = {{"p50", 50}, {"p99", 99}, {"p99.9", 99.9}, {"p99.99", 99.99}};
    const struct {
        const char *name;
        const struct histogram *histogram;
    } calls[] = {{"malloc", &mallocs}, {"free", &frees}};
    pthread_t threads[THREADS];
    replacements = (uint64_t)argument(argc, argv, 1, 500) * 1000;
    pthread_barrier_init(&filled, NULL, THREADS);
    step = clock_step();
    uint64_t wall = wall_ns(), tick = ticks(), sum = 0;
    for (int i = 0; i < 1000; i++) {
        uint64_t start = ticks(), end = ticks();
        count(&clock, start, end);
    }
    for (int i = 0; i < THREADS; i++) {
        workers[i].state = rng_seed((uint64_t)i + 12);
        workers[i].other = &workers[(i + 1) % THREADS];
        threads[i] = thread_start(work, &workers[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        add(&mallocs, &workers[i].mallocs);
        add(&frees, &workers[i].frees);
        sum += workers[i].sum;
    }
    tick = ticks() - tick;
    wall = wall_ns() - wall;
    double ns = tick ? (double)wall / (double)tick : 0; /* of a tick */
    for (int i = 0; i < THREADS; i++)
        for (int k = 0; k < SLOTS; k++) free(workers[i].blocks[k]);

    const char *name = getenv("BENCH_FIGURES");
    FILE *figures = name ? fopen(name, "w") : NULL;
    if (name && !figures) {
        perror(name);
        return 1;
    }
    if (figures) fprintf(figures, "{\"clock_ns\": %.1f, \"clock_step_ns\": %.1f", percentile(&clock, 50) * ns, step * ns);
    fprintf(stderr, "ns, of which %.0f the clock's, which goes in steps of %.1f:\n", percentile(&clock, 50) * ns, step * ns);
    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++) {
        fprintf(stderr, "%s:", calls[c].name);
        for (size_t p = 0; p < sizeof percentiles / sizeof *percentiles; p++) {
            double found = percentile(calls[c].histogram, percentiles[p].percent) * ns;
            fprintf(stderr, " %s %.0f,", percentiles[p].name, found);
            if (figures) fprintf(figures, ", \"%s_%s_ns\": %.1f", calls[c].name, percentiles[p].name, found);
        }
        fprintf(stderr, " max %.0f\n", (double)calls[c].histogram->most * ns);
        if (figures) fprintf(figures, ", \"%s_max_ns\": %.1f", calls[c].name, (double)calls[c].histogram->most * ns);
    }
    if (figures) {
        fprintf(figures, "}\n");
        if (fclose(figures)) return 1;
    }
    return report("tail", THREADS * replacements, sum);
}
