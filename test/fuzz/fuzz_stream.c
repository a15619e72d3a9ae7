/* fuzz_stream: plays random streams of operations on the allocator for a while, each round in a process of its own with settings of its own, all
 * from one seed.
 *
 *   fuzz_stream [--seed S] [--seconds N | --rounds N] [--threads T] [--page-size P] [--inject] [--minimise]
 *   fuzz_stream --seed S --rounds 1 ...          repeats the round that a failure named
 *   fuzz_stream --mutants                        tests the player: on allocators with a known fault
 *
 * --threads 1: one stream, which up to eight threads play in turn; repeatable to the last address. --threads 8: eight streams at once.
 * --page-size 0: drawn for each round. --inject: the system refuses. --libc: on the system's malloc instead. --check N: invariants every N
 * operations. --replay FILE: plays the operations in FILE. --trace: print operations. --minimise: after a failure with --threads 1, search for
 * the shortest stream that still fails, and print it. Exit status 0: nothing found. SPDX-License-Identifier: MIT */
#include "player.h"
#include "shadow.h"
#include "stage.h"

#ifdef FUZZ_FAKE
#include "fake.h"
#endif

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    LANES_MAX = 64,
    STILL_TIMEOUT = 100 /* seconds without progress that are a hang; how long a round may take is the machine's affair */
};

/* What a round tells its parent, however it ends. */
struct report {
    uint64_t operations;
    char message[512];
    struct {
        uint64_t number;
        struct op op;
    } lanes[LANES_MAX];
};

static struct {
    uint64_t seed;
    double seconds;
    uint64_t rounds;
    unsigned threads;
    size_t page_size;
    bool inject, libc, minimise, trace, mutants, child;
    unsigned mutant, check, operations;
    int report_fd;
    const char *replay;
} options = {.seed = 1, .threads = 1, .page_size = 4096, .report_fd = -1, .check = ~0u};

static struct report *report;

/* --- One round, in a process of its own --- */

/* All that differs from round to round, from the round's seed alone. */
struct round {
    size_t page_size;
    char conf[256];
    struct player_setup player;
    unsigned operations; /* per lane */
    uint64_t stream;
};

static uint64_t below(uint64_t *random, uint64_t n) { return op_random(random) % n; }

static struct round round_of(uint64_t seed) {
    struct round round = {0};
    uint64_t r = seed * 2 + options.threads;
    op_random(&r);
    static const size_t pages[] = {4096, 4096, 16384, 65536};
    round.page_size = options.page_size != 0 ? options.page_size : pages[below(&r, 4)];

    char *at = round.conf, *end = round.conf + sizeof round.conf;
#define SETTING(chance, name, value)                                                                                                       \
    if (below(&r, chance) == 0)                                                                                                            \
    at += snprintf(at, (size_t)(end - at), "%s" name ":%llu", at != round.conf ? "," : "", (unsigned long long)(value))
    SETTING(3, "tcache_max", below(&r, 2) == 0 ? 0 : below(&r, 1 << 17));
    SETTING(8, "tcache_count", below(&r, 257));
    SETTING(4, "mmap_threshold", below(&r, 2) == 0 ? (uint64_t)4096 << below(&r, 10) : below(&r, 1 << 20));
    SETTING(4, "top_pad", below(&r, 1 << 20));
    SETTING(4, "trim_threshold", below(&r, 1 << 20));
    SETTING(4, "mxfast", 8 * below(&r, 21));
    SETTING(3, "arena_max", 1 + below(&r, 6));
    SETTING(8, "mmap_max", below(&r, 10));
    SETTING(2, "decay", below(&r, 3));
    SETTING(6, "hugetlb", 1);
    uint64_t limit = options.inject && below(&r, 4) == 0 ? (uint64_t)1 << (20 + below(&r, 6)) : 0;
    if (limit != 0) SETTING(1, "limit", limit + below(&r, 1 << 20));
#undef SETTING

    struct player_setup *p = &round.player;
    p->lanes = options.threads;
    p->ops.threads = options.threads > 1 || below(&r, 3) == 0 ? 1 : 2 + (unsigned)below(&r, PLAYER_ACTORS - 1);
    p->ops.concurrent = options.threads > 1;
    p->ops.inject = options.inject;
    p->limited = limit != 0 && !options.libc;
#ifdef FUZZ_FAKE
    p->ops.stage = !options.libc;
#endif
    p->ops.slots = below(&r, 3) == 0 ? 32 : below(&r, 2) == 0 ? 512 : PLAYER_SLOTS;
    static const unsigned every[] = {1, 16, 128, 1024};
    unsigned effort = (unsigned)below(&r, 4);
    if (effort == 0) p->ops.slots = 32 + (unsigned)below(&r, 200);
    p->check_every = options.check != ~0u ? options.check : every[effort];
    p->live_limit = ((size_t)16 << 20) << below(&r, 4);
    p->seed = op_random(&r);
    round.stream = op_random(&r);
    static const unsigned lengths[] = {3000, 10000, 30000, 60000};
    round.operations = options.operations != 0 ? options.operations : lengths[effort];
    return round;
}

static void on_fault(const char *message) {
    snprintf(report->message, sizeof report->message, "%s", message);
    if (options.report_fd < 0) fprintf(stderr, "fuzz_stream: %s\n", message);
    _exit(3);
}

static void on_progress(unsigned lane, uint64_t number, const struct op *op) {
    report->lanes[lane].number = number;
    report->lanes[lane].op = *op;
    if (options.trace) fprintf(stderr, "%u/%llu %s\n", lane, (unsigned long long)number, op_text(op));
}

static struct op *operations_of(const struct round *round, unsigned lane, size_t *count) {
    struct op *ops = shadow_pages((round->operations + 1) * sizeof *ops);
    struct op_source source;
    op_source_init(&source, round->player.ops, round->stream + lane * 0x1234567u);
    for (unsigned i = 0; i < round->operations; i++) ops[i] = op_next(&source);
    *count = round->operations;
    return ops;
}

static struct op *operations_read(const char *path, size_t *count) {
    int fd = open(path, O_RDONLY);
    off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    if (size < 0) {
        perror(path);
        exit(2);
    }
    *count = (size_t)size / sizeof(struct op);
    struct op *ops = shadow_pages((size_t)size + sizeof(struct op));
    if (pread(fd, ops, (size_t)size, 0) != size) exit(2);
    close(fd);
    return ops;
}

static struct player *player;
static pthread_barrier_t barrier;

struct runner {
    const struct op *ops;
    size_t count, at, left; /* left: until the thread ends and another takes over */
    unsigned lane;
    uint64_t random;
    pthread_t thread, before;
    bool has_before;
};

static struct runner runners[LANES_MAX];
static pthread_mutex_t finished_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t finished_condition = PTHREAD_COND_INITIALIZER;
static unsigned finished;

enum { BETWEEN_BARRIERS = 2000 };

/* A lane of several: plays, stops at the barriers, and now and then hands over to a new thread and exits. The new one first waits until the old
 * is wholly gone, so that at a barrier no thread is still busy with its end. */
static void *runner_main(void *arg) {
    struct runner *runner = arg;
    if (runner->has_before) pthread_join(runner->before, NULL);
    runner->left = 500 + op_random(&runner->random) % 20000;
    while (runner->at < runner->count) {
        lane_play(player_lane(player, runner->lane), &runner->ops[runner->at++]);
        if (runner->at % BETWEEN_BARRIERS == 0) {
            pthread_barrier_wait(&barrier);
            if (runner->lane == 0) {
                alarm(STILL_TIMEOUT);
                player_check(player);
            }
            pthread_barrier_wait(&barrier);
        }
        if (runner->left-- == 0 && runner->at < runner->count) {
            runner->before = pthread_self();
            runner->has_before = true;
            if (pthread_create(&runner->thread, NULL, runner_main, runner) != 0) abort();
            return NULL;
        }
    }
    pthread_mutex_lock(&finished_mutex);
    finished++;
    pthread_cond_signal(&finished_condition);
    pthread_mutex_unlock(&finished_mutex);
    return NULL;
}

static void play_lanes(const struct round *round) {
    unsigned lanes = round->player.lanes;
    pthread_barrier_init(&barrier, NULL, lanes);
    for (unsigned l = 0; l < lanes; l++) {
        runners[l].ops = operations_of(round, l, &runners[l].count);
        runners[l].lane = l;
        runners[l].random = round->stream + l;
    }
    for (unsigned l = 0; l < lanes; l++) {
        if (pthread_create(&runners[l].thread, NULL, runner_main, &runners[l]) != 0) abort();
    }
    pthread_mutex_lock(&finished_mutex);
    while (finished < lanes) pthread_cond_wait(&finished_condition, &finished_mutex);
    pthread_mutex_unlock(&finished_mutex);
    for (unsigned l = 0; l < lanes; l++) pthread_join(runners[l].thread, NULL);
}

static int play_round(void) {
    struct round round = round_of(options.seed);
    alarm(STILL_TIMEOUT);
    round.player.subject = &subject_libc;
#ifdef FUZZ_FAKE
    fake_seed(options.seed);
    if (!options.libc) {
        round.player.subject = &subject_engine;
        round.player.stage = stage_play;
        round.player.stage_check = fake_check;
    }
#endif
#ifdef FUZZ_REAL
    if (!options.libc) round.player.subject = &subject_engine;
#endif
    if (options.mutant != 0) round.player.subject = subject_mutant(round.player.subject, options.mutant);
    round.player.fault = on_fault;
    round.player.progress = on_progress;
    player = player_new(&round.player);
    if (round.player.lanes == 1) {
        size_t count;
        struct op *ops = options.replay != NULL ? operations_read(options.replay, &count) : operations_of(&round, 0, &count);
        for (size_t i = 0; i < count; i++) {
            if (i % BETWEEN_BARRIERS == 0) alarm(STILL_TIMEOUT);
            lane_play(player_lane(player, 0), &ops[i]);
        }
    } else {
        play_lanes(&round);
    }
    player_finish(player);
    report->operations = player_operations(player);
    return 0;
}

/* --- The parent: round after round --- */

static int make_memory_file(void) {
    int fd = memfd_create("fuzz", 0); /* inherited over exec */
    if (fd < 0) {
        perror("memfd_create");
        exit(2);
    }
    return fd;
}

/* Runs a round (or the operations in a file) in a new process; true if it ended well. *signal: that ended it, else 0. */
static bool run_child(uint64_t seed, const char *replay, unsigned check, bool quiet, int *signal) {
    struct round round = round_of(seed);
    memset(report, 0, sizeof *report);
    char texts[8][32];
    snprintf(texts[0], 32, "%llu", (unsigned long long)seed);
    snprintf(texts[1], 32, "%u", options.threads);
    snprintf(texts[2], 32, "%zu", options.page_size);
    snprintf(texts[3], 32, "%d", options.report_fd);
    snprintf(texts[4], 32, "%u", options.mutant);
    snprintf(texts[5], 32, "%u", check);
    snprintf(texts[6], 32, "%u", options.operations);
    snprintf(texts[7], 32, "%zu", round.page_size);
    char *args[32] = {"fuzz_stream", "--child",  texts[3], "--seed",  texts[0], "--threads",    texts[1], "--page-size",
                      texts[2],      "--mutant", texts[4], "--check", texts[5], "--operations", texts[6]};
    int n = 15;
    if (options.inject) args[n++] = "--inject";
    if (options.libc) args[n++] = "--libc";
    if (options.trace && !quiet) args[n++] = "--trace";
    if (replay != NULL) args[n++] = "--replay", args[n++] = (char *)(uintptr_t)replay;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        setenv("FAKE_PAGE_SIZE", texts[7], 1);
        setenv("SEEMALLOC_CONF", round.conf, 1);
        if (quiet) {
            int null = open("/dev/null", O_WRONLY);
            dup2(null, STDERR_FILENO);
        }
        personality(ADDR_NO_RANDOMIZE); /* the same addresses again; where it isn't allowed, repeatable enough */
        execv("/proc/self/exe", args);
        _exit(127);
    }
    int status = 0;
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
    *signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void print_failure(uint64_t seed, int signal) {
    struct round round = round_of(seed);
    fprintf(stderr, "fuzz_stream: FAILED: %s\n", report->message[0] != '\0' ? report->message : signal == SIGALRM ? "hang" : "crash");
    if (signal != 0) fprintf(stderr, "  signal %d (%s)\n", signal, strsignal(signal));
    for (unsigned l = 0; l < options.threads && l < LANES_MAX; l++) {
        fprintf(stderr, "  lane %u: operation %llu: %s\n", l, (unsigned long long)report->lanes[l].number, op_text(&report->lanes[l].op));
    }
    fprintf(stderr, "  settings: page size %zu, SEEMALLOC_CONF=%s, %u slots, %u threads in turn, live at most %zu\n", round.page_size,
            round.conf, round.player.ops.slots, round.player.ops.threads, round.player.live_limit);
    fprintf(stderr, "  again: fuzz_stream --rounds 1 --seed %llu --threads %u --page-size %zu%s%s", (unsigned long long)seed,
            options.threads, options.page_size, options.inject ? " --inject" : "", options.libc ? " --libc" : "");
    if (options.mutant != 0) fprintf(stderr, " --mutant %u", options.mutant);
    if (options.operations != 0) fprintf(stderr, " --operations %u", options.operations);
    fprintf(stderr, "\n");
}

/* --- The search for a shorter stream --- */

static void write_ops(const char *path, const struct op *ops, size_t count) {
    int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    size_t size = count * sizeof *ops;
    if (fd < 0 || write(fd, ops, size) != (ssize_t)size) {
        perror(path);
        exit(2);
    }
    close(fd);
}

/* The kind of failure: up to the first digit, addresses and sizes differ. */
static void failure_kind(char kind[64], int signal) {
    size_t n = 0;
    for (const char *c = report->message; *c != '\0' && (*c < '0' || *c > '9') && n < 60; c++) kind[n++] = *c;
    kind[n] = '\0';
    if (n == 0) snprintf(kind, 64, "signal %d", signal);
}

static bool fails_same(uint64_t seed, const char *path, const struct op *ops, size_t count, unsigned check, const char *kind) {
    write_ops(path, ops, count);
    int signal;
    if (run_child(seed, path, check, true, &signal)) return false;
    char now[64];
    failure_kind(now, signal);
    return kind == NULL || strcmp(now, kind) == 0;
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Leaves out ever smaller parts while the same failure stays. */
static void minimise(uint64_t seed, int signal) {
    char path[] = "/tmp/fuzz_stream.XXXXXX", kind[64];
    int fd = mkstemp(path);
    if (fd < 0) return;
    close(fd);
    failure_kind(kind, signal);
    struct round round = round_of(seed);
    size_t count;
    struct op *ops = operations_of(&round, 0, &count), *fewer = shadow_pages((count + 1) * sizeof *ops);
    unsigned check = round.player.check_every;
    double end = seconds_now() + 120;
    if (fails_same(seed, path, ops, count, 1, NULL)) { /* looking after every operation says more, and earlier */
        check = 1;
        failure_kind(kind, signal);
        if (report->message[0] == '\0') failure_kind(kind, signal);
    }
    if (report->lanes[0].number + 1 < count && fails_same(seed, path, ops, report->lanes[0].number + 1, check, kind)) {
        count = report->lanes[0].number + 1;
    }
    for (size_t part = count / 2; part != 0 && seconds_now() < end; part = part == 1 ? 0 : (part + 1) / 2) {
        for (bool again = true; again && seconds_now() < end;) {
            again = false;
            for (size_t at = 0; at < count && seconds_now() < end;) {
                size_t skip = at + part <= count ? part : count - at;
                memcpy(fewer, ops, at * sizeof *ops);
                memcpy(fewer + at, ops + at + skip, (count - at - skip) * sizeof *ops);
                if (fails_same(seed, path, fewer, count - skip, check, kind)) {
                    memcpy(ops, fewer, (count - skip) * sizeof *ops);
                    count -= skip;
                    again = part == 1;
                } else {
                    at += skip;
                }
            }
        }
    }
    fails_same(seed, path, ops, count, check, kind);
    fprintf(stderr, "  shortest: %zu operations, in %s (play with --replay and --check %u), \"%s\":\n", count, path, check,
            report->message);
    for (size_t i = 0; i < count && i < 60; i++) fprintf(stderr, "    %s\n", op_text(&ops[i]));
}

static int run_rounds(void) {
    double start = seconds_now();
    uint64_t operations = 0, round = 0;
    if (options.seconds == 0 && options.rounds == 0) options.rounds = 1;
    for (; (options.rounds == 0 || round < options.rounds) && (options.seconds == 0 || seconds_now() - start < options.seconds); round++) {
        /* Rounds of neighbouring seeds must differ from each other, but the first must be the seed itself, to repeat it. */
        uint64_t mixed = options.seed + round, seed = round == 0 ? options.seed : op_random(&mixed) >> 16;
        int signal;
        if (!run_child(seed, options.replay, options.check, false, &signal)) {
            print_failure(seed, signal);
            if (options.minimise && options.threads == 1) minimise(seed, signal);
            return 1;
        }
        operations += report->operations;
    }
    printf("fuzz_stream: %llu operations in %llu rounds of %u thread%s, seed %llu%s, %.1f s: nothing found\n",
           (unsigned long long)operations, (unsigned long long)round, options.threads, options.threads > 1 ? "s" : "",
           (unsigned long long)options.seed, options.inject ? ", with refusals" : "", seconds_now() - start);
    return 0;
}

/* Every mutant must be caught within some rounds, most by the player's own message; the unspoilt allocator must pass the same. */
static int run_mutants(void) {
    int missed = 0, signal;
    for (uint64_t seed = options.seed; seed < options.seed + 20; seed++) {
        if (run_child(seed, NULL, options.check, true, &signal)) continue;
        print_failure(seed, signal);
        return 1;
    }
    for (unsigned m = 1; m <= SUBJECT_MUTANTS; m++) {
        options.mutant = m;
        bool caught = false;
        for (uint64_t seed = options.seed; seed < options.seed + 20 && !caught; seed++) {
            caught = !run_child(seed, NULL, options.check, true, &signal);
        }
        const char *how = !caught ? "MISSED" : report->message[0] != '\0' ? report->message : "a crash";
        printf("%s: %s\n", subject_mutant_name(m), how);
        missed += !caught;
    }
    return missed != 0;
}

static uint64_t number(const char *text) {
    char *end;
    errno = 0;
    uint64_t value = text != NULL ? strtoull(text, &end, 0) : 0;
    if (text == NULL || errno != 0 || end == text || *end != '\0') {
        fprintf(stderr, "fuzz_stream: not a number: %s\n", text != NULL ? text : "(missing)");
        exit(2);
    }
    return value;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(name, "--inject") == 0)
            options.inject = true;
        else if (strcmp(name, "--libc") == 0)
            options.libc = true;
        else if (strcmp(name, "--minimise") == 0)
            options.minimise = true;
        else if (strcmp(name, "--trace") == 0)
            options.trace = true;
        else if (strcmp(name, "--mutants") == 0)
            options.mutants = true;
        else if (i++, strcmp(name, "--seed") == 0)
            options.seed = number(value);
        else if (strcmp(name, "--seconds") == 0)
            options.seconds = (double)number(value);
        else if (strcmp(name, "--rounds") == 0)
            options.rounds = number(value);
        else if (strcmp(name, "--threads") == 0)
            options.threads = (unsigned)number(value);
        else if (strcmp(name, "--page-size") == 0)
            options.page_size = number(value);
        else if (strcmp(name, "--mutant") == 0)
            options.mutant = (unsigned)number(value);
        else if (strcmp(name, "--check") == 0)
            options.check = (unsigned)number(value);
        else if (strcmp(name, "--operations") == 0)
            options.operations = (unsigned)number(value);
        else if (strcmp(name, "--replay") == 0)
            options.replay = value;
        else if (strcmp(name, "--child") == 0)
            options.child = true, options.report_fd = (int)number(value);
        else {
            fprintf(stderr, "fuzz_stream: unknown option %s; see the head of fuzz_stream.c\n", name);
            return 2;
        }
    }
    if (options.threads == 0 || options.threads > LANES_MAX || options.mutant > SUBJECT_MUTANTS) {
        fprintf(stderr, "fuzz_stream: 1 to %d threads, mutants 0 to %d\n", LANES_MAX, SUBJECT_MUTANTS);
        return 2;
    }
    if (!options.child) {
        options.report_fd = make_memory_file();
        if (ftruncate(options.report_fd, sizeof *report) != 0) return 2;
    }
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED, options.report_fd, 0);
    if (report == MAP_FAILED) return 2;
    if (options.child) return play_round();
    return options.mutants ? run_mutants() : run_rounds();
}
