/* t02.c: T2. malloc is a library function in user mode; it reaches the kernel only by brk, mmap, munmap, mremap, madvise, mprotect, and
 * these are counted.
 *
 * A parent traces the system calls of a child. The child marks the beginning and the end of each section with a getpriority() that
 * names it; what lies between is compared with what the library counted.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { HITS, GROW, BLOCKS, REALLOC, TRIM, THREAD, CACHED_HITS, SECTIONS };
static const char *const section_names[] = {"hits", "grow", "blocks", "realloc", "trim", "thread", "hits in the cache"};
#define MARK 10000

/* What the library says of a section; written by the child. */
struct account {
    uint64_t brk, mmap, munmap, mremap, mprotect, madvise;
    uint64_t mmap_books, munmap_books; /* told only: for the library's own books, in part by the reading of the counters itself */
};
static struct account *told;
/* What the tracer saw. */
static struct account seen[SECTIONS];
static uint64_t others[SECTIONS];
static long other_example[SECTIONS];
static int section_seen[SECTIONS];

static void mark(int section, int end) { syscall(SYS_getpriority, MARK + 2 * section + end, 0); }

static struct seemalloc_stats before;

static void begin(int section) {
    before = stats_now();
    mark(section, 0);
}

static void end(int section) {
    mark(section, 1);
    struct seemalloc_stats after = stats_now();
    struct account *a = &told[section];
#define CALLS(call) calls_between(&before, &after, SEEMALLOC_CALL_##call)
    a->brk = CALLS(BRK_GROW) + CALLS(BRK_TRIM);
    a->mmap = CALLS(MMAP_BLOCK) + CALLS(MMAP_REGION) + CALLS(MMAP_HEAP);
    a->mmap_books = CALLS(MMAP_META);
    a->munmap = CALLS(MUNMAP_BLOCK) + CALLS(MUNMAP_HEAP);
    a->munmap_books = CALLS(MUNMAP_META);
    a->mremap = CALLS(MREMAP_BLOCK);
    a->mprotect = CALLS(MPROTECT_GROW);
    a->madvise = CALLS(MADVISE_TRIM) + CALLS(MADVISE_PURGE);
}

static void *blocks[64];

static void *in_thread(void *unused) {
    (void)unused;
    put(get_filled(100)); /* takes an arena and whatever a thread needs once */
    begin(THREAD);
    for (size_t i = 0; i < 64; i++) blocks[i] = get_filled(KIB(100));
    for (size_t i = 64; i-- > 0;) put(blocks[i]);
    end(THREAD);
    return NULL;
}

static void traced(const char *part) {
    if (!strcmp(part, "cached")) {
        for (int i = 0; i < 100; i++) put(get_filled(100));
        begin(CACHED_HITS);
        for (int i = 0; i < 10000; i++) put(get(100));
        end(CACHED_HITS);
        return;
    }
    void *keep = get_filled(KIB(8));
    put(get_filled(1000));
    begin(HITS);
    for (int i = 0; i < 10000; i++) put(get((size_t)(1 + i % 1000)));
    end(HITS);

    begin(GROW);
    for (size_t i = 0; i < 64; i++) blocks[i] = get_filled(KIB(100));
    end(GROW);

    begin(TRIM);
    for (size_t i = 64; i-- > 0;) put(blocks[i]);
    end(TRIM);
    put(keep);

    begin(BLOCKS);
    for (size_t i = 0; i < 10; i++) blocks[i] = get_filled(MIB(1));
    for (size_t i = 0; i < 10; i++) put(blocks[i]);
    end(BLOCKS);

    void *grown = get_filled(MIB(1));
    begin(REALLOC);
    grown = resize(grown, MIB(64));
    grown = resize(grown, MIB(2));
    end(REALLOC);
    put(grown);

    pthread_t thread;
    if (pthread_create(&thread, NULL, in_thread, NULL) == 0) pthread_join(thread, NULL);
}

static void account(struct account *a, int section, long number) {
    switch (number) {
    case SYS_brk: a->brk++; break;
    case SYS_mmap: a->mmap++; break;
    case SYS_munmap: a->munmap++; break;
    case SYS_mremap: a->mremap++; break;
    case SYS_mprotect: a->mprotect++; break;
    case SYS_madvise: a->madvise++; break;
    default: others[section]++; other_example[section] = number;
    }
}

/* Lets the child run from system call to system call. Only one thread is inside a section at a time. */
static int trace(pid_t child) {
    int status, section = -1, child_status = -1;
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return -1;
    if (ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL)) return -1;
    ptrace(PTRACE_SYSCALL, child, 0, 0);
    for (;;) {
        pid_t pid = waitpid(-1, &status, __WALL);
        if (pid < 0) return child_status;
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (pid == child) child_status = status;
            continue;
        }
        long signal = WSTOPSIG(status);
        if (signal == (SIGTRAP | 0x80)) {
            struct __ptrace_syscall_info info;
            signal = 0;
            if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) > 0 && info.op == PTRACE_SYSCALL_INFO_ENTRY) {
                long number = (long)info.entry.nr;
                uint64_t which = info.entry.args[0] - MARK;
                if (number == SYS_getpriority && which < 2 * SECTIONS) {
                    section = which % 2 ? -1 : (int)(which / 2);
                    if (section >= 0) section_seen[section] = 1;
                } else if (section >= 0) {
                    account(&seen[section], section, number);
                }
            }
        } else if (signal == SIGTRAP || signal == SIGSTOP) {
            signal = 0;
        }
        ptrace(PTRACE_SYSCALL, pid, 0, signal);
    }
}

static void check_section(int section) {
    const struct account *s = &seen[section], *t = &told[section];
    texts_say(
        "section \"%s\": the tracer saw brk %llu, mmap %llu, munmap %llu, mremap %llu, mprotect %llu, madvise %llu, others %llu (e.g. %ld)",
        section_names[section], (unsigned long long)s->brk, (unsigned long long)s->mmap, (unsigned long long)s->munmap,
        (unsigned long long)s->mremap, (unsigned long long)s->mprotect, (unsigned long long)s->madvise, (unsigned long long)others[section],
        other_example[section]);
    REQUIRE("the section was run", section_seen[section]);
    CHECK_EQ("system calls of any other kind", others[section], 0);
    CHECK_EQ("brk: counted by the library", t->brk, s->brk);
    /* The top of a heap goes back by madvise or by a fresh mapping over it: one reason, two calls. */
    CHECK_IN("mmap and madvise: counted by the library", s->mmap + s->madvise, t->mmap + t->madvise, t->mmap + t->madvise + t->mmap_books);
    CHECK("no madvise without a reason", s->madvise <= t->madvise);
    CHECK_IN("munmap: counted by the library", s->munmap, t->munmap, t->munmap + t->munmap_books);
    CHECK_EQ("mremap: counted by the library", t->mremap, s->mremap);
    CHECK_EQ("mprotect: counted by the library", t->mprotect, s->mprotect);
}

static int run_traced(const char *part) {
    pid_t child = fork();
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, 0, 0)) _exit(77);
        raise(SIGSTOP);
        traced(part);
        _exit(0);
    }
    return child < 0 ? -1 : trace(child);
}

int main(int argc, char **argv) {
    (void)argc;
    const char *part = texts_begin(argv, "T2", NO_CACHE);

    /* A library function: its code is in a shared library's text, in the user's half of the address space. */
    Dl_info info;
    void *function = dlsym(RTLD_DEFAULT, "malloc");
    struct mapping m;
    REQUIRE("malloc is in a loaded object", dladdr(function, &info));
    REQUIRE("malloc's code is mapped here", mapping_of((uintptr_t)function, &m));
    CHECK("it is the text of a file (the library)", m.name[0] == '/' && !strncmp(m.perms, "r-x", 3));
    CHECK("it is in the user's half", (intptr_t)function > 0);

    told = mmap(NULL, sizeof(struct account) * SECTIONS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    REQUIRE("shared memory for the child's account", told != MAP_FAILED);
    int status = run_traced(part);
    if (status == 77 << 8) {
        texts_say("tracing is not allowed here: skipped");
        return 77;
    }
    CHECK_EQ("the traced child's status", status, 0);

    if (*part) {
        check_section(CACHED_HITS);
        struct account *s = &seen[CACHED_HITS];
        CHECK_EQ("10000 pairs out of the cache: system calls", s->brk + s->mmap + s->munmap + s->mremap + s->mprotect + s->madvise, 0);
        return texts_end();
    }
    for (int section = 0; section < CACHED_HITS; section++) check_section(section);
    struct account *s = &seen[HITS];
    CHECK_EQ("10000 pairs out of the heap: system calls", s->brk + s->mmap + s->munmap + s->mremap + s->mprotect + s->madvise, 0);
    CHECK_IN("64 times 100 KiB: the heap grew by brk, in pieces larger than a block", seen[GROW].brk, 1, 63);
    CHECK_EQ("growing the heap: mmap", seen[GROW].mmap, 0);
    CHECK_IN("freed again: the break went down", seen[TRIM].brk, 1, 64);
    CHECK_EQ("10 blocks of 1 MiB: one munmap each", seen[BLOCKS].munmap, 10);
    CHECK_IN("10 blocks of 1 MiB: one mmap each (and at most one for our books)", seen[BLOCKS].mmap, 10, 11);
    CHECK_EQ("10 blocks of 1 MiB: brk", seen[BLOCKS].brk, 0);
    CHECK_IN("realloc of a mapped block moves pages, no bytes: mremap", seen[REALLOC].mremap, 1, 2);
    CHECK_EQ("in a thread: brk", seen[THREAD].brk, 0);
    CHECK_IN("in a thread: the reserved heap is made usable", seen[THREAD].mprotect, 1, 64);

    const char *const with_cache[] = {NULL};
    texts_again("cached", with_cache);

    /* The command counts them by reason, and shows the kernel's bookkeeping. */
    const char *shown = texts_tool("story");
    if (shown) {
        CHECK("the command counts brk upwards", strstr(shown, "| 1 brk grow"));
        CHECK("brk downwards", strstr(shown, "| 1 brk trim"));
        CHECK("mmap", strstr(shown, "| 1 mmap block"));
        CHECK("munmap", strstr(shown, "| 1 munmap block"));
        CHECK("it shows start_brk, brk and the stack's start",
              strstr(shown, "^start_brk") && strstr(shown, "^brk") && strstr(shown, "stack from 0x"));
    }
    return texts_end();
}
