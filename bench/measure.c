/* measure.c: runs a program and says what it cost: a small process, because a child inherits the resident peak of the one that started it.
 *
 * usage: measure RESULT PRELOAD PROGRAM ARGS… (PRELOAD empty: none). Writes one line of JSON to the file RESULT and ends with the program's exit status. Time is
 * the wall's; user and system time, faults and the resident peak are the program's and its children's.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pid_t pid = fork();
    if (pid < 0) return 2;
    if (pid == 0) {
        if (argv[2][0]) setenv("LD_PRELOAD", argv[2], 1);
        execvp(argv[3], argv + 3);
        perror(argv[3]);
        _exit(127);
    }
    int status;
    struct rusage used;
    if (wait4(pid, &status, 0, &used) != pid) return 2;
    clock_gettime(CLOCK_MONOTONIC, &end);
    FILE *result = fopen(argv[1], "w");
    if (!result) return 2;
    fprintf(result,
            "{\"time\": %.6f, \"user\": %.6f, \"system\": %.6f, \"peak_kib\": %ld, \"minor_faults\": %ld, \"major_faults\": %ld, "
            "\"switches\": %ld}\n",
            (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) * 1e-9,
            (double)used.ru_utime.tv_sec + (double)used.ru_utime.tv_usec * 1e-6,
            (double)used.ru_stime.tv_sec + (double)used.ru_stime.tv_usec * 1e-6, used.ru_maxrss, used.ru_minflt, used.ru_majflt,
            used.ru_nvcsw + used.ru_nivcsw);
    fclose(result);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
