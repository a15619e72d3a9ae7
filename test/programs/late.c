/* late.c: detached threads whose last frees come after all key destructors ran.
 *
 * libc keeps the text of strerror for unknown numbers and of dlerror per thread, and frees it after the last round of key
 * destructors, when an allocator has already taken its own per-thread cache down. An allocator that makes a new cache then loses it.
 * With seemalloc: after 2000 threads one cache is live, and the books, what is in use and what is kept unmerged are no more than after the
 * first 200. (What an idle arena keeps free at its top may differ.)
 * SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "probe.h"

enum { WAVE = 20, WAVES = 100, WARM = 10 };

static pthread_key_t key;
static pthread_barrier_t together; /* in the first wave all threads live at once, so that no later wave needs more */
static atomic_int destructions, texts;

struct last {
    int rounds;
    char *text;
};

static void destroy(void *arg) {
    struct last *last = arg;
    atomic_fetch_add(&destructions, 1);
    free(last->text);
    last->text = malloc(700);
    if (!last->text) abort();
    memset(last->text, 7, 700);
    if (--last->rounds > 0) {
        if (pthread_setspecific(key, last)) abort();
        return;
    }
    free(last->text);
    free(last);
}

static void *run(void *arg) {
    int number = (int)(long)arg;
    struct last *last = malloc(sizeof *last);
    if (!last) abort();
    last->rounds = 4; /* PTHREAD_DESTRUCTOR_ITERATIONS: the last one comes in the last round */
    last->text = strdup("first");
    if (pthread_setspecific(key, last)) abort();
    if (number < WAVE) pthread_barrier_wait(&together);
    char *text = strerror(100000 + number); /* kept by libc until the thread ends */
    void *none = dlopen("no-such-library-at-all.so", RTLD_NOW);
    if (text && strstr(text, "Unknown") && !none) atomic_fetch_add(&texts, 1);
    return NULL;
}

/* A detached thread is gone when the kernel no longer lists it. */
static int thread_count(void) {
    DIR *dir = opendir("/proc/self/task");
    int n = 0;
    if (!dir) abort();
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static size_t held(const struct seemalloc_stats *stats) {
    return stats->bytes[SEEMALLOC_IN_USE] + stats->bytes[SEEMALLOC_CACHED] + stats->bytes[SEEMALLOC_PARKED] +
           stats->bytes[SEEMALLOC_INBOX] + stats->bytes[SEEMALLOC_FAST];
}

int main(void) {
    int ours = probe_report(2);
    struct seemalloc_stats warm, end;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_key_create(&key, destroy) || pthread_barrier_init(&together, NULL, WAVE)) return 2;
    memset(&warm, 0, sizeof warm);
    memset(&end, 0, sizeof end);
    for (int wave = 0; wave < WAVES; wave++) {
        for (int i = 0; i < WAVE; i++) {
            pthread_t thread;
            if (pthread_create(&thread, &attr, run, (void *)(long)(wave * WAVE + i))) return 2;
        }
        while (thread_count() > 1) nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
        if (wave == WARM - 1 && ours) probe_stats(&warm);
    }
    printf("threads %d, destructions %d, texts %d\n", WAVE * WAVES, destructions, texts);
    if (!ours) return 0;
    if (!probe_stats(&end)) return 2;
    fprintf(stderr, "live caches %u; heap %zu -> %zu, of it held %zu -> %zu, books %zu -> %zu bytes\n", end.threads, warm.heap_bytes,
            end.heap_bytes, held(&warm), held(&end), warm.metadata_bytes, end.metadata_bytes);
    if (end.threads > 1) return fprintf(stderr, "caches of threads that are gone still count as live\n"), 1;
    if (held(&end) > held(&warm) + 65536 || end.metadata_bytes > warm.metadata_bytes + warm.metadata_bytes / 4)
        return fprintf(stderr, "memory grew from thread to thread\n"), 1;
    return 0;
}
