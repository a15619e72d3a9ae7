/* vmas.c: a library to preload after ours. It looks again and again, and at the process's exit, at how many mappings there are, and adds a line to the file
 * VMAS_REPORT: the program, the number of looks, and struct vmas at the moment when mappings came nearest to what is allowed, or were farthest beyond it. Other
 * threads go on while it looks, so only what is found three times in a row counts. SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pages.h"

enum { LOOKS = 3, PAUSE_LEAST = 5, PAUSE = 10 }; /* milliseconds; times what a look takes */

static struct vmas worst;
static size_t looks;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static long spare(struct vmas vmas) { return (long)pages_vmas_allowed(vmas) - (long)vmas.found; }

static void take_look(void) {
    struct vmas best = pages_vmas();
    for (unsigned again = 1; again < LOOKS && spare(best) < 0; again++) {
        struct vmas vmas = pages_vmas();
        if (spare(vmas) > spare(best)) best = vmas;
    }
    pthread_mutex_lock(&mutex);
    if (looks == 0 || spare(best) < spare(worst)) worst = best;
    looks++;
    pthread_mutex_unlock(&mutex);
}

static void *keep_looking(void *arg) {
    for (;;) {
        double start = pages_now();
        take_look();
        double pause = (pages_now() - start) * PAUSE;
        if (pause < PAUSE_LEAST * 1e-3) pause = PAUSE_LEAST * 1e-3;
        nanosleep(&(struct timespec){(time_t)pause, (long)((pause - (double)(time_t)pause) * 1e9)}, NULL);
    }
    return arg;
}

/* The program's signals are none of this thread's. */
__attribute__((constructor)) static void begin(void) {
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    if (getenv("VMAS_REPORT") != NULL && pthread_create(&thread, NULL, keep_looking, NULL) != 0) abort();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

__attribute__((destructor)) static void end(void) {
    const char *report = getenv("VMAS_REPORT");
    char line[256];
    if (report == NULL) return;
    take_look();
    int length = snprintf(line, sizeof line, "%s %zu %zu %zu %zu %zu %zu\n", program_invocation_short_name, looks, worst.found, worst.heaps,
                          worst.blocks, worst.caches, worst.arenas);
    int file = open(report, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || write(file, line, (size_t)length) != length) abort();
    close(file);
}
