/* probe.c: does what its arguments say, one after the other, and prints what came of it; test/abi/settings drives it.
 *
 *   mallopt PARAMETER VALUE    r                       thresholds      mmap_threshold trim_threshold
 *   mapped SIZE                1 if any of 64 got one   slide SIZE     (malloc and free of one block)
 *   state SIZE                 state of a freed block with neighbours in use
 *   fill SIZE                  bytes of a new block, of it after free, of calloc's, of a realloc that moves (hex)
 *   arenas THREADS             number of arenas with so many threads at once
 *   heap SIZE                  heap bytes after one block of that size
 *   trim MIB                   heap bytes left after freeing so many MiB of small blocks
 *   cached COUNT SIZE          blocks in magazines after freeing so many
 *   sized SIZE WRONG           free_sized with another size
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "seemalloc.h"
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *(*volatile v_malloc)(size_t) = malloc;
static void (*volatile v_free)(void *) = free;
static int (*get_stats)(struct seemalloc_stats *);
static int (*walk)(int (*)(const struct seemalloc_chunk *, void *), void *);
static const char *(*state_name)(enum seemalloc_state);
static void (*sized)(void *, size_t);

/* Neither stdout's buffer nor anything else of ours may take part in what is measured. */
static char out_buffer[1 << 16];

static struct seemalloc_stats stats(void) {
    struct seemalloc_stats s = {0};
    if (get_stats && get_stats(&s)) exit(4);
    return s;
}

static pthread_barrier_t barrier;

static void *stay(void *arg) {
    v_free(v_malloc(1000));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return arg;
}

static unsigned arenas(int threads) {
    pthread_t t[256];
    if (threads > 256) exit(4);
    pthread_barrier_init(&barrier, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++)
        if (pthread_create(&t[i], NULL, stay, NULL)) exit(4);
    pthread_barrier_wait(&barrier);
    unsigned n = stats().arenas;
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < threads; i++) pthread_join(t[i], NULL);
    return n;
}

static const void *wanted;

static int visit(const struct seemalloc_chunk *c, void *arg) {
    if (c->mem != wanted) return 0;
    *(enum seemalloc_state *)arg = c->state;
    return 1;
}

static const char *state(size_t size) {
    void *before = v_malloc(size), *p = v_malloc(size), *after = v_malloc(size);
    v_free(p);
    wanted = p;
    enum seemalloc_state s = SEEMALLOC_STATE_COUNT;
    walk(visit, &s);
    v_free(before);
    v_free(after);
    return state_name(s);
}

static void hex(const unsigned char *p, size_t n) {
    for (size_t i = 0; i < n; i++) printf("%02x", p[i]);
    printf(" ");
}

static void fill(size_t n) {
    unsigned char *volatile pin = v_malloc(n);
    unsigned char *volatile p = v_malloc(n);
    unsigned char *volatile pin2 = v_malloc(n);
    hex(p, n);
    memset(p, 0x11, n);
    v_free(p);
    hex(p, n);
    p = calloc(1, n);
    hex(p, n);
    memset(p, 0x22, n);
    p = realloc(p, 4 * n);
    hex(p, 4 * n);
    v_free(p);
    v_free(pin);
    v_free(pin2);
}

int main(int argc, char **argv) {
    setvbuf(stdout, out_buffer, _IOFBF, sizeof out_buffer);
    *(void **)&get_stats = dlsym(RTLD_DEFAULT, "seemalloc_get_stats");
    *(void **)&walk = dlsym(RTLD_DEFAULT, "seemalloc_walk");
    *(void **)&state_name = dlsym(RTLD_DEFAULT, "seemalloc_state_name");
    *(void **)&sized = dlsym(RTLD_DEFAULT, "free_sized");
    for (int i = 1; i < argc; i++) {
        const char *what = argv[i];
#define NUMBER() (++i < argc ? strtol(argv[i], NULL, 0) : (exit(3), 0))
        printf("%s ", what);
        if (!strcmp(what, "mallopt")) {
            int parameter = (int)NUMBER();
            printf("%d", mallopt(parameter, (int)NUMBER()));
        } else if (!strcmp(what, "thresholds")) {
            struct seemalloc_stats s = stats();
            printf("%zu %zu", s.mmap_threshold, s.trim_threshold);
        } else if (!strcmp(what, "mapped")) {
            /* More than what the top may hold by now: what is free is used first. */
            size_t before = mallinfo2().hblks, size = (size_t)NUMBER();
            void *p[64];
            for (int k = 0; k < 64; k++) p[k] = v_malloc(size);
            printf("%d", mallinfo2().hblks > before);
            for (int k = 0; k < 64; k++) v_free(p[k]);
        } else if (!strcmp(what, "slide")) {
            v_free(v_malloc((size_t)NUMBER()));
        } else if (!strcmp(what, "state")) {
            printf("%s", state((size_t)NUMBER()));
        } else if (!strcmp(what, "fill")) {
            fill((size_t)NUMBER());
        } else if (!strcmp(what, "arenas")) {
            printf("%u", arenas((int)NUMBER()));
        } else if (!strcmp(what, "heap")) {
            v_malloc((size_t)NUMBER());
            printf("%zu", (size_t)mallinfo2().arena);
        } else if (!strcmp(what, "trim")) {
            long n = NUMBER() * 1024;
            void **p = v_malloc((size_t)n * sizeof *p);
            for (long k = 0; k < n; k++) memset(p[k] = v_malloc(1000), 1, 1000);
            for (long k = n; k-- > 0;) v_free(p[k]);
            v_free(p);
            printf("%zu", (size_t)mallinfo2().arena);
        } else if (!strcmp(what, "cached")) {
            long n = NUMBER();
            size_t size = (size_t)NUMBER();
            void **p = v_malloc((size_t)n * sizeof *p);
            for (long k = 0; k < n; k++) p[k] = v_malloc(size);
            size_t before = stats().count[SEEMALLOC_CACHED];
            for (long k = 0; k < n; k += 2) v_free(p[k]);
            printf("%zu", stats().count[SEEMALLOC_CACHED] - before);
        } else if (!strcmp(what, "sized")) {
            void *p = v_malloc((size_t)NUMBER());
            sized(p, (size_t)NUMBER());
            printf("survived");
        } else {
            return 3;
        }
        printf("\n");
    }
    return 0;
}
