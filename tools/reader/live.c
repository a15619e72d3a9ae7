/* live.c: what /proc and process_vm_readv say of a running process; freeze.c stops it. SPDX-License-Identifier: MIT */
#include "reader/live.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "reader/live_words.h"

/* <linux/fs.h> since Linux 6.7. */
struct pagemap_region {
    uint64_t start, end, categories;
};
struct pagemap_scan {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages, category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define PAGEMAP_SCAN_CALL _IOWR('f', 16, struct pagemap_scan)
#define SCAN_ZERO (UINT64_C(1) << 5)

#define ENTRY_PRESENT (UINT64_C(1) << 63)
#define ENTRY_SWAPPED (UINT64_C(1) << 62)
#define ENTRIES 4096

static int open_proc(pid_t pid, const char *name) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* The whole file, ended by '\0'; NULL with errno. Free it. */
static char *read_proc(pid_t pid, const char *name, size_t *length) {
    int fd = open_proc(pid, name);
    if (fd < 0) return NULL;
    size_t size = 1 << 16, have = 0;
    char *text = need_memory(NULL, size, 1);
    for (ssize_t n; (n = read(fd, text + have, size - have)) != 0;) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            int saved = errno;
            close(fd);
            free(text);
            errno = saved;
            return NULL;
        }
        have += (size_t)n;
        if (have == size) text = need_memory(text, size *= 2, 1);
    }
    close(fd);
    text[have] = '\0';
    *length = have;
    return text;
}

/* --- words for refusals ------------------------------------------------------------------------------------------------------------------------- */

static bool is_gone(int error) { return error == ENOENT || error == ESRCH; }

static bool gone(const struct live *live, struct fault *fault) {
    return fault_note(fault, "there is no process %d; it has ended, or the number is wrong", (int)live->pid);
}

bool live_refused(struct live *live, const char *what, int error, struct fault *fault) {
    char path[32];
    struct stat status;
    if (is_gone(error)) return gone(live, fault);
    if (error != EPERM && error != EACCES) return fault_note(fault, "can't %s of process %d: %s", what, (int)live->pid, strerror(error));
    snprintf(path, sizeof path, "/proc/%d", (int)live->pid);
    if (stat(path, &status) != 0) return gone(live, fault);
    FILE *scope = fopen("/proc/sys/kernel/yama/ptrace_scope", "re");
    int level = -1;
    if (scope != NULL) {
        if (fscanf(scope, "%d", &level) != 1) level = -1;
        fclose(scope);
    }
    bool same = status.st_uid == geteuid();
    return fault_note(
        fault,
        "no permission to %s of process %d: it %s user %u, this command runs as user %u%s%s; run it as that user with the right to trace "
        "(CAP_SYS_PTRACE), or as root",
        what, (int)live->pid, same ? "belongs to" : "belongs to another,", (unsigned)status.st_uid, (unsigned)geteuid(),
        level == 1   ? ", and /proc/sys/kernel/yama/ptrace_scope is 1: only a parent may trace its children"
        : level == 2 ? ", and /proc/sys/kernel/yama/ptrace_scope is 2: only an administrator may trace"
        : level == 3 ? ", and /proc/sys/kernel/yama/ptrace_scope is 3: nobody may trace until the next boot"
                     : "",
        same && level <= 0 ? ", and it may have raised rights or have forbidden tracing" : "");
}

/* --- mappings -------------------------------------------------------------------------------------------------------------------------------------- */

/* "start-end access offset device inode      name" */
static bool parse_mapping(char *line, struct source_mapping *mapping) {
    int name = 0;
    *mapping = (struct source_mapping){0};
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %" SCNu64 " %n", &mapping->start, &mapping->end, mapping->access,
               &mapping->offset, &mapping->inode, &name) != 5 ||
        name == 0 || mapping->start >= mapping->end) {
        return false;
    }
    mapping->name = line + name;
    return true;
}

bool live_mappings(struct live *live, struct source_mappings *mappings, bool with_rss, struct fault *fault) {
    const char *file = with_rss ? "smaps" : "maps";
    size_t length, room = 0;
    *mappings = (struct source_mappings){0};
    mappings->names = read_proc(live->pid, file, &length);
    if (mappings->names == NULL) return live_refused(live, "read the memory map", errno, fault);
    for (char *line = mappings->names, *next; *line != '\0'; line = next) {
        char *end = strchr(line, '\n');
        next = end != NULL ? end + 1 : line + strlen(line);
        if (end != NULL) *end = '\0';
        struct source_mapping mapping;
        if (parse_mapping(line, &mapping)) {
            if (mappings->count == room) mappings->entry = need_memory(mappings->entry, room = 2 * room + 64, sizeof *mappings->entry);
            mappings->entry[mappings->count++] = mapping;
        } else if (mappings->count != 0 && strncmp(line, "Rss:", 4) == 0) {
            mappings->entry[mappings->count - 1].rss = strtoull(line + 4, NULL, 10) * 1024;
        }
    }
    if (mappings->count != 0) return true;
    source_mappings_free(mappings);
    return fault_note(fault, "process %d has no memory: it has ended (nobody has asked for its status yet), or is a thread of the kernel",
                      (int)live->pid);
}

bool live_map_anew(struct live *live, struct fault *fault) {
    struct source_mappings mappings;
    if (!live_mappings(live, &mappings, false, fault)) return false;
    source_mappings_free(&live->source.mappings);
    live->source.mappings = mappings;
    return true;
}

bool live_rss(struct live *live, uint64_t *bytes, struct fault *fault) {
    size_t length;
    char *text = read_proc(live->pid, "smaps_rollup", &length);
    if (text == NULL) return live_refused(live, "read smaps_rollup", errno, fault);
    char *line = strstr(text, "\nRss:");
    *bytes = line != NULL ? strtoull(line + 5, NULL, 10) * 1024 : 0;
    free(text);
    return line != NULL || fault_note(fault, "smaps_rollup of process %d has no line \"Rss:\"", (int)live->pid);
}

bool live_faults(struct live *live, uint64_t *minor, uint64_t *major) {
    size_t length;
    char *text = read_proc(live->pid, "stat", &length);
    char *fields = text != NULL ? strrchr(text, ')') : NULL; /* the name may hold anything */
    bool good = fields != NULL && sscanf(fields, ") %*c %*d %*d %*d %*d %*d %*u %" SCNu64 " %*u %" SCNu64, minor, major) == 2;
    free(text);
    return good;
}

bool live_begun(pid_t pid, uint64_t *since, uint64_t *threads) {
    size_t length;
    char *text = read_proc(pid, "stat", &length), state = 'X';
    char *fields = text != NULL ? strrchr(text, ')') : NULL;
    uint64_t ticks = 0;
    bool good =
        fields != NULL && sscanf(fields, ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %" SCNu64 " %*d %" SCNu64,
                                 &state, threads, &ticks) == 3;
    free(text);
    *since = ticks * (UINT64_C(1000000000) / (uint64_t)sysconf(_SC_CLK_TCK));
    return good && state != 'Z' && state != 'X';
}

/* --- memory ------------------------------------------------------------------------------------------------------------------------------------------ */

static bool read_memory(struct source *source, uint64_t address, void *to, size_t size, struct fault *fault) {
    struct live *live = (struct live *)source;
    char *out = to;
    while (size != 0) {
        struct iovec local = {out, size}, remote = {(void *)(uintptr_t)address, size};
        ssize_t n = process_vm_readv(live->pid, &local, 1, &remote, 1, 0);
        if (n <= 0 && live->memory >= 0) n = pread(live->memory, out, size, (off_t)address);
        if (n <= 0) {
            live->ended = n == 0 || is_gone(errno) || kill(live->pid, 0) != 0;
            if (live->ended) return fault_note(fault, "process %d ended while it was being read", (int)live->pid);
            return fault_note(fault, "can't read %zu bytes at 0x%" PRIx64 " of process %d: %s", size, address, (int)live->pid,
                              strerror(errno));
        }
        address += (uint64_t)n;
        out += n;
        size -= (size_t)n;
    }
    return true;
}

/* Pages of zeros are mapped, but count as nobody's memory. */
static void mark_zero_pages(struct live *live, uint64_t address, size_t count, uint8_t *page) {
    struct pagemap_region found[64];
    uint64_t end = address + count * live->source.page_size;
    while (live->can_scan && address < end) {
        struct pagemap_scan scan = {.size = sizeof scan,
                                    .start = address,
                                    .end = end,
                                    .vec = (uintptr_t)found,
                                    .vec_len = sizeof found / sizeof *found,
                                    .category_mask = SCAN_ZERO,
                                    .return_mask = SCAN_ZERO};
        long regions = ioctl(live->pagemap, PAGEMAP_SCAN_CALL, &scan);
        if (regions < 0 || scan.walk_end <= address) {
            live->can_scan = false;
            return;
        }
        uint64_t first = end - count * live->source.page_size;
        for (long i = 0; i < regions; i++) {
            for (uint64_t at = found[i].start; at < found[i].end; at += live->source.page_size) {
                page[(at - first) / live->source.page_size] = PAGE_ZERO;
            }
        }
        address = scan.walk_end;
    }
}

static bool read_pages(struct source *source, uint64_t address, size_t count, uint8_t *page) {
    struct live *live = (struct live *)source;
    uint64_t entry[ENTRIES];
    if (live->pagemap < 0) return false;
    for (size_t done = 0; done < count;) {
        size_t here = count - done < ENTRIES ? count - done : ENTRIES;
        uint64_t from = address / source->page_size + done;
        ssize_t n = pread(live->pagemap, entry, here * sizeof *entry, (off_t)(from * sizeof *entry));
        if (n < (ssize_t)sizeof *entry) return false;
        here = (size_t)n / sizeof *entry;
        bool any = false;
        for (size_t i = 0; i < here; i++) {
            page[done + i] = entry[i] & ENTRY_PRESENT ? PAGE_PRESENT : entry[i] & ENTRY_SWAPPED ? PAGE_SWAPPED : PAGE_ABSENT;
            any |= page[done + i] == PAGE_PRESENT;
        }
        if (any) mark_zero_pages(live, from * source->page_size, here, page + done);
        done += here;
    }
    return true;
}

/* --- opening ------------------------------------------------------------------------------------------------------------------------------------------ */

static bool look_at_status(struct live *live, struct fault *fault) {
    size_t length;
    char *text = read_proc(live->pid, "status", &length);
    if (text == NULL) return live_refused(live, "read the status", errno, fault);
    const char *group = strstr(text, "\nTgid:"), *state = strstr(text, "\nState:"), *name = strstr(text, "Name:");
    int leader = group != NULL ? atoi(group + 6) : 0;
    char letter = '?';
    if (name != NULL) sscanf(name, "Name: %63[^\n]", live->command);
    if (state != NULL) sscanf(state, "\nState: %c", &letter);
    free(text);
    if (leader != live->pid)
        return fault_note(fault, "%d is a thread of process %d; give the number of the process", (int)live->pid, leader);
    if (letter == 'Z' || letter == 'X') {
        return fault_note(fault, "process %d (%s) has ended; only its status is left to be asked for", (int)live->pid, live->command);
    }
    return true;
}

bool live_open(struct live *live, pid_t pid, struct fault *fault) {
    *live = (struct live){.pid = pid, .memory = -1, .pagemap = -1, .can_scan = true};
    live->source.read = read_memory;
    live->source.pages = read_pages;
    live->source.page_size = (uint64_t)sysconf(_SC_PAGESIZE);
    if (pid == getpid()) return fault_note(fault, "%d is this command itself", (int)pid);
    if (!look_at_status(live, fault) || !live_mappings(live, &live->source.mappings, false, fault)) return false;
    live->memory = open_proc(pid, "mem");
    live->pagemap = open_proc(pid, "pagemap");
    return true;
}

void live_close(struct live *live) {
    live_thaw(live);
    if (live->memory >= 0) close(live->memory);
    if (live->pagemap >= 0) close(live->pagemap);
    free(live->threads);
    source_mappings_free(&live->source.mappings);
    *live = (struct live){.memory = -1, .pagemap = -1};
}
