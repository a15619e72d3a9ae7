/* nested.c: a child forks a child forks a child, fifty deep, each while threads of its own allocate.
 *
 * usage: nested [CHAINS]. Every generation frees what the threads of the one before it had in their tables, and starts threads of its own. What such
 * threads had in their caches and in other arenas has to be found again: heap and books of the last generations may not be larger than those of the
 * first, but for the few blocks that were in a thread's hands at the moment of a fork.
 * SPDX-License-Identifier: MIT */
#define LOAD_LARGE 0
#include "load.h"

enum { DEPTH = 50, THREADS = 4, WARM = 10, OPERATIONS = 1500 };

static void load_hook(void) {}

static struct level { size_t heap, books, abandoned, resident; } * levels; /* shared */

static int generation(int depth) {
    watch_beat();
    load_clear(); /* of the generation before */
    struct seemalloc_stats stats;
    if (probe_stats(&stats)) {
        levels[depth].heap = stats.heap_bytes + stats.mapped_bytes;
        levels[depth].books = stats.metadata_bytes;
        levels[depth].abandoned = stats.bytes[SEEMALLOC_ABANDONED];
    }
    levels[depth].resident = resident_bytes();
    if (depth == DEPTH) return 0;

    unsigned long before = atomic_load(&load_operations);
    load_start(THREADS);
    while (atomic_load(&load_operations) - before < OPERATIONS) nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    load_burst(200, (unsigned)depth);
    struct watch_slot *slot = watch_reserve("a generation", depth + 1);
    pid_t pid = fork();
    if (pid == 0) {
        /* The threads are gone; only the slots of the ancestors stay taken. */
        exit(generation(depth + 1));
    }
    watch_forked(slot, pid);
    watch_check(pid > 0, "fork at depth %d: %s", depth, strerror(errno));
    load_end(THREADS);
    load_clear();
    int status = 1;
    if (pid > 0) {
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
        watch_judge(pid, status);
    }
    return status != 0;
}

static size_t largest(size_t field, int from, int to) {
    size_t most = 0;
    for (int i = from; i <= to; i++) {
        size_t value;
        memcpy(&value, (char *)&levels[i] + field, sizeof value);
        if (value > most) most = value;
    }
    return most;
}

static void judge(const char *what, size_t field) {
    size_t early = largest(field, 1, WARM), late = largest(field, DEPTH - WARM + 1, DEPTH);
    printf("%s: %zu KiB in generations 1 to %d, %zu KiB in the last %d\n", what, early >> 10, WARM, late >> 10, WARM);
    watch_check(late <= early + early / 4 + (1 << 20), "%s grew from %zu to %zu bytes", what, early, late);
}

static int body(int argc, char **argv) {
    int chains = argc > 1 ? atoi(argv[1]) : 3;
    levels = mmap(NULL, sizeof *levels * (DEPTH + 1), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (levels == MAP_FAILED) return 2;
    int ours = probe_report(2);
    for (int chain = 0; chain < chains; chain++) {
        watch_check(generation(0) == 0, "a generation failed");
        if (ours) {
            judge("heap", offsetof(struct level, heap));
            judge("books", offsetof(struct level, books));
            judge("abandoned", offsetof(struct level, abandoned));
            judge("resident", offsetof(struct level, resident));
        }
        fflush(stdout); /* else every generation of the next chain prints it again */
    }
    return 0;
}

int main(int argc, char **argv) { return watch_run(body, argc, argv, 40); }
