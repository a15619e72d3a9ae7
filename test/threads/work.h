/* work.h: blocks whose contents are checked, and exact books of the live bytes, for the programs of this folder.
 *
 * A block carries its size and a mark; all its bytes are written when it is made and checked when it is freed, by whichever thread. The
 * bytes that were asked for are counted at both moments: live_peak is the most that was live at once, exactly.
 * SPDX-License-Identifier: MIT */
#ifndef TEST_THREADS_WORK_H
#define TEST_THREADS_WORK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#include "../kernel.h"
#include "../programs/probe.h"

static atomic_size_t live_bytes, live_peak;

struct block {
    uint32_t size; /* of the whole block as asked from malloc */
    uint32_t mark;
    unsigned char data[];
};

static inline void work_fail(const char *what) {
    fprintf(stderr, "failed: %s\n", what);
    _exit(1);
}

#define work_check(ok, ...)                                                                                                                \
    do {                                                                                                                                   \
        if (!(ok)) {                                                                                                                       \
            fprintf(stderr, "failed: " __VA_ARGS__);                                                                                       \
            fputc('\n', stderr);                                                                                                           \
            exit(1);                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

static inline unsigned work_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return (unsigned)(*state >> 20);
}

/* Sizes from 16 up to about 2^most, each power of two as frequent as the others. */
static inline size_t work_size(uint64_t *state, unsigned most) {
    unsigned power = 4 + work_random(state) % (most - 4);
    return ((size_t)1 << power) + work_random(state) % (1u << power);
}

static inline void live_add(size_t size) {
    size_t now = atomic_fetch_add_explicit(&live_bytes, size, memory_order_relaxed) + size;
    size_t peak = atomic_load_explicit(&live_peak, memory_order_relaxed);
    while (now > peak && !atomic_compare_exchange_weak_explicit(&live_peak, &peak, now, memory_order_relaxed, memory_order_relaxed))
        continue;
}

static inline struct block *block_new(size_t size, unsigned mark) {
    if (size < sizeof(struct block)) size = sizeof(struct block);
    struct block *b = malloc(size);
    if (!b) work_fail("malloc returned NULL");
    live_add(size);
    b->size = (uint32_t)size;
    b->mark = mark & 255;
    memset(b->data, (int)b->mark, size - sizeof *b);
    return b;
}

static inline void block_free(struct block *b) {
    size_t n = b->size - sizeof *b;
    for (size_t i = 0; i < n; i++)
        if (b->data[i] != b->mark) work_fail("a block was overwritten");
    atomic_fetch_sub_explicit(&live_bytes, b->size, memory_order_relaxed);
    free(b);
}

static inline void work_pause(long nanoseconds) {
    nanosleep(&(struct timespec){.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000}, NULL);
}

static inline double work_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline pthread_t work_thread(void *(*run)(void *), void *arg) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, arg)) work_fail("pthread_create");
    return thread;
}

/* A field of /proc/self/status in bytes, e.g. "VmHWM:". */
static inline size_t work_status(const char *field) {
    FILE *f = fopen("/proc/self/status", "r");
    char line[256];
    size_t kib = 0;
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, field, strlen(field))) kib = strtoul(line + strlen(field), NULL, 10);
    if (f) fclose(f);
    return kib << 10;
}

#define MIB(bytes) ((double)(bytes) / 1048576)

/* Prints where the bytes of the heap are at this moment; nothing on another allocator. */
static inline void work_states(const char *what) {
    struct seemalloc_stats stats;
    if (!probe_stats(&stats)) return;
    printf(
        "%s: live %.2f, heap %.2f, in use %.2f, cached %.2f, parked %.2f, inbox %.2f, fast %.2f, binned %.2f, top %.2f, mapped %.2f MiB\n",
        what, MIB(atomic_load(&live_bytes)), MIB(stats.heap_bytes), MIB(stats.bytes[SEEMALLOC_IN_USE]), MIB(stats.bytes[SEEMALLOC_CACHED]),
        MIB(stats.bytes[SEEMALLOC_PARKED]), MIB(stats.bytes[SEEMALLOC_INBOX]), MIB(stats.bytes[SEEMALLOC_FAST]),
        MIB(stats.bytes[SEEMALLOC_UNSORTED] + stats.bytes[SEEMALLOC_SMALL] + stats.bytes[SEEMALLOC_LARGE] +
            stats.bytes[SEEMALLOC_LAST_REMAINDER]),
        MIB(stats.bytes[SEEMALLOC_TOP]), MIB(stats.mapped_bytes));
}

/* Prints the figures of a run, and on seemalloc holds the heap's peak against `most` times the live peak. The statistics must have seen the peak: they are
 * taken at growth, so heap_peak is exact. The resident peak, less what was resident before the first block, has to stay within the same bound
 * and `other` bytes for stacks and the like. */
static inline void work_judge(const char *what, double most, size_t resident_before, size_t other) {
    struct seemalloc_stats stats;
    size_t peak = atomic_load(&live_peak), resident = work_status("VmHWM:");
    resident = resident > resident_before ? resident - resident_before : 0;
    printf("%s: live peak %.2f MiB, resident peak %.2f MiB (%.3f)", what, MIB(peak), MIB(resident), (double)resident / (double)peak);
    if (!probe_stats(&stats)) {
        printf("\n");
        return;
    }
    size_t heap = stats.heap_bytes + stats.mapped_bytes;
    if (stats.heap_peak > heap) heap = stats.heap_peak;
    printf(", heap peak %.2f MiB (%.3f), heap at the end %.2f MiB, books %.2f MiB, %u arenas, %u caches\n", MIB(heap),
           (double)heap / (double)peak, MIB(stats.heap_bytes + stats.mapped_bytes), MIB(stats.metadata_bytes), stats.arenas, stats.threads);
    fflush(stdout);
    work_check((double)heap <= most * (double)peak, "the heap is larger than %.2f times the live peak", most);
#ifndef SEEMALLOC_PREFIX /* a sanitizer's shadow is resident too */
    work_check((double)resident <= most * (double)peak + (double)other, "more resident than %.2f times the live peak and %.2f MiB", most,
               MIB(other));
#else
    (void)other;
#endif
}

#endif
