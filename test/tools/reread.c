/* reread.c: plays the nine pictures of the texts and reads the heap by ways that share nothing with the command's: chunks from their raw headers
 * (size in the low 48 bits, P in the lowest; a chunk is free when the next one's P is clear; the last is the top), the break from the line [heap]
 * of /proc/self/maps, resident memory from smaps, page faults from /proc/self/stat. One line of JSON a step on standard output.
 *
 * Run with the story's settings: tcache_max:0,trim_threshold:131072. It prints from a buffer of its own, so that only the acts touch the heap.
 * SPDX-License-Identifier: MIT */
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { KIB = 1024, TRIM_THRESHOLD = 128 * KIB };

static char text[512 * KIB], line[16 * KIB];
static size_t used;
static void *volatile block[4];

static void put(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void put(const char *format, ...) {
    va_list args;
    va_start(args, format);
    used += (size_t)vsnprintf(line + used, sizeof line - used, format, args);
    va_end(args);
}

static void read_file(const char *path) {
    size_t got = 0;
    int fd = open(path, O_RDONLY);
    for (ssize_t n; fd >= 0 && (n = read(fd, text + got, sizeof text - 1 - got)) > 0;) got += (size_t)n;
    text[got] = '\0';
    if (fd < 0 || got == 0) {
        static const char sorry[] = "reread: can't read /proc\n";
        _exit(write(STDERR_FILENO, sorry, sizeof sorry - 1) < 0 ? 2 : 1);
    }
    close(fd);
}

/* The number of field `field` of /proc/self/stat, counted from 1. */
static uint64_t stat_field(int field) {
    read_file("/proc/self/stat");
    char *at = strrchr(text, ')');
    for (int i = 2; i < field; i++) at = strchr(at + 1, ' ');
    return strtoull(at + 1, NULL, 10);
}

/* The mapping that `address` lies in, or the one called [heap] if it is 0: its range, and its resident bytes from smaps. */
static int find_mapping(uint64_t address, uint64_t *from, uint64_t *to, uint64_t *resident) {
    read_file("/proc/self/smaps");
    for (char *at = text; at && *at; at = strchr(at, '\n') ? strchr(at, '\n') + 1 : NULL) {
        char *end = at, *newline = strchr(at, '\n');
        *from = strtoull(at, &end, 16);
        if (end == at || *end != '-') continue; /* a line of details */
        *to = strtoull(end + 1, &end, 16);
        const char *name = strstr(at, "[heap]");
        if (address ? address >= *from && address < *to : name && name < newline) {
            *resident = strtoull(strstr(at, "\nRss:") + 5, NULL, 10) * KIB;
            return 1;
        }
    }
    return 0;
}

static uint64_t head(uint64_t chunk) { return *(const volatile uint64_t *)(uintptr_t)(chunk + 8); }
static uint64_t size_of(uint64_t chunk) { return head(chunk) & 0x0000fffffffffff0; }

static void put_heap(uint64_t start_brk) {
    uint64_t from = 0, to = start_brk, resident = 0;
    const char *comma = "";
    if (!find_mapping(0, &from, &to, &resident)) from = to = start_brk;
    put("\"heap_bytes\": %llu, \"heap_resident_bytes\": %llu, \"chunks\": [", (unsigned long long)(to - start_brk),
        (unsigned long long)resident);
    for (uint64_t chunk = start_brk; chunk < to;) {
        uint64_t size = size_of(chunk), next = chunk + size;
        if (size == 0 || next > to) {
            put("%s[%llu, 0, \"broken\"]", comma, (unsigned long long)(chunk - start_brk));
            break;
        }
        put("%s[%llu, %llu, \"%s\"]", comma, (unsigned long long)(chunk - start_brk), (unsigned long long)size,
            next == to       ? "top"
            : head(next) & 1 ? "in use"
                             : "free");
        comma = ", ";
        chunk = next;
    }
    put("], ");
}

/* C, if it is mapped: between the reading of its address and this, only this program could have unmapped it. */
static void put_mapped(void) {
    uint64_t mem = (uint64_t)(uintptr_t)block[2], from, to, resident;
    if (mem && head(mem - 16) & 2 && find_mapping(mem, &from, &to, &resident))
        put("\"mapped\": [%llu, %llu], ", (unsigned long long)size_of(mem - 16), (unsigned long long)(mem - 16) % 4096);
    else
        put("\"mapped\": null, ");
}

static void put_step(const char *title, uint64_t start_brk, uint64_t faults) {
    used = 0;
    put("{\"title\": \"%s\", \"faults\": %llu, ", title, (unsigned long long)faults);
    put_heap(start_brk);
    put_mapped();
    put("\"brk\": %llu}\n", (unsigned long long)((uint64_t)(uintptr_t)sbrk(0) - start_brk));
    if (write(STDOUT_FILENO, line, used) != (ssize_t)used) _exit(1);
}

static void take(int letter, size_t size) {
    block[letter] = malloc(size);
    if (!block[letter]) _exit(1);
    memset(block[letter], 1, size);
}

static void give(int letter) {
    free(block[letter]);
    block[letter] = NULL;
}

int main(void) {
    uint64_t start_brk = stat_field(47);
    for (int step = 1; step <= 9; step++) {
        static const char *const titles[] = {"start", "A", "B", "C", "D", "free C", "free B", "free D", "trim"};
        if (step == 8) mallopt(M_TRIM_THRESHOLD, INT_MAX);
        if (step == 9) mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD);
        uint64_t faults = stat_field(10);
        switch (step) {
        case 2: take(0, 30 * KIB); break;
        case 3: take(1, 40 * KIB); break;
        case 4: take(2, 200 * KIB); break;
        case 5: take(3, 100 * KIB); break;
        case 6: give(2); break;
        case 7: give(1); break;
        case 8: give(3); break;
        case 9: block[3] = malloc(1000), give(3); break;
        default: break;
        }
        put_step(titles[step - 1], start_brk, stat_field(10) - faults);
    }
    return 0;
}
