/* early.c: other people's fork handlers allocate while ours hold their locks: early_lib.c registered its handlers before the allocator did,
 * this program registers more after it. Two threads fork at the same time, four allocate.
 *
 * usage: early [FORKS]
 * SPDX-License-Identifier: MIT */
#include "load.h"

enum { THREADS = 4, FORKERS = 2 };

extern atomic_int early_prepared, early_parent, early_child;
static atomic_int prepared, after_parent, after_child;
static int wanted;

static void load_hook(void) {}

static void on_prepare(void) { load_burst(30, (unsigned)atomic_fetch_add(&prepared, 1)); }

static void on_parent(void) { load_burst(30, (unsigned)atomic_fetch_add(&after_parent, 1)); }

static void on_child(void) { load_burst(30, (unsigned)atomic_fetch_add(&after_child, 1)); }

static void *forker(void *arg) {
    int number = (int)(intptr_t)arg;
    for (int i = 0; i < wanted / FORKERS; i++) {
        watch_beat();
        int children = atomic_load(&after_child);
        struct watch_slot *slot = watch_reserve(number ? "of the second thread" : "of the first thread", i);
        pid_t pid = fork();
        if (pid == 0) {
            watch_check(atomic_load(&after_child) == children + 1, "the child handler did not run once");
            load_burst(100, (unsigned)i);
            if (i % 8 == 0) load_clear();
            exit(0);
        }
        watch_forked(slot, pid);
        watch_check(pid > 0, "fork: %s", strerror(errno));
        load_burst(20, (unsigned)i);
        int status;
        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
        if (pid > 0) watch_judge(pid, status);
    }
    return NULL;
}

static int body(int argc, char **argv) {
    wanted = argc > 1 ? atoi(argv[1]) : 1500;
    probe_report(2);
    int before = early_prepared; /* the watchdog has forked as well */
    if (pthread_atfork(on_prepare, on_parent, on_child)) return 2;
    load_start(THREADS);
    pthread_t forkers[FORKERS];
    for (int i = 0; i < FORKERS; i++)
        if (pthread_create(&forkers[i], NULL, forker, (void *)(intptr_t)i)) return 2;
    for (int i = 0; i < FORKERS; i++) pthread_join(forkers[i], NULL);
    load_end(THREADS);
    load_clear();
    int forks = wanted / FORKERS * FORKERS;
    printf("forks %d; early handlers: prepare %d, parent %d; late ones: prepare %d, parent %d\n", forks, early_prepared, early_parent,
           prepared, after_parent);
    watch_check(early_prepared == forks + before && early_parent == forks && prepared == forks && after_parent == forks,
                "not all handlers ran");
    return 0;
}

int main(int argc, char **argv) { return watch_run(body, argc, argv, 20); }
