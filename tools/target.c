/* target.c: looks for the program as execvp does, then looks into it for what would keep a preload from reaching it, because the loader says
 * nothing when it ignores one and the user would believe to have measured seemalloc.
 *
 * For each file: 1. exists, is a file, may be executed. 2. "#!": goes on with the interpreter, as the kernel does (and through env). 3. ELF of
 * this machine. 4. has a loader (PT_INTERP), which is there and not musl's. 5. does not run in secure-execution mode.
 * A file that may be executed but not read is let through: nothing can be said of it.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* AT_EACCESS */
#include "target.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "elf_facts.h"
#include "secure.h"
#include "tool.h"

enum { MAX_SCRIPTS = 5 }; /* the kernel follows as many #! lines */

static int check_file(const char *path, int scripts);

/* Says why `path` can't be executed; returns the status. */
static int cannot_run(const char *path) {
    int error = errno;
    struct stat st;
    if (stat(path, &st) != 0)
        error = errno;
    else if (S_ISDIR(st.st_mode)) {
        tool_say("%s: is a directory; expected a program", path);
        return STATUS_CANNOT_RUN;
    } else if (!S_ISREG(st.st_mode)) {
        tool_say("%s: is no regular file; expected a program", path);
        return STATUS_CANNOT_RUN;
    } else if (error == EACCES) {
        tool_say("%s: is not executable for this user (mode %04o); expected execute permission: 'chmod +x' it, or name the interpreter "
                 "before it",
                 path, (unsigned)(st.st_mode & 07777));
        return STATUS_CANNOT_RUN;
    }
    if (error == ENOENT || error == ENOTDIR) {
        tool_say("%s: not found; expected the path of a program", path);
        return STATUS_NOT_FOUND;
    }
    tool_say("%s: can't be executed: %s", path, strerror(error));
    return STATUS_CANNOT_RUN;
}

static bool executable(const char *path) {
    struct stat st;
    if (stat(path, &st) != 0) return false;
    if (!S_ISREG(st.st_mode)) {
        errno = EISDIR;
        return false;
    }
    return faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) == 0;
}

/* execvp's search. A file that exists but may not be executed is remembered, and reported if nothing better follows; folders are passed over. */
static int search_path(const char *name, char path[PATH_MAX]) {
    const char *folders = getenv("PATH");
    char refused[PATH_MAX] = "";
    if (!folders) folders = "/bin:/usr/bin";
    for (const char *folder = folders;;) {
        size_t length = strcspn(folder, ":");
        int n = snprintf(path, PATH_MAX, "%.*s%s%s", (int)length, folder, length ? "/" : "", name);
        if (n < PATH_MAX && executable(path)) return 0;
        if (n < PATH_MAX && errno == EACCES && !refused[0]) strcpy(refused, path);
        if (folder[length] == '\0') break;
        folder += length + 1;
    }
    if (refused[0]) {
        errno = EACCES;
        return cannot_run(refused);
    }
    tool_say("%s: not found in PATH (%s); expected the name or the path of a program", name, folders);
    return STATUS_NOT_FOUND;
}

static int locate(const char *name, char path[PATH_MAX]) {
    if (!name[0]) {
        tool_say("the program's name is empty; expected the name or the path of a program");
        return STATUS_NOT_FOUND;
    }
    if (!strchr(name, '/')) return search_path(name, path);
    if (strlen(name) >= PATH_MAX) {
        tool_say("the program's path has %zu bytes; expected fewer than %d", strlen(name), PATH_MAX);
        return STATUS_CANNOT_RUN;
    }
    strcpy(path, name);
    return executable(path) ? 0 : cannot_run(path);
}

/* "#!/usr/bin/env [-S] [NAME=VALUE]... PROGRAM": checks PROGRAM too, for env is only on the way. Options other than -S end the search. */
static int check_env(char *arguments, int scripts) {
    char *rest = NULL;
    for (char *word = strtok_r(arguments, " \t", &rest); word; word = strtok_r(NULL, " \t", &rest)) {
        if (strcmp(word, "-S") == 0 || strchr(word, '=')) continue;
        if (word[0] == '-' && strncmp(word, "-S", 2) != 0) return 0;
        word += word[0] == '-' ? 2 : 0;
        char path[PATH_MAX];
        int status = locate(word, path);
        return status ? status : check_file(path, scripts + 1);
    }
    return 0;
}

/* `line` is the first line of the script `path`, after "#!". */
static int check_script(const char *path, char *line, int scripts) {
    if (scripts == MAX_SCRIPTS) {
        tool_say("%s: the interpreters of scripts are scripts, %d deep; expected a program in the end", path, scripts);
        return STATUS_CANNOT_RUN;
    }
    char *interpreter = line + strspn(line, " \t");
    size_t length = strcspn(interpreter, " \t");
    char *arguments = interpreter + length + (interpreter[length] != '\0');
    interpreter[length] = '\0';
    if (!interpreter[0]) {
        tool_say("%s: its first line is '#!' without an interpreter; expected '#!/path/of/interpreter'", path);
        return STATUS_CANNOT_RUN;
    }
    if (!executable(interpreter)) {
        tool_say("%s: is a script for '%s', which can't be executed:", path, interpreter);
        executable(interpreter); /* sets errno */
        return cannot_run(interpreter);
    }
    int status = check_file(interpreter, scripts + 1);
    const char *name = strrchr(interpreter, '/');
    if (status == 0 && strcmp(name ? name + 1 : interpreter, "env") == 0) status = check_env(arguments, scripts);
    return status;
}

/* Neither ELF nor "#!": execvp gives such a file to the shell. Text is let through, anything else is no program. */
static int check_other(const char *path, const char *head, size_t size, int scripts) {
    for (size_t i = 0; i < size && head[i] != '\n'; i++)
        if (head[i] == '\0') {
            tool_say("%s: is neither an ELF program nor a script; expected one of them", path);
            return STATUS_CANNOT_RUN;
        }
    return check_file("/bin/sh", scripts + 1);
}

/* The loader itself may be named as the program: it has no PT_INTERP, but it honours a preload. Ours is the one to compare with. */
static bool is_own_loader(int fd) {
    static struct elf_facts own;
    struct stat st, loader;
    int exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (exe < 0) return false;
    elf_read(exe, &own);
    close(exe);
    return own.dynamic && fstat(fd, &st) == 0 && stat(own.interp, &loader) == 0 && st.st_dev == loader.st_dev && st.st_ino == loader.st_ino;
}

static int check_elf(const char *path, int fd, const struct elf_facts *facts) {
    char why[128];
    if (facts->verdict == ELF_FOREIGN) {
        tool_say("%s: is a %d-bit program for %s; expected one for 64-bit %s, as this library is. Run a build of it for this machine", path,
                 facts->bits, elf_machine_name(facts->machine), elf_machine_name(elf_own_machine));
    } else if (facts->verdict == ELF_DAMAGED) {
        tool_say("%s: is a damaged ELF file (its headers lead outside it); expected a program. Build or install it again", path);
    } else if (facts->type != ET_EXEC && facts->type != ET_DYN) {
        tool_say("%s: is an ELF file of type %u; expected a program (type 2 or 3). Link it first", path, facts->type);
    } else if (!facts->dynamic && !is_own_loader(fd)) {
        tool_say(
            "%s: is statically linked%s: no loader runs that could load seemalloc; expected a dynamically linked program. Link it with "
            "libseemalloc.a instead",
            path, facts->type == ET_DYN ? " (static-pie)" : "");
    } else if (facts->dynamic &&
               strncmp(strrchr(facts->interp, '/') ? strrchr(facts->interp, '/') + 1 : facts->interp, "ld-musl", 7) == 0) {
        tool_say("%s: is linked with musl (its loader is %s); expected a program linked with glibc, as this library is. Run a build of it "
                 "for glibc",
                 path, facts->interp);
    } else if (facts->dynamic && access(facts->interp, F_OK) != 0) {
        tool_say("%s: needs the loader %s: %s; expected it to be installed. Install the C library that it was built for", path,
                 facts->interp, strerror(errno));
        return STATUS_NOT_FOUND;
    } else if (secure_execution(fd, why, sizeof why)) {
        tool_say("%s: %s: in secure-execution mode the loader ignores a preload; expected a program that gains no privileges. Run it as "
                 "the user that it "
                 "would become, or run a copy without the privileges",
                 path, why);
    } else {
        return 0;
    }
    return STATUS_CANNOT_RUN;
}

static int check_file(const char *path, int scripts) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    int status;
    char head[1024];
    ssize_t got = pread(fd, head, sizeof head - 1, 0);
    struct elf_facts *facts = malloc(sizeof *facts);
    if (!facts) {
        tool_say("out of memory");
        close(fd);
        return STATUS_TOOL;
    }
    elf_read(fd, facts);
    if (got < 0) {
        status = cannot_run(path);
    } else if (facts->verdict != ELF_NOT) {
        status = check_elf(path, fd, facts);
    } else if (got >= 2 && head[0] == '#' && head[1] == '!') {
        head[got] = '\0';
        head[strcspn(head, "\n")] = '\0';
        status = check_script(path, head + 2, scripts);
    } else {
        status = check_other(path, head, (size_t)got, scripts);
    }
    free(facts);
    close(fd);
    return status;
}

int target_find(const char *name, char path[PATH_MAX]) {
    int status = locate(name, path);
    return status ? status : check_file(path, 0);
}
