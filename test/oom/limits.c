/* limits.c: the allocator under a limit that it runs into, again and again: NULL and ENOMEM from every function, what is there stays intact,
 * free works, nothing is lost once all is freed, and the next round gets as much as the first.
 *
 * Usage: limits as|data|none KIB THREADS    The limit is set first and the program then starts anew under it, as under `ulimit -v`.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "../abi/check.h"
#include "seemalloc.h"
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <unistd.h>

static void *(*volatile v_malloc)(size_t) = malloc;
static void *(*volatile v_calloc)(size_t, size_t) = calloc;
static void *(*volatile v_realloc)(void *, size_t) = realloc;
static void *(*volatile v_memalign)(size_t, size_t) = memalign;
static void *(*volatile v_aligned_alloc)(size_t, size_t) = aligned_alloc;
static int (*volatile v_posix_memalign)(void **, size_t, size_t) = posix_memalign;
static void *(*volatile v_valloc)(size_t) = valloc;
static void *(*volatile v_pvalloc)(size_t) = pvalloc;
static void (*volatile v_free)(void *) = free;
static int (*get_stats)(struct seemalloc_stats *);

enum { ROUNDS = 4, MAX_THREADS = 16 };

/* A live block says what it is; the list of them needs no memory of its own. */
struct block {
    struct block *next;
    size_t size;
    uint64_t tag;
};

static uint64_t tag_of(const struct block *b) { return (uint64_t)(uintptr_t)b * 0x9e3779b97f4a7c15 ^ b->size; }

static void put(struct block **list, void *p, size_t size) {
    struct block *b = p;
    b->next = *list;
    b->size = size;
    b->tag = tag_of(b);
    memcpy((char *)p + size - 8, &b->tag, 8);
    *list = b;
}

static bool intact(const struct block *b) { return b->tag == tag_of(b) && memcmp((const char *)b + b->size - 8, &b->tag, 8) == 0; }

static size_t free_all(struct block **list) {
    size_t n = 0;
    while (*list) {
        struct block *b = *list;
        CHECK(intact(b));
        *list = b->next;
        n += b->size;
        errno = 99;
        v_free(b);
        CHECK(errno == 99);
    }
    return n;
}

static int limit_kind;
static size_t limit;    /* bytes, 0 if none */
static size_t smallest; /* of the blocks taken: keeps the touched memory within bounds under a generous limit */
static size_t cap;      /* bytes that one thread takes at most */
static int threads;
static pthread_barrier_t barrier;
static size_t got[MAX_THREADS];
static volatile bool system_malloc;

#define FAILS(expression)                                                                                                                  \
    do {                                                                                                                                   \
        errno = 0;                                                                                                                         \
        CHECK((expression) == NULL);                                                                                                       \
        CHECK(errno == ENOMEM);                                                                                                            \
    } while (0)

/* Takes blocks of each size until there is no more; from large to small, so that hardly anything is left. */
static size_t exhaust(struct block **list, unsigned seed, bool mixed) {
    static const size_t sizes[] = {10 << 20, 1 << 20, 300000, 100000, 20000, 3000, 500, 100, 32};
    enum { N = sizeof sizes / sizeof *sizes };
    size_t total = 0;
    if (mixed) {
        for (int failed = 0; failed < 20 && total < cap;) {
            seed = seed * 1103515245 + 12345;
            size_t n = sizes[(seed >> 16) % N] + (seed >> 20) % 100;
            if (n < smallest) n = smallest;
            errno = 0;
            void *p = (seed >> 12) % 5 == 0 ? v_calloc(1, n) : (seed >> 12) % 5 == 1 ? v_memalign(256, n) : v_malloc(n);
            if (!p) {
                CHECK(errno == ENOMEM);
                failed++;
                continue;
            }
            put(list, p, n);
            total += n;
        }
    }
    for (int i = 0; i < N && sizes[i] >= smallest && total < cap; i++) {
        void *p;
        errno = 0;
        while (total < cap && (p = v_malloc(sizes[i])) != NULL) {
            put(list, p, sizes[i]);
            total += sizes[i];
            errno = 0;
        }
        if (total < cap) CHECK(errno == ENOMEM);
    }
    return total;
}

/* With nothing left, every function says so, and harms nothing. */
static void all_fail(struct block *list, size_t huge) {
    FAILS(v_malloc(huge));
    FAILS(v_calloc(1, huge));
    FAILS(v_calloc(huge / 1000 + 1, 1000));
    FAILS(v_realloc(NULL, huge));
    FAILS(v_memalign(4096, huge));
    FAILS(v_memalign(huge, 100));
    FAILS(v_aligned_alloc(64, huge / 64 * 64));
    FAILS(v_valloc(huge));
    FAILS(v_pvalloc(huge));
    void *q = (void *)5;
    CHECK(v_posix_memalign(&q, 64, huge) == ENOMEM && q == (void *)5);
    int tried = 0;
    size_t last = 0;
    for (struct block *b = list; b && tried < 20; b = b->next) {
        if (b->size == last) continue;
        last = b->size;
        tried++;
        size_t usable = malloc_usable_size(b);
        FAILS(v_realloc(b, huge));
        CHECK(malloc_usable_size(b) == usable);
        CHECK(intact(b));
    }
}

/* The walk takes a little memory, too: the limit is lifted for it. */
static struct seemalloc_stats stats(void) {
    struct seemalloc_stats s = {0};
    struct rlimit r, lifted;
    if (!get_stats) return s;
    if (getrlimit(limit_kind, &r)) exit(3);
    lifted = (struct rlimit){r.rlim_max, r.rlim_max};
    if (limit && setrlimit(limit_kind, &lifted)) exit(3);
    CHECK(get_stats(&s) == 0);
    if (limit && setrlimit(limit_kind, &r)) exit(3);
    return s;
}

static size_t in_use(const struct seemalloc_stats *s) { return s->bytes[SEEMALLOC_IN_USE] + s->bytes[SEEMALLOC_MAPPED]; }

static size_t huge_size(void) { return limit ? limit : (size_t)1 << 47; }

static void *worker(void *arg) {
    size_t self = (size_t)(uintptr_t)arg;
    v_free(v_malloc(100));
    pthread_barrier_wait(&barrier);
    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&barrier);
        struct block *list = NULL;
        got[self] = exhaust(&list, (unsigned)(self + 1) * 77 + (unsigned)round, round % 2);
        pthread_barrier_wait(&barrier);
        all_fail(list, huge_size());
        pthread_barrier_wait(&barrier);
        size_t freed = free_all(&list);
        CHECK(freed == got[self]);
        pthread_barrier_wait(&barrier);
    }
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void run_rounds(void) {
    pthread_t t[MAX_THREADS];
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, 256 << 10);
    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++) {
        if (pthread_create(&t[i], &attr, worker, (void *)(uintptr_t)i)) {
            CHECK(!"no thread");
            exit(1);
        }
    }
    pthread_barrier_wait(&barrier);
    struct seemalloc_stats before = stats();
    size_t first = 0;
    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier); /* all have what they can get */
        size_t total = 0;
        for (int i = 0; i < threads; i++) total += got[i];
        char line[128];
        int n = snprintf(line, sizeof line, "round %d: %zu KiB of %zu KiB\n", round, total >> 10, limit >> 10);
        if (write(STDOUT_FILENO, line, (size_t)n) < 0) exit(3);
        if (round == 0) first = total;
        /* Most of what the limit allows can be had, and as much in the last round as in the first. */
        if (limit > (size_t)100 << 20 && cap == SIZE_MAX) CHECK(total >= (limit - ((size_t)30 << 20)) / 10 * (threads == 1 ? 8 : 6));
        CHECK(total >= first / 10 * 8);
        pthread_barrier_wait(&barrier); /* all functions have failed */
        pthread_barrier_wait(&barrier); /* all is freed */
        struct seemalloc_stats after = stats();
        CHECK(in_use(&after) == in_use(&before));
        CHECK(after.bytes[SEEMALLOC_ABANDONED] == 0);
    }
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < threads; i++) pthread_join(t[i], NULL);
    void *p = v_malloc(1 << 20);
    CHECK(p != NULL);
    v_free(p);
}

int main(int argc, char **argv) {
    if (argc == 4) {
        size_t kib = strtoul(argv[2], NULL, 0);
        int kind = !strcmp(argv[1], "as") ? RLIMIT_AS : !strcmp(argv[1], "data") ? RLIMIT_DATA : -1;
        struct rlimit r;
        if (kind >= 0 && (getrlimit(kind, &r) || (r.rlim_cur = kib << 10, setrlimit(kind, &r)))) return 3;
        execl("/proc/self/exe", argv[0], "--inside", argv[1], argv[2], argv[3], (char *)NULL);
        return 3;
    }
    if (argc != 5 || strcmp(argv[1], "--inside")) {
        fprintf(stderr, "usage: %s as|data|none KIB THREADS\n", argv[0]);
        return 2;
    }
    system_malloc = !check_library(1, argv);
    *(void **)&get_stats = dlsym(RTLD_DEFAULT, "seemalloc_get_stats");
    limit_kind = !strcmp(argv[2], "data") ? RLIMIT_DATA : RLIMIT_AS;
    limit = strcmp(argv[2], "none") ? strtoul(argv[3], NULL, 0) << 10 : 0;
    threads = atoi(argv[4]);
    if (threads < 1 || threads > MAX_THREADS) return 2;
    smallest = limit > (size_t)500 << 20 ? 100000 : 32;
    cap = limit ? SIZE_MAX : (size_t)20 << 20;
    run_rounds();
    return check_result();
}
