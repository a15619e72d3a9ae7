/* process.c: see process.h. SPDX-License-Identifier: MIT */
#include "reader/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "reader/find.h"
#include "reader/clock.h"
#include "reader/ledger.h"
#include "reader/snapshot.h"

#define TRIES 50
#define LOOKS 10    /* at a process that runs */
#define NAP 1000000 /* ns between two of them, and as much more each time */

static uint64_t now(void) { return clock_of(CLOCK_MONOTONIC); }

static bool find(struct process *process, struct seemalloc_descriptor *descriptor, struct fault *fault) {
    const char *where;
    if (!find_descriptor(process->source, descriptor, &where, fault)) return false;
    snprintf(process->library, sizeof process->library, "%s", where);
    return true;
}

static bool read_heap(struct process *process, const struct seemalloc_descriptor *descriptor, bool is_live, struct fault *fault) {
    process->clock = now();
    process->real_time = clock_of(CLOCK_REALTIME) / 1000000;
    return heap_read(&process->heap, process->source, descriptor, process->library, is_live, fault);
}

/* `why` says what of the reading went wrong. Returns whether all is well; else everything is given up. */
static bool finish(struct process *process, bool good, const struct fault *why, struct fault *fault) {
    if (process->live.ended) {
        if (good) heap_free(&process->heap);
        good = fault_note(fault, "process %d ended while it was being read", (int)process->live.pid);
    }
    process->page_size = process->live.source.page_size;
    if (good) return true;
    fault_note(fault, "process %d (%s): %s", (int)process->live.pid, process->live.command, why->text);
    live_close(&process->live);
    return false;
}

/* From the thread's pointer to its cache to its thread pointer; UINT64_MAX: that can't be. The variables of a thread stand below its thread pointer on
 * x86, else above. */
static uint64_t distance(const struct heap_cache *cache, const struct live_thread *thread) {
#if defined(__x86_64__)
    uint64_t low = cache->word, high = thread->thread_pointer;
#else
    uint64_t low = thread->thread_pointer, high = cache->word;
#endif
    return low != 0 && low < high ? high - low : UINT64_MAX;
}

/* A cache is the nearest thread's, if that is as near as in all other threads. */
static void name_threads(struct process *process) {
    struct heap *heap = &process->heap;
    uint64_t least = UINT64_MAX;
    for (size_t pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < heap->cache_count; i++) {
            struct heap_cache *cache = &heap->caches[i];
            uint64_t address = 0;
            if (cache->state != heap->descriptor.cache_live || !source_has(process->source, cache->word, cache->word + sizeof address) ||
                !process->source->read(process->source, cache->word, &address, sizeof address, NULL) || address != cache->address)
                continue;
            for (size_t k = 0; k < process->live.thread_count; k++) {
                uint64_t here = distance(cache, &process->live.threads[k]);
                if (here < least) least = here;
                if (pass == 1 && here == least && here != UINT64_MAX) cache->thread = process->live.threads[k].tid;
            }
        }
    }
}

bool process_read(struct process *process, pid_t pid, struct fault *fault) {
    struct seemalloc_descriptor descriptor;
    struct fault why = {0}; /* of what was read */
    *process = (struct process){.source = &process->live.source};
    bool good = live_open(&process->live, pid, fault) && find(process, &descriptor, &why);
    while (good) {
        process->since = now();
        good = live_freeze(&process->live, fault) && find(process, &descriptor, &why); /* it may have become another program */
        process->tries++;
        if (!good || heap_is_quiet(&descriptor, &process->live.source) || process->tries == TRIES) break;
        live_thaw(&process->live);
        nanosleep(&(struct timespec){.tv_nsec = NAP / TRIES * (long)process->tries + NAP}, NULL);
    }
    good = good && read_heap(process, &descriptor, false, &why);
    if (good) name_threads(process);
    return finish(process, good, &why, fault);
}

bool process_look(struct process *process, pid_t pid, struct fault *fault) {
    struct seemalloc_descriptor descriptor;
    struct fault why = {0};
    *process = (struct process){.tries = 1, .source = &process->live.source};
    bool good = live_open(&process->live, pid, fault) && find(process, &descriptor, &why);
    for (unsigned looks = 1; good && !read_heap(process, &descriptor, true, &why); looks++) {
        /* It runs on: what it has mapped since the list of mappings was read is not corrupted. */
        good = looks < LOOKS && live_map_anew(&process->live, NULL);
        if (good) why = (struct fault){0};
    }
    return finish(process, good, &why, fault);
}

bool process_glance(struct process *process, pid_t pid, struct fault *fault) {
    struct seemalloc_descriptor descriptor;
    struct fault why = {0};
    *process = (struct process){.tries = 1, .source = &process->live.source};
    bool good = live_open(&process->live, pid, fault) && find(process, &descriptor, &why);
    process->clock = now();
    process->real_time = clock_of(CLOCK_REALTIME) / 1000000;
    good = good && heap_glance(&process->heap, process->source, &descriptor, process->library, &why);
    return finish(process, good, &why, fault);
}

/* --- files ------------------------------------------------------------------------------------------------------------------------------------- */

#ifdef SEEMALLOC_LIBELF
static void take_threads(struct process *process) {
    struct live *live = &process->live;
    live->threads = need_memory(NULL, process->core.thread_count, sizeof *live->threads);
    for (size_t i = 0; i < process->core.thread_count; i++) {
        const struct core_thread *thread = &process->core.threads[i];
        live->threads[live->thread_count++] =
            (struct live_thread){.tid = thread->tid, .stack_pointer = thread->stack_pointer, .thread_pointer = thread->thread_pointer};
    }
    live->pid = process->core.pid;
    memcpy(live->command, process->core.command, sizeof live->command);
}

static bool read_core(struct process *process, int fd, struct fault *fault) {
    struct seemalloc_descriptor descriptor;
    struct fault why = {0};
    if (!core_open(&process->core, fd, &why)) return fault_note(fault, "%s: %s", process->file, why.text);
    process->kind = PROCESS_CORE;
    process->source = &process->core.source;
    process->page_size = process->core.source.page_size;
    process->tries = 1;
    take_threads(process);
    if (!find(process, &descriptor, &why) || !heap_read(&process->heap, process->source, &descriptor, process->library, false, &why)) {
        return fault_note(fault, "%s, a core of process %d (%s): %s", process->file, (int)process->live.pid, process->live.command,
                          why.text);
    }
    process->heap.pages_known = false;
    name_threads(process);
    return true;
}
#else
static bool read_core(struct process *process, int fd, struct fault *fault) {
    close(fd);
    return fault_note(fault, "%s is an ELF file; this command was built without libelf and reads no cores", process->file);
}
#endif

#ifdef SEEMALLOC_ZLIB
static bool read_nothing(struct source *source, uint64_t address, void *to, size_t size, struct fault *fault) {
    (void)source, (void)address, (void)to, (void)size;
    return fault_note(fault, "a snapshot has no contents of memory");
}

static bool read_snapshot(struct process *process, int fd, struct fault *fault) {
    process->kind = PROCESS_SNAPSHOT;
    process->live.source.read = read_nothing;
    process->source = &process->live.source;
    struct fault why = {0};
    bool good = snapshot_read(process, fd, &why);
    close(fd);
    return good || fault_note(fault, "%s: %s", process->file, why.text);
}
#else
static bool read_snapshot(struct process *process, int fd, struct fault *fault) {
    close(fd);
    return fault_note(fault, "%s may be a snapshot; this command was built without zlib and reads none", process->file);
}
#endif

static bool check_file(const char *file, int fd, uint8_t begin[8], struct fault *fault) {
    struct stat status;
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
        return fault_note(fault, "%s is no regular file; expected a core file or a snapshot, or the number of a process", file);
    }
    ssize_t n = pread(fd, begin, 8, 0);
    if (n < 0) return fault_note(fault, "can't read %s: %s", file, strerror(errno));
    if (n == 0) return fault_note(fault, "%s is empty; expected a core file or a snapshot", file);
    return true;
}

bool process_read_file(struct process *process, const char *file, struct fault *fault) {
    uint8_t begin[8] = {0};
    *process = (struct process){.file = file, .core = {.fd = -1, .opened_fd = -1}, .live = {.memory = -1, .pagemap = -1}};
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return fault_note(fault, "can't read %s: %s", file, strerror(errno));
    bool good = false;
    if (!check_file(file, fd, begin, fault)) {
        close(fd);
    } else if (memcmp(begin, "\177ELF", 4) == 0) {
        process->kind = PROCESS_CORE;
        good = read_core(process, fd, fault);
    } else if (memcmp(begin, SNAPSHOT_MAGIC, sizeof begin) == 0) {
        good = read_snapshot(process, fd, fault);
    } else {
        close(fd);
        fault_note(fault,
                   "%s is neither an ELF core nor a snapshot: it begins with the bytes %02x %02x %02x %02x; a snapshot is made by "
                   "`seemalloc snapshot`",
                   file, begin[0], begin[1], begin[2], begin[3]);
    }
    if (!good) process_close(process);
    return good;
}

bool process_open(struct process *process, const char *name, bool is_live, struct fault *fault) {
    pid_t pid = (pid_t)strtol(name, NULL, 10);
    bool is_file = name[0] == '\0' || name[strspn(name, "0123456789")] != '\0';
    if (is_file && is_live) {
        *process = (struct process){.live = {.memory = -1, .pagemap = -1}};
        return fault_note(fault, "%s is no running process, so nothing in it is live", name);
    }
    return is_file   ? process_read_file(process, name, fault)
           : is_live ? process_look(process, pid, fault)
                     : process_read(process, pid, fault);
}

/* --- ends -------------------------------------------------------------------------------------------------------------------------------------- */

void process_thaw(struct process *process) {
    if (process->kind != PROCESS_LIVE || process->live.thread_count == 0) return;
    live_thaw(&process->live);
    process->frozen = now() - process->since;
}

void process_close(struct process *process) {
    process_thaw(process);
    heap_free(&process->heap);
    free(process->ledger);
    if (process->kind != PROCESS_LIVE) process->live.thread_count = 0; /* none of them is ours to let go */
    live_close(&process->live);
#ifdef SEEMALLOC_LIBELF
    if (process->kind == PROCESS_CORE) core_close(&process->core);
#endif
    *process = (struct process){.live = {.memory = -1, .pagemap = -1}};
}
