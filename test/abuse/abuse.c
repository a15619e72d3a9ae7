/* abuse.c: the runner of the misuse programs, and what their cases share (see abuse.h).
 *
 * A case passes if the child dies by SIGABRT with glibc's message as its whole first line on stderr and a second line that begins
 * "seemalloc: " and names an announced address; or in the other ways that its flags allow. The runner itself is not preloaded.
 *
 * Usage: PROGRAM [--library FILE] [--system] [CASE...]    --system only prints what the system's malloc does, for comparison
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "abuse.h"
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

void *(*volatile take)(size_t) = malloc;
void *(*volatile take_aligned)(size_t, size_t) = memalign;
void *(*volatile retake)(void *, size_t) = realloc;
void (*volatile give)(void *) = free;

/* ---- in the child ---- */

static void say(const char *word, const void *p, const char *what) {
    char line[256];
    int n = snprintf(line, sizeof line, "%s %p %s\n", word, p, what);
    if (write(STDOUT_FILENO, line, (size_t)n) != n) _exit(3);
}

void about(const void *p) { say("about", p, ""); }

_Noreturn void survived(void) {
    say("survived", NULL, "");
    _exit(0);
}

_Noreturn void attack_won(const char *what) {
    say("won", NULL, what);
    _exit(1);
}

_Noreturn void not_reached(const char *what) {
    say("unreached", NULL, what);
    _exit(2);
}

struct search {
    const void *mem;
    enum seemalloc_state state;
    struct seemalloc_chunk *out;
};

static int visit_mem(const struct seemalloc_chunk *chunk, void *arg) {
    struct search *s = arg;
    if (chunk->mem != s->mem) return 0;
    *s->out = *chunk;
    return 1;
}

static int visit_state(const struct seemalloc_chunk *chunk, void *arg) {
    struct search *s = arg;
    if (chunk->state != s->state || chunk->arena != 0) return 0;
    *s->out = *chunk;
    return 1;
}

/* Looked up before the case begins (a failing dlsym allocates); NULL on the system's malloc. */
static int (*walk_function)(int (*)(const struct seemalloc_chunk *, void *), void *);

static int walk(int (*visit)(const struct seemalloc_chunk *, void *), struct search *s) {
    if (!walk_function) not_reached("no seemalloc_walk");
    int r = walk_function(visit, s);
    if (r < 0) not_reached("the walk failed");
    return r;
}

bool find_chunk(const void *mem, struct seemalloc_chunk *out) {
    struct search s = {.mem = mem, .out = out};
    return walk(visit_mem, &s) == 1;
}

bool find_state(enum seemalloc_state state, struct seemalloc_chunk *out) {
    struct search s = {.state = state, .out = out};
    return walk(visit_state, &s) == 1;
}

enum seemalloc_state state_of(const void *mem) {
    struct seemalloc_chunk chunk;
    if (!find_chunk(mem, &chunk)) not_reached("no chunk starts here");
    return chunk.state;
}

/* Without the library (--system) states can't be seen; the case then goes on unchecked. */
void need_state(const void *mem, enum seemalloc_state a, enum seemalloc_state b) {
    if (!walk_function) return;
    enum seemalloc_state s = state_of(mem);
    if (s != a && s != b) {
        const char *(*name)(enum seemalloc_state);
        *(void **)&name = dlsym(RTLD_DEFAULT, "seemalloc_state_name");
        say("state", mem, name ? name(s) : "?");
        not_reached("the block is in another state than the case needs");
    }
}

void adjacent(size_t request, void **blocks, int count) {
    size_t step = 0;
    char *last = NULL;
    int run = 0;
    for (int tries = 0; tries < 4096 && run < count; tries++) {
        char *p = take(request);
        if (!p) not_reached("out of memory");
        if (step != malloc_usable_size(p) + 8) last = NULL; /* chunks of medium size may be rounded up to their class */
        step = malloc_usable_size(p) + 8;
        run = last && p == last + step ? run + 1 : 1;
        if (run == 1)
            blocks[0] = p;
        else
            blocks[run - 1] = p;
        last = p;
    }
    if (run < count) not_reached("blocks of one size do not follow each other");
}

/* ---- the runner ---- */

struct outcome {
    int status;
    char out[4096], err[8192];
};

static const char *library;
static bool system_malloc;

static void drain(int fd, char *buffer, size_t size) {
    size_t used = 0;
    char spare[512];
    for (;;) {
        bool full = used + 1 >= size;
        ssize_t n = read(fd, full ? spare : buffer + used, full ? sizeof spare : size - used - 1);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        if (!full) used += (size_t)n;
    }
    buffer[used] = 0;
    close(fd);
}

static _Noreturn void child(const struct abuse_case *c, int out, int err) {
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    /* A misuse that the allocator does not notice may as well end in a loop. */
    alarm(60);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    /* No setting of the test's surroundings reaches the child. */
    for (char **e = environ; *e;) {
        if (strncmp(*e, "SEEMALLOC_", 10) && strncmp(*e, "MALLOC_", 7) && strncmp(*e, "GLIBC_TUNABLES=", 15)) {
            e++;
            continue;
        }
        char name[128];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(*e, "="), *e);
        unsetenv(name);
        e = environ;
    }
    setenv("LIBC_FATAL_STDERR_", "1", 1);
    if (system_malloc) {
        if (c->flags & ABUSE_CACHE_OFF) setenv("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0", 1);
    } else {
        setenv("LD_PRELOAD", library, 1);
        if (c->flags & ABUSE_CACHE_OFF)
            setenv("SEEMALLOC_CONF", c->flags & ABUSE_ARENAS ? "tcache_max:0,arena_max:1" : "tcache_max:0", 1);
        else if (c->flags & ABUSE_ARENAS)
            setenv("SEEMALLOC_CONF", "arena_max:1", 1);
    }
    execl("/proc/self/exe", program_invocation_short_name, "--case", c->name, (char *)NULL);
    _exit(126);
}

static void run_child(const struct abuse_case *c, struct outcome *o) {
    int out[2], err[2];
    if (pipe(out) || pipe(err)) {
        perror("pipe");
        exit(2);
    }
    pid_t pid = fork();
    if (pid < 0) {
        perror("fork");
        exit(2);
    }
    if (pid == 0) {
        close(out[0]);
        close(err[0]);
        child(c, out[1], err[1]);
    }
    close(out[1]);
    close(err[1]);
    /* Both texts are far smaller than a pipe's buffer, so one after the other can't block the child. */
    drain(out[0], o->out, sizeof o->out);
    drain(err[0], o->err, sizeof o->err);
    while (waitpid(pid, &o->status, 0) < 0 && errno == EINTR)
        ;
}

static bool first_line_is(const char *text, const char *line) {
    size_t n = strlen(line);
    return strncmp(text, line, n) == 0 && text[n] == '\n';
}

/* glibc 2.36's messages: what a multi-step attack may be stopped with. */
static const char *const messages[] = {
    "corrupted double-linked list",
    "corrupted double-linked list (not small)",
    "corrupted size vs. prev_size",
    "corrupted size vs. prev_size in fastbins",
    "corrupted size vs. prev_size while consolidating",
    "double free or corruption (!prev)",
    "double free or corruption (fasttop)",
    "double free or corruption (out)",
    "double free or corruption (top)",
    "free(): corrupted unsorted chunks",
    "free(): double free detected in tcache 2",
    "free(): invalid next size (fast)",
    "free(): invalid next size (normal)",
    "free(): invalid pointer",
    "free(): invalid size",
    "malloc(): corrupted top size",
    "malloc(): corrupted unsorted chunks",
    "malloc(): corrupted unsorted chunks 2",
    "malloc(): invalid next size (unsorted)",
    "malloc(): invalid next->prev_inuse (unsorted)",
    "malloc(): invalid size (unsorted)",
    "malloc(): largebin double linked list corrupted (bk)",
    "malloc(): largebin double linked list corrupted (nextsize)",
    "malloc(): memory corruption (fast)",
    "malloc(): mismatching next->prev_size (unsorted)",
    "malloc(): smallbin double linked list corrupted",
    "malloc(): unaligned fastbin chunk detected",
    "malloc(): unaligned fastbin chunk detected 2",
    "malloc(): unaligned fastbin chunk detected 3",
    "malloc(): unsorted double linked list corrupted",
    "malloc_consolidate(): invalid chunk size",
    "malloc_consolidate(): unaligned fastbin chunk detected",
    "mremap_chunk(): invalid pointer",
    "munmap_chunk(): invalid pointer",
    "realloc(): invalid next size",
    "realloc(): invalid old size",
    "realloc(): invalid pointer",
};

static bool announced(const char *out, uintptr_t address) {
    for (const char *p = out; (p = strstr(p, "about 0x")); p += 6) {
        uintptr_t a = strtoull(p + 6, NULL, 16);
        if (address == a || address + 16 == a) return true;
    }
    return false;
}

static bool line_names_address(const char *out, const char *line) {
    const char *end = line + strcspn(line, "\n");
    for (const char *p = line; (p = strstr(p, "0x")) && p < end; p += 2)
        if (announced(out, strtoull(p, NULL, 16))) return true;
    return false;
}

/* Returns NULL if the outcome is what the case demands, else what is wrong. */
static const char *judge(const struct abuse_case *c, const struct outcome *o) {
    if (WIFEXITED(o->status)) {
        int code = WEXITSTATUS(o->status);
        if (code == 1) return "the attack succeeded";
        if (code == 2) return "the situation could not be made";
        if (code != 0 || !strstr(o->out, "survived")) return "the child failed";
        return c->flags & (ABUSE_SURVIVE | ABUSE_SURVIVE_OK) ? NULL : "not detected";
    }
    if (c->flags & ABUSE_SURVIVE) return "correct use was taken for misuse";
    if (WTERMSIG(o->status) == SIGSEGV || WTERMSIG(o->status) == SIGBUS) return c->flags & ABUSE_SEGV_OK ? NULL : "died by SIGSEGV";
    if (WTERMSIG(o->status) != SIGABRT) return "died by another signal than SIGABRT";
    bool known = false;
    for (size_t i = 0; i < sizeof c->expect / sizeof *c->expect && c->expect[i]; i++) known = known || first_line_is(o->err, c->expect[i]);
    for (size_t i = 0; c->flags & ABUSE_ANY && i < sizeof messages / sizeof *messages; i++)
        known = known || first_line_is(o->err, messages[i]);
    if (!known) return "the first line is not the message expected";
    const char *second = strchr(o->err, '\n') + 1;
    if (strncmp(second, "seemalloc: ", 11) != 0) return "the second line does not begin with \"seemalloc: \"";
    /* Where an attack of several steps is stopped is not known beforehand. */
    if (c->flags & ABUSE_ANY ? !strstr(second, "0x") : !line_names_address(o->out, second))
        return "the second line does not name the address";
    return NULL;
}

static void report(const struct abuse_case *c, const struct outcome *o, const char *wrong) {
    printf("%s %s: %s\n", wrong ? "FAIL" : "ok  ", c->name, wrong ? wrong : "");
    if (!wrong) return;
    if (WIFSIGNALED(o->status))
        printf("  ended by signal %d\n", WTERMSIG(o->status));
    else
        printf("  ended with status %d\n", WEXITSTATUS(o->status));
    for (size_t i = 0; i < sizeof c->expect / sizeof *c->expect && c->expect[i]; i++) printf("  expected: %s\n", c->expect[i]);
    printf("  stdout:\n%s  stderr:\n%s", o->out, o->err);
}

#define MAKE_TRIES 8

static bool run_case(const struct abuse_case *c) {
    struct outcome o;
    run_child(c, &o);
    if (system_malloc) {
        printf("%-40s signal %d status %d: %.*s %s\n", c->name, WIFSIGNALED(o.status) ? WTERMSIG(o.status) : 0,
               WIFEXITED(o.status) ? WEXITSTATUS(o.status) : 0, (int)strcspn(o.err, "\n"), o.err, WIFEXITED(o.status) ? o.out : "");
        return true;
    }
    /* Where addresses and times decide, some situations do not always come about. */
    for (int tries = 0; tries < MAKE_TRIES && WIFEXITED(o.status) && WEXITSTATUS(o.status) == 2; tries++) run_child(c, &o);
    const char *wrong = judge(c, &o);
    if (wrong && c->flags & ABUSE_SEAL) {
        printf("again %s: %s (a seal that matched by chance?)\n", c->name, wrong);
        run_child(c, &o);
        wrong = judge(c, &o);
    }
    report(c, &o, wrong);
    return !wrong;
}

int main(int argc, char **argv) {
    library = getenv("SEEMALLOC_LIB");
#ifdef SEEMALLOC_LIB
    if (!library) library = SEEMALLOC_LIB;
#endif
    int i = 1;
    for (; i < argc && argv[i][0] == '-'; i++) {
        if (!strcmp(argv[i], "--case") && i + 1 < argc) {
            *(void **)&walk_function = dlsym(RTLD_DEFAULT, "seemalloc_walk");
            for (const struct abuse_case *c = abuse_cases; c->name; c++) {
                if (!strcmp(c->name, argv[i + 1])) {
                    c->run();
                    survived();
                }
            }
            return 3;
        } else if (!strcmp(argv[i], "--library") && i + 1 < argc) {
            library = argv[++i];
        } else if (!strcmp(argv[i], "--system")) {
            system_malloc = true;
        } else {
            fprintf(stderr, "usage: %s [--library FILE] [--system] [CASE...]\n", argv[0]);
            return 2;
        }
    }
    if (!system_malloc && (!library || access(library, R_OK) != 0)) {
        fprintf(stderr, "%s: no library (%s)\n", argv[0], library ? library : "name it with --library");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    int count = 0, failed = 0;
    for (const struct abuse_case *c = abuse_cases; c->name; c++) {
        bool wanted = i == argc;
        for (int j = i; j < argc; j++) wanted = wanted || !strcmp(argv[j], c->name);
        if (!wanted) continue;
        count++;
        failed += !run_case(c);
    }
    printf("%d cases, %d failed\n", count, failed);
    return failed || !count;
}
