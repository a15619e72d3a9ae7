/* story_play.c: the player: does what the texts' nine pictures show, on the allocator that it was started with, and reads its heap after each step.
 *
 * A step: 1. read the counters; 2. the act (a malloc with a write to all of it, or a free); 3. read the counters; 4. read the heap, brk and the
 * page table; 5. write the record. Everything but the act must leave the heap alone and cost no page fault inside 1 to 3: so the records are
 * static, files are read with raw calls, nothing here calls stdio, and all that the process has mapped is faulted in before the first step.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* RTLD_DEFAULT, sbrk */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "story.h"
#include "tool.h"

#ifndef MADV_POPULATE_READ /* Linux 5.14 */
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

enum { KIB = 1024, TRIM_THRESHOLD = 128 * KIB };

const struct story_act story_acts[STORY_STEPS] = {
    {STORY_START, 0, 0},
    {STORY_MALLOC, 'A', 30 * KIB},
    {STORY_MALLOC, 'B', 40 * KIB},
    {STORY_MALLOC, 'C', 200 * KIB},
    {STORY_MALLOC, 'D', 100 * KIB},
    {STORY_FREE, 'C', 0},
    {STORY_FREE, 'B', 0},
    {STORY_FREE_UNTRIMMED, 'D', 0},
    {STORY_TRIM, 0, 1000},
};

static struct story_step step;
static char file_text[256 * KIB];
static uint64_t page_entries[STORY_PAGES];
static unsigned char page_bytes[STORY_PAGES];
static struct seemalloc_stats before, after, again;
static void *volatile pointers[STORY_BLOCKS];

static int (*walk)(int (*)(const struct seemalloc_chunk *, void *), void *);
static int (*get_stats)(struct seemalloc_stats *);

static void send(void) {
    const char *at = (const char *)&step;
    for (size_t left = sizeof step; left > 0;) {
        ssize_t n = write(STDOUT_FILENO, at, left);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) _exit(1); /* the teller is gone */
        at += n;
        left -= (size_t)n;
    }
}

static _Noreturn void give_up(const char *fault) {
    strncpy(step.fault, fault, sizeof step.fault - 1);
    send();
    _exit(1);
}

/* The text of a file of /proc, in file_text. */
static size_t read_text(const char *path) {
    size_t used = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) give_up(path);
    for (ssize_t n; used < sizeof file_text - 1 && (n = read(fd, file_text + used, sizeof file_text - 1 - used)) > 0;) used += (size_t)n;
    close(fd);
    file_text[used] = '\0';
    return used;
}

/* ---- reading ---- */

static void read_kernel_books(void) {
    static const struct {
        int field; /* proc(5) counts from 1 */
        uint64_t *value;
    } wanted[] = {{26, &step.start_code}, {27, &step.end_code}, {28, &step.start_stack},
                  {45, &step.start_data}, {46, &step.end_data}, {47, &step.start_brk}};

    read_text("/proc/self/stat");
    char *at = strrchr(file_text, ')'); /* the end of field 2, which may hold anything */
    if (!at) give_up("/proc/self/stat has no program name");
    size_t i = 0;
    for (int field = 2; i < sizeof wanted / sizeof *wanted; i++) {
        for (; field < wanted[i].field && at; field++) at = strchr(at + 1, ' ');
        if (!at) give_up("/proc/self/stat has too few fields");
        *wanted[i].value = strtoull(at + 1, NULL, 10);
    }
    step.brk = (uint64_t)(uintptr_t)sbrk(0);

    step.mappings = 0;
    size_t used = read_text("/proc/self/maps");
    for (size_t j = 0; j < used; j++) step.mappings += file_text[j] == '\n';
}

/* By the page table where the kernel shows it, else by mincore. */
static void read_pages(struct story_span *span, uint64_t start, uint64_t end) {
    uint64_t page = step.page_size;
    memset(span, 0, sizeof *span);
    span->start = start;
    span->end = end;
    if (start >= end) return;
    uint64_t first = start / page, count = (end + page - 1) / page - first;
    if (count > STORY_PAGES) give_up("the heap has more pages than a picture has room for");
    span->pages = (uint32_t)count;

    int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    bool table = fd >= 0 && pread(fd, page_entries, count * 8, (off_t)(first * 8)) == (ssize_t)(count * 8);
    if (fd >= 0) close(fd);
    if (!table && mincore((void *)(uintptr_t)(first * page), count * page, page_bytes) != 0)
        memset(page_bytes, 0, count); /* pages that are not mapped at all */
    for (uint32_t i = 0; i < count; i++) {
        bool present = table ? page_entries[i] >> 62 != 0 /* present or swapped */ : page_bytes[i] & 1;
        span->in_memory[i / 8] |= (uint8_t)(present << i % 8);
        span->resident += present;
    }
}

static int visit(const struct seemalloc_chunk *chunk, void *arg) {
    (void)arg;
    if (step.chunk_count == STORY_CHUNKS) return 1;
    uint64_t start = (uint64_t)(uintptr_t)chunk->region->start;
    if (step.region_count == 0 || step.regions[step.region_count - 1].start != start) {
        if (step.region_count == STORY_REGIONS) return 1;
        step.regions[step.region_count++] =
            (struct story_region){start, (uint64_t)(uintptr_t)chunk->region->end, (int32_t)chunk->region->kind, 0, 0};
    }
    step.chunks[step.chunk_count++] = (struct story_chunk){
        .chunk = (uint64_t)(uintptr_t)chunk->chunk,
        .mem = (uint64_t)(uintptr_t)chunk->mem,
        .size = chunk->size,
        .flags = chunk->flags,
        .bin = chunk->bin,
        .state = (int32_t)chunk->state,
        .region = step.region_count - 1,
    };
    return 0;
}

static void read_heap(void) {
    static struct story_span span;
    step.region_count = step.chunk_count = 0;
    int result = walk(visit, NULL);
    if (result != 0) give_up(result > 0 ? "the heap has more chunks than a picture has room for" : "seemalloc_walk failed");
    read_kernel_books();
    read_pages(&step.heap, step.start_brk, step.brk);
    read_pages(&step.mapped, 0, 0);
    for (uint32_t i = 0; i < step.region_count; i++) {
        struct story_region *region = &step.regions[i];
        read_pages(&span, region->start, region->end);
        region->pages = span.pages;
        region->resident = span.resident;
        if (region->kind == SEEMALLOC_REGION_BLOCK) step.mapped = span;
    }
    for (uint32_t i = 0; i < step.chunk_count; i++) {
        read_pages(&span, step.chunks[i].chunk, step.chunks[i].chunk + step.chunks[i].size);
        step.chunks[i].resident = span.resident;
    }
}

/* ---- acting ---- */

static void act(const struct story_act *what) {
    int index = what->letter ? what->letter - 'A' : 0;
    switch (what->operation) {
    case STORY_START: break;
    case STORY_MALLOC:
        pointers[index] = malloc(what->bytes);
        if (pointers[index]) memset(pointers[index], what->letter, what->bytes);
        break;
    case STORY_FREE:
    case STORY_FREE_UNTRIMMED: free(pointers[index]); break;
    case STORY_TRIM: pointers[0] = malloc(what->bytes), free(pointers[0]); break;
    }
}

static void play(const struct story_act *what) {
    struct rusage from, to;
    /* The picture between free(D) and the trim that follows in the same call: the threshold is out of the way for the one, and back for the next. */
    if (what->operation == STORY_FREE_UNTRIMMED) mallopt(M_TRIM_THRESHOLD, INT_MAX);
    if (what->operation == STORY_TRIM) mallopt(M_TRIM_THRESHOLD, TRIM_THRESHOLD);
    if (get_stats(&before) != 0) give_up("seemalloc_get_stats failed");
    getrusage(RUSAGE_SELF, &from);
    act(what);
    getrusage(RUSAGE_SELF, &to);
    /* The library may map and unmap tables for the reading itself, and counts that too: a second reading shows how much to take off. */
    if (get_stats(&after) != 0 || get_stats(&again) != 0) give_up("seemalloc_get_stats failed");
    step.minor_faults = (uint64_t)(to.ru_minflt - from.ru_minflt);
    step.major_faults = (uint64_t)(to.ru_majflt - from.ru_majflt);
    for (int i = 0; i < SEEMALLOC_CALL_COUNT; i++) {
        uint64_t counted = after.calls[i] - (what->operation == STORY_START ? 0 : before.calls[i]), own = again.calls[i] - after.calls[i];
        step.calls[i] = counted > own ? counted - own : 0;
    }
    step.trim_threshold = after.trim_threshold;
    step.mmap_threshold = after.mmap_threshold;
    if (!what->letter) return;
    struct story_block *block = &step.blocks[what->letter - 'A'];
    if (what->operation == STORY_MALLOC) {
        if (!pointers[what->letter - 'A']) give_up("malloc returned NULL");
        *block = (struct story_block){(uint64_t)(uintptr_t)pointers[what->letter - 'A'], what->bytes, true, true};
    } else {
        block->live = false;
    }
}

/* Faults in what is mapped from files, with the .bss behind it: or the first use of a page of code would count as a fault of the heap.
 * Best effort: an old kernel refuses, and a few faults more are counted. */
static void fault_in(void) {
    uint64_t last_end = 0;
    static char text[sizeof file_text];
    size_t used = read_text("/proc/self/maps");
    memcpy(text, file_text, used + 1);
    for (char *line = text; *line;) {
        char *end = strchr(line, '\n');
        if (end) *end = '\0';
        char *at = line;
        uint64_t from = strtoull(at, &at, 16), to = strtoull(at + 1, &at, 16);
        const char *rights = at + 1;
        bool named = strchr(rights, '/') != NULL, adjoins = from == last_end && !strchr(rights, '[');
        if ((named || adjoins) && rights[0] == 'r') {
            madvise((void *)(uintptr_t)from, to - from, rights[1] == 'w' ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
            last_end = to;
        }
        if (!end) break;
        line = end + 1;
    }
    volatile char stack[64 * KIB];
    for (size_t i = 0; i < sizeof stack; i += KIB) stack[i] = 0;
}

static void copy_name(char to[STORY_NAME], const char *name) {
    for (size_t i = 0; i < STORY_NAME - 1 && name[i]; i++) to[i] = name[i];
}

static void read_names(void) {
    const char *(*state_name)(enum seemalloc_state) = (const char *(*)(enum seemalloc_state))dlsym(RTLD_DEFAULT, "seemalloc_state_name");
    const char *(*call_name)(enum seemalloc_call) = (const char *(*)(enum seemalloc_call))dlsym(RTLD_DEFAULT, "seemalloc_call_name");
    if (!state_name || !call_name) give_up("the library is too old: it has no names for its states");
    for (int i = 0; i < SEEMALLOC_STATE_COUNT; i++) copy_name(step.state_names[i], state_name((enum seemalloc_state)i));
    for (int i = 0; i < SEEMALLOC_CALL_COUNT; i++) copy_name(step.call_names[i], call_name((enum seemalloc_call)i));
}

int story_player_main(void) {
    const char *(*version)(void) = (const char *(*)(void))dlsym(RTLD_DEFAULT, "seemalloc_version");
    walk = (int (*)(int (*)(const struct seemalloc_chunk *, void *), void *))dlsym(RTLD_DEFAULT, "seemalloc_walk");
    get_stats = (int (*)(struct seemalloc_stats *))dlsym(RTLD_DEFAULT, "seemalloc_get_stats");
    step.magic = STORY_MAGIC;
    step.size = sizeof step;
    step.page_size = (uint64_t)sysconf(_SC_PAGESIZE);
    if (!version || !walk || !get_stats) give_up("the library is not loaded, or too old to be walked");
    strncpy(step.version, version(), sizeof step.version - 1);
    read_names();
    fault_in();
    for (int i = 0; i < 2; i++) { /* once to warm up: what reading costs is not the heap's */
        read_heap();
        get_stats(&before);
    }
    for (unsigned i = 0; i < STORY_STEPS; i++) {
        step.number = i + 1;
        play(&story_acts[i]);
        read_heap();
        send();
    }
    return 0;
}
