/* kernel.h: what the kernel says about this process, for tests of all folders. Nothing here allocates, and each call stands for itself.
 * SPDX-License-Identifier: MIT */
#ifndef TEST_KERNEL_H
#define TEST_KERNEL_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Pages of [from, to) that are in physical memory (/proc/self/pagemap, else mincore). */
static inline size_t pages_resident(uintptr_t from, uintptr_t to) {
    enum { AT_ONCE = 512 };
    uint64_t entries[AT_ONCE];
    unsigned char bytes[AT_ONCE];
    size_t size = (size_t)sysconf(_SC_PAGESIZE), found = 0, n;
    uintptr_t last = to / size + (to % size != 0);
    if (from >= to) return 0;
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    for (uintptr_t page = from / size; page < last; page += n) {
        n = last - page < AT_ONCE ? last - page : (size_t)AT_ONCE;
        if (pagemap >= 0 &&
            pread(pagemap, entries, n * sizeof entries[0], (off_t)(page * sizeof entries[0])) == (ssize_t)(n * sizeof entries[0])) {
            for (size_t i = 0; i < n; i++) found += entries[i] >> 63; /* present */
        } else if (mincore((void *)(page * size), n * size, bytes) == 0) {
            for (size_t i = 0; i < n; i++) found += bytes[i] & 1;
        }
    }
    if (pagemap >= 0) close(pagemap);
    return found;
}

/* Resident bytes of the process. The counters in statm may be behind by some pages for each thread; smaps_rollup counts them. */
static inline size_t resident_bytes(void) {
    char text[4096];
    const char *field = "\nRss:";
    int rollup = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    ssize_t n = rollup < 0 ? -1 : read(rollup, text, sizeof text - 1);
    if (rollup >= 0) close(rollup);
    if (n <= 0) return 0;
    text[n] = 0;
    const char *at = strstr(text, field);
    return at ? strtoul(at + strlen(field), NULL, 10) << 10 : 0;
}

/* One mapping (VMA) of the process. */
struct mapping {
    uintptr_t start, end;
    char perms[5];
    char name[200]; /* "" for anonymous memory */
};

/* Calls visit(mapping, arg) for each in address order till it returns something else than 0; returns that, 0 at the end, -1 if there was nothing to read. */
static inline int mappings_visit(int (*visit)(const struct mapping *mapping, void *arg), void *arg) {
    char text[8192];
    size_t held = 0;
    ssize_t n;
    int result = 0, maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (maps < 0) return -1;
    while (result == 0 && (n = read(maps, text + held, sizeof text - 1 - held)) > 0) {
        char *line = text, *end;
        held += (size_t)n;
        text[held] = 0;
        for (; result == 0 && (end = strchr(line, '\n')); line = end + 1) {
            struct mapping mapping;
            char *rest;
            *end = 0;
            memset(&mapping, 0, sizeof mapping);
            mapping.start = strtoul(line, &rest, 16);
            mapping.end = strtoul(rest + 1, &rest, 16);
            memcpy(mapping.perms, rest + 1, 4);
            for (int field = 0; field < 4 && rest; field++) rest = strchr(rest + 1, ' '); /* permissions, offset, device, inode */
            if (rest) strncpy(mapping.name, rest + strspn(rest, " "), sizeof mapping.name - 1);
            result = visit(&mapping, arg);
        }
        held -= (size_t)(line - text);
        memmove(text, line, held);
    }
    close(maps);
    return result;
}

#endif
