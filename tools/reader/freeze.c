/* freeze.c: stops all threads of a process and lets them go again: see live.h. SPDX-License-Identifier: MIT */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

#include "reader/clock.h"
#include "reader/live.h"
#include "reader/live_words.h"

#define PASSES 1000           /* over the list of threads; each finds at least one that is new, or is the last */
#define STOP_TIME 5000000000u /* ns */
#define STOP_WAITING                                                                                                                       \
    100000000u              /* likewise, in an uninterruptible wait of the kernel (vfork, say): it stops before it returns to the program */
#define STOP_QUICK 1000000u /* most stop sooner */
#define STOP_NAP 50000

static uint64_t now(void) { return clock_of(CLOCK_MONOTONIC); }

static void nap(void) { nanosleep(&(struct timespec){.tv_nsec = STOP_NAP}, NULL); }

static void read_registers(struct live_thread *thread) {
    struct user_regs_struct registers;
    struct iovec to = {&registers, sizeof registers};
    if (ptrace(PTRACE_GETREGSET, thread->tid, NT_PRSTATUS, &to) != 0) return;
#if defined(__x86_64__)
    thread->stack_pointer = registers.rsp;
    thread->thread_pointer = registers.fs_base;
#elif defined(__aarch64__)
    thread->stack_pointer = registers.sp;
    to = (struct iovec){&thread->thread_pointer, sizeof thread->thread_pointer};
    if (ptrace(PTRACE_GETREGSET, thread->tid, NT_ARM_TLS, &to) != 0) thread->thread_pointer = 0;
#endif
}

size_t live_registers(const struct live_thread *thread, void *to, size_t room) {
    static const int sets[] = {
        NT_PRSTATUS,
        NT_PRFPREG
#if defined(__x86_64__)
        ,
        NT_X86_XSTATE
#endif
    };
    size_t size = 0;
    for (size_t i = 0; thread->stopped && i < sizeof sets / sizeof *sets; i++) {
        struct iovec set = {(char *)to + size, room - size};
        if (ptrace(PTRACE_GETREGSET, thread->tid, sets[i], &set) == 0) size += set.iov_len / 8 * 8;
    }
    return size;
}

/* The letter that /proc shows for a thread's state; 0 if it is gone. */
static char thread_state(const struct live *live, pid_t tid) {
    char path[64], state = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)live->pid, (int)tid);
    FILE *file = fopen(path, "re");
    if (file == NULL) return 0;
    if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1) state = '?';
    fclose(file);
    return state;
}

static pid_t other_tracer(const struct live *live, pid_t tid) {
    char path[64], line[128];
    int tracer = 0;
    snprintf(path, sizeof path, "/proc/%d/task/%d/status", (int)live->pid, (int)tid);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "TracerPid: %d", &tracer) == 1) break;
    }
    if (file != NULL) fclose(file);
    return tracer;
}

enum seized { SEIZED, GONE, REFUSED };

static enum seized seize(struct live *live, pid_t tid, struct fault *fault) {
    if (ptrace(PTRACE_SEIZE, tid, 0, 0) == 0) return ptrace(PTRACE_INTERRUPT, tid, 0, 0) == 0 ? SEIZED : GONE;
    int error = errno;
    char state = thread_state(live, tid);
    if (error == ESRCH || state == 0 || state == 'Z' || state == 'X') return GONE;
    pid_t tracer = other_tracer(live, tid);
    if (tracer == getpid()) return GONE; /* it was ours and is on its way out */
    if (tracer != 0) {
        fault_note(fault, "process %d is being traced already, by process %d (a debugger?); only one can", (int)live->pid, (int)tracer);
    } else {
        live_refused(live, "stop the threads", error, fault);
    }
    return REFUSED;
}

/* Waits until the thread has stopped, ended, or is known to be in the kernel. False: it is gone. */
static bool await(const struct live *live, struct live_thread *thread) {
    for (uint64_t begin = now();; nap()) {
        int status;
        pid_t found = waitpid(thread->tid, &status, __WALL | WNOHANG);
        if (found < 0 && errno != EINTR) return false;
        if (found > 0) {
            if (!WIFSTOPPED(status)) return false;
            thread->stopped = true;
            thread->signal = status >> 16 == 0 ? WSTOPSIG(status) : 0; /* else an event: ours, or that the process is stopped */
            read_registers(thread);
            return true;
        }
        uint64_t waited = now() - begin;
        if (waited < STOP_QUICK) continue;
        char state = thread_state(live, thread->tid);
        if (state == 0 || state == 'Z' || state == 'X')
            return false; /* a first thread that ended is only told of when all others are gone */
        if (waited >= STOP_TIME || (waited >= STOP_WAITING && state == 'D')) return true;
    }
}

static bool knows(const struct live *live, pid_t tid) {
    for (size_t i = live->thread_count; i-- > 0;) {
        if (live->threads[i].tid == tid) return true;
    }
    return false;
}

/* Stops those that nobody has stopped yet; *more: there were some. */
static bool stop_others(struct live *live, bool *more, struct fault *fault) {
    char path[32];
    size_t first = live->thread_count;
    snprintf(path, sizeof path, "/proc/%d/task", (int)live->pid);
    DIR *folder = opendir(path);
    if (folder == NULL) return live_refused(live, "list the threads", errno, fault);
    bool good = true;
    *more = false;
    for (struct dirent *entry; good && (entry = readdir(folder)) != NULL;) {
        pid_t tid = atoi(entry->d_name);
        if (tid <= 0 || knows(live, tid)) continue;
        enum seized seized = seize(live, tid, fault);
        good = seized != REFUSED;
        if (seized != SEIZED) continue;
        live->threads = need_memory(live->threads, live->thread_count + 1, sizeof *live->threads);
        live->threads[live->thread_count++] = (struct live_thread){.tid = tid};
        *more = true;
    }
    closedir(folder);
    for (size_t i = first; i < live->thread_count;) {
        if (await(live, &live->threads[i])) {
            i++;
        } else {
            live->threads[i] = live->threads[--live->thread_count];
        }
    }
    return good;
}

bool live_freeze(struct live *live, struct fault *fault) {
    bool more = true, good = true;
    for (size_t i = 0; i < live->thread_count; i++) await(live, &live->threads[i]); /* that did not stop the last time */
    for (unsigned pass = 0; good && more && pass < PASSES; pass++) good = stop_others(live, &more, fault);
    if (good && more) good = fault_note(fault, "process %d makes threads faster than they can be stopped", (int)live->pid);
    for (size_t i = 0; good && i < live->thread_count;) {
        char state = live->threads[i].stopped ? 'D' : thread_state(live, live->threads[i].tid);
        if (state == 'D') {
            i++;
        } else if (state == 0 || state == 'Z' || state == 'X') {
            live->threads[i] = live->threads[--live->thread_count];
        } else {
            good = fault_note(fault, "thread %d of process %d does not stop", (int)live->threads[i].tid, (int)live->pid);
        }
    }
    if (good && live->thread_count == 0) good = fault_note(fault, "process %d ended while it was being read", (int)live->pid);
    good = good && live_map_anew(live, fault);
    if (!good) live_thaw(live);
    return good;
}

void live_thaw(struct live *live) {
    size_t kept = 0;
    for (size_t i = 0; i < live->thread_count; i++) {
        struct live_thread *thread = &live->threads[i];
        int status;
        if (!thread->stopped && waitpid(thread->tid, &status, __WALL | WNOHANG) > 0 && WIFSTOPPED(status)) {
            thread->stopped = true;
            thread->signal = status >> 16 == 0 ? WSTOPSIG(status) : 0;
        }
        if (thread->stopped && ptrace(PTRACE_DETACH, thread->tid, 0, (void *)(intptr_t)thread->signal) == 0) continue;
        if (!thread->stopped && thread_state(live, thread->tid) != 0) live->threads[kept++] = *thread; /* our end lets it go */
    }
    live->thread_count = kept;
}
