/* dumper.c: seemalloc together with a writer of its own heap, to preload: sample data for the page from real programs. It reads through the public
 * walk, and what that does not show (magazines, event ring, settings) from the allocator's own variables.
 * SPDX-License-Identifier: MIT */
#include "dumper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "arena/arena.h"
#include "cache/cache.h"
#include "conf/conf.h"
#include "os/os.h"
#include "../../tools/heap_data.h"

enum { SAMPLES = 4096, CACHES = 256, ENTRIES = 1 << 15 };

static struct heap_data_sample samples[SAMPLES];
static size_t sample_count;
static struct cache *shown[CACHES];
static size_t shown_count;

struct writing {
    struct heap_data *data;
    FILE *list;
    unsigned long step, number; /* of listed chunks; of this one */
    const void *region;         /* start of the current one */
    int pagemap;
};

static _Noreturn void give_up(const char *what) {
    fprintf(stderr, "dumper: %s: %s\n", what, strerror(errno));
    _exit(2);
}

static const char *need(const char *name) {
    const char *value = getenv(name);
    if (value == NULL) {
        fprintf(stderr, "dumper: $%s is not set\n", name);
        _exit(2);
    }
    return value;
}

static uint64_t clock_of(clockid_t which) {
    struct timespec now;
    clock_gettime(which, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t resident_bytes(void) {
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL || fscanf(file, "%*u %llu", &pages) != 1) give_up("/proc/self/statm");
    fclose(file);
    return pages * os_page_size();
}

__attribute__((visibility("default"))) void heap_sample(void) {
    struct seemalloc_stats stats;
    struct rusage usage;
    if (sample_count == SAMPLES || seemalloc_get_stats(&stats) != 0) return;
    getrusage(RUSAGE_SELF, &usage);
    struct heap_data_sample *sample = &samples[sample_count++];
    *sample = (struct heap_data_sample){.time = clock_of(CLOCK_MONOTONIC),
                                        .in_use = stats.bytes[SEEMALLOC_IN_USE] + stats.bytes[SEEMALLOC_MAPPED],
                                        .cached = stats.bytes[SEEMALLOC_CACHED],
                                        .resident = resident_bytes(),
                                        .minor_faults = (uint64_t)usage.ru_minflt};
    for (int state = SEEMALLOC_PARKED; state <= SEEMALLOC_TOP; state++) sample->free += stats.bytes[state];
}

__attribute__((visibility("default"))) void heap_show_cache(void) {
    size_t index = __atomic_fetch_add(&shown_count, 1, __ATOMIC_RELAXED);
    if (index < CACHES) shown[index] = cache_self;
}

/* --- chunks and pages ------------------------------------------------------------------------------------------------------------------------ */

static void write_pages(const struct writing *to, const struct seemalloc_region *region) {
    static uint64_t entries[512];
    uint64_t page = (uintptr_t)region->start / os_page_size();
    uint64_t end = ((uintptr_t)region->end + os_page_size() - 1) / os_page_size();
    while (page < end) {
        size_t count = end - page < 512 ? end - page : 512;
        if (pread(to->pagemap, entries, count * 8, (off_t)(page * 8)) != (ssize_t)(count * 8)) give_up("/proc/self/pagemap");
        for (size_t i = 0; i < count; i++) heap_data_pages(to->data, 1, entries[i] >> 63);
        page += count;
    }
}

static int write_chunk(const struct seemalloc_chunk *chunk, void *arg) {
    struct writing *to = arg;
    if (to->region != chunk->region->start) {
        to->region = chunk->region->start;
        heap_data_region(to->data, chunk->region);
        write_pages(to, chunk->region);
    }
    heap_data_chunk(to->data, (uintptr_t)chunk->chunk, chunk->size, chunk->state, chunk->bin);
    if (to->list != NULL && to->number++ % to->step == 0)
        fprintf(to->list, "%p %p %zu %d %d %u\n", chunk->chunk, chunk->mem, chunk->size, (int)chunk->state, chunk->bin, chunk->arena);
    return 0;
}

/* --- the head -------------------------------------------------------------------------------------------------------------------------------- */

static size_t list_arenas(struct heap_data_arena *arenas) {
    size_t count = 0;
    for (uint32_t id = 0; id < load_acquire(&seal.arenas); id++) {
        const struct arena *arena = id == 0 ? &arena_main : arena_table[id];
        if (arena->system_bytes == 0) continue;
        arenas[count++] = (struct heap_data_arena){.id = id,
                                                   .kind = id == 0           ? "main"
                                                           : arena->is_spare ? "spare"
                                                                             : "thread",
                                                   .threads = arena->threads,
                                                   .system_bytes = arena->system_bytes,
                                                   .top = (uintptr_t)arena->top};
    }
    return count;
}

/* The slots that a magazine has now: `bottom` says otherwise while it is watched. */
static void **slots(struct cache *cache, unsigned size_class) {
    void **top = cache->magazine[size_class].top;
    if (top >= cache->narrow[size_class] && top <= cache->narrow[size_class] + NARROW_MAX) return cache->narrow[size_class];
    if (top >= cache->wide[size_class] && top <= cache->wide[size_class] + WIDE_MAX) return cache->wide[size_class];
    return size_class <= CLASS_EXACT ? cache->deep[size_class] : top;
}

static size_t list_caches(struct heap_data_cache *caches) {
    static struct heap_data_magazine magazines[CACHES][CLASS_COUNT];
    size_t count = 0;
    for (size_t i = 0; i < shown_count && i < CACHES; i++) {
        struct cache *cache = shown[i];
        if (cache == &cache_none || cache == &cache_dead) continue;
        size_t used = 0;
        for (unsigned c = 2; c < CLASS_COUNT; c++) {
            const struct magazine *magazine = &cache->magazine[c];
            size_t limit = cache->watch == WATCH_NOT ? (size_t)(magazine->limit - magazine->bottom) : cache->room[c];
            size_t blocks = (size_t)(magazine->top - slots(cache, c));
            if (limit == 0 && blocks == 0) continue;
            magazines[count][used++] = (struct heap_data_magazine){class_size(c), c, (unsigned)blocks, (unsigned)limit};
        }
        caches[count] = (struct heap_data_cache){.arena = cache->arena->id, .magazine_count = used, .magazines = magazines[count]};
        count++;
    }
    return count;
}

static size_t list_settings(struct heap_data_setting *settings) {
    static const char *const sources[] = {"itself", "environment", "GLIBC_TUNABLES", "SEEMALLOC", "mallopt"};
    size_t count = 0;
    for (int i = 0; i < CONF_COUNT; i++) {
        const struct conf_row *row = &conf_rows[i];
        if (conf_values[i] == row->standard) continue;
        settings[count++] = (struct heap_data_setting){row->name, row->unit, sources[conf_sources[i]], conf_values[i], row->standard};
    }
    return count;
}

static size_t list_events(struct heap_data_event *events) {
    size_t count = 0, all = os_counters.event_count;
    for (size_t i = all > OS_EVENTS ? all - OS_EVENTS : 0; i < all; i++) {
        const struct os_event *event = &os_counters.events[i % OS_EVENTS];
        if (event->sequence != i + 1) continue;
        events[count++] = (struct heap_data_event){event->time, seemalloc_call_name((enum seemalloc_call)event->call),
                                                   (uintptr_t)event->address, event->size};
    }
    return count;
}

static size_t list_counters(struct heap_data_number *counters) {
    struct seemalloc_stats stats;
    if (seemalloc_get_stats(&stats) != 0) give_up("statistics");
    const struct heap_data_number all[] = {{"heap_bytes", stats.heap_bytes},
                                           {"heap_peak", stats.heap_peak},
                                           {"mapped_bytes", stats.mapped_bytes},
                                           {"retained_bytes", stats.retained_bytes},
                                           {"metadata_bytes", stats.metadata_bytes},
                                           {"in_use_peak", stats.in_use_peak},
                                           {"threads", stats.threads},
                                           {"mmap_threshold", stats.mmap_threshold},
                                           {"trim_threshold", stats.trim_threshold},
                                           {"failures", stats.failures}};
    memcpy(counters, all, sizeof all);
    return sizeof all / sizeof *all;
}

static bool close_with_head(struct heap_data *data) {
    static struct heap_data_arena arenas[ARENA_LIMIT];
    static struct heap_data_cache caches[CACHES];
    static struct heap_data_setting settings[CONF_COUNT];
    static struct heap_data_event events[OS_EVENTS];
    static struct heap_data_number counters[16], calls[SEEMALLOC_CALL_COUNT];
    const char *states[SEEMALLOC_STATE_COUNT];
    for (int i = 0; i < SEEMALLOC_STATE_COUNT; i++) states[i] = seemalloc_state_name((enum seemalloc_state)i);
    for (int i = 0; i < SEEMALLOC_CALL_COUNT; i++)
        calls[i] = (struct heap_data_number){seemalloc_call_name((enum seemalloc_call)i), os_counters.calls[i]};
    const char *name = getenv("HEAP_NAME");
    struct heap_data_head head = {.process = name != NULL ? name : program_invocation_short_name,
                                  .version = seemalloc_version(),
                                  .read = "live",
                                  .pid = (uint64_t)getpid(),
                                  .real_time = clock_of(CLOCK_REALTIME) / 1000000,
                                  .clock = clock_of(CLOCK_MONOTONIC),
                                  .state_names = states,
                                  .arenas = arenas,
                                  .caches = caches,
                                  .settings = settings,
                                  .events = events,
                                  .samples = samples,
                                  .sample_count = sample_count,
                                  .calls = calls,
                                  .call_count = SEEMALLOC_CALL_COUNT,
                                  .counters = counters};
    head.arena_count = list_arenas(arenas);
    head.cache_count = list_caches(caches);
    head.setting_count = list_settings(settings);
    head.event_count = list_events(events);
    head.counter_count = list_counters(counters);
    return heap_data_close(data, &head);
}

/* --- files ----------------------------------------------------------------------------------------------------------------------------------- */

/* With a buffer of its own: a stream that takes one from the allocator would do so inside the walk. */
static FILE *create(const char *path, char *buffer, size_t size) {
    FILE *file = fopen(path, "we");
    if (file == NULL) give_up(path);
    setvbuf(file, buffer, _IOFBF, size);
    return file;
}

__attribute__((visibility("default"))) void heap_dump(void) {
    static char buffer[2][1 << 16];
    const char *path = need("HEAP_DUMP"), *template = need("HEAP_TEMPLATE"), *list = getenv("HEAP_LIST");
    struct stat status;
    int file = open(template, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &status) != 0) give_up(template);
    const char *page = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
    if (page == MAP_FAILED) give_up(template);
    close(file);

    heap_sample();
    FILE *out = create(path, buffer[0], sizeof buffer[0]);
    struct writing to = {.pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)};
    if (to.pagemap < 0) give_up("/proc/self/pagemap");
    const char *step = getenv("HEAP_LIST_STEP");
    to.step = step != NULL ? strtoul(step, NULL, 10) : 1;
    if (to.step == 0) to.step = 1;
    if (list != NULL) to.list = create(list, buffer[1], sizeof buffer[1]);
    to.data = heap_data_open(out, page, (size_t)status.st_size, os_page_size());
    if (to.data == NULL || !heap_data_reserve(to.data, ENTRIES)) give_up(template);
    if (seemalloc_walk(write_chunk, &to) != 0) give_up("walk");
    if (!close_with_head(to.data)) give_up(path);
    if (fclose(out) != 0 || (to.list != NULL && fclose(to.list) != 0)) give_up("files");
    close(to.pagemap);
    munmap((void *)(uintptr_t)page, (size_t)status.st_size);
}

/* A program that does not call heap_dump itself is dumped at its exit, if HEAP_AT_EXIT is set. */
__attribute__((destructor)) static void at_exit(void) {
    if (getenv("HEAP_AT_EXIT") != NULL) heap_dump();
}
