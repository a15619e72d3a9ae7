/* lowered.c: limits that fall and rise while the program runs, below what it already has; threads that start when nothing is left; the mapping
 * limit (vm.max_map_count), at which the kernel refuses even munmap.
 *
 * Usage: lowered as|data|thread|maps [THREADS]
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "../abi/check.h"
#include "seemalloc.h"
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static void *(*volatile v_malloc)(size_t) = malloc;
static void *(*volatile v_calloc)(size_t, size_t) = calloc;
static void *(*volatile v_realloc)(void *, size_t) = realloc;
static void *(*volatile v_memalign)(size_t, size_t) = memalign;
static void (*volatile v_free)(void *) = free;
static int (*get_stats)(struct seemalloc_stats *);

static struct seemalloc_stats stats(void) {
    struct seemalloc_stats s = {0};
    if (get_stats) CHECK(get_stats(&s) == 0);
    return s;
}

static size_t in_use(void) {
    struct seemalloc_stats s = stats();
    return s.bytes[SEEMALLOC_IN_USE] + s.bytes[SEEMALLOC_MAPPED];
}

/* Virtual bytes of the process, read without stdio. */
static size_t virtual_size(void) {
    char text[128] = {0};
    int f = open("/proc/self/statm", O_RDONLY);
    if (f < 0 || read(f, text, sizeof text - 1) <= 0) exit(3);
    close(f);
    return strtoul(text, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}

static void set(int kind, size_t bytes) {
    struct rlimit r;
    if (getrlimit(kind, &r)) exit(3);
    r.rlim_cur = bytes < r.rlim_max ? bytes : r.rlim_max;
    if (setrlimit(kind, &r)) exit(3);
}

struct list {
    struct list *next;
    size_t size;
};

static size_t take_all(struct list **list, size_t size, size_t most) {
    size_t n = 0;
    for (; n < most; n++) {
        errno = 0;
        struct list *p = v_malloc(size);
        if (!p) {
            CHECK(errno == ENOMEM);
            break;
        }
        p->next = *list;
        p->size = size;
        *list = p;
    }
    return n;
}

static void free_all(struct list **list) {
    while (*list) {
        struct list *p = *list;
        *list = p->next;
        v_free(p);
    }
}

/* ---- the limit falls below what is there, and rises again ---- */

static unsigned char *live[500];

static bool live_intact(void) {
    for (int i = 0; i < 500; i++)
        for (size_t k = 0; k < 100000; k += 997)
            if (live[i][k] != (unsigned char)i) return false;
    return true;
}

static void below(int kind, bool main_thread) {
    for (int i = 0; i < 500; i++) {
        live[i] = v_malloc(100000);
        CHECK(live[i] != NULL);
        memset(live[i], i, 100000);
    }
    /* Something free in the heap, which may be used while nothing more can be had. */
    void *spare[64], *between[64];
    for (int i = 0; i < 64; i++) {
        spare[i] = v_malloc(5000);
        between[i] = v_malloc(100);
    }
    void *mapped = v_malloc(40 << 20);
    CHECK(mapped != NULL);
    for (int i = 0; i < 64; i++) v_free(spare[i]);
    size_t before = in_use();
    for (int round = 0; round < 5; round++) {
        char *extra = v_malloc(100000);
        CHECK(extra != NULL);
        memset(extra, 7, 100000);
        set(kind, 4096);
        struct list *small = NULL, *medium = NULL, *large = NULL;
        size_t n = take_all(&medium, 5000, 100000);
        CHECK(n >= 32); /* the spare ones at least, some may lie in caches of another size */
        n = take_all(&small, 100, 1000000);
        CHECK(n < 1000000);
        n = take_all(&large, 1 << 20, 100000);
        CHECK(n < 100);
        for (int k = 0; k < 3; k++) {
            errno = 0;
            CHECK(v_calloc(1, 100 << 20) == NULL && errno == ENOMEM);
            errno = 0;
            CHECK(v_memalign(1 << 20, 100 << 20) == NULL && errno == ENOMEM);
            errno = 0;
            CHECK(v_realloc(live[k], 100 << 20) == NULL && errno == ENOMEM);
            errno = 0;
            CHECK(v_realloc(mapped, 200 << 20) == NULL && errno == ENOMEM);
        }
        CHECK(live_intact());
        /* Freeing and shrinking need no memory. */
        extra = v_realloc(extra, 50000);
        CHECK(extra && extra[49999] == 7);
        free_all(&large);
        free_all(&medium);
        free_all(&small);
        set(kind, SIZE_MAX);
        extra = v_realloc(extra, 100000);
        CHECK(extra && extra[49999] == 7);
        CHECK(live_intact());
        v_free(extra);
        CHECK(in_use() == before);
        /* A limit a little above: it is reached, not overrun. */
        if (main_thread && kind == RLIMIT_AS) {
            size_t now = virtual_size();
            set(kind, now + (60 << 20));
            n = take_all(&large, 1 << 20, 100000);
            CHECK(n >= 30);
            CHECK(virtual_size() <= now + (60 << 20));
            take_all(&small, 100, 10000000);
            free_all(&small);
            free_all(&large);
            set(kind, SIZE_MAX);
            CHECK(in_use() == before);
        }
        n = take_all(&large, 1 << 20, 200);
        CHECK(n == 200);
        free_all(&large);
        CHECK(in_use() == before);
    }
    v_free(mapped);
    for (int i = 0; i < 64; i++) v_free(between[i]);
    for (int i = 0; i < 500; i++) v_free(live[i]);
}

static void *below_in_thread(void *arg) {
    below(*(int *)arg, false);
    return NULL;
}

static void in_other_thread(int kind) {
    pthread_t t;
    if (pthread_create(&t, NULL, below_in_thread, &kind)) exit(3);
    pthread_join(t, NULL);
}

/* ---- threads that start when nothing is left ---- */

enum { STARTED = 6, STACK = 256 << 10 };
static _Alignas(4096) char stacks[STARTED][STACK];
static pthread_barrier_t barrier;

static void *starved(void *arg) {
    (void)arg;
    struct list *list = NULL;
    pthread_barrier_wait(&barrier); /* what is left is for the other threads' vectors first */
    /* NULL or memory, either is right: what counts is that it is one of them. */
    take_all(&list, 100, 1000);
    take_all(&list, 20000, 10);
    take_all(&list, 1 << 20, 10);
    errno = 0;
    CHECK(v_malloc(512 << 20) == NULL && errno == ENOMEM);
    free_all(&list);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    size_t n = take_all(&list, 100, 1000) + take_all(&list, 20000, 10) + take_all(&list, 1 << 20, 10);
    CHECK(n == 1020);
    free_all(&list);
    return NULL;
}

static void threads_without_memory(void) {
    pthread_t t[STARTED];
    pthread_barrier_init(&barrier, NULL, STARTED + 1);
    struct list *list = NULL;
    v_free(v_malloc(10));
    size_t before = in_use();
    set(RLIMIT_AS, virtual_size() + (20 << 20));
    take_all(&list, 1 << 20, 100000);
    take_all(&list, 20000, 100000);
    /* libc needs a little for a thread's vector of TLS blocks. */
    void *gap = NULL;
    if (list) {
        gap = list;
        list = list->next;
        v_free(gap);
    }
    for (int i = 0; i < STARTED; i++) {
        pthread_attr_t attr;
        pthread_attr_init(&attr);
        pthread_attr_setstack(&attr, stacks[i], STACK);
        if (pthread_create(&t[i], &attr, starved, NULL)) {
            CHECK(!"no thread");
            exit(1);
        }
    }
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    free_all(&list);
    set(RLIMIT_AS, SIZE_MAX);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < STARTED; i++) pthread_join(t[i], NULL);
    CHECK(in_use() == before);
}

/* ---- the mapping limit ---- */

static char *hoard;
static size_t hoard_size;

static bool hoard_mappings(void) {
    char text[32] = {0};
    int f = open("/proc/sys/vm/max_map_count", O_RDONLY);
    if (f < 0 || read(f, text, sizeof text - 1) <= 0) return false;
    close(f);
    size_t most = strtoul(text, NULL, 10), page = (size_t)sysconf(_SC_PAGESIZE);
    if (most > 300000) return false;
    /* Every other page of other rights: a mapping each. */
    hoard_size = (most + 16) * page;
    hoard = mmap(NULL, hoard_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (hoard == MAP_FAILED) return false;
    for (size_t at = page; at < hoard_size; at += 2 * page)
        if (mprotect(hoard + at, page, PROT_READ) != 0) return errno == ENOMEM;
    return false;
}

static void *grow_at_limit(void *arg) {
    (void)arg;
    struct list *list = NULL;
    v_free(v_malloc(100));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    /* A heap of another arena that grows splits a mapping, which now fails. */
    take_all(&list, 1000, 20000);
    take_all(&list, 100000, 100);
    free_all(&list);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    CHECK(take_all(&list, 1000, 20000) == 20000);
    free_all(&list);
    return NULL;
}

static int mapping_limit(void) {
    enum { N = 9, SIZE = 2 << 20 };
    char *p[N];
    mallopt(M_MMAP_THRESHOLD, 131072); /* and no sliding */
    pthread_t t;
    pthread_barrier_init(&barrier, NULL, 2);
    if (pthread_create(&t, NULL, grow_at_limit, NULL)) exit(3);
    pthread_barrier_wait(&barrier);
    size_t before = in_use(), size_before = virtual_size();
    for (int i = 0; i < N; i++) {
        p[i] = v_malloc(SIZE);
        CHECK(p[i] != NULL);
        memset(p[i], i + 1, SIZE);
    }
    if (!hoard_mappings()) {
        puts("the mapping limit can't be reached here");
        exit(77);
    }
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    /* The kernel joined the blocks' mappings: to free one in the middle would make one mapping more, and fails. */
    for (int i = 1; i < N; i += 2) {
        errno = 55;
        v_free(p[i]);
        CHECK(errno == 55);
    }
    /* realloc in both directions, at the limit: the contents stay, whatever it returns. */
    char *grown = v_realloc(p[0], 3 * SIZE);
    if (grown) p[0] = grown;
    char *shrunk = v_realloc(p[2], SIZE / 2);
    if (shrunk) p[2] = shrunk;
    for (int i = 0; i < N; i += 2) CHECK(p[i][0] == i + 1 && p[i][SIZE / 2 - 1] == i + 1 && (i == 2 || p[i][SIZE - 1] == i + 1));
    struct list *list = NULL;
    take_all(&list, 100, 10000);
    take_all(&list, 20000, 1000);
    take_all(&list, SIZE, 20);
    take_all(&list, (size_t)20 << 20, 4);
    free_all(&list);
    for (int i = 0; i < N; i += 2) v_free(p[i]);
    munmap(hoard, hoard_size);
    pthread_barrier_wait(&barrier);
    pthread_join(t, NULL);
    CHECK(in_use() == before);
    /* And again, without the limit: all works, and what could not be unmapped then is gone or in use again, not leaked over and over. */
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < N; i++) {
            p[i] = v_malloc(SIZE);
            CHECK(p[i] != NULL);
            memset(p[i], 1, SIZE);
        }
        for (int i = 0; i < N; i++) v_free(p[i]);
    }
    CHECK(in_use() == before);
    CHECK(virtual_size() <= size_before + 3 * (size_t)N * SIZE + ((size_t)80 << 20));
    return check_result();
}

int main(int argc, char **argv) {
    check_library(1, argv);
    *(void **)&get_stats = dlsym(RTLD_DEFAULT, "seemalloc_get_stats");
    if (argc < 2) return 2;
    if (!strcmp(argv[1], "as"))
        below(RLIMIT_AS, true), in_other_thread(RLIMIT_AS);
    else if (!strcmp(argv[1], "data"))
        below(RLIMIT_DATA, true), in_other_thread(RLIMIT_DATA);
    else if (!strcmp(argv[1], "thread"))
        threads_without_memory();
    else if (!strcmp(argv[1], "maps"))
        mapping_limit();
    else
        return 2;
    return check_result();
}
