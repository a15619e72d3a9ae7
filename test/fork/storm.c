/* storm.c: thousands of forks in a program whose threads allocate and use stdio.
 *
 * usage: storm [FORKS]. Eight threads allocate; one is in getline and one in fflush(NULL) (which wait for each other's locks), one opens and closes
 * streams. The main thread forks; signals (SIGUSR1 to a chosen thread, SIGALRM from a timer) interrupt the allocating threads, often inside malloc,
 * and their handlers fork as well. Children end at once, or allocate first, end by exit or _exit, start threads, or fork again; those forked in a
 * handler end there or return into the malloc that was interrupted, and go on. None may hang, none may find a damaged block, and what a child holds
 * from the system must not grow from fork to fork, nor what the parent holds.
 * On the system's malloc no handler forks: glibc's own fork would deadlock there.
 * SPDX-License-Identifier: MIT */
#include <stdbool.h>
#include <fcntl.h>
#include <sys/time.h>

#include "load.h"

enum kind { EXIT_NOW, BURST_EXIT, BURST_UNDERSCORE, CLEAR_EXIT, THREAD_EXIT, FORK_AGAIN, HANDLER_END, HANDLER_RETURN, KINDS };
static const char *const kind_names[KINDS] = {"exit at once",
                                              "allocate, exit",
                                              "allocate, _exit",
                                              "free all, exit",
                                              "start a thread, exit",
                                              "fork again",
                                              "in a signal handler, _exit there",
                                              "in a signal handler, return into malloc"};

enum { MOST_FORKS = 1000000, AT_ONCE = 6 };

struct sample {
    uint32_t child_heap, child_lost, child_resident, parent_heap; /* KiB, 0 = not taken */
};

static struct sample *samples; /* by number of fork, shared */
static int wanted;
static atomic_int number, outstanding, counts[KINDS];
static atomic_int in_child; /* set in a child that returns from the handler */
static volatile sig_atomic_t signals_on;

/* Called when all that the tables held is freed. What is still in use then (libc's blocks, and one block of each thread that was in its hands) must be
 * as much after the last fork as after the first. */
static void child_finish(int n) {
    struct seemalloc_stats stats;
    if (probe_stats(&stats)) {
        samples[n].child_heap = (uint32_t)((stats.heap_bytes + stats.mapped_bytes) >> 10);
        samples[n].child_lost =
            (uint32_t)((stats.bytes[SEEMALLOC_IN_USE] + stats.bytes[SEEMALLOC_MAPPED] + stats.bytes[SEEMALLOC_ABANDONED]) >> 10) + 1;
    }
    samples[n].child_resident = (uint32_t)(resident_bytes() >> 10);
}

static void *child_thread(void *arg) {
    load_burst(100, (unsigned)(uintptr_t)arg);
    return NULL;
}

static void wait_for(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return;
    watch_judge(pid, status);
}

/* What a child does that the main thread forked. */
static void child_main(enum kind kind, int n) {
    switch (kind) {
    case EXIT_NOW: exit(0);
    case BURST_EXIT: load_burst(100, (unsigned)n); break;
    case BURST_UNDERSCORE: load_burst(100, (unsigned)n); _exit(0);
    case CLEAR_EXIT:
        load_clear();
        load_burst(300, (unsigned)n);
        child_finish(n);
        break;
    case THREAD_EXIT: {
        pthread_t thread;
        watch_check(pthread_create(&thread, NULL, child_thread, (void *)(intptr_t)n) == 0, "no thread in the child");
        load_burst(50, (unsigned)n);
        pthread_join(thread, NULL);
        break;
    }
    case FORK_AGAIN: {
        struct watch_slot *slot = watch_reserve("child of a child", n);
        pid_t pid = fork();
        if (pid == 0) {
            load_burst(100, (unsigned)n);
            exit(0);
        }
        watch_forked(slot, pid);
        load_burst(50, (unsigned)n);
        wait_for(pid);
        break;
    }
    default: abort();
    }
    exit(0);
}

/* The load threads call this between two operations: here a child that was forked in a handler arrives. */
static void load_hook(void) {
    int n = atomic_load_explicit(&in_child, memory_order_relaxed);
    if (!n) return;
    n--;
    atomic_store(&load_stop, 1);
    load_burst(50, (unsigned)n);
    if (n % 4 < 2) {
        load_clear();
        child_finish(n);
    }
    if (n % 2) exit(0);
    _exit(0);
}

static void handler(int signal) {
    (void)signal;
    int error = errno;
    if (!signals_on || atomic_load(&in_child)) return;
    if (atomic_fetch_add(&outstanding, 1) >= AT_ONCE) {
        atomic_fetch_sub(&outstanding, 1);
        return;
    }
    int n = atomic_fetch_add(&number, 1);
    if (n >= wanted) {
        atomic_fetch_sub(&outstanding, 1);
        return;
    }
    enum kind kind = n % 3 == 0 ? HANDLER_END : HANDLER_RETURN;
    struct watch_slot *slot = watch_reserve(kind_names[kind], n);
    pid_t pid = fork();
    if (pid == 0) {
        signals_on = 0;
        if (kind == HANDLER_END) _exit(0);
        atomic_store(&in_child, n + 1);
    } else {
        watch_forked(slot, pid);
        watch_check(pid > 0, "fork in a handler: %s", strerror(errno));
        atomic_fetch_add(&counts[kind], 1);
    }
    errno = error;
}

static int pipe_ends[2];
static atomic_int stdio_stop;

/* Writes lines of all lengths into the pipe; neither allocates nor uses stdio. */
static void *feed_run(void *arg) {
    (void)arg;
    char line[3000];
    unsigned state = 9;
    memset(line, 'l', sizeof line);
    while (!stdio_stop) {
        for (int i = 0; i < 4; i++) {
            size_t n = load_random(&state) % (sizeof line - 1);
            line[n] = '\n';
            (void)!write(pipe_ends[1], line, n + 1);
            line[n] = 'l';
        }
        nanosleep(&(struct timespec){.tv_nsec = 100000}, NULL);
    }
    close(pipe_ends[1]);
    return NULL;
}

static void *getline_run(void *arg) {
    FILE *in = arg;
    char *line = NULL;
    size_t room = 0;
    for (long n = 0; getline(&line, &room, in) >= 0; n++)
        if (n % 3 == 0) { /* getline allocates, with the stream's lock held */
            free(line);
            line = NULL;
            room = 0;
        }
    free(line);
    return NULL;
}

static void *flush_run(void *arg) {
    FILE *out = arg;
    for (int n = 0; !stdio_stop; n++) {
        fprintf(out, "line %d\n", n);
        fflush(NULL); /* takes the lock of the list of streams, then that of each stream */
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    }
    return NULL;
}

static void *open_run(void *arg) {
    (void)arg;
    while (!stdio_stop) {
        FILE *f = fopen("/dev/null", "w");
        if (!f) abort();
        fprintf(f, "%d\n", 1);
        fclose(f);
        nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
    }
    return NULL;
}

#define SETTLED 5000 /* forks after which heaps have reached their size */

static int compare(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* Median of one field over the samples from..to that were taken; 0 if there are none. */
static uint32_t median(size_t field, int from, int to) {
    static uint32_t values[MOST_FORKS];
    size_t n = 0;
    for (int i = from; i < to; i++) {
        uint32_t value;
        memcpy(&value, (char *)&samples[i] + field, sizeof value);
        if (value) values[n++] = value;
    }
    if (!n) return 0;
    qsort(values, n, sizeof *values, compare);
    return values[n / 2];
}

/* Medians of each fifth of the forks, because a single child may meet a moment when more is live. The memory must not follow the number of forks: the
 * last fifth is held against the largest of the first three. Sizes are mixed, so the heap's fragmentation has its ups and downs. */
static void judge_growth(const char *what, size_t field, uint32_t slack) {
    bool warm = wanted >= SETTLED; /* a short storm ends while the parent's own heap still grows to its size */
    uint32_t fifth[5], early = 0;
    printf("%s, KiB, in each fifth of the forks:", what);
    for (int i = 0; i < 5; i++) {
        fifth[i] = median(field, (int)((long)wanted * i / 5), (int)((long)wanted * (i + 1) / 5));
        if (i < 3 && fifth[i] > early) early = fifth[i];
        printf(" %u", fifth[i]);
    }
    printf("\n");
    watch_check(early && fifth[4], "%s was not measured", what);
    watch_check(!warm || fifth[4] <= early + early / 4 + slack, "%s grew from %u to %u KiB", what, early, fifth[4]);
}

static int body(int argc, char **argv) {
    wanted = argc > 1 ? atoi(argv[1]) : 10000;
    if (wanted < 100 || wanted > MOST_FORKS) return 2;
    samples = mmap(NULL, sizeof *samples * (size_t)wanted, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (samples == MAP_FAILED) return 2;
    int ours = probe_report(2);

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGALRM);
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART, .sa_mask = set};
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGALRM, &action, NULL);
    load_start(LOAD_THREADS);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* all further threads inherit this: only the load threads are interrupted */

    if (pipe2(pipe_ends, O_CLOEXEC)) return 2;
    FILE *in = fdopen(pipe_ends[0], "r"), *out = fopen("/dev/null", "w");
    if (!in || !out) return 2;
    pthread_t feed, reader, flusher, opener;
    if (pthread_create(&feed, NULL, feed_run, NULL) || pthread_create(&reader, NULL, getline_run, in) ||
        pthread_create(&flusher, NULL, flush_run, out) || pthread_create(&opener, NULL, open_run, NULL))
        return 2;
    signals_on = ours;
    if (ours) setitimer(ITIMER_REAL, &(struct itimerval){{0, 4900}, {0, 4900}}, NULL);

    unsigned state = 3;
    int running = 1, own = 0;
    while (running || atomic_load(&outstanding) > 0) {
        watch_beat();
        int status;
        pid_t ended = waitpid(-1, &status, running && atomic_load(&outstanding) < AT_ONCE - 2 ? WNOHANG : 0);
        if (ended > 0) {
            watch_judge(ended, status);
            atomic_fetch_sub(&outstanding, 1);
        } else if (ended < 0) {
            nanosleep(&(struct timespec){.tv_nsec = 20000}, NULL); /* a handler has counted its child and not yet forked it */
        }
        if (!running || atomic_load(&outstanding) >= AT_ONCE - 2) continue;
        int n = atomic_fetch_add(&number, 1);
        if (n >= wanted || watch->failures > 10) {
            running = 0;
            signals_on = 0;
            setitimer(ITIMER_REAL, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
            continue;
        }
        static const enum kind plan[] = {EXIT_NOW, BURST_EXIT, BURST_UNDERSCORE, CLEAR_EXIT, EXIT_NOW, THREAD_EXIT, BURST_EXIT, FORK_AGAIN};
        enum kind kind = plan[load_random(&state) % (sizeof plan / sizeof *plan)];
        if (own++ % 4 == 0) samples[n].parent_heap = (uint32_t)(probe_heap_bytes() >> 10);
        atomic_fetch_add(&outstanding, 1);
        struct watch_slot *slot = watch_reserve(kind_names[kind], n);
        pid_t pid = fork();
        if (pid == 0) {
            signals_on = 0;
            child_main(kind, n);
        }
        watch_forked(slot, pid);
        watch_check(pid > 0, "fork: %s", strerror(errno));
        if (pid < 0) atomic_fetch_sub(&outstanding, 1);
        atomic_fetch_add(&counts[kind], 1);
        if (ours && n % 4 == 0) pthread_kill(load_threads[load_random(&state) % LOAD_THREADS], SIGUSR1);
    }
    watch_beat();
    load_end(LOAD_THREADS);
    stdio_stop = 1;
    pthread_join(feed, NULL);
    pthread_join(reader, NULL);
    pthread_join(flusher, NULL);
    pthread_join(opener, NULL);
    load_clear();

    int total = 0;
    for (int k = 0; k < KINDS; k++) {
        printf("%6d %s\n", counts[k], kind_names[k]);
        total += counts[k];
    }
    printf("%6d forks during %lu operations of the threads\n", total, atomic_load(&load_operations));
    watch_check(total >= wanted, "only %d of %d forks", total, wanted);
    if (ours) {
        watch_check(counts[HANDLER_END] > 0 && counts[HANDLER_RETURN] > 0, "no handler forked");
        judge_growth("what a child can't free", offsetof(struct sample, child_lost), 128);
        watch_check(median(offsetof(struct sample, child_lost), 0, wanted) < 256, "a child can't free more than 256 KiB");
        judge_growth("a child's heap", offsetof(struct sample, child_heap), 1024);
        judge_growth("the parent's heap", offsetof(struct sample, parent_heap), 1024);
    }
    judge_growth("a child's resident memory", offsetof(struct sample, child_resident), 1024);
    return 0;
}

int main(int argc, char **argv) { return watch_run(body, argc, argv, 20); }
