/* spawn.c: vfork, posix_spawn, system and popen while eight threads allocate.
 *
 * usage: spawn [ROUNDS]. A child of vfork shares the memory of its parent, so the allocator must not take it for a fork. Such a child allocates and
 * frees here, and leaves a block to its parent: POSIX does not promise that this works, the system's malloc does, and programs rely on it.
 * SPDX-License-Identifier: MIT */
#include <spawn.h>

#include "load.h"

extern char **environ;

static void load_hook(void) {}

static struct load_block *volatile left, *volatile given;

static void reap(pid_t pid, int wanted, const char *what) {
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    struct watch_slot was;
    watch_reaped(pid, &was);
    watch_check(WIFEXITED(status) && WEXITSTATUS(status) == wanted, "%s %d: status %#x", what, was.number, status);
}

static void vfork_once(int n) {
    unsigned state = (unsigned)n;
    given = load_make(&state);
    struct watch_slot *slot = watch_reserve("vfork", n);
    pid_t pid = vfork();
    if (pid == 0) {
        unsigned in_child = (unsigned)n + 1;
        load_drop(given);
        for (int i = 0; i < 20; i++) load_drop(load_make(&in_child));
        left = load_make(&in_child);
        if (n % 2) _exit(7);
        execl("/bin/sh", "sh", "-c", "exit 7", NULL);
        _exit(1);
    }
    watch_forked(slot, pid);
    watch_check(pid > 0, "vfork: %s", strerror(errno));
    if (pid < 0) return;
    load_drop(left);
    reap(pid, 7, "vfork");
}

static void spawn_once(int n) {
    char *arguments[] = {(char *)"sh", (char *)"-c", (char *)"exit 3", NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    struct watch_slot *slot = watch_reserve("posix_spawn", n);
    int error = posix_spawn(&pid, "/bin/sh", &actions, NULL, arguments, environ);
    watch_forked(slot, error ? -1 : pid);
    watch_check(error == 0, "posix_spawn: %s", strerror(error));
    posix_spawn_file_actions_destroy(&actions);
    if (!error) reap(pid, 3, "posix_spawn");
}

static void popen_once(int n) {
    char line[64] = "";
    FILE *out = popen("echo hello", "r");
    watch_check(out && fgets(line, sizeof line, out) && !strcmp(line, "hello\n"), "popen %d said \"%s\"", n, line);
    if (out) watch_check(pclose(out) == 0, "popen %d did not end well", n);
    watch_check(WEXITSTATUS(system("exit 5")) == 5, "system %d", n);
}

static int body(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 300;
    probe_report(2);
    load_start(LOAD_THREADS);
    for (int n = 0; n < rounds; n++) {
        watch_beat();
        for (int k = 0; k < 4; k++) vfork_once(n * 4 + k);
        spawn_once(n);
        if (n % 4 == 0) popen_once(n);
    }
    load_end(LOAD_THREADS);
    load_clear();
    printf("%d rounds during %lu operations of the threads\n", rounds, atomic_load(&load_operations));
    return 0;
}

int main(int argc, char **argv) { return watch_run(body, argc, argv, 20); }
