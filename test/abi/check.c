/* check.c: see check.h. Linked statically or dynamically against the library with -DCHECK_LINKED, else found by dlsym (preloaded).
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "check.h"
#include "seemalloc.h"
#include <unistd.h>

int check_failures;

static void put(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) _exit(3);
}

void check_failed(const char *file, int line, const char *text) {
    char number[16];
    snprintf(number, sizeof number, ":%d: ", line);
    put(file);
    put(number);
    put(text);
    put("\n");
    check_failures++;
}

int check_result(void) {
    if (check_failures == 0) return 0;
    put("failed\n");
    return 1;
}

int check_library(int argc, char **argv) {
    const char *system = getenv("CHECK_SYSTEM");
    if ((argc > 1 && !strcmp(argv[1], "--system")) || (system && *system == '1')) return 0;
    const char *(*version)(void);
#ifdef CHECK_LINKED
    version = seemalloc_version;
#else
    *(void **)&version = dlsym(RTLD_DEFAULT, "seemalloc_version");
#endif
    if (!version) {
        put("the program does not run on seemalloc\n");
        exit(1);
    }
    char expected[32];
    snprintf(expected, sizeof expected, "%d.%d.%d", SEEMALLOC_VERSION_MAJOR, SEEMALLOC_VERSION_MINOR, SEEMALLOC_VERSION_PATCH);
    CHECK(strcmp(version(), expected) == 0);
    return 1;
}
