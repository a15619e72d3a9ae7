/* unit.c: see unit.h. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "fake.h"
#include "inspect/check.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TEST_SECONDS = 50 };

void unit_fail(const char *file, int line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\n");
    va_end(args);
    _exit(1);
}

void unit_check_text(const char *file, int line, const char *what, const char *found, const char *expected) {
    if (strcmp(found, expected) != 0) unit_fail(file, line, "%s: found \"%s\", expected \"%s\"", what, found, expected);
}

void unit_check_heap(const char *file, int line) {
    const char *wrong = check_heap();
    if (wrong != NULL) unit_fail(file, line, "check_heap: %s", wrong);
    wrong = fake_check();
    if (wrong != NULL) unit_fail(file, line, "%s", wrong);
}

void unit_check_aborts(const char *file, int line, void (*run)(void *), void *arg, const char *expected) {
    int ends[2];
    if (pipe(ends) != 0) unit_fail(file, line, "no pipe");
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        run(arg);
        _exit(0);
    }
    close(ends[1]);
    char text[4096];
    size_t length = 0;
    for (ssize_t n; length < sizeof text - 1 && (n = read(ends[0], text + length, sizeof text - 1 - length)) > 0;) length += (size_t)n;
    text[length] = '\0';
    close(ends[0]);
    int status = 0;
    waitpid(pid, &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
        unit_fail(file, line, "no abort (\"%s\"); status 0x%x, it wrote: %s", expected, status, text);
    size_t first = strcspn(text, "\n");
    if (first != strlen(expected) || memcmp(text, expected, first) != 0)
        unit_fail(file, line, "expected \"%s\", it wrote: %s", expected, text);
    if (strncmp(text + first, "\nseemalloc: ", 12) != 0) unit_fail(file, line, "no explanation behind \"%s\": %s", expected, text);
}

struct call {
    void (*run)(void *);
    void *arg;
};

static void *thread_main(void *arg) {
    struct call *call = arg;
    call->run(call->arg);
    return NULL;
}

void unit_in_thread(void (*run)(void *), void *arg) {
    struct call call = {run, arg};
    pthread_t thread;
    if (pthread_create(&thread, NULL, thread_main, &call) != 0) unit_fail(__FILE__, __LINE__, "no thread to be had");
    pthread_join(thread, NULL);
}

uint64_t unit_random(uint64_t *state) {
    uint64_t x = *state += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

int unit_main(int argc, char **argv, const struct unit_test *tests, size_t count) {
    int failed = 0, ran = 0;
    for (size_t i = 0; i < count; i++) {
        bool wanted = argc < 2;
        for (int a = 1; a < argc; a++) wanted |= strcmp(argv[a], tests[i].name) == 0;
        if (!wanted) continue;
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0) {
            alarm(TEST_SECONDS);
            tests[i].run();
            fflush(NULL);
            _exit(0);
        }
        int status = -1;
        if (pid > 0) waitpid(pid, &status, 0);
        bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        printf("%s %s", good ? "ok  " : "FAIL", tests[i].name);
        if (WIFSIGNALED(status)) printf(" (signal %d: %s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
        printf("\n");
        failed += !good;
        ran++;
    }
    if (ran == 0) printf("no such test\n");
    return failed != 0 || ran == 0;
}
