/* measure.c: runs a program and says what it cost: a small process, because a child inherits the resident peak of the one that started it.
 *
 * usage: measure [-s MILLISECONDS] RESULT PRELOAD PROGRAM ARGS… (PRELOAD empty: none). Writes one line of JSON to the file RESULT and ends with the program's
 * exit status. Time is the wall's; user and system time, faults and the resident peak are the program's and its children's.
 *
 * With -s resident memory is sampled so often as well (/proc/PID/statm), which the program does not notice. A program that has come to its end, but freed
 * nothing for the exit yet, writes a byte to the socket BENCH_LOOK and waits for one: then its pages are counted exactly (smaps_rollup). "mean_kib" is the
 * mean over the time till then; "final_kib", and what of it is no file's, "final_anonymous_kib", are missing if the program never wrote.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct memory {
    double sum, seconds; /* of KiB times seconds */
    long samples, final_kib, anonymous_kib;
};

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static long read_resident(int statm) {
    char text[128];
    ssize_t n = pread(statm, text, sizeof text - 1, 0);
    if (n <= 0) return -1;
    text[n] = 0;
    char *rest;
    strtol(text, &rest, 10);
    return strtol(rest, NULL, 10) * (sysconf(_SC_PAGESIZE) / 1024);
}

static void read_final(pid_t pid, struct memory *memory) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", pid);
    FILE *file = fopen(path, "r");
    if (!file) return;
    while (fgets(line, sizeof line, file)) {
        if (!strncmp(line, "Rss:", 4)) memory->final_kib = atol(line + 4);
        if (!strncmp(line, "Anonymous:", 10)) memory->anonymous_kib = atol(line + 10);
    }
    fclose(file);
}

/* Till the program says that it is at its end, or ends. Each sample stands for the time since the one before, so a late one weighs more. */
static void sample(pid_t pid, int look, double interval, struct memory *memory) {
    char path[64], byte;
    snprintf(path, sizeof path, "/proc/%d/statm", pid);
    int statm = open(path, O_RDONLY | O_CLOEXEC);
    double last = now(), next = last + interval;
    for (;;) {
        double left = next - now();
        struct timespec wait = {0, left > 0 ? (long)(left * 1e9) : 0};
        struct pollfd ready = {look, POLLIN, 0};
        int said = ppoll(&ready, 1, &wait, NULL);
        long resident = read_resident(statm);
        double here = now();
        if (resident > 0) {
            memory->sum += (double)resident * (here - last);
            memory->seconds += here - last;
            memory->samples++;
        }
        last = here;
        while (next <= here) next += interval;
        if (said > 0) break;
    }
    close(statm);
    if (read(look, &byte, 1) != 1) return;
    read_final(pid, memory);
    if (write(look, &byte, 1) != 1) perror("the program does not listen");
}

static void run(char **argv, int look) {
    char number[16];
    snprintf(number, sizeof number, "%d", look);
    if (look >= 0) setenv("BENCH_LOOK", number, 1);
    if (argv[0][0]) setenv("LD_PRELOAD", argv[0], 1);
    execvp(argv[1], argv + 1);
    perror(argv[1]);
    _exit(127);
}

int main(int argc, char **argv) {
    double interval = 0;
    if (argc > 2 && !strcmp(argv[1], "-s")) {
        interval = atof(argv[2]) / 1000;
        argv += 2, argc -= 2;
    }
    if (argc < 4) return 2;
    struct memory memory = {.final_kib = -1};
    int ends[2] = {-1, -1}; /* ours, the program's */
    if (interval > 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) return 2;
    if (interval > 0) fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    double start = now();
    pid_t pid = fork();
    if (pid < 0) return 2;
    if (pid == 0) run(argv + 2, ends[1]);
    if (interval > 0) {
        close(ends[1]);
        sample(pid, ends[0], interval, &memory);
    }
    int status;
    struct rusage used;
    if (wait4(pid, &status, 0, &used) != pid) return 2;
    double end = now();
    FILE *result = fopen(argv[1], "w");
    if (!result) return 2;
    double user = (double)used.ru_utime.tv_sec + (double)used.ru_utime.tv_usec * 1e-6;
    double system = (double)used.ru_stime.tv_sec + (double)used.ru_stime.tv_usec * 1e-6;
    fprintf(result,
            "{\"time\": %.6f, \"user\": %.6f, \"system\": %.6f, \"cpu\": %.6f, \"peak_kib\": %ld, \"minor_faults\": %ld, \"major_faults\": "
            "%ld, "
            "\"switches\": %ld",
            end - start, user, system, user + system, used.ru_maxrss, used.ru_minflt, used.ru_majflt, used.ru_nvcsw + used.ru_nivcsw);
    if (memory.samples) fprintf(result, ", \"mean_kib\": %.1f, \"samples\": %ld", memory.sum / memory.seconds, memory.samples);
    if (memory.final_kib >= 0)
        fprintf(result, ", \"final_kib\": %ld, \"final_anonymous_kib\": %ld", memory.final_kib, memory.anonymous_kib);
    fprintf(result, "}\n");
    fclose(result);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
