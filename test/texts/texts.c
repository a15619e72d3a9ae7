/* texts.c: see texts.h. Readers of /proc work on static buffers and raw reads, since stdio would allocate.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

int texts_quiet;
size_t page_size = 4096;

static const char *point_name = "?";
static const char *part_name = "";
static unsigned long checks, failed;

/* --- output and checks --- */

void texts_say(const char *format, ...) {
    char line[1024];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (length < 0) return;
    if (length > (int)sizeof line - 2) length = (int)sizeof line - 2;
    line[length++] = '\n';
    for (int done = 0; done < length;) {
        ssize_t n = write(STDOUT_FILENO, line + done, (size_t)(length - done));
        if (n <= 0) return;
        done += (int)n;
    }
}

static const char *file_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int texts_check(const char *file, int line, const char *what, int ok) {
    checks++;
    if (!ok) failed++;
    if (!ok || !texts_quiet)
        texts_say("%s %s:%d: %s: found %s, expected true", ok ? "ok  " : "FAIL", file_part(file), line, what, ok ? "true" : "false");
    return ok;
}

int texts_check_range(const char *file, int line, const char *what, uint64_t found, uint64_t lowest, uint64_t highest) {
    int ok = found >= lowest && found <= highest;
    const char *word = ok ? "ok  " : "FAIL";
    checks++;
    if (!ok) failed++;
    if (ok && texts_quiet) return ok;
    if (lowest == highest)
        texts_say("%s %s:%d: %s: found %llu (0x%llx), expected %llu (0x%llx)", word, file_part(file), line, what, (unsigned long long)found,
                  (unsigned long long)found, (unsigned long long)lowest, (unsigned long long)lowest);
    else
        texts_say("%s %s:%d: %s: found %llu, expected %llu to %llu", word, file_part(file), line, what, (unsigned long long)found,
                  (unsigned long long)lowest, (unsigned long long)highest);
    return ok;
}

void texts_require(const char *file, int line, const char *what, int ok) {
    if (texts_check(file, line, what, ok)) return;
    texts_say("%s%s%s: can't go on", point_name, *part_name ? " " : "", part_name);
    _exit(1);
}

int texts_end(void) {
    texts_say("%s%s%s: %lu checks, %lu failed", point_name, *part_name ? " " : "", part_name, checks, failed);
    return failed ? 1 : 0;
}

/* --- starting --- */

static int is_setting(const char *entry) {
    return !strncmp(entry, "SEEMALLOC_", 10) || !strncmp(entry, "MALLOC_", 7) || !strncmp(entry, "GLIBC_TUNABLES=", 15) ||
           !strncmp(entry, "TEXTS_STARTED=", 14);
}

static char *new_environment[4096];

static void build_environment(const char *const *set) {
    static char started[] = "TEXTS_STARTED=1";
    size_t n = 0;
    for (char **entry = environ; *entry && n < COUNT_OF(new_environment) - 32; entry++)
        if (!is_setting(*entry)) new_environment[n++] = *entry;
    for (; *set && n < COUNT_OF(new_environment) - 2; set++) new_environment[n++] = (char *)*set;
    new_environment[n++] = started;
    new_environment[n] = NULL;
}

/* Touches code, data and the part of the stack a test uses, but not the heap. */
static void touch_program(void) {
    static char text[1 << 18];
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    size_t length = 0;
    ssize_t n;
    if (fd < 0) return;
    while (length < sizeof text - 1 && (n = read(fd, text + length, sizeof text - 1 - length)) > 0) length += (size_t)n;
    close(fd);
    text[length] = 0;
    for (char *line = text; *line;) {
        char *next = strchr(line, '\n');
        unsigned long start, end;
        char perms[8] = "";
        if (next) *next = 0;
        if (sscanf(line, "%lx-%lx %7s", &start, &end, perms) == 3 && !strstr(line, "[heap]") && !strstr(line, "[v") && perms[0] == 'r' &&
            end - start <= MIB(16))
            madvise((void *)start, end - start, perms[1] == 'w' ? MADV_POPULATE_WRITE : MADV_POPULATE_READ);
        if (!next) break;
        line = next + 1;
    }
    volatile char stack[KIB(128)];
    for (size_t i = 0; i < sizeof stack; i += 512) stack[i] = 0;
}

static int (*walk_heap)(int (*)(const struct seemalloc_chunk *, void *), void *);
static int (*read_stats)(struct seemalloc_stats *);
static const char *(*name_state)(enum seemalloc_state);

const char *texts_begin(char **argv, const char *point, const char *conf) {
    static char setting[512];
    point_name = point;
    part_name = argv[1] ? argv[1] : "";
    page_size = (size_t)sysconf(_SC_PAGESIZE);
    /* The points speak of pages and count them: no huge ones. Inherited over exec. */
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    if (!getenv("TEXTS_STARTED")) {
        /* With an endless stack the kernel lays mappings out from below, not as the pictures have it. */
        struct rlimit stack;
        if (getrlimit(RLIMIT_STACK, &stack) == 0 && stack.rlim_cur == RLIM_INFINITY) {
            stack.rlim_cur = MIB(8);
            setrlimit(RLIMIT_STACK, &stack);
        }
        snprintf(setting, sizeof setting, "SEEMALLOC_CONF=%s", conf);
        const char *const set[] = {*conf ? setting : NULL, NULL};
        build_environment(set);
        execve("/proc/self/exe", argv, new_environment);
        texts_say("%s: can't start anew: errno %d", point, errno);
        _exit(1);
    }
    const char *now = getenv("SEEMALLOC_CONF");
    texts_say("%s%s%s: with SEEMALLOC_CONF=%s", point, *part_name ? " " : "", part_name, now ? now : "(unset)");
    if (now && strstr(now, NO_CACHE))
        texts_say("%s: the thread cache is switched off (%s), since it would hide the point", point, NO_CACHE);

    void *walk = dlsym(RTLD_DEFAULT, "seemalloc_walk");
    void *stats = dlsym(RTLD_DEFAULT, "seemalloc_get_stats");
    void *name = dlsym(RTLD_DEFAULT, "seemalloc_state_name");
    if (!walk || !stats) {
        texts_say("FAIL %s: seemalloc_walk is not there: run with LD_PRELOAD=libseemalloc.so", point);
        _exit(1);
    }
    memcpy(&walk_heap, &walk, sizeof walk);
    memcpy(&read_stats, &stats, sizeof stats);
    memcpy(&name_state, &name, sizeof name);
    if (!name) CHECK("seemalloc_state_name is exported as well", name != NULL);
    Dl_info of_malloc, of_walk;
    void *address = dlsym(RTLD_DEFAULT, "malloc");
    if (!dladdr(address, &of_malloc) || !dladdr(walk, &of_walk) || of_malloc.dli_fbase != of_walk.dli_fbase) {
        texts_say("FAIL %s: malloc comes from %s, not from seemalloc", point, address ? of_malloc.dli_fname : "nowhere");
        _exit(1);
    }
    texts_set_up();
    touch_program();
    return part_name;
}

void texts_set_up(void) { free(malloc(MIB(33))); }

void texts_again(const char *part, const char *const *set) {
    int status = 0;
    build_environment(set);
    char *arguments[] = {(char *)"texts", (char *)part, NULL};
    pid_t child = fork();
    if (child == 0) {
        execve("/proc/self/exe", arguments, new_environment);
        _exit(127);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    checks++;
    if (child < 0 || status != 0) {
        failed++;
        texts_say("FAIL %s: part \"%s\": wait status 0x%x, expected 0", point_name, part, child < 0 ? -1 : status);
    }
}

void texts_parts(const char *part, const char *conf, const struct texts_part *parts, size_t count) {
    static char setting[512];
    snprintf(setting, sizeof setting, "SEEMALLOC_CONF=%s", conf);
    const char *const set[] = {setting, NULL};
    for (size_t i = 0; i < count; i++) {
        if (!*part)
            texts_again(parts[i].name, set);
        else if (!strcmp(part, parts[i].name))
            parts[i].run();
    }
}

const char *texts_tool(const char *argument) {
    static char output[1 << 18];
    const char *tool = getenv("TEXTS_TOOL");
    int ends[2], status = -1;
    if (!tool) {
        texts_say("%s: TEXTS_TOOL is not set: what the command shows is not checked", point_name);
        return NULL;
    }
    REQUIRE("a pipe", pipe(ends) == 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        unsetenv("LD_PRELOAD");
        unsetenv("SEEMALLOC_CONF");
        execl(tool, tool, argument, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    size_t length = 0;
    for (ssize_t n; length < sizeof output - 1 && (n = read(ends[0], output + length, sizeof output - 1 - length)) > 0;)
        length += (size_t)n;
    output[length] = 0;
    close(ends[0]);
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    CHECK_EQ("the command's status", status, 0);
    return output;
}

/* --- the allocator's functions --- */

void *get(size_t size) { return malloc(size); }

void put(void *mem) { free(mem); }

void *resize(void *mem, size_t size) { return realloc(mem, size); }

void fill(void *mem, size_t size, int byte) { memset(mem, byte, size); }

int filled(const void *mem, size_t size, int byte) {
    const unsigned char *bytes = mem;
    for (size_t i = 0; i < size; i++)
        if (bytes[i] != (unsigned char)byte) return 0;
    return 1;
}

void *get_filled(size_t size) {
    void *mem = malloc(size);
    if (!mem) {
        texts_say("FAIL %s: malloc(%zu) returned NULL, errno %d", point_name, size, errno);
        _exit(1);
    }
    memset(mem, 0xA5, size);
    return mem;
}

void *get_guarded(size_t chunk_size) {
    void *mem = get_filled(request_of(chunk_size));
    void *guard = get_filled(24);
    if ((char *)guard != (char *)mem + chunk_size) {
        texts_say("FAIL %s: the guard of block %p (chunk size %zu) is at %p, expected right behind it", point_name, mem, chunk_size, guard);
        _exit(1);
    }
    return mem;
}

/* --- pictures of the heap --- */

#define VIEWS 40000
struct view views[VIEWS];
size_t view_count;

static int collect(const struct seemalloc_chunk *chunk, void *arg) {
    (void)arg;
    if (view_count == VIEWS) return 1;
    struct view *v = &views[view_count++];
    v->chunk = (uintptr_t)chunk->chunk;
    v->mem = (uintptr_t)chunk->mem;
    v->size = chunk->size;
    v->end = v->chunk + v->size;
    v->prev_size = chunk->prev_size;
    v->flags = chunk->flags;
    v->arena = chunk->arena;
    v->bin = chunk->bin;
    v->state = chunk->state;
    v->region_start = (uintptr_t)chunk->region->start;
    v->region_end = (uintptr_t)chunk->region->end;
    v->region_limit = (uintptr_t)chunk->region->limit;
    v->kind = chunk->region->kind;
    return 0;
}

int is_binned(const struct view *v) {
    return v->state == SEEMALLOC_UNSORTED || v->state == SEEMALLOC_SMALL || v->state == SEEMALLOC_LARGE ||
           v->state == SEEMALLOC_LAST_REMAINDER;
}

/* A chunk that breaks a rule is printed whole. */
static void must(const struct view *v, int ok, const char *rule) {
    checks++;
    if (ok) return;
    failed++;
    texts_say("FAIL %s: chunk %#lx (size %zu, prev_size %zu, flags %u, arena %u, bin %d, %s): %s: found false, expected true", point_name,
              (unsigned long)v->chunk, v->size, v->prev_size, v->flags, v->arena, v->bin, name_state ? name_state(v->state) : "?", rule);
}

static void check_picture(void) {
    for (size_t i = 0; i < view_count; i++) {
        const struct view *v = &views[i];
        const struct view *before = view_prev(v);
        must(v, v->mem == v->chunk + 16, "the user's pointer is after prev_size and size");
        must(v, v->mem % 16 == 0, "blocks are aligned to 16");
        must(v, v->size % 16 == 0, "sizes are multiples of 16");
        must(v, v->chunk >= v->region_start && v->end <= v->region_end, "the chunk lies in its region");
        if (v->state == SEEMALLOC_MAPPED) {
            must(v, v->flags & SEEMALLOC_FLAG_M, "M is set for mapped chunks");
            continue;
        }
        must(v, !(v->flags & SEEMALLOC_FLAG_M), "M is clear for chunks of a heap");
        must(v, (v->flags & SEEMALLOC_FLAG_A ? 1 : 0) == (v->arena != 0), "A is set exactly outside the main arena");
        if (before) {
            int before_free = is_binned(before);
            must(v, before->end == v->chunk, "chunks tile their region");
            must(v, (v->flags & SEEMALLOC_FLAG_P ? 0 : 1) == before_free,
                 "P = the previous chunk is in use (fast and cached ones count as in use)");
            must(v, !before_free || v->prev_size == before->size, "prev_size repeats the size of the free chunk before");
            must(v, !(before_free && is_binned(v)), "free neighbours are merged");
            must(v, !(before_free && v->state == SEEMALLOC_TOP), "a free chunk next to the top belongs to the top");
        } else {
            must(v, v->flags & SEEMALLOC_FLAG_P, "the first chunk of a region has P = 1");
        }
        if (v->state != SEEMALLOC_TOP && v->state != SEEMALLOC_FENCEPOST) {
            must(v, v->size >= 32, "the smallest chunk has 32 bytes");
            must(v, raw_size(v->chunk) == v->size, "the size in memory is the size of the walk");
            must(v, raw_flags(v->chunk) == v->flags, "the flags in memory are the flags of the walk");
        }
        if (is_binned(v)) {
            const struct view *next = view_next(v);
            must(v, next && raw(next->chunk)->prev_size == v->size, "the foot in memory repeats the size");
            must(v, v->bin >= 1 && v->bin <= 126, "a free chunk is in one of the bins 1 to 126");
        }
    }
}

void look(void) {
    view_count = 0;
    int result = walk_heap(collect, NULL);
    if (result) {
        failed++;
        texts_say("FAIL %s: seemalloc_walk returned %d after %zu chunks, expected 0", point_name, result, view_count);
    }
    check_picture();
}

void sort_bins(void) {
    size_t largest = 1024;
    look();
    for (size_t i = 0; i < view_count; i++)
        if (is_binned(&views[i]) && views[i].size > largest) largest = views[i].size;
    /* One request sorts a bounded number of chunks. */
    for (size_t rounds = views_in(SEEMALLOC_UNSORTED) / 16 + 1; rounds > 0; rounds--) get_filled(largest + 64);
    look();
}

const struct view *view_at(uintptr_t chunk) {
    for (size_t i = 0; i < view_count; i++)
        if (views[i].chunk == chunk) return &views[i];
    return NULL;
}

const struct view *view_of(const void *mem) { return view_at((uintptr_t)mem - 16); }

static int same_region(const struct view *a, const struct view *b) {
    return a->region_start == b->region_start && a->kind == b->kind && a->kind != SEEMALLOC_REGION_BLOCK;
}

const struct view *view_next(const struct view *v) { return v + 1 < views + view_count && same_region(v, v + 1) ? v + 1 : NULL; }

const struct view *view_prev(const struct view *v) { return v > views && same_region(v, v - 1) ? v - 1 : NULL; }

const struct view *view_top(unsigned arena) {
    for (size_t i = 0; i < view_count; i++)
        if (views[i].state == SEEMALLOC_TOP && views[i].arena == arena) return &views[i];
    return NULL;
}

size_t views_in(enum seemalloc_state state) {
    size_t n = 0;
    for (size_t i = 0; i < view_count; i++) n += views[i].state == state;
    return n;
}

size_t bytes_in(enum seemalloc_state state) {
    size_t n = 0;
    for (size_t i = 0; i < view_count; i++)
        if (views[i].state == state) n += views[i].size;
    return n;
}

const struct view *only_in(enum seemalloc_state state) {
    const struct view *found = NULL;
    for (size_t i = 0; i < view_count; i++) {
        if (views[i].state != state) continue;
        if (found) return NULL;
        found = &views[i];
    }
    return found;
}

enum seemalloc_state state_of(const void *mem) {
    const struct view *v = view_of(mem);
    return v ? v->state : SEEMALLOC_STATE_COUNT;
}

int bin_of(const void *mem) {
    const struct view *v = view_of(mem);
    return v ? v->bin : -2;
}

size_t ring_of(uintptr_t chunk, uintptr_t *out, size_t room) {
    /* The pseudo-chunk is the one member of the ring that the walk does not know. */
    uintptr_t head = chunk;
    for (size_t steps = 0; view_at(head); steps++) {
        if (steps > room || raw(raw(head)->fd)->bk != head || (head = raw(head)->fd) == chunk) return 0;
    }
    size_t n = 0;
    for (uintptr_t c = raw(head)->fd; c != head; c = raw(c)->fd) {
        if (n == room || raw(raw(c)->fd)->bk != c || raw(raw(c)->bk)->fd != c) return 0;
        out[n++] = c;
    }
    return n;
}

struct seemalloc_stats stats_now(void) {
    static struct seemalloc_stats stats;
    memset(&stats, 0, sizeof stats);
    if (read_stats(&stats)) {
        failed++;
        texts_say("FAIL %s: seemalloc_get_stats failed, errno %d", point_name, errno);
    }
    return stats;
}

uint64_t calls_all_between(const struct seemalloc_stats *before, const struct seemalloc_stats *after) {
    uint64_t n = 0;
    for (int call = 0; call < SEEMALLOC_CALL_COUNT; call++)
        if (call != SEEMALLOC_CALL_MMAP_META && call != SEEMALLOC_CALL_MUNMAP_META) n += after->calls[call] - before->calls[call];
    return n;
}

/* --- the kernel's account --- */

static uint64_t faults(int major) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (uint64_t)(major ? usage.ru_majflt : usage.ru_minflt);
}

uint64_t minor_faults(void) { return faults(0); }

uint64_t major_faults(void) { return faults(1); }

uintptr_t brk_now(void) { return (uintptr_t)sbrk(0); }

uint64_t page_frame(uintptr_t address) {
    const uint64_t present = 1ull << 63, frame = ((uint64_t)1 << 55) - 1;
    uint64_t entry = 0;
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0) return 0;
    ssize_t n = pread(pagemap, &entry, sizeof entry, (off_t)(address / page_size * sizeof entry));
    close(pagemap);
    return n == (ssize_t)sizeof entry && (entry & present) ? entry & frame : 0;
}

/* Whole text of a /proc file in a static buffer. */
static char proc_text[1 << 20];

static char *read_proc(const char *path) {
    size_t length = 0;
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        while (length < sizeof proc_text - 1 && (n = read(fd, proc_text + length, sizeof proc_text - 1 - length)) > 0) length += (size_t)n;
        close(fd);
    }
    proc_text[length] = 0;
    return proc_text;
}

size_t virtual_bytes(void) { return strtoul(read_proc("/proc/self/statm"), NULL, 10) * page_size; }

size_t status_bytes(const char *field) {
    char *at = strstr(read_proc("/proc/self/status"), field);
    return at ? KIB(strtoul(at + strlen(field), NULL, 10)) : 0;
}

struct kernel_view kernel_view(void) {
    struct kernel_view view = {0, 0, 0, 0, 0, 0};
    char *at = strrchr(read_proc("/proc/self/stat"), ')');
    if (!at) return view;
    at++;
    for (int field = 3; *at; field++) {
        uintptr_t value = strtoul(at + 1, NULL, 10);
        if (field == 26) view.start_code = value;
        if (field == 27) view.end_code = value;
        if (field == 28) view.start_stack = value;
        if (field == 45) view.start_data = value;
        if (field == 46) view.end_data = value;
        if (field == 47) view.start_brk = value;
        at = strchr(at + 1, ' ');
        if (!at) break;
    }
    return view;
}

static int note_if_there(const struct mapping *mapping, void *out) {
    struct mapping *wanted = out;
    if (wanted->start < mapping->start || wanted->start >= mapping->end) return 0;
    *wanted = *mapping;
    return 1;
}

int mapping_of(uintptr_t address, struct mapping *out) {
    memset(out, 0, sizeof *out);
    out->start = address;
    if (mappings_visit(note_if_there, out) == 1) return 1;
    memset(out, 0, sizeof *out);
    return 0;
}

static int count_one(const struct mapping *mapping, void *count) {
    (void)mapping;
    ++*(size_t *)count;
    return 0;
}

size_t mapping_count(void) {
    size_t n = 0;
    mappings_visit(count_one, &n);
    return n;
}

int smaps_of(uintptr_t address, size_t *size, size_t *rss) {
    struct mapping m;
    char head[64];
    if (!mapping_of(address, &m)) return 0;
    snprintf(head, sizeof head, "%08lx-%08lx ", (unsigned long)m.start, (unsigned long)m.end);
    char *line = strstr(read_proc("/proc/self/smaps"), head), *at = line ? strstr(line, "\nRss:") : NULL;
    *size = m.end - m.start;
    *rss = at ? KIB(strtoul(at + 5, NULL, 10)) : 0;
    return line != NULL;
}

int is_readable(uintptr_t address) {
    int ends[2];
    if (pipe(ends)) return 0;
    ssize_t n = write(ends[1], (const void *)address, 1);
    close(ends[0]);
    close(ends[1]);
    return n == 1;
}
