/* watch.h: runs a forking test under a watchdog, so that a hang becomes a failure with a stack.
 *
 * The process that ctest started stays single-threaded and only watches; the test runs in its child, in a process group of its own. What
 * both know lies in shared memory: a slot for every process that was forked and not yet waited for. A slot is reserved before fork, so that
 * a fork that does not return is seen too. A process that crashes waits for the watchdog, which asks gdb for the stacks, if there is a gdb.
 * Nothing here allocates.
 * SPDX-License-Identifier: MIT */
#ifndef TEST_FORK_WATCH_H
#define TEST_FORK_WATCH_H

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WATCH_SLOTS = 128, WATCH_FREE = 0, WATCH_TAKEN = -1 };

struct watch {
    atomic_long beat;    /* when the test last made progress, ms */
    atomic_int crashed;  /* pid of a process that received a fatal signal and waits */
    atomic_int signal;   /* which one */
    atomic_int failures; /* checks that failed anywhere */
    struct watch_slot {
        atomic_int pid; /* WATCH_FREE, WATCH_TAKEN until fork returned, or the child */
        atomic_int number;
        _Atomic(const char *) kind;
        atomic_long since;
    } slots[WATCH_SLOTS];
};

static struct watch *watch;

static inline long watch_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static inline void watch_beat(void) { atomic_store(&watch->beat, watch_now()); }

/* Reports a failed check from any process of the test. */
#define watch_check(ok, ...)                                                                                                               \
    do {                                                                                                                                   \
        if (!(ok)) {                                                                                                                       \
            atomic_fetch_add(&watch->failures, 1);                                                                                         \
            dprintf(2, "failed: " __VA_ARGS__);                                                                                            \
            dprintf(2, " (%s:%d, pid %d)\n", __FILE__, __LINE__, (int)getpid());                                                           \
        }                                                                                                                                  \
    } while (0)

/* Before fork. Waits while all slots are taken. */
static inline struct watch_slot *watch_reserve(const char *kind, int number) {
    for (;; nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL))
        for (int i = 0; i < WATCH_SLOTS; i++) {
            int none = WATCH_FREE;
            if (!atomic_compare_exchange_strong(&watch->slots[i].pid, &none, WATCH_TAKEN)) continue;
            watch->slots[i].number = number;
            watch->slots[i].kind = kind;
            watch->slots[i].since = watch_now();
            return &watch->slots[i];
        }
}

/* After fork, in the parent. */
static inline void watch_forked(struct watch_slot *slot, pid_t pid) { atomic_store(&slot->pid, pid > 0 ? pid : WATCH_FREE); }

/* After wait: frees the slot of `pid`, copying it to *was. The thread that forked may not have noted the pid yet: waits for it. */
static inline void watch_reaped(pid_t pid, struct watch_slot *was) {
    for (;; nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL))
        for (int i = 0; i < WATCH_SLOTS; i++)
            if (atomic_load(&watch->slots[i].pid) == pid) {
                was->number = watch->slots[i].number;
                was->kind = watch->slots[i].kind;
                atomic_store(&watch->slots[i].pid, WATCH_FREE);
                return;
            }
}

/* Checks what waitpid said about a child. */
static inline void watch_judge(pid_t pid, int status) {
    struct watch_slot was;
    watch_reaped(pid, &was);
    if (WIFSIGNALED(status))
        watch_check(0, "child %d (%s) was killed by signal %d", was.number, was.kind, WTERMSIG(status));
    else
        watch_check(status == 0, "child %d (%s) ended with status %d", was.number, was.kind, WEXITSTATUS(status));
}

static void watch_crash(int number) {
    int none = 0;
    if (atomic_compare_exchange_strong(&watch->crashed, &none, getpid())) {
        watch->signal = number;
        for (;;) pause();
    }
    _exit(70);
}

static inline void watch_stacks(pid_t pid, const char *who) {
    dprintf(2, "--- stacks of %s, pid %d\n", who, (int)pid);
    char number[16], *slash = number;
    snprintf(number, sizeof number, "%d", (int)pid);
    pid_t gdb = fork();
    if (gdb == 0) {
        unsetenv("LD_PRELOAD");
        dup2(2, 1);
        execlp("timeout", "timeout", "60", "gdb", "-p", slash, "-batch", "-nx", "-ex", "thread apply all backtrace", NULL);
        _exit(127);
    }
    int status;
    if (gdb < 0 || waitpid(gdb, &status, 0) < 0 || status) dprintf(2, "(gdb is missing or could not attach)\n");
}

/* True for a process that has ended and that nobody waited for yet. */
static inline int watch_is_zombie(pid_t pid) {
    char path[32], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = 0;
    char *name_end = strrchr(text, ')');
    return name_end && !strncmp(name_end, ") Z", 3);
}

/* The slot taken first (sign 1) or last (sign -1), zombies left out if wished; -1 if there is none. */
static inline int watch_slot_by_age(int sign, int alive) {
    int best = -1;
    for (int i = 0; i < WATCH_SLOTS; i++)
        if (watch->slots[i].pid != WATCH_FREE && !(alive && watch->slots[i].pid > 0 && watch_is_zombie(watch->slots[i].pid)) &&
            (best < 0 || (watch->slots[i].since - watch->slots[best].since) * sign < 0))
            best = i;
    return best;
}

/* Calls `body` in a child and watches it; a process without progress for `seconds` is a hang. Returns the exit status for main. */
static inline int watch_run(int (*body)(int argc, char **argv), int argc, char **argv, int seconds) {
    watch = mmap(NULL, sizeof *watch, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (watch == MAP_FAILED) return 2;
    watch_beat();
    pid_t test = fork();
    if (test < 0) return 2;
    if (test == 0) {
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
        struct sigaction action = {.sa_handler = watch_crash, .sa_flags = SA_ONSTACK};
        for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) sigaction(fatal[i], &action, NULL);
        exit(body(argc, argv));
    }
    setpgid(test, test);
    int status, found = 0;
    while (!found) {
        pid_t ended = waitpid(test, &status, WNOHANG);
        if (ended == test) {
            kill(-test, SIGKILL); /* children that nobody waited for */
            if (watch->failures) return fprintf(stderr, "%d checks failed\n", watch->failures), 1;
            if (WIFSIGNALED(status)) return fprintf(stderr, "the test was killed by signal %d\n", WTERMSIG(status)), 1;
            return WEXITSTATUS(status);
        }
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        long now = watch_now(), patience = seconds * 1000L;
        int crashed = atomic_load(&watch->crashed);
        if (crashed) {
            fprintf(stderr, "signal %d in pid %d\n", watch->signal, crashed);
            watch_stacks(crashed, crashed == test ? "the test" : "a child");
            found = 1;
        }
        int oldest = watch_slot_by_age(1, 0), newest = watch_slot_by_age(-1, 1);
        if (!found && oldest >= 0 && now - watch->slots[oldest].since >= patience) {
            struct watch_slot *slot = &watch->slots[oldest];
            fprintf(stderr, "hang: %s of child %d (%s)\n", slot->pid == WATCH_TAKEN ? "the fork" : "the life", slot->number, slot->kind);
            if (slot->pid > 0) watch_stacks(slot->pid, "the child");
            /* Parents wait for their children: the last one forked is where a chain of them stands. */
            if (newest >= 0 && newest != oldest && watch->slots[newest].pid > 0)
                watch_stacks(watch->slots[newest].pid, "the youngest child");
            watch_stacks(test, "the test");
            found = 1;
        }
        if (!found && now - watch->beat > patience) {
            fprintf(stderr, "hang: no progress for %d seconds\n", seconds);
            watch_stacks(test, "the test");
            found = 1;
        }
    }
    kill(-test, SIGKILL);
    waitpid(test, &status, 0);
    return 1;
}

#endif
