/* background.c: the setting background. A process frees a burst and then does nothing at all. Without the thread nothing goes back; with it all that is free
 * does, but what caches hold, and then the process comes to rest. What the thread must not disturb: fork, exec, the end of the process, signals.
 * usage: background burst 0|1 | rest | fork | exec | exit | last | signals SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "pages.h"

enum { BLOCKS = 60000, KEPT = 50, PATIENCE = 20 /* seconds: only a failure takes so long */ };

static void sleep_for(unsigned milliseconds) {
    struct timespec time = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000l};
    while (nanosleep(&time, &time) != 0) {}
}

static int fail(const char *what) {
    printf("FAILED: %s\n", what);
    return 1;
}

/* All blocks, and those that stay, every KEPT-th. */
static struct block *blocks;

static void burst(void) {
    uint64_t random = 1;
    if (blocks == NULL) blocks = pages_map(BLOCKS * sizeof *blocks);
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i].size = 16 + pages_random(&random) % 4000;
        blocks[i].mem = memset(malloc(blocks[i].size), 1, blocks[i].size);
    }
    for (size_t i = 0; i < BLOCKS; i++) {
        if (i % KEPT != 0) free(blocks[i].mem);
    }
    for (size_t i = 0; i < BLOCKS / KEPT; i++) blocks[i] = blocks[i * KEPT];
}

/* Of a thread, read without stdio: what allocates wakes it. */
static unsigned long sleeps_of(const char *status_path) {
    static char text[8192];
    int file = open(status_path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file >= 0 ? read(file, text, sizeof text - 1) : -1;
    if (length <= 0) exit(77);
    close(file);
    text[length] = '\0';
    const char *found = strstr(text, "\nvoluntary_ctxt_switches:");
    return found != NULL ? strtoul(found + 25, NULL, 10) : 0;
}

/* Threads of the library in this process; where the last one says more of itself. */
static char thread_path[300];
static unsigned own_threads(void) {
    unsigned count = 0;
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL) exit(77);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char path[300], line[300];
        snprintf(path, sizeof path, "/proc/self/task/%.20s/status", task->d_name);
        FILE *status = fopen(path, "r");
        if (status == NULL) continue;
        if (fgets(line, sizeof line, status) != NULL && strcmp(line, "Name:\tseemalloc\n") == 0) {
            strcpy(thread_path, path);
            count++;
        }
        fclose(status);
    }
    closedir(tasks);
    return count;
}

static bool gone_within(size_t most, unsigned seconds) {
    for (unsigned i = 0; i < seconds * 10; i++) {
        if (pages_of_heap() <= most) return true;
        sleep_for(100);
    }
    return false;
}

struct cached {
    struct block *blocks;
    size_t count;
};

static int note_cached(const struct seemalloc_chunk *chunk, void *arg) {
    struct cached *cached = arg;
    if (chunk->state != SEEMALLOC_CACHED || cached->count == BLOCKS) return 0;
    cached->blocks[cached->count].mem = (char *)(uintptr_t)chunk->mem;
    cached->blocks[cached->count++].size = chunk->size;
    return 0;
}

static int run_burst(bool with_thread) {
    burst();
    struct cached cached = {pages_map(BLOCKS * sizeof *cached.blocks), 0};
    pages_walk(note_cached, &cached); /* what this thread's cache holds stays */
    const struct block *groups[] = {blocks, cached.blocks};
    size_t counts[] = {BLOCKS / KEPT, cached.count}, live = pages_live(groups, counts, 2), before = pages_of_heap();
    size_t most = live + live / 10;
    bool gone = gone_within(most, with_thread ? PATIENCE : 3);
    printf("%zu pages, then %zu; %zu hold a live or cached byte; %u threads\n", before, pages_of_heap(), live, own_threads());
    pages_print_states();
    if (own_threads() != with_thread) return fail("there is a thread, or none");
    return gone == with_thread ? 0 : fail(with_thread ? "free pages stay" : "somebody gave pages back: the test shows nothing");
}

/* At rest it sleeps for longer and longer: a window of `decay` each would be 40 times in ten seconds. */
static int run_rest(void) {
    burst();
    if (own_threads() != 1) return fail("no thread");
    for (unsigned tries = 0; tries < 12; tries++) {
        unsigned long before = sleeps_of(thread_path);
        sleep_for(2000);
        unsigned long sleeps = sleeps_of(thread_path) - before;
        printf("%lu sleeps in two seconds\n", sleeps);
        if (sleeps <= 1) return 0;
    }
    return fail("it does not come to rest");
}

/* The child has none at first, and its own when it has grown after a second; and both end as they should. */
static int run_fork(void) {
    burst();
    pid_t child = fork();
    if (child == 0) {
        if (own_threads() != 0) _exit(1);
        burst();
        if (own_threads() != 0) _exit(2);
        sleep_for(1200);
        burst();
        if (own_threads() != 1) _exit(3);
        exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    if (status != 0) printf("child: status 0x%x\n", (unsigned)status);
    return status == 0 && own_threads() == 1 ? 0 : fail("fork");
}

static void *end_later(void *arg) {
    sleep_for(300);
    return arg;
}

/* Nothing waits for it: main ends by pthread_exit, another thread later, and then the process. */
static int run_last(void) {
    pid_t child = fork();
    if (child == 0) {
        sleep_for(1200);
        burst();
        if (own_threads() != 1) _exit(1);
        pthread_t thread;
        if (pthread_create(&thread, NULL, end_later, NULL) != 0) _exit(2);
        pthread_exit(NULL);
    }
    for (unsigned i = 0; i < PATIENCE * 10; i++) {
        int status;
        if (waitpid(child, &status, WNOHANG) == child)
            return status == 0 ? 0 : fail("status of the process that only its last thread ended");
        sleep_for(100);
    }
    kill(child, SIGKILL);
    return fail("the process never ends");
}

static volatile sig_atomic_t wrong_thread;
static pthread_t main_thread;
static void handler(int number) {
    (void)number;
    if (!pthread_equal(pthread_self(), main_thread)) wrong_thread = 1;
}

/* Signals go to the program's threads; setuid, which tells all threads, comes back. */
static int run_signals(void) {
    main_thread = pthread_self();
    burst();
    struct sigaction action = {.sa_handler = handler};
    sigaction(SIGUSR1, &action, NULL);
    for (unsigned i = 0; i < 1000; i++) kill(getpid(), SIGUSR1);
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    if (wrong_thread || sigismember(&now, SIGUSR1) || sigismember(&now, SIGTERM)) return fail("signals");
    if (own_threads() != 1) return fail("no thread");
    return setuid(getuid()) == 0 ? 0 : fail("setuid");
}

int main(int argc, char **argv) {
    setvbuf(stdout, NULL, _IONBF, 0);
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "burst") == 0) return run_burst(argc > 2 && argv[2][0] == '1');
    if (strcmp(what, "rest") == 0) return run_rest();
    if (strcmp(what, "fork") == 0) return run_fork();
    if (strcmp(what, "last") == 0) return run_last();
    if (strcmp(what, "signals") == 0) return run_signals();
    if (strcmp(what, "exec") == 0) {
        burst();
        execl("/proc/self/exe", argv[0], "exit", (char *)NULL);
        return fail("exec");
    }
    if (strcmp(what, "exit") != 0) return 2;
    burst();
    return own_threads() == 1 ? 0 : fail("no thread");
}
