/* stats.c: see stats.h. All sums come from one kind of walk, so they agree with each other. SPDX-License-Identifier: MIT */
#include "inspect/stats.h"

#include <errno.h>
#include <string.h>

#include "cache/cache.h"
#include "conf/conf.h"
#include "heap/mapped.h"
#include "heap/retain.h"
#include "inspect/walk.h"
#include "os/os.h"
#include "seemalloc_descriptor.h"

static const char *const call_names[SEEMALLOC_CALL_COUNT] = SEEMALLOC_CALL_NAMES;

EXPORT const char *seemalloc_call_name(enum seemalloc_call call) { return (unsigned)call < SEEMALLOC_CALL_COUNT ? call_names[call] : "?"; }

static size_t unmerged(const size_t by_state[SEEMALLOC_STATE_COUNT]) {
    return by_state[SEEMALLOC_FAST] + by_state[SEEMALLOC_CACHED] + by_state[SEEMALLOC_PARKED] + by_state[SEEMALLOC_INBOX];
}
static size_t in_bins(const size_t by_state[SEEMALLOC_STATE_COUNT]) {
    return by_state[SEEMALLOC_UNSORTED] + by_state[SEEMALLOC_SMALL] + by_state[SEEMALLOC_LARGE] + by_state[SEEMALLOC_LAST_REMAINDER] +
           by_state[SEEMALLOC_PURGING];
}
static size_t in_use(const size_t by_state[SEEMALLOC_STATE_COUNT]) {
    return by_state[SEEMALLOC_IN_USE] + by_state[SEEMALLOC_FENCEPOST] + by_state[SEEMALLOC_ABANDONED];
}

static bool sum_all(struct heap_sum *sum) {
    memset(sum, 0, sizeof *sum);
    for (uint32_t id = 0; id < load_acquire(&seal.arenas); id++) {
        if (!heap_sum_arena(arena_of_id(id), sum)) return false;
    }
    return true;
}

EXPORT int seemalloc_get_stats(struct seemalloc_stats *stats) {
    cache_init();
    struct heap_sum sum;
    if (!sum_all(&sum)) {
        errno = ENOMEM;
        return -1;
    }
    cache_note_peak();
    memset(stats, 0, sizeof *stats);
    memcpy(stats->bytes, sum.bytes, sizeof stats->bytes);
    memcpy(stats->count, sum.count, sizeof stats->count);
    stats->heap_bytes = sum.system_bytes;
    stats->mapped_bytes = stats->bytes[SEEMALLOC_MAPPED] = load_relaxed(&mapped_bytes);
    stats->mapped_count = stats->count[SEEMALLOC_MAPPED] = load_relaxed(&mapped_count);
    stats->retained_bytes = load_relaxed(&retained_bytes);
    stats->heap_peak = load_relaxed(&footprint_peak);
    stats->metadata_bytes = load_relaxed(&os_counters.metadata_bytes);
    stats->taken_bytes = load_relaxed(&os_counters.taken);
    stats->in_use_peak = load_relaxed(&cache_in_use_peak);
    stats->arenas = arena_total();
    stats->threads = cache_live();
    stats->mmap_threshold = conf_get(CONF_MMAP_THRESHOLD);
    stats->trim_threshold = conf_get(CONF_TRIM_THRESHOLD);
    for (unsigned call = 0; call < SEEMALLOC_CALL_COUNT; call++) stats->calls[call] = load_relaxed(&os_counters.calls[call]);
    stats->failures = load_relaxed(&os_counters.failures);
    return 0;
}

struct stats_mallinfo stats_mallinfo(void) {
    struct heap_sum sum;
    struct stats_mallinfo info = {0};
    if (!sum_all(&sum)) return info;
    info.arena = sum.system_bytes;
    info.ordblks = in_bins(sum.count) + sum.count[SEEMALLOC_TOP];
    info.smblks = unmerged(sum.count);
    info.hblks = load_relaxed(&mapped_count);
    info.hblkhd = load_relaxed(&mapped_bytes);
    info.fsmblks = unmerged(sum.bytes);
    info.uordblks = in_use(sum.bytes);
    info.fordblks = in_bins(sum.bytes) + sum.bytes[SEEMALLOC_TOP] + info.fsmblks;
    if (lock_enter(&arena_main.lock)) {
        if (arena_main.top != NULL) info.keepcost = (size_t)(arena_main.top_end - (char *)arena_main.top);
        lock_leave(&arena_main.lock);
    }
    return info;
}

/* --- XML ------------------------------------------------------------------------------------------------------------------------------------------ */

static void xml_bin(struct text *text, const char *element, const struct bin_sum *bin) {
    if (bin->count == 0) return;
    text_add(text, "  <%s from=\"%zu\" to=\"%zu\" total=\"%zu\" count=\"%zu\"/>\n", element, bin->from, bin->to, bin->total, bin->count);
}

static void xml_totals(struct text *text, const struct heap_sum *sum) {
    text_add(text, "<total type=\"fast\" count=\"%zu\" size=\"%zu\"/>\n", unmerged(sum->count), unmerged(sum->bytes));
    text_add(text, "<total type=\"rest\" count=\"%zu\" size=\"%zu\"/>\n", in_bins(sum->count) + sum->count[SEEMALLOC_TOP],
             in_bins(sum->bytes) + sum->bytes[SEEMALLOC_TOP]);
}

static void xml_system(struct text *text, const struct heap_sum *sum) {
    text_add(text, "<system type=\"current\" size=\"%zu\"/>\n<system type=\"max\" size=\"%zu\"/>\n", sum->system_bytes, sum->system_peak);
    text_add(text, "<aspace type=\"total\" size=\"%zu\"/>\n<aspace type=\"mprotect\" size=\"%zu\"/>\n", sum->reserved_bytes,
             sum->system_bytes);
}

static bool xml_heap(struct text *text, struct arena *arena, unsigned number) {
    struct heap_sum sum;
    memset(&sum, 0, sizeof sum);
    if (!heap_sum_arena(arena, &sum)) return true; /* no memory to look: the process totals leave it out as well */
    text_add(text, "<heap nr=\"%u\">\n<sizes>\n", number);
    for (unsigned i = 0; i < BIN_COUNT; i++) xml_bin(text, "size", &sum.fast[i]);
    for (unsigned i = BIN_FIRST_SMALL; i < BIN_COUNT; i++) xml_bin(text, "size", &sum.bin[i]);
    xml_bin(text, "unsorted", &sum.bin[BIN_UNSORTED]);
    text_add(text, "</sizes>\n");
    xml_totals(text, &sum);
    xml_system(text, &sum);
    if (arena->id != 0) text_add(text, "<aspace type=\"subheaps\" size=\"%zu\"/>\n", sum.heaps);
    text_add(text, "</heap>\n");
    return !text->truncated;
}

bool stats_xml(struct text *text) {
    struct heap_sum sum;
    text_add(text, "<malloc version=\"1\">\n");
    unsigned number = 0;
    for (uint32_t id = 0; id < load_acquire(&seal.arenas); id++) {
        struct arena *arena = arena_of_id(id);
        if (arena->is_spare && load_relaxed(&arena->system_peak) == 0) continue;
        if (!xml_heap(text, arena, number++)) return false;
    }
    sum_all(&sum);
    xml_totals(text, &sum);
    text_add(text, "<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n", load_relaxed(&mapped_count), load_relaxed(&mapped_bytes));
    xml_system(text, &sum);
    text_add(text, "</malloc>\n");
    return !text->truncated;
}

/* --- for people --------------------------------------------------------------------------------------------------------------------------------- */

static void print(int fd, const struct text *text) { prim_write(fd, text->data, text->length); }

void stats_print_glibc(void) {
    char buffer[256];
    size_t system = load_relaxed(&mapped_bytes), used = system;
    for (uint32_t id = 0; id < load_acquire(&seal.arenas); id++) {
        struct arena *arena = arena_of_id(id);
        struct heap_sum sum;
        memset(&sum, 0, sizeof sum);
        if ((arena->is_spare && load_relaxed(&arena->system_peak) == 0) || !heap_sum_arena(arena, &sum)) continue;
        struct text text = text_of(buffer, sizeof buffer);
        text_add(&text, "Arena %u:\nsystem bytes     = %10zu\nin use bytes     = %10zu\n", id, sum.system_bytes, in_use(sum.bytes));
        print(PRIM_STDERR, &text);
        system += sum.system_bytes;
        used += in_use(sum.bytes);
    }
    struct text text = text_of(buffer, sizeof buffer);
    text_add(&text, "Total (incl. mmap):\nsystem bytes     = %10zu\nin use bytes     = %10zu\n", system, used);
    text_add(&text, "max mmap regions = %10zu\nmax mmap bytes   = %10zu\n", load_relaxed(&mapped_count_peak),
             load_relaxed(&mapped_bytes_peak));
    print(PRIM_STDERR, &text);
}

void stats_print_exit(int fd) {
    struct seemalloc_stats stats;
    char buffer[4096], name[64] = "?";
    if (seemalloc_get_stats(&stats) != 0) return;
    long length = prim_read_file("/proc/self/comm", name, sizeof name - 1);
    if (length > 0) name[name[length - 1] == '\n' ? length - 1 : length] = '\0';
    size_t major, minor = prim_minor_faults(&major);
    struct text text = text_of(buffer, sizeof buffer);
    text_add(&text, "--- seemalloc %s: %s (process %u) ---\n", seemalloc_version(), name, prim_process_id());
    text_add(&text, "in use, highest      %12zu bytes (usable; as seen on slow paths)\n", stats.in_use_peak);
    text_add(&text, "heap and mapped, highest %8zu bytes\n", stats.heap_peak);
    text_add(&text, "heap now             %12zu bytes in %u arena%s\n", stats.heap_bytes, stats.arenas, stats.arenas == 1 ? "" : "s");
    text_add(&text, "mapped now           %12zu bytes in %zu block%s\n", stats.mapped_bytes, stats.mapped_count,
             stats.mapped_count == 1 ? "" : "s");
    if (stats.retained_bytes != 0) text_add(&text, "retained             %12zu bytes\n", stats.retained_bytes);
    text_add(&text, "own books            %12zu bytes reserved\n", stats.metadata_bytes);
    for (unsigned state = 0; state < SEEMALLOC_STATE_COUNT; state++) {
        if (stats.count[state] == 0 || state == SEEMALLOC_MAPPED) continue;
        text_add(&text, "  %-19s%12zu bytes in %zu chunk%s\n", seemalloc_state_name(state), stats.bytes[state], stats.count[state],
                 stats.count[state] == 1 ? "" : "s");
    }
    text_add(&text, "system calls\n");
    for (unsigned call = 0; call < SEEMALLOC_CALL_COUNT; call++) {
        if (stats.calls[call] != 0) text_add(&text, "  %-19s%12lu\n", seemalloc_call_name(call), (unsigned long)stats.calls[call]);
    }
    text_add(&text, "  %-19s%12lu\n", "refused", (unsigned long)stats.failures);
    text_add(&text, "page faults          %12zu minor, %zu major\n", minor, major);
    text_add(&text, "peak RSS             %12zu bytes\n", prim_peak_rss());
    print(fd, &text);
}
