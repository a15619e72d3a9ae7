/* subject.c: a program for the tests of `stats` and `pins`: brings its heap into a known shape, says what it is, and waits.
 * Nothing is allocated after it has looked at itself. Built with -DSTATIC it is linked with the archive. SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "seemalloc.h"

static void say(const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (write(1, text, (size_t)length) != length) _exit(1);
}

static void look(void) {
    struct seemalloc_stats stats;
#ifdef STATIC
    int (*get)(struct seemalloc_stats *) = seemalloc_get_stats;
    const char *(*name)(enum seemalloc_state) = seemalloc_state_name;
    const char *(*call_name)(enum seemalloc_call) = seemalloc_call_name;
#else
    int (*get)(struct seemalloc_stats *) = (int (*)(struct seemalloc_stats *))dlsym(RTLD_DEFAULT, "seemalloc_get_stats");
    const char *(*name)(enum seemalloc_state) = (const char *(*)(enum seemalloc_state))dlsym(RTLD_DEFAULT, "seemalloc_state_name");
    const char *(*call_name)(enum seemalloc_call) = (const char *(*)(enum seemalloc_call))dlsym(RTLD_DEFAULT, "seemalloc_call_name");
#endif
    if (get == NULL || get(&stats) != 0) _exit(1);
    say("{\"heap_bytes\": %zu, \"mapped_bytes\": %zu, \"metadata_bytes\": %zu, \"retained_bytes\": %zu, \"threads\": %u, \"failures\": "
        "%lu, "
        "\"states\": {",
        stats.heap_bytes, stats.mapped_bytes, stats.metadata_bytes, stats.retained_bytes, stats.threads, (unsigned long)stats.failures);
    for (unsigned i = 0; i < SEEMALLOC_STATE_COUNT; i++) {
        say("%s\"%s\": [%zu, %zu]", i != 0 ? ", " : "", name(i), stats.bytes[i], stats.count[i]);
    }
    say("}, \"calls\": {");
    for (unsigned i = 0; i < SEEMALLOC_CALL_COUNT; i++)
        say("%s\"%s\": %lu", i != 0 ? ", " : "", call_name(i), (unsigned long)stats.calls[i]);
    say("}}\n");
}

static uint64_t next(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

/* --- mixed: threads that give each other blocks of all sizes, and then stand still ------------------------------------------------------------- */

enum { THREADS = 4, BLOCKS = 2000, ROUNDS = 40000, MARK = 64 };

static void *shared[BLOCKS];
static pthread_barrier_t done;

static unsigned most_bits = 14;

static size_t any_size(uint64_t *random) {
    size_t size = (size_t)16 << next(random) % most_bits;
    return size + next(random) % size;
}

static void step(uint64_t *random) {
    size_t size = any_size(random);
    char *mem = malloc(size);
    memset(mem, 1, size < MARK ? size : MARK);
    free(__atomic_exchange_n(&shared[next(random) % BLOCKS], mem, __ATOMIC_ACQ_REL));
}

static void *play(void *seed) {
    uint64_t random = (uintptr_t)seed;
    for (unsigned i = 0; i < ROUNDS; i++) step(&random);
    pthread_barrier_wait(&done);
    for (;;) pause();
}

static void mixed(void) {
    pthread_barrier_init(&done, NULL, THREADS + 1);
    for (uintptr_t i = 1; i <= THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, play, (void *)i) != 0) _exit(1);
    }
    uint64_t random = 99;
    for (unsigned i = 0; i < ROUNDS; i++) step(&random);
    pthread_barrier_wait(&done);
    for (unsigned i = 0; i < BLOCKS; i += 3) free(shared[i]);
    for (unsigned i = 0; i < 3; i++) memset(malloc((i + 1) << 20), 1, 300000);
    usleep(100000); /* the other threads are in pause by then */
    look();
}

/* --- load: four threads without end -------------------------------------------------------------------------------------------------------------- */

static void *run(void *seed) {
    uint64_t random = (uintptr_t)seed;
    for (;;) step(&random);
}

static void load(void) {
    most_bits = 9;
    for (uintptr_t i = 1; i <= THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, run, (void *)i) != 0) _exit(1);
    }
    say("{}\n");
}

/* --- pins ------------------------------------------------------------------------------------------------------------------------------------------ */

static char *touched(size_t size) {
    char *mem = malloc(size);
    if (mem == NULL) _exit(1);
    memset(mem, 1, size);
    return mem;
}

/* Free, in use, free, in use, …; the last block in use stands before the top. */
static void pin(void) {
    enum { SIZE = 50000 };
    char *before = touched(SIZE), *small = touched(24), *middle = touched(SIZE), *large = touched(9000), *after = touched(SIZE),
         *last = touched(100);
    free(before);
    free(middle);
    free(after);
    say("{\"before\": %lu, \"small\": %lu, \"middle\": %lu, \"large\": %lu, \"after\": %lu, \"last\": %lu}\n", (unsigned long)before,
        (unsigned long)small, (unsigned long)middle, (unsigned long)large, (unsigned long)after, (unsigned long)last);
}

/* A thread fills a heap of its arena and begins another; of the first all but one block goes. */
static void *fill_heap(void *arg) {
    enum { SIZE = 100000, MOST = 2000 };
    static char *block[MOST];
    unsigned count = 0;
    uintptr_t heap = (uintptr_t)(block[count++] = malloc(SIZE)) >> 26;
    for (; count < MOST && (uintptr_t)(block[count] = malloc(SIZE)) >> 26 == heap; count++) {}
    for (unsigned i = 0; i < count; i++) {
        if (i != count / 2) free(block[i]);
    }
    say("{\"block\": %lu, \"count\": %u}\n", (unsigned long)block[count / 2], count);
    (void)arg;
    for (;;) pause();
}

static void heap(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, fill_heap, NULL) != 0) _exit(1);
}

/* --- huge: little is handed out of a heap that has much room -------------------------------------------------------------------------------------- */

static void *use_little(void *arg) {
    for (unsigned i = 0; i < 300; i++) touched(1000);
    say("{}\n");
    (void)arg;
    for (;;) pause();
}

static void huge(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, use_little, NULL) != 0) _exit(1);
}

/* --- zeros: pages that were read only are the kernel's ------------------------------------------------------------------------------------------- */

static void zeros(void) {
    volatile char *mem = calloc(1, 8 << 20);
    unsigned sum = 0;
    for (size_t i = 0; i < 8 << 20; i += 4096) sum += (unsigned)mem[i];
    say("{\"sum\": %u}\n", sum);
}

/* --- retain: a freed mapping that waits for the next block; vfork: a thread that can't be stopped ------------------------------------------------- */

static void retain(void) {
    for (unsigned i = 0; i < 4; i++) {
        char *mem = malloc(64 << 20);
        if (mem == NULL) _exit(1);
        memset(mem, 1, 64 << 20);
        free(mem);
    }
    look();
}

static void child(void) {
    say("{}\n");
    if (vfork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) pause();
    }
}

/* --- regions: a break that others move as well, so that the heap is in pieces; where the resident memory is ------------------------------------------------ */

static void regions(void) {
    struct seemalloc_ledger ledger;
#ifdef STATIC
    int (*take)(struct seemalloc_ledger *) = seemalloc_ledger;
#else
    int (*take)(struct seemalloc_ledger *) = (int (*)(struct seemalloc_ledger *))dlsym(RTLD_DEFAULT, "seemalloc_ledger");
#endif
    for (unsigned i = 0; i < 1000; i++) {
        touched(100000);
        touched(100000);
        if (sbrk(4096) == (void *)-1) _exit(1);
    }
    if (take == NULL || take(&ledger) != 0) _exit(1);
    say("{\"metadata\": %zu}\n", ledger.metadata);
}

/* --- broken: words of the own heap and of the own data are written over ----------------------------------------------------------------------------- */

static void broken(const char *seed) {
    enum { COUNT = 400 };
    static char *block[COUNT];
    static uintptr_t to[COUNT * 8];
    uint64_t random = (uint64_t)atoi(seed) + 1;
    size_t count = 0;
    for (unsigned i = 0; i < COUNT; i++) block[i] = touched(100 + next(&random) % 3000);
    for (unsigned i = 0; i < COUNT; i += 2) free(block[i]);
    /* Headers, links and whatever else stands at multiples of 8 around blocks. */
    for (unsigned i = 1; i + 1 < COUNT; i++) {
        for (unsigned k = 0; k < 8; k++) to[count++] = (uintptr_t)block[i] - 64 + next(&random) % 16 * 8;
    }
    unsigned writes = 1 + (unsigned)next(&random) % 8;
    for (unsigned i = 0; i < writes; i++) {
        uint64_t *word = (uint64_t *)to[next(&random) % count];
        switch (next(&random) % 5) {
        case 0: *word = next(&random); break;
        case 1: *word = (uint64_t)to[next(&random) % count] & ~(uint64_t)15; break;
        case 2: *word ^= (uint64_t)1 << next(&random) % 64; break;
        case 3: *word = ~(uint64_t)0; break;
        default: *word = 0;
        }
    }
    say("{}\n");
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "mixed";
    if (strcmp(what, "mixed") == 0) mixed();
    if (strcmp(what, "load") == 0) load();
    if (strcmp(what, "pin") == 0) pin();
    if (strcmp(what, "heap") == 0) heap();
    if (strcmp(what, "huge") == 0) huge();
    if (strcmp(what, "zeros") == 0) zeros();
    if (strcmp(what, "retain") == 0) retain();
    if (strcmp(what, "vfork") == 0) child();
    if (strcmp(what, "regions") == 0) regions();
    if (strcmp(what, "broken") == 0) broken(argc > 2 ? argv[2] : "0");
    for (;;) pause();
}
