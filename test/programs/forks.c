/* forks.c: forks from several threads while all of them allocate; the children allocate, start a thread of their own and end.
 *
 * For the dynamic and the static library. Prints totals that do not depend on the schedule.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/wait.h>

#include "probe.h"

enum { THREADS = 4, FORKS = 25, BLOCKS = 300 };

static atomic_int good, bad;

static unsigned next(unsigned *state) {
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Allocates blocks of mixed sizes, checks that each kept its contents, frees them; 1 if all was well. */
static int churn(unsigned seed) {
    unsigned char *blocks[BLOCKS];
    size_t sizes[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) {
        sizes[i] = next(&seed) % (i % 50 == 0 ? 200000 : 3000) + 1;
        blocks[i] = malloc(sizes[i]);
        if (!blocks[i]) return 0;
        memset(blocks[i], i, sizes[i]);
    }
    for (int i = 0; i < BLOCKS; i++) {
        if (blocks[i][0] != (unsigned char)i || blocks[i][sizes[i] / 2] != (unsigned char)i || blocks[i][sizes[i] - 1] != (unsigned char)i)
            return 0;
        free(blocks[i]);
    }
    return 1;
}

static void *child_thread(void *arg) { return (void *)(intptr_t)churn((unsigned)(uintptr_t)arg); }

static int child(unsigned seed) {
    pthread_t thread;
    void *result;
    if (!churn(seed)) return 1;
    if (pthread_create(&thread, NULL, child_thread, (void *)(uintptr_t)(seed + 1))) return 2;
    if (pthread_join(thread, &result) || !result) return 3;
    return 0;
}

static void *forker(void *arg) {
    unsigned number = (unsigned)(uintptr_t)arg;
    for (unsigned i = 0; i < FORKS; i++) {
        unsigned seed = number * 1000 + i;
        pid_t pid = fork();
        if (pid == 0) {
            int status = child(seed);
            if (i % 2) exit(status);
            _exit(status);
        }
        int fine = churn(seed);
        int status = -1;
        if (pid > 0)
            while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
        atomic_fetch_add(fine && status == 0 ? &good : &bad, 1);
    }
    return NULL;
}

int main(void) {
    probe_report(2);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, forker, (void *)(intptr_t)i)) return 2;
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    printf("forks: %d good, %d bad\n", good, bad);
    return bad != 0;
}
