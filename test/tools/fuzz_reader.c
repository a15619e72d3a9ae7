/* fuzz_reader.c: the reader and all commands against core files, snapshots and recordings that were spoilt: fuzz_reader [--seconds N] [--seed N] [--round N] FILE...
 *
 * Built with address and undefined behaviour checks. A child plays round after round: it changes a few bytes of a file, lets one command or two look at
 * it, and puts them back. Of snapshots both the file and what is compressed in it are changed, so that no checksum stops it early. Of cores the bytes are
 * those of headers and notes, of our structs and chunks, or any. What may end a round: success, a refusal, a message that memory is short. Everything
 * else (a signal, a report of the checks, 60 s without end) is a find; --round begins with it. SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "fuzz_reader.h"
#include "reader/leaks.h"
#include "reader/ledger.h"
#include "reader/pins.h"
#include "reader/snapshot.h"
#include "tool.h"

enum { FILES_MOST = 8, CHANGES_MOST = 8, ROUND_SECONDS = 60, FOUND = 99 };

const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "exitcode=99:allocator_may_return_null=1:detect_leaks=0"; }
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void) { return "print_stacktrace=1"; }

struct subject {
    const char *name;
    uint8_t *data; /* of the file */
    size_t size;
    uint8_t *body; /* of a snapshot: what is compressed in it */
    size_t body_size;
    size_t *places; /* of a core: offsets that matter */
    size_t place_count;
    int fd; /* a copy that is changed */
};

struct shared { /* with the child */
    volatile uint64_t round, refused, read, refused_by[4], read_by[4];
};

static struct subject subjects[FILES_MOST];
static int subject_count;
static struct shared *shared;
static uint64_t dice_state;
static unsigned said;

/* What the commands expect of main.c. */
void tool_say(const char *format, ...) {
    (void)format;
    said++;
}
int tool_usage(const char *command, const char *format, ...) {
    (void)command, (void)format;
    said++;
    return STATUS_USAGE;
}
const char *tool_bad_option(char **argv) { return argv[0]; }
int tool_finish(int status) { return status; }

uint64_t fuzz_dice(uint64_t sides) {
    dice_state ^= dice_state << 13;
    dice_state ^= dice_state >> 7;
    dice_state ^= dice_state << 17;
    return (dice_state * 0x2545f4914f6cdd1du >> 11) % sides;
}

static void fail(const char *what, const char *name) {
    fprintf(stderr, "fuzz_reader: %s: %s (%s)\n", what, name, strerror(errno));
    exit(2);
}

/* --- subjects ---------------------------------------------------------------------------------------------------------------------------------- */

static uint8_t *load(const char *name, size_t *size) {
    struct stat status;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0) fail("can't open", name);
    uint8_t *data = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) fail("can't map", name);
    close(fd);
    *size = (size_t)status.st_size;
    return data;
}

/* The head of a snapshot has 40 bytes; the size of the body stands at 24. */
static void unpack_body(struct subject *subject) {
    uint64_t size;
    memcpy(&size, subject->data + 24, sizeof size);
    uLongf length = size;
    subject->body = need_memory(NULL, size, 1);
    if (uncompress(subject->body, &length, subject->data + 40, subject->size - 40) != Z_OK) fail("can't uncompress", subject->name);
    subject->body_size = size;
}

static void add_place(struct subject *subject, const struct process *process, uint64_t address, size_t *room) {
    for (size_t i = 0; i < process->core.segment_count; i++) {
        const struct core_segment *segment = &process->core.segments[i];
        if (address < segment->start || address - segment->start >= segment->dumped) continue;
        if (subject->place_count == *room) subject->places = need_memory(subject->places, *room = 2 * *room + 64, sizeof *subject->places);
        subject->places[subject->place_count++] = segment->offset + (address - segment->start);
        return;
    }
}

/* Heads and links of chunks, and every word of our structs. */
static void list_places(struct subject *subject) {
    struct process process;
    struct fault fault = {0};
    size_t room = 0;
    if (!process_read_file(&process, subject->name, &fault)) fail(fault.text, subject->name);
    const struct heap *heap = &process.heap;
    for (size_t i = 0; i < heap->chunk_count; i += 1 + heap->chunk_count / 4000) {
        for (unsigned at = 0; at < 4; at++) add_place(subject, &process, heap->chunks[i].address + 8 * at, &room);
    }
    for (size_t i = 0; i < heap->arena_count; i++) {
        for (uint64_t at = 0; at < heap->descriptor.arena_size; at += 8) add_place(subject, &process, heap->arenas[i].address + at, &room);
    }
    for (size_t i = 0; i < heap->cache_count && i < 4; i++) {
        for (uint64_t at = 0; at < heap->descriptor.cache_size; at += 8) add_place(subject, &process, heap->caches[i].address + at, &room);
    }
    for (size_t i = 0; i < heap->region_count; i++) {
        for (uint64_t at = 0; at < heap->descriptor.region_size; at += 8)
            add_place(subject, &process, heap->regions[i].description + at, &room);
    }
    const uint64_t tables[] = {heap->descriptor.arena_table,     heap->descriptor.arena_count,     heap->descriptor.cache_all,
                               heap->descriptor.mapped_segments, heap->descriptor.mapped_overflow, heap->descriptor.os_counters,
                               heap->descriptor.retained,        heap->descriptor.conf_values,     heap->descriptor.conf_rows};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++) {
        for (unsigned at = 0; at < 512; at += 8) add_place(subject, &process, tables[i] + at, &room);
    }
    process_close(&process);
}

static void add_subject(const char *name) {
    if (subject_count == FILES_MOST) fail("too many files", name);
    struct subject *subject = &subjects[subject_count++];
    subject->name = name;
    subject->data = load(name, &subject->size);
    if (memcmp(subject->data, SNAPSHOT_MAGIC, 8) == 0) {
        unpack_body(subject);
    } else if (!fuzz_is_recording(subject->data, subject->size)) {
        list_places(subject);
    }
    subject->fd = memfd_create("spoilt", 0);
    if (subject->fd < 0 || write(subject->fd, subject->data, subject->size) != (ssize_t)subject->size) fail("can't copy", name);
}

/* --- changes ----------------------------------------------------------------------------------------------------------------------------------- */

static uint64_t odd_number(const uint8_t *data, size_t size) {
    static const uint64_t odd[] = {0,    1,    7,     8,       15,        16,         17,         31,         32,         4095,
                                   4096, 4097, 65535, 1 << 20, INT32_MAX, UINT32_MAX, 1ull << 47, 1ull << 63, UINT64_MAX, UINT64_MAX - 15};
    uint64_t word;
    switch (fuzz_dice(4)) {
    case 0: return odd[fuzz_dice(sizeof odd / sizeof *odd)];
    case 1: return dice_state;
    default:
        memcpy(&word, data + fuzz_dice(size - 8) / 8 * 8, sizeof word);
        return fuzz_dice(3) == 0 ? word + 16 * fuzz_dice(64) - 512 : word;
    }
}

size_t fuzz_change(uint8_t *to, size_t left, const uint8_t *data, size_t size) {
    uint64_t word;
    size_t length = left < 8 ? left : 8;
    switch (fuzz_dice(3)) {
    case 0: to[0] ^= (uint8_t)(1u << fuzz_dice(8)); return 1;
    case 1: to[0] = (uint8_t)fuzz_dice(256); return 1;
    default:
        word = odd_number(data, size);
        memcpy(to, &word, length);
        return length;
    }
}

static size_t any_place(const struct subject *subject) {
    uint64_t where = fuzz_dice(8);
    if (subject->place_count != 0 && where < 5) return subject->places[fuzz_dice(subject->place_count)];
    if (where == 5) return fuzz_dice(subject->size < 8192 ? subject->size : 8192);
    return fuzz_dice(subject->size);
}

/* --- one round --------------------------------------------------------------------------------------------------------------------------------- */

int fuzz_run(int (*command)(int argc, char **argv), const char *const *words) {
    char *argv[8];
    int argc = 0;
    while (words[argc] != NULL) {
        argv[argc] = (char *)words[argc];
        argc++;
    }
    argv[argc] = NULL;
    optind = 0;
    return command(argc, argv);
}

static void any_command(const char *file) {
    char address[32];
    snprintf(address, sizeof address, "0x%lx", (unsigned long)fuzz_dice(2) ? (unsigned long)dice_state >> fuzz_dice(64) : 0x555555550000ul);
    switch (fuzz_dice(13)) {
    case 0: fuzz_run(stats_main, (const char *[]){"stats", file, NULL}); break;
    case 1: fuzz_run(stats_main, (const char *[]){"stats", "--json", file, NULL}); break;
    case 2: fuzz_run(pins_main, (const char *[]){"pins", file, NULL}); break;
    case 3: fuzz_run(map_main, (const char *[]){"map", file, NULL}); break;
    case 4: fuzz_run(map_main, (const char *[]){"map", "--json", file, NULL}); break;
    case 5: fuzz_run(bins_main, (const char *[]){"bins", file, NULL}); break;
    case 6: fuzz_run(bins_main, (const char *[]){"bins", "--json", file, NULL}); break;
    case 7: fuzz_run(arenas_main, (const char *[]){"arenas", file, NULL}); break;
    case 8: fuzz_run(threads_main, (const char *[]){"threads", file, NULL}); break;
    case 9: fuzz_run(explain_main, (const char *[]){"explain", file, address, NULL}); break;
    case 10: fuzz_run(try_malloc_main, (const char *[]){"try-malloc", file, address, NULL}); break;
    case 11: fuzz_run(leaks_main, (const char *[]){"leaks", file, NULL}); break;
    case 12: fuzz_run(diff_main, (const char *[]){"diff", file, subjects[fuzz_dice((uint64_t)subject_count)].name, NULL}); break;
    }
}

/* Whatever can be read can be looked at, and written again. */
static void use(struct process *process) {
    struct pins pins;
    struct ledger ledger;
    struct snapshot_bytes bytes = {0};
    if (process->heap.pages_known) {
        pins_find(&pins, &process->heap, process->page_size, 5);
        pins_free(&pins);
    }
    for (size_t i = 0; i < 20 && process->heap.chunk_count != 0; i++) {
        const struct heap_chunk *chunk = &process->heap.chunks[fuzz_dice(process->heap.chunk_count)];
        if (heap_chunk_holding(&process->heap, chunk->address + fuzz_dice(chunk->size)) != chunk) {
            /* regions of a damaged heap may overlap */
        }
    }
    if (!ledger_read(&ledger, process, NULL)) return;
    ledger_sum(&ledger, process);
    if (snapshot_pack(&bytes, process, &ledger, NULL)) free(bytes.data);
}

/* Of a snapshot that was changed inside and is read all the same: written as a file with good checksums. */
static void commands_of(const struct process *process) {
    static int fd = -1;
    struct snapshot_bytes bytes;
    char name[64];
    if (fd < 0) fd = memfd_create("again", 0);
    if (!snapshot_pack(&bytes, process, process->ledger, NULL)) return;
    if (ftruncate(fd, 0) != 0 || pwrite(fd, bytes.data, bytes.size, 0) != (ssize_t)bytes.size) abort();
    free(bytes.data);
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    for (unsigned i = 0; i < 3; i++) any_command(name);
}

static void count(int kind, bool good) {
    shared->read += good;
    shared->refused += !good;
    shared->read_by[kind] += good;
    shared->refused_by[kind] += !good;
}

static void round_of_body(const struct subject *subject) {
    static struct process process;
    struct fault fault = {0};
    uint8_t *body = need_memory(NULL, subject->body_size, 1);
    memcpy(body, subject->body, subject->body_size);
    for (uint64_t left = 1 + fuzz_dice(fuzz_dice(3) == 0 ? CHANGES_MOST : 2); left != 0; left--) {
        size_t at = fuzz_dice(fuzz_dice(3) == 0 ? 4096 : subject->body_size);
        fuzz_change(body + at, subject->body_size - at, subject->body, subject->body_size);
    }
    size_t size = fuzz_dice(16) == 0 ? fuzz_dice(subject->body_size) : subject->body_size;
    uint8_t *exact = need_memory(NULL, size, 1); /* so that reading behind the end is seen */
    memcpy(exact, body, size);
    process = (struct process){.kind = PROCESS_SNAPSHOT, .file = "spoilt", .live = {.memory = -1, .pagemap = -1}};
    process.source = &process.live.source;
    bool good = snapshot_unpack(&process, exact, size, &fault);
    if (good) use(&process);
    if (good) commands_of(&process);
    if (!good && fault.text[0] == '\0') abort();
    count(0, good);
    process_close(&process);
    free(exact);
    free(body);
}

static void round_of_file(const struct subject *subject) {
    static struct process process;
    struct fault fault = {0};
    char name[64];
    size_t at[CHANGES_MOST], length[CHANGES_MOST], changes = 1 + fuzz_dice(CHANGES_MOST);
    snprintf(name, sizeof name, "/proc/self/fd/%d", subject->fd);
    for (size_t i = 0; i < changes; i++) {
        uint8_t bytes[8] = {0};
        at[i] = any_place(subject);
        size_t left = subject->size - at[i];
        memcpy(bytes, subject->data + at[i], left < 8 ? left : 8);
        length[i] = fuzz_change(bytes, left, subject->data, subject->size);
        if (pwrite(subject->fd, bytes, length[i], (off_t)at[i]) != (ssize_t)length[i]) abort();
    }
    bool cut = fuzz_dice(32) == 0;
    if (cut && ftruncate(subject->fd, (off_t)fuzz_dice(subject->size)) != 0) abort();
    said = 0;
    if (fuzz_dice(3) != 0) {
        any_command(name);
        any_command(name);
    } else {
        bool good = process_read_file(&process, name, &fault);
        if (good) use(&process);
        if (!good && fault.text[0] == '\0') abort();
        count(subject->body != NULL ? 1 : 2, good);
        process_close(&process);
    }
    if (cut && (ftruncate(subject->fd, 0) != 0 || pwrite(subject->fd, subject->data, subject->size, 0) != (ssize_t)subject->size)) abort();
    for (size_t i = 0; i < changes; i++) {
        if (pwrite(subject->fd, subject->data + at[i], length[i], (off_t)at[i]) != (ssize_t)length[i]) abort();
    }
}

static void play(uint64_t seed, time_t end) {
    while (time(NULL) < end) {
        uint64_t round = ++shared->round;
        alarm(ROUND_SECONDS);
        dice_state = seed * 0x9e3779b97f4a7c15u + round * 0xbf58476d1ce4e5b9u + 1;
        for (int i = 0; i < 4; i++) fuzz_dice(2);
        const struct subject *subject = &subjects[fuzz_dice((uint64_t)subject_count)];
        if (fuzz_is_recording(subject->data, subject->size)) {
            count(3, fuzz_recording_round(subject->data, subject->size, subject->fd));
        } else if (subject->body != NULL && fuzz_dice(2) == 0) {
            round_of_body(subject);
        } else {
            round_of_file(subject);
        }
    }
    _exit(0);
}

int main(int argc, char **argv) {
    static const struct option options[] = {
        {"seconds", required_argument, NULL, 's'}, {"seed", required_argument, NULL, 'r'}, {"round", required_argument, NULL, 'n'}, {0}};
    long seconds = 5;
    uint64_t seed = 1, short_of_memory = 0, first = 1;
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 's') seconds = atol(optarg);
        if (option == 'r') seed = strtoull(optarg, NULL, 10);
        if (option == 'n') first = strtoull(optarg, NULL, 10);
        if (option == '?') return 2;
    }
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared->round = first - 1;
    for (; optind < argc; optind++) add_subject(argv[optind]);
    if (subject_count == 0) fail("files are missing", "FILE");
    int out = dup(1);
    if (freopen("/dev/null", "w", stdout) == NULL) fail("can't open", "/dev/null");
    time_t end = time(NULL) + seconds;
    while (time(NULL) < end) {
        int status = 0;
        pid_t child = fork();
        if (child == 0) play(seed, end);
        if (child < 0 || waitpid(child, &status, 0) != child) fail("can't fork", "");
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) break;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 1) { /* need_memory has said so */
            short_of_memory++;
            continue;
        }
        dprintf(2, "fuzz_reader: FOUND: seed %lu, round %lu, %s %d\n", (unsigned long)seed, (unsigned long)shared->round,
                WIFEXITED(status) ? "status" : "signal", WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
        return 1;
    }
    dprintf(out,
            "%lu rounds; bodies of snapshots %lu read, %lu refused; snapshots %lu and %lu; cores %lu and %lu; recordings %lu and %lu; the "
            "rest by "
            "commands; %lu short of memory\n",
            (unsigned long)shared->round, (unsigned long)shared->read_by[0], (unsigned long)shared->refused_by[0],
            (unsigned long)shared->read_by[1], (unsigned long)shared->refused_by[1], (unsigned long)shared->read_by[2],
            (unsigned long)shared->refused_by[2], (unsigned long)shared->read_by[3], (unsigned long)shared->refused_by[3],
            (unsigned long)short_of_memory);
    return shared->round < 20;
}
