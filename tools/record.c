/* record.c: a recorded run: see record.h.
 *
 * Signals: what a terminal sends reaches the program by itself, for it is in the same process group; what a process sends to this command is passed on. When
 * the program stops, this command does, so that a shell sees it; when this command is continued, the program is. SPDX-License-Identifier: MIT */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "reader/clock.h"
#include "reader/fault.h"
#include "tool.h"
#include "trace/shared.h"

#define NAP_BUSY 1             /* ms between two looks at the rings */
#define NAP_IDLE 5             /* likewise, when they were empty */
#define HOLD_NS 100000000u     /* events are written so long after they were stamped */
#define LOOK_NS 100000000u     /* between two looks at the whole process */
#define MODULES_NS 1000000000u /* between two looks at its mappings */

static const int passed[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH, SIGCONT, SIGALRM, SIGTSTP, SIGTTIN, SIGTTOU};

struct recording {
    const struct record_request *request;
    struct trace_shared *shared;
    struct record_clock clock;
    struct record_rings *rings;
    struct seemalloc_recording_head head;
    pid_t pid;
    sigset_t signals, before;
    int signal_fd;
    uint64_t looked, modules_looked; /* ns, monotonic */
    int status;                      /* as waitpid gave it */
};

/* --- the clock ----------------------------------------------------------------------------------------------------------------------------------- */

/* The processor's counter runs at one rate on all processors, also while they sleep; the kernel uses it itself. */
static bool counter_is_steady(void) {
#if defined(__x86_64__)
    char line[16384];
    FILE *cpus = fopen("/proc/cpuinfo", "re");
    bool steady = false;
    while (cpus != NULL && !steady && fgets(line, sizeof line, cpus) != NULL)
        steady = strncmp(line, "flags", 5) == 0 && strstr(line, " constant_tsc") != NULL && strstr(line, " nonstop_tsc") != NULL;
    if (cpus != NULL) fclose(cpus);
    return steady;
#elif defined(__aarch64__)
    return true;
#else
    return false;
#endif
}

/* Both clocks at the same moment, as near as can be. */
static uint64_t both_clocks(uint64_t *counter) {
    uint64_t best = UINT64_MAX, at = 0;
    for (int i = 0; i < 10; i++) {
        uint64_t before = trace_counter(), ns = clock_of(CLOCK_MONOTONIC), after = trace_counter();
        if (after - before >= best) continue;
        best = after - before;
        *counter = before + (after - before) / 2;
        at = ns;
    }
    return at;
}

static void begin_clock(struct recording *recording) {
    struct record_clock *clock = &recording->clock;
    clock->use_counter = counter_is_steady();
    recording->head.begun = clock_of(CLOCK_REALTIME);
    if (clock->use_counter) clock->begun_ns = both_clocks(&clock->begun);
    if (!clock->use_counter) clock->begun = clock->begun_ns = clock_of(CLOCK_MONOTONIC);
}

/* Once, as late as the first event is to be written. */
static void measure_clock(struct record_clock *clock) {
    if (!clock->use_counter || clock->ns_per_tick != 0) return;
    uint64_t counter = clock->begun, ns = both_clocks(&counter);
    if (counter > clock->begun) clock->ns_per_tick = (double)(ns - clock->begun_ns) / (double)(counter - clock->begun);
}

/* --- begin ----------------------------------------------------------------------------------------------------------------------------------------- */

/* The shared memory, under a number that a program of few files does not come near. */
static int make_shared(struct recording *recording) {
    int fd = memfd_create("seemalloc-recording", MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, sizeof(struct trace_shared)) == 0) {
        recording->shared = mmap(NULL, sizeof(struct trace_shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
        if (recording->shared != MAP_FAILED) return fd;
    }
    tool_say("can't make the memory that is shared with the program: %s", strerror(errno));
    if (fd >= 0) close(fd);
    return -1;
}

static bool set_up(struct recording *recording) {
    const struct record_request *request = recording->request;
    int fd = make_shared(recording);
    if (fd < 0) return false;
    struct trace_head *head = &recording->shared->head;
    if (getrandom(&head->id, sizeof head->id, 0) != sizeof head->id) head->id = clock_of(CLOCK_REALTIME);
    head->version = TRACE_VERSION;
    head->use_counter = recording->clock.use_counter;
    head->unwind = request->unwind;
    head->depth = request->depth;
    head->sample_mean = request->sample_mean;
    char name[64];
    snprintf(name, sizeof name, "%x/%x/%llx", (unsigned)getpid(), (unsigned)fd, (unsigned long long)head->id);
    if (setenv(TRACE_ENVIRONMENT, name, 1) == 0) return true;
    tool_say("out of memory");
    return false;
}

static size_t words(char **program, char *command) {
    size_t length = 0;
    for (; *program != NULL && length + strlen(*program) < TRACE_COMMAND; program++) {
        strcpy(command + length, *program);
        length += strlen(*program) + 1;
    }
    return length;
}

static void write_head(struct recording *recording, const char *command, size_t length) {
    struct seemalloc_recording_head *head = &recording->head;
    memcpy(head->magic, SEEMALLOC_RECORDING_MAGIC, sizeof head->magic);
    head->version = SEEMALLOC_RECORDING_VERSION;
    head->flags = (recording->request->unwind != TRACE_UNWIND_NONE ? SEEMALLOC_RECORDING_STACKS : 0) |
                  (recording->request->sample_mean != 0 ? SEEMALLOC_RECORDING_SAMPLED : 0);
    head->pid = (uint32_t)recording->pid;
    head->sample_mean = recording->request->sample_mean;
    head->page_bytes = (uint32_t)sysconf(_SC_PAGESIZE);
    head->command_bytes = (uint32_t)length;
    head->head_bytes = (uint32_t)(sizeof *head + length);
    record_file_begin(head, command);
}

static uint64_t now_ns(const struct recording *recording) { return clock_of(CLOCK_MONOTONIC) - recording->clock.begun_ns; }

static void read_maps(struct recording *recording, unsigned which) {
    const struct trace_head *head = &recording->shared->head;
    uint32_t length = __atomic_load_n(&head->maps_length[which], __ATOMIC_ACQUIRE);
    if (length == 0 || length > TRACE_MAPS) return;
    char *text = need_memory(NULL, length + 1, 1);
    memcpy(text, head->maps[which], length);
    text[length] = '\0';
    record_modules_read(text, recording->pid, which == 0 ? 0 : now_ns(recording));
    free(text);
}

/* The program begins to record, or the one that it has become. */
static void program_begins(void *arg) {
    struct recording *recording = arg;
    record_stacks_forget();
    record_modules_forget();
    const struct trace_head *shared = &recording->shared->head;
    size_t length = shared->command_length < TRACE_COMMAND ? shared->command_length : TRACE_COMMAND;
    char *command = need_memory(NULL, TRACE_COMMAND + 1, 1);
    memcpy(command, shared->command, length);
    if (length != 0 && command[length - 1] != '\0') command[length++] = '\0';
    write_head(recording, command, length);
    free(command);
    read_maps(recording, 0);
}

/* --- the program ----------------------------------------------------------------------------------------------------------------------------------- */

static void start(struct recording *recording, int (*become)(void *arg), void *arg) {
    struct sigaction child = {.sa_handler = SIG_DFL}, child_before;
    sigemptyset(&recording->signals);
    for (size_t i = 0; i < sizeof passed / sizeof *passed; i++) sigaddset(&recording->signals, passed[i]);
    sigaddset(&recording->signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &recording->signals, &recording->before);
    sigaction(SIGCHLD, &child, &child_before);
    recording->pid = fork();
    if (recording->pid != 0) return;
    sigaction(SIGCHLD, &child_before, NULL);
    sigprocmask(SIG_SETMASK, &recording->before, NULL);
    recording->shared->head.pid = (uint32_t)getpid();
    _exit(become(arg));
}

static void pass_on(struct recording *recording) {
    struct signalfd_siginfo signal;
    while (read(recording->signal_fd, &signal, sizeof signal) == sizeof signal) {
        int number = (int)signal.ssi_signo;
        if (number == SIGCHLD || signal.ssi_code == SI_KERNEL || (pid_t)signal.ssi_pid == recording->pid) continue;
        kill(recording->pid, number);
    }
}

/* Whether the program has ended. Where it stops, so does this command. */
static bool has_ended(struct recording *recording) {
    int status;
    pid_t found = waitpid(recording->pid, &status, WNOHANG | WUNTRACED);
    if (found != recording->pid) return found < 0 && errno != EINTR;
    if (WIFSTOPPED(status)) {
        if (WSTOPSIG(status) == SIGSTOP)
            return false; /* somebody wanted just that process to stop, or this one has got the signal as well */
        kill(getpid(), SIGSTOP);
        kill(recording->pid, SIGCONT);
        return false;
    }
    recording->status = status;
    return true;
}

/* --- the process from outside ------------------------------------------------------------------------------------------------------------------------ */

static bool read_small(pid_t pid, const char *name, char *text, size_t size) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

static void look_at_process(struct recording *recording) {
    struct seemalloc_recording_process process = {.time = now_ns(recording)};
    char text[1024];
    unsigned long long resident = 0, minor = 0, major = 0;
    if (!read_small(recording->pid, "statm", text, sizeof text) || sscanf(text, "%*u %llu", &resident) != 1 || resident == 0) return;
    const char *behind =
        read_small(recording->pid, "stat", text, sizeof text) ? strrchr(text, ')') : NULL; /* the name before may hold anything */
    if (behind == NULL || sscanf(behind, ") %*c %*d %*d %*d %*d %*d %*u %llu %*u %llu", &minor, &major) != 2) return;
    process.resident = resident * recording->head.page_bytes;
    process.minor_faults = minor;
    process.major_faults = major;
    record_file_add(SEEMALLOC_RECORDING_PROCESS, &(struct record_part){&process, sizeof process}, 1);
}

static void look(struct recording *recording) {
    uint64_t now = now_ns(recording);
    if (now - recording->looked < LOOK_NS && recording->looked != 0) return;
    recording->looked = now;
    look_at_process(recording);
    if (__atomic_load_n(&recording->shared->head.generation, __ATOMIC_ACQUIRE) == 0) return;
    record_rings_names(recording->rings);
    if (!record_stacks_uncovered && now - recording->modules_looked < MODULES_NS) return;
    record_stacks_uncovered = false;
    recording->modules_looked = now;
    record_modules_look(recording->pid, now);
}

/* --- the whole ------------------------------------------------------------------------------------------------------------------------------------- */

/* One round: false if there was nothing to do. */
static bool work(struct recording *recording) {
    if (record_file_failed()) return false;
    uint64_t now = record_clock_now(&recording->clock), elapsed = now_ns(recording);
    bool any = record_rings_drain(recording->rings);
    if (elapsed <= HOLD_NS || record_file_is_behind()) return any;
    measure_clock(&recording->clock);
    uint64_t hold = recording->clock.use_counter ? (uint64_t)(HOLD_NS / recording->clock.ns_per_tick) : HOLD_NS;
    bool more = record_rings_write(recording->rings, now - hold);
    look(recording);
    return any || more;
}

static void run(struct recording *recording) {
    for (bool busy = true; !has_ended(recording);) {
        struct pollfd wait = {.fd = recording->signal_fd, .events = POLLIN};
        if (poll(&wait, 1, busy ? NAP_BUSY : NAP_IDLE) > 0) pass_on(recording);
        busy = work(recording);
    }
}

static bool finish(struct recording *recording) {
    if (!record_file_failed()) {
        measure_clock(&recording->clock);
        while (record_rings_drain(recording->rings)) {
            while (record_rings_write(recording->rings, UINT64_MAX)) {}
        }
        while (record_rings_write(recording->rings, UINT64_MAX)) {}
        read_maps(recording, 1);
    }
    struct record_totals totals = record_rings_totals(recording->rings);
    const struct trace_head *head = &recording->shared->head;
    struct seemalloc_recording_end end = {.time = now_ns(recording),
                                          .events = totals.events,
                                          .dropped = totals.dropped,
                                          .late = totals.late,
                                          .status = recording->status,
                                          .forked = head->forked};
    bool good = record_file_end(&end);
    if (good && head->generation == 0) {
        tool_say("%s holds no event: the program never began to record; it ended at once, or dropped LD_PRELOAD or %s",
                 recording->request->file, TRACE_ENVIRONMENT);
    } else if (good && totals.dropped != 0) {
        tool_say("%llu events found no room and are not in %s; %llu are", (unsigned long long)totals.dropped, recording->request->file,
                 (unsigned long long)totals.events);
    }
    return good;
}

/* As the program ended. */
static int end_as(struct recording *recording) {
    if (WIFEXITED(recording->status)) return WEXITSTATUS(recording->status);
    int number = WTERMSIG(recording->status);
    struct sigaction standard = {.sa_handler = SIG_DFL};
    setrlimit(RLIMIT_CORE, &(struct rlimit){0}); /* the program has written one, if one was wanted */
    sigaction(number, &standard, NULL);
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    raise(number);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
    return 128 + number;
}

int record_run(const struct record_request *request, int (*become)(void *arg), void *arg, char **program) {
    static struct recording recording;
    recording.request = request;
    if (!record_file_open(request->file)) return STATUS_TOOL;
    begin_clock(&recording);
    if (!set_up(&recording)) return STATUS_TOOL;
    start(&recording, become, arg);
    if (recording.pid < 0) {
        tool_say("can't start a process: %s", strerror(errno));
        return STATUS_TOOL;
    }
    recording.signal_fd = signalfd(-1, &recording.signals, SFD_CLOEXEC | SFD_NONBLOCK);
    recording.rings = record_rings_new(recording.shared, &recording.clock, request->sample_mean, recording.pid, program_begins, &recording);
    char command[TRACE_COMMAND];
    write_head(&recording, command, words(program, command));
    run(&recording);
    return finish(&recording) ? end_as(&recording) : STATUS_TOOL;
}
