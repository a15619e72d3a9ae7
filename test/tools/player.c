/* player.c: a program for the tests of the commands that look into a process: it does with its heap what standard input says, one line at a time, and says
 * what came of it. Nothing else allocates. "THREAD COMMAND [ARGUMENT]…", where thread 0 is the main one and others are made when they are first named:
 *
 *   id            thread's id                        malloc N      address
 *   free A        nothing                            die A         what free(A) in a forked child ends with: status, first line of the message
 *   play SEED N   N random allocations and frees     walk          every chunk: address, size, state, bin, arena; a line "end"
 *   stack         an address on the thread's stack   release       gives all of play's blocks back
 *
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "seemalloc.h"

enum { THREADS = 8, BLOCKS = 4000, LINE = 256 };

static char out[1 << 16];
static size_t used;

/* Whoever reads may have the next thread say something at once. */
static void flush(void) {
    size_t length = used;
    used = 0;
    for (size_t done = 0; done < length;) {
        ssize_t n = write(1, out + done, length - done);
        if (n <= 0) _exit(1);
        done += (size_t)n;
    }
}

static void say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (used > sizeof out - LINE) flush();
    used += (size_t)vsnprintf(out + used, LINE, format, args);
    va_end(args);
}

static int show(const struct seemalloc_chunk *chunk, void *arg) {
    (void)arg;
    say("%lx %zu %d %d %u\n", (unsigned long)chunk->chunk, chunk->size, (int)chunk->state, chunk->bin, chunk->arena);
    return 0;
}

static void walk(void) {
    static int (*look)(int (*)(const struct seemalloc_chunk *, void *), void *);
    if (look == NULL) look = (int (*)(int (*)(const struct seemalloc_chunk *, void *), void *))dlsym(RTLD_DEFAULT, "seemalloc_walk");
    if (look == NULL || look(show, NULL) != 0) _exit(1);
    say("end\n");
}

static uint64_t next(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void *blocks[BLOCKS];

/* Mostly small, some of any size to a quarter MiB; phases that fill, and phases that empty. */
static void play(uint64_t random, unsigned long count) {
    for (unsigned long i = 0; i < count; i++) {
        unsigned bits = next(&random) % 8 != 0 ? 7 : 14;
        size_t size = (size_t)16 << next(&random) % bits;
        void **slot = &blocks[next(&random) % BLOCKS];
        free(*slot);
        *slot = i / 1000 % 2 == 0 || next(&random) % 4 == 0 ? malloc(size + next(&random) % size) : NULL;
    }
}

static void die(void *mem) {
    int ends[2], status;
    char text[LINE] = "";
    size_t length = 0;
    if (pipe(ends) != 0) _exit(1);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 2);
        free(mem);
        _exit(0);
    }
    close(ends[1]);
    for (ssize_t n; length < sizeof text - 1 && (n = read(ends[0], text + length, sizeof text - 1 - length)) > 0;) length += (size_t)n;
    close(ends[0]);
    waitpid(child, &status, 0);
    text[strcspn(text, "\n")] = '\0';
    say("%d %s\n", WIFSIGNALED(status) ? WTERMSIG(status) : 0, text);
}

static void obey(const char *line) {
    char command[16];
    unsigned long a = 0, b = 0;
    int here;
    if (sscanf(line, "%*d %15s %li %lu", command, (long *)&a, &b) < 1) _exit(1);
    void *mem = (void *)a;
    if (strcmp(command, "id") == 0) {
        say("%ld\n", syscall(SYS_gettid));
    } else if (strcmp(command, "malloc") == 0) {
        say("%lx\n", (unsigned long)malloc(a));
    } else if (strcmp(command, "free") == 0) {
        free(mem);
        say("\n");
    } else if (strcmp(command, "die") == 0) {
        die(mem);
    } else if (strcmp(command, "play") == 0) {
        play(a, b);
        say("\n");
    } else if (strcmp(command, "release") == 0) {
        for (unsigned i = 0; i < BLOCKS; i++) free(blocks[i]), blocks[i] = NULL;
        say("\n");
    } else if (strcmp(command, "walk") == 0) {
        walk();
    } else if (strcmp(command, "stack") == 0) {
        say("%lx\n", (unsigned long)&here);
    }
    flush();
}

/* A thread waits for its lines at a pipe. */
static int to[THREADS][2];

static void *listen_at(void *arg) {
    char line[LINE];
    int from = to[(uintptr_t)arg][0];
    while (read(from, line, sizeof line) == sizeof line) obey(line);
    return NULL;
}

int main(void) {
    char line[LINE];
    for (size_t length = 0; read(0, line + length, 1) == 1;) {
        if (line[length] != '\n' && length < sizeof line - 2) {
            length++;
            continue;
        }
        line[length] = '\0';
        length = 0;
        unsigned thread = (unsigned)atoi(line) % THREADS;
        if (thread == 0) {
            obey(line);
            continue;
        }
        if (to[thread][1] == 0) {
            pthread_t handle;
            if (pipe(to[thread]) != 0 || pthread_create(&handle, NULL, listen_at, (void *)(uintptr_t)thread) != 0) _exit(1);
        }
        if (write(to[thread][1], line, sizeof line) != sizeof line) _exit(1);
    }
}
