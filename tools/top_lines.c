/* top_lines.c: what `seemalloc top` knows, in lines: of the head, of its tables, and of strips. SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "bins.h"
#include "outside.h"
#include "top.h"

#define WORD 24
#define WIDE 80 /* from so many columns on, names are written out */

/* At most six columns: "999.9M". */
static const char *size_word(char word[WORD], uint64_t bytes) {
    static const char units[] = " KMGTPE";
    unsigned unit = 0;
    double value = (double)bytes;
    for (; value >= 999.95 && units[unit + 1] != '\0'; unit++) value /= 1024;
    if (unit == 0) {
        snprintf(word, WORD, "%.0f", value);
    } else {
        snprintf(word, WORD, "%.1f%c", value, units[unit]);
    }
    return word;
}

/* At most five columns: "999k", "9.9k", "0.25", "12". */
static const char *rate_word(char word[WORD], double rate) {
    static const char units[] = " kMG";
    unsigned unit = 0;
    for (; rate >= 9999.5 && units[unit + 1] != '\0'; unit++) rate /= 1000;
    snprintf(word, WORD, rate == 0 ? "0" : rate < 9.995 && unit == 0 ? "%.2f" : "%.0f", rate);
    if (unit != 0) snprintf(word + strlen(word), 2, "%c", units[unit]);
    return word;
}

static const char *age_word(char word[WORD], uint64_t age) {
    uint64_t seconds = age / 1000000000u;
    int n = 0;
    if (seconds >= 86400) n = snprintf(word, WORD, "%" PRIu64 "d ", seconds / 86400);
    snprintf(word + n, WORD - (size_t)n, "%" PRIu64 ":%02u:%02u", seconds / 3600 % 24, (unsigned)(seconds / 60 % 60),
             (unsigned)(seconds % 60));
    return word;
}

/* --- head ------------------------------------------------------------------------------------------------------------------------------------------ */

struct item {
    const char *name, *narrow;
    char value[WORD];
};

static void put_title(const struct top *top, char *line, bool is_wide) {
    char age[WORD];
    snprintf(line, TOP_WIDTH, "%s%s (%d), up %s, %" PRIu64 " thread%s", is_wide ? "seemalloc top: " : "", top->command, (int)top->pid,
             age_word(age, top->age), top->threads, top->threads == 1 ? "" : "s");
}

static void put_reading(const struct top *top, char *line) {
    const struct process *picture = top->picture;
    double interval = (double)top_interval(top) / 1e9, age = (double)(top->now.clock - picture->clock) / 1e9;
    int n = picture->frozen != 0 ? snprintf(line, TOP_WIDTH, "frozen for %.1f ms", (double)picture->frozen / 1e6)
                                 : snprintf(line, TOP_WIDTH, "read while it ran");
    if (top->now.clock > picture->clock) n += snprintf(line + n, TOP_WIDTH - (size_t)n, ", %.1f s ago", age);
    if (top->before.clock == 0) {
        n += snprintf(line + n, TOP_WIDTH - (size_t)n, "; rates since it began");
    } else {
        n += snprintf(line + n, TOP_WIDTH - (size_t)n, "; rates over %.1f s", interval);
    }
    if (picture->heap.is_torn) n += snprintf(line + n, TOP_WIDTH - (size_t)n, "; TORN");
    if (picture->heap.fault.text[0] != '\0') n += snprintf(line + n, TOP_WIDTH - (size_t)n, "; CORRUPTED: %s", picture->heap.fault.text);
    if (top->not_frozen.text[0] != '\0' && n < TOP_WIDTH)
        snprintf(line + n, TOP_WIDTH - (size_t)n, "; can't freeze it: %s", top->not_frozen.text);
}

static unsigned list_items(const struct top *top, struct item items[TOP_HEAD]) {
    const struct top_sums *sums = &top->sums;
    const struct heap *heap = &top->counters->heap;
    const struct {
        const char *name;
        uint64_t bytes;
    } sizes[] = {{"RSS", top->rss},    {"in use", sums->in_use}, {"cached", sums->cached},
                 {"free", sums->free}, {"mapped", sums->mapped}, {"peak", heap->heap_peak}};
    unsigned count = 0;
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++, count++) {
        items[count].name = items[count].narrow = sizes[i].name;
        size_word(items[count].value, sizes[i].bytes);
    }
    if (top->picture->heap.is_live) strcpy(items[2].value, "?");
    static const char *const names[TOP_CALLS] = {"brk/s", "mmap/s", "munmap/s", "mremap/s", "madvise/s", "mprotect/s"};
    static const char *const narrow[TOP_CALLS] = {"brk/s", "mmap/s", "munm/s", "mrem/s", "madv/s", "mprt/s"};
    for (unsigned i = 0; i < TOP_CALLS; i++, count++) {
        items[count].name = names[i];
        items[count].narrow = narrow[i];
        rate_word(items[count].value, top_rate(top, top->now.calls[i], top->before.calls[i]));
    }
    items[count].name = "minor flt/s";
    items[count].narrow = "minf/s";
    rate_word(items[count++].value, top_rate(top, top->now.minor, top->before.minor));
    items[count].name = "major flt/s";
    items[count].narrow = "majf/s";
    rate_word(items[count++].value, top_rate(top, top->now.major, top->before.major));
    items[count].name = items[count].narrow = "books";
    size_word(items[count++].value, heap->metadata_bytes);
    items[count].name = "refused";
    items[count].narrow = "refusd";
    snprintf(items[count++].value, WORD, "%" PRIu64, heap->failures);
    return count;
}

unsigned top_head(const struct top *top, unsigned width, unsigned most, char line[TOP_HEAD][TOP_WIDTH]) {
    struct item items[TOP_HEAD];
    bool is_wide = width >= WIDE;
    unsigned cell = is_wide ? 20 : 13, across = width / cell, lines = 2, count = list_items(top, items);
    if (across > 8) across = 8;
    if (across == 0) across = 1;
    put_title(top, line[0], is_wide);
    put_reading(top, line[1]);
    for (unsigned first = 0; first < count && lines < most && lines < TOP_HEAD; first += across, lines++) {
        size_t n = 0;
        for (unsigned i = first; i < first + across && i < count; i++) {
            const char *name = is_wide ? items[i].name : items[i].narrow;
            int room = (int)cell - (is_wide ? 3 : 1) - (int)strlen(name);
            n += (size_t)snprintf(line[lines] + n, TOP_WIDTH - n, "%s%*s%s", name, room, items[i].value, is_wide ? "   " : " ");
        }
        while (n != 0 && line[lines][n - 1] == ' ') line[lines][--n] = '\0';
    }
    return lines;
}

/* --- tables ------------------------------------------------------------------------------------------------------------------------------------------ */

const char *top_view_name(enum top_view view) {
    static const char *const names[TOP_VIEWS] = {"caches", "bins", "events"};
    return names[view];
}

static char *add_line(struct top_table *table) {
    if ((table->count & (table->count - 1)) == 0) {
        table->line = need_memory(table->line, table->count == 0 ? 1 : 2 * table->count, sizeof *table->line);
    }
    return table->line[table->count++];
}

void top_table_free(struct top_table *table) {
    free(table->line);
    *table = (struct top_table){0};
}

static void thread_name(char name[WORD], pid_t pid, int32_t thread) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/comm", (int)pid, (int)thread);
    snprintf(name, WORD, "?");
    FILE *file = thread != 0 ? fopen(path, "re") : NULL;
    if (file == NULL) return;
    if (fgets(name, WORD, file) == NULL) name[0] = '\0';
    name[strcspn(name, "\n")] = '\0';
    fclose(file);
}

static uint64_t cached_bytes(const struct heap *heap, size_t cache) {
    uint64_t sum = 0;
    for (size_t i = 0; i < heap->list_count; i++) {
        if (heap->lists[i].kind >= HEAP_MAGAZINE && heap->lists[i].owner == cache) sum += heap->lists[i].bytes;
    }
    return sum;
}

struct row {
    uint64_t bytes;
    size_t index;
};

/* Most bytes first, then as they were. */
static int by_bytes(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

static void add_cache(struct top_table *table, const struct top *top, const struct row *row) {
    const struct heap *heap = &top->picture->heap;
    const struct heap_cache *cache = &heap->caches[row->index];
    char thread[WORD] = "?", name[WORD], arena[WORD] = "-", bytes[WORD] = "?", limits[WORD], budget[WORD];
    if (cache->thread != 0) snprintf(thread, sizeof thread, "%d", cache->thread);
    if (cache->arena >= 0) snprintf(arena, sizeof arena, "%u", heap->arenas[cache->arena].id);
    if (!heap->is_live) size_word(bytes, row->bytes);
    thread_name(name, top->pid, cache->thread);
    snprintf(add_line(table), TOP_WIDTH, "%8s %-15s %6s %7zu %7s %7s %7s %s", thread, name, arena, cache->blocks, bytes,
             size_word(limits, cache->reserved), size_word(budget, heap_cache_room(cache)),
             cache->is_torn ? "torn" : heap_cache_state(heap, cache));
}

static void table_caches(struct top_table *table, const struct top *top) {
    const struct heap *heap = &top->picture->heap;
    struct row *rows = need_memory(NULL, heap->cache_count, sizeof *rows);
    size_t count = 0;
    for (size_t i = 0; i < heap->cache_count; i++) {
        if (heap->caches[i].state != heap->descriptor.cache_free) rows[count++] = (struct row){cached_bytes(heap, i), i};
    }
    qsort(rows, count, sizeof *rows, by_bytes);
    snprintf(add_line(table), TOP_WIDTH, "%8s %-15s %6s %7s %7s %7s %7s %s", "THREAD", "NAME", "ARENA", "BLOCKS", "BYTES", "LIMITS",
             "BUDGET", "STATE");
    for (size_t i = 0; i < count; i++) add_cache(table, top, &rows[i]);
    free(rows);
}

static void table_bins(struct top_table *table, const struct top *top) {
    const struct heap *heap = &top->picture->heap;
    struct row *rows = need_memory(NULL, heap->list_count, sizeof *rows);
    struct bins_words words;
    size_t count = 0;
    for (size_t i = 0; i < heap->list_count; i++) {
        if (heap->lists[i].kind <= HEAP_INBOX) rows[count++] = (struct row){heap->lists[i].bytes, i};
    }
    qsort(rows, count, sizeof *rows, by_bytes);
    snprintf(add_line(table), TOP_WIDTH, "%6s %-12s %20s %8s %7s", "ARENA", "LIST", "CHUNK SIZES", "CHUNKS", "BYTES");
    for (size_t i = 0; i < count; i++) {
        const struct heap_list *list = &heap->lists[rows[i].index];
        char bytes[WORD];
        if (!bins_words(heap, list, &words)) continue;
        snprintf(add_line(table), TOP_WIDTH, "%6u %-12s %20s %8zu %7s", heap->arenas[list->owner].id, words.name, words.sizes, list->count,
                 size_word(bytes, list->bytes));
    }
    free(rows);
}

static void table_events(struct top_table *table, const struct top *top) {
    const struct heap *heap = &top->counters->heap;
    snprintf(add_line(table), TOP_WIDTH, "%12s %-15s %18s %8s", "SECONDS AGO", "CALL", "ADDRESS", "BYTES");
    for (size_t i = heap->event_count; i-- > 0;) {
        const struct heap_event *event = &heap->events[i];
        char bytes[WORD];
        double age = top->now.clock > event->time ? (double)(top->now.clock - event->time) / 1e9 : 0;
        snprintf(add_line(table), TOP_WIDTH, "%12.3f %-15s %#18" PRIx64 " %8s", age, heap_call_name(event->call), event->address,
                 size_word(bytes, event->bytes));
    }
}

void top_table(struct top_table *table, const struct top *top, enum top_view view) {
    static void (*const fill[TOP_VIEWS])(struct top_table * table, const struct top *top) = {table_caches, table_bins, table_events};
    *table = (struct top_table){0};
    fill[view](table, top);
}

/* --- strips ------------------------------------------------------------------------------------------------------------------------------------------ */

/* The arena of a number among those that have memory; NULL: it is that of the mapped blocks. */
static const struct heap_arena *shown_arena(const struct heap *heap, size_t number) {
    for (size_t i = 0; i < heap->arena_count; i++) {
        if (heap->arenas[i].count != 0 && number-- == 0) return &heap->arenas[i];
    }
    return NULL;
}

size_t top_strips(const struct top *top, bool together) {
    const struct heap *heap = &top->picture->heap;
    size_t count = heap->block_count != 0;
    for (size_t i = 0; i < heap->arena_count; i++) count += heap->arenas[i].count != 0;
    return together && count != 0 ? 1 : count;
}

static void put_cell(void *to, const struct strip_cell *cell) {
    struct top_strip *strip = to;
    if (strip->count < TOP_CELLS) strip->cell[strip->count++] = *cell;
}

static void label_arena(char *label, const struct heap *heap, const struct heap_arena *arena) {
    char size[WORD], used[WORD], cached[WORD], free_bytes[WORD];
    int n = snprintf(label, TOP_WIDTH, "arena %u %s %s: in use %s", arena->id, outside_arena_kind(arena),
                     size_word(size, arena->system_bytes), size_word(used, outside_in_use(arena)));
    if (!heap->is_live) n += snprintf(label + n, TOP_WIDTH - (size_t)n, ", cached %s", size_word(cached, arena->bytes[SEEMALLOC_CACHED]));
    snprintf(label + n, TOP_WIDTH - (size_t)n, ", free %s, %u thread%s%s", size_word(free_bytes, outside_free(arena)), arena->threads,
             arena->threads == 1 ? "" : "s", arena->is_torn ? ", torn" : "");
}

/* Each cell is as many bytes as fit all into `cells` of them, in multiples of what chunks are aligned to. */
static uint64_t cell_size(uint64_t bytes, size_t cells) {
    uint64_t size = (bytes + cells - 1) / cells;
    return size < 16 ? 16 : (size + 15) / 16 * 16;
}

void top_strip(struct top_strip *strip, const struct top *top, bool together, size_t number, size_t cells) {
    const struct heap *heap = &top->picture->heap;
    const struct heap_arena *arena = together ? NULL : shown_arena(heap, number);
    bool has_blocks = arena == NULL;
    size_t first = arena != NULL ? arena->first : 0, count = arena != NULL ? arena->count : together ? heap->region_count : 0;
    uint64_t bytes = has_blocks ? top->sums.mapped : 0;
    char size[WORD];
    for (size_t i = first; i < first + count; i++) bytes += heap->regions[i].end - heap->regions[i].start;
    strip->count = 0;
    struct strip drawn = {.cell_bytes = cell_size(bytes, cells),
                          .page_size = top->picture->page_size,
                          .pages_known = heap->pages_known,
                          .put = put_cell,
                          .to = strip};
    for (size_t i = first; i < first + count; i++) strip_region(&drawn, heap, &heap->regions[i]);
    for (size_t i = 0; has_blocks && i < heap->block_count; i++) strip_block(&drawn, &heap->blocks[i]);
    strip_end(&drawn);
    if (arena != NULL) {
        label_arena(strip->label, heap, arena);
    } else if (together) {
        snprintf(strip->label, TOP_WIDTH, "all arenas and mapped blocks: %s", size_word(size, bytes));
    } else {
        snprintf(strip->label, TOP_WIDTH, "%zu mapped block%s: %s", heap->block_count, heap->block_count == 1 ? "" : "s",
                 size_word(size, bytes));
    }
}
