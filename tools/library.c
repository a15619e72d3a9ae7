/* library.c: finds the preloadable library wherever it was installed: where SEEMALLOC_LIBRARY says, else beside this executable (a build
 * folder), else in the library folders beside its bin folder (an installation under any prefix).
 *
 * The path goes into LD_PRELOAD, which the loader splits at blanks and colons and in which it expands $; such a path is refused here, for the
 * loader would only warn and go on without the library.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* secure_getenv */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "elf_facts.h"
#include "tool.h"

#if defined __x86_64__
#define TRIPLET "x86_64-linux-gnu"
#elif defined __aarch64__
#define TRIPLET "aarch64-linux-gnu"
#elif defined __riscv
#define TRIPLET "riscv64-linux-gnu"
#elif defined __powerpc64__
#define TRIPLET "powerpc64le-linux-gnu"
#elif defined __s390x__
#define TRIPLET "s390x-linux-gnu"
#else
#define TRIPLET "loongarch64-linux-gnu"
#endif

static const char *const folders[] = {
    ".",
#ifdef SEEMALLOC_LIBDIR_FROM_BIN
    SEEMALLOC_LIBDIR_FROM_BIN, /* where the build was told to install it */
#endif
    "../lib",
    ("../lib/" TRIPLET),
    "../lib64",
};
static const char *const names[2][2] = {{"libseemalloc.so.1", "libseemalloc.so"}, {"libseemalloc_trace.so.1", "libseemalloc_trace.so"}};

/* Says what makes `path` no library to preload; NULL if nothing does. */
static const char *library_fault(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return strerror(errno);
    static struct elf_facts facts;
    elf_read(fd, &facts);
    close(fd);
    if (facts.verdict == ELF_FOREIGN) return "it was built for another machine";
    if (facts.verdict != ELF_OURS || facts.type != ET_DYN) return "it is no shared library";
    return path[strcspn(path, " :$\t\n")]
               ? "its path holds a blank, a colon or a $, which LD_PRELOAD can't carry; move it or link to it elsewhere"
               : NULL;
}

/* The folder of this executable, links resolved, without a slash at the end. */
static bool own_folder(char folder[PATH_MAX]) {
    ssize_t length = readlink("/proc/self/exe", folder, PATH_MAX - 1);
    if (length <= 0) return false;
    folder[length] = '\0';
    char *slash = strrchr(folder, '/');
    if (!slash) return false;
    *slash = '\0';
    return true;
}

static bool library_from_environment(const char *named, char path[PATH_MAX]) {
    if (!realpath(named, path)) {
        tool_say("SEEMALLOC_LIBRARY names '%s': %s; expected the path of libseemalloc.so", named, strerror(errno));
        return false;
    }
    const char *fault = library_fault(path);
    if (fault) tool_say("SEEMALLOC_LIBRARY names '%s': %s; expected the path of libseemalloc.so", named, fault);
    return !fault;
}

bool library_find(char path[PATH_MAX], bool is_recorded) {
    const char *named = secure_getenv("SEEMALLOC_LIBRARY");
    if (named && named[0]) return library_from_environment(named, path);

    char own[PATH_MAX];
    if (!own_folder(own)) {
        tool_say("can't tell where this command lies (/proc/self/exe: %s); set SEEMALLOC_LIBRARY to the path of libseemalloc.so",
                 strerror(errno));
        return false;
    }
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char folder[2 * PATH_MAX];
        char resolved[PATH_MAX];
        snprintf(folder, sizeof folder, "%s/%s", own, folders[i]);
        if (!realpath(folder, resolved)) continue;
        for (size_t j = 0; j < sizeof names[0] / sizeof *names[0]; j++) {
            /* The folder is resolved, the name is not: after an upgrade the link leads to the new library. */
            if (snprintf(path, PATH_MAX, "%s/%s", strcmp(resolved, "/") == 0 ? "" : resolved, names[is_recorded][j]) >= PATH_MAX ||
                access(path, F_OK) != 0)
                continue;
            const char *fault = library_fault(path);
            if (fault) tool_say("found the library at '%s', but %s", path, fault);
            return !fault;
        }
    }
    tool_say("%s was not found; looked in %s, ../lib, ../lib/" TRIPLET " and ../lib64 beside it.\n"
             "seemalloc: install the library there, or set SEEMALLOC_LIBRARY to its path",
             names[is_recorded][0], own);
    return false;
}
