/* ledger.c: seemalloc_ledger: its parts make the resident set, and memory whose place is known is found there. One thread, at rest.
 * SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pages.h"

#define MIB ((size_t)1 << 20)
#define PAGES(n) ((n)*page)

static int (*take_ledger)(struct seemalloc_ledger *ledger);
static size_t page;
static int failures;

static void expect(bool good, const char *what, long long found, long long low, long long high) {
    if (good) return;
    printf("FAILED: %s: found %lld, expected %lld to %lld\n", what, found, low, high);
    failures++;
}

static struct seemalloc_ledger look(void) {
    struct seemalloc_ledger ledger;
    if (take_ledger(&ledger) != 0) {
        printf("FAILED: no ledger: %s\n", strerror(errno));
        exit(1);
    }
    size_t sum =
        ledger.retained + ledger.metadata + ledger.slack + ledger.stacks + ledger.files + ledger.brk + ledger.anonymous + ledger.other;
    for (unsigned state = 0; state < SEEMALLOC_STATE_COUNT; state++) sum += ledger.bytes[state];
    expect((size_t)((ptrdiff_t)sum + ledger.residual) == ledger.rss, "sum and residual", (long long)sum, (long long)ledger.rss,
           (long long)ledger.rss);
    long long most = (long long)(ledger.rss / 100);
    expect(ledger.residual <= most && ledger.residual >= -most, "residual", ledger.residual, -most, most);
    return ledger;
}

/* A figure rose by `bytes`, or a few pages beside it. */
static void rose(const char *what, size_t before, size_t after, long long bytes, unsigned pages) {
    long long found = (long long)after - (long long)before, slack = (long long)PAGES(pages);
    expect(found >= bytes - slack && found <= bytes + slack, what, found, bytes - slack, bytes + slack);
}

static void *volatile keep;

static void known_blocks(void) {
    struct seemalloc_ledger before = look();
    char *mapped = malloc(10 * MIB);
    memset(mapped, 1, 5 * MIB);
    struct seemalloc_ledger after = look();
    rose("half of a mapped block", before.bytes[SEEMALLOC_MAPPED], after.bytes[SEEMALLOC_MAPPED], 5 * MIB, 2);
    rose("rss", before.rss, after.rss, 5 * MIB, 32);
    free(mapped);
    rose("when it is freed", look().bytes[SEEMALLOC_MAPPED], before.bytes[SEEMALLOC_MAPPED], 0, 0);

    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, -1);
    before = look();
    char *block = malloc(10 * MIB), *fence = malloc(1000);
    keep = fence;
    memset(block, 1, 5 * MIB);
    after = look();
    rose("half of a block in the heap", before.bytes[SEEMALLOC_IN_USE], after.bytes[SEEMALLOC_IN_USE], 5 * MIB, 4);
    free(block);
    struct seemalloc_ledger freed = look();
    rose("a free block", before.bytes[SEEMALLOC_UNSORTED] + before.bytes[SEEMALLOC_LARGE] + before.bytes[SEEMALLOC_LAST_REMAINDER],
         freed.bytes[SEEMALLOC_UNSORTED] + freed.bytes[SEEMALLOC_LARGE] + freed.bytes[SEEMALLOC_LAST_REMAINDER], 5 * MIB, 4);
    malloc_trim(0);
    struct seemalloc_ledger purged = look();
    rose("that was purged", before.bytes[SEEMALLOC_UNSORTED] + before.bytes[SEEMALLOC_LARGE] + before.bytes[SEEMALLOC_LAST_REMAINDER],
         purged.bytes[SEEMALLOC_UNSORTED] + purged.bytes[SEEMALLOC_LARGE] + purged.bytes[SEEMALLOC_LAST_REMAINDER], 0, 4);
    expect(purged.slack <= PAGES(4), "slack", (long long)purged.slack, 0, (long long)PAGES(4));
    expect(purged.calls[SEEMALLOC_CALL_MADVISE_PURGE] > freed.calls[SEEMALLOC_CALL_MADVISE_PURGE] &&
               purged.minor_faults > before.minor_faults,
           "calls and faults", (long long)purged.calls[SEEMALLOC_CALL_MADVISE_PURGE], 1, 1000);

    /* As a huge page would: resident in a hole that went back. */
    char *hole = (char *)(((uintptr_t)block + 2 * MIB) & ~(uintptr_t)(page - 1));
    for (size_t i = 0; i < MIB; i += page) ((volatile char *)hole)[i] = 0;
    rose("pages in a hole that went back", purged.slack, look().slack, MIB, 0);
}

static pthread_barrier_t barrier;

static void *deep(void *arg) {
    char bottom[MIB];
    memset(bottom, 1, sizeof bottom);
    keep = bottom;
    free(malloc(100));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    keep = NULL;
    return arg;
}

static void what_is_not_ours(void) {
    struct seemalloc_ledger before = look();
    char *foreign = pages_map(20 * MIB);
    memset(foreign, 1, 3 * MIB);
    struct seemalloc_ledger after = look();
    rose("a foreign mapping", before.anonymous, after.anonymous, 3 * MIB, 1);

    before = look();
    char *pieces = sbrk(MIB);
    memset(pieces, 1, MIB);
    rose("a foreign piece of the break", before.brk, look().brk, MIB, 2);

    before = look();
    int file = memfd_create("ledger", MFD_CLOEXEC);
    if (file < 0 || ftruncate(file, (off_t)(3 * MIB)) != 0) abort();
    char *shared = mmap(NULL, 3 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (shared == MAP_FAILED) abort();
    memset(shared, 1, 3 * MIB);
    rose("a file", before.files, look().files, 3 * MIB, 64); /* and of libc what was never called before */
    close(file);

    pthread_t thread;
    pthread_barrier_init(&barrier, NULL, 2);
    before = look();
    if (pthread_create(&thread, NULL, deep, NULL) != 0) abort();
    pthread_barrier_wait(&barrier);
    after = look();
    rose("a thread's stack", before.stacks, after.stacks, MIB, 8);
    expect(after.metadata > before.metadata, "books of a thread", (long long)(after.metadata - before.metadata), 1, 1 << 20);
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
}

/* Without /proc it says so. */
static void without_proc(void) {
    char folder[] = "/tmp/ledger-XXXXXX";
    if (mkdtemp(folder) == NULL) return;
    pid_t child = fork();
    if (child == 0) {
        if (chroot(folder) != 0) _exit(0); /* not allowed */
        struct seemalloc_ledger ledger;
        errno = 0;
        _exit(take_ledger(&ledger) == -1 && errno == ENOENT ? 0 : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    rmdir(folder);
    expect(status == 0, "status without /proc", status, 0, 0);
}

int main(void) {
    page = (size_t)sysconf(_SC_PAGESIZE);
    take_ledger = (int (*)(struct seemalloc_ledger *))dlsym(RTLD_DEFAULT, "seemalloc_ledger");
    if (take_ledger == NULL) {
        fprintf(stderr, "seemalloc_ledger: not found; run it with LD_PRELOAD=libseemalloc.so\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IONBF, 0);
    memset(pages_map(50 * MIB), 1, 50 * MIB); /* so that one per cent is some pages */
    known_blocks();
    what_is_not_ours();
    without_proc();
    struct seemalloc_ledger last = look();
    printf("rss %zu KiB: in use %zu, mapped %zu, metadata %zu, slack %zu, stacks %zu, files %zu, break %zu, anonymous %zu, other %zu; "
           "residual %td bytes\n",
           last.rss >> 10, last.bytes[SEEMALLOC_IN_USE] >> 10, last.bytes[SEEMALLOC_MAPPED] >> 10, last.metadata >> 10, last.slack >> 10,
           last.stacks >> 10, last.files >> 10, last.brk >> 10, last.anonymous >> 10, last.other >> 10, last.residual);
    return failures != 0;
}
