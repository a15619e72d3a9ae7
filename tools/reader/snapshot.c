/* snapshot.c: see snapshot.h. The tables below are the format; what follows from them (addresses of chunks, sums) is computed, not stored.
 * SPDX-License-Identifier: MIT */
#include "reader/snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "reader/find.h"
#include "reader/ledger.h"
#include "reader/pack.h"

#define RATIO_MOST 1040 /* zlib compresses to no less than 1/1032 */
#define PAGES_MOST (UINT64_C(1) << 30)

struct file_head {
    char magic[8];
    uint32_t version, zero;
    uint64_t packed, size; /* bytes that follow, and what they become */
    uint32_t check;        /* crc32 of the bytes that follow */
    uint32_t head_check;   /* crc32 of all above */
};

/* What is one of a kind: of struct process, struct heap and struct ledger. */
struct facts {
    char command[64], library[1024], fault[512];
    uint64_t pid, page_size, tries, frozen, clock, real_time;
    bool pages_known, is_live, is_torn;
    uint64_t failures, metadata_bytes, heap_peak, in_use_peak;
    bool ledger_pages, rss_known, faults_known;
    uint64_t slack, retained, metadata, ours, rss, minor_faults, major_faults;
};

struct run { /* pages that are alike, over all regions in their order */
    uint64_t length;
    uint8_t page;
};

struct mapping {
    uint64_t start, end, offset, inode;
    char access[5], name[256];
};

#define TABLE(table, type, ...)                                                                                                            \
    static const struct pack_column table##_columns[] = {__VA_ARGS__};                                                                     \
    static const struct pack_table table##_table = {#table, sizeof(type), table##_columns, sizeof table##_columns / sizeof *table##_columns}

#define N(member) PACK_COLUMN(ROW, member, PACK_NUMBER)
#define B(member) PACK_COLUMN(ROW, member, PACK_FLAG)
#define I(member) PACK_COLUMN(ROW, member, PACK_SIGNED)
#define S(member) PACK_COLUMN(ROW, member, PACK_STEP)
#define T(member) PACK_COLUMN(ROW, member, PACK_TEXT)

#define ROW struct facts
TABLE(facts, struct facts, T(command), T(library), T(fault), N(pid), N(page_size), N(tries), N(frozen), N(clock), N(real_time),
      B(pages_known), B(is_live), B(is_torn), N(failures), N(metadata_bytes), N(heap_peak), N(in_use_peak), B(ledger_pages), B(rss_known),
      B(faults_known), N(slack), N(retained), N(metadata), N(ours), N(rss), N(minor_faults), N(major_faults));
#undef ROW
static const struct pack_column number_columns[] = {{"value", 0, 8, PACK_NUMBER}};
#define NUMBERS(table) static const struct pack_table table##_table = {#table, 8, number_columns, 1}
NUMBERS(descriptor);
NUMBERS(calls);
NUMBERS(ledger_states);
NUMBERS(ledger_others);
#define ROW struct heap_arena
TABLE(arenas, struct heap_arena, S(address), S(top), S(last_remainder), S(purging), N(system_bytes), N(system_peak), N(inbox_bytes), N(id),
      N(threads), B(is_spare), B(is_abandoned), B(is_torn), N(loose),
      {"fault", offsetof(ROW, fault.text), sizeof((struct fault *)0)->text, PACK_TEXT}, N(count));
#undef ROW
#define ROW struct heap_region
TABLE(regions, struct heap_region, S(start), S(end), S(limit), S(clean), S(description), N(arena), N(kind), N(count));
#undef ROW
#define ROW struct heap_chunk
TABLE(chunks, struct heap_chunk, N(size), N(state), N(flags), I(bin));
#undef ROW
#define ROW struct run
TABLE(pages, struct run, N(length), N(page));
#undef ROW
#define ROW struct heap_span
TABLE(spans, struct heap_span, S(start), S(end));
#undef ROW
#define ROW struct heap_list
TABLE(lists, struct heap_list, N(owner), N(number), N(kind), N(count));
#undef ROW
static const struct pack_column listed_columns[] = {{"chunk", 0, 4, PACK_STEP}};
static const struct pack_table listed_table = {"listed", 4, listed_columns, 1};
#define ROW struct heap_cache
TABLE(caches, struct heap_cache, S(address), N(reserved), N(reserved_small), N(budget), N(swing), N(idle), I(held), I(ceiling), S(word),
      I(thread), N(classes), N(state), I(arena), B(is_torn), N(blocks));
#undef ROW
#define ROW struct heap_magazine
TABLE(magazines, struct heap_magazine, N(list), N(blocks), N(limit), I(net));
#undef ROW
#define ROW struct heap_block
TABLE(blocks, struct heap_block, S(start), N(length), N(lead), N(resident));
#undef ROW
#define ROW struct heap_range
TABLE(ranges, struct heap_range, S(start), S(end), N(kind));
#undef ROW
#define ROW struct heap_setting
TABLE(settings, struct heap_setting, T(name), T(unit), N(value), N(standard), N(source));
#undef ROW
#define ROW struct heap_event
TABLE(events, struct heap_event, S(time), S(address), N(bytes), N(call));
#undef ROW
#define ROW struct live_thread
TABLE(threads, struct live_thread, I(tid), S(stack_pointer), S(thread_pointer));
#undef ROW
#define ROW struct mapping
TABLE(mappings, struct mapping, S(start), S(end), N(offset), N(inode), T(access), T(name));
#undef ROW

/* --- writing ------------------------------------------------------------------------------------------------------------------------------------ */

static void pack_facts(struct pack *pack, const struct process *process, const struct ledger *ledger) {
    const struct heap *heap = &process->heap;
    struct facts facts = {.pid = (uint64_t)process->live.pid,
                          .page_size = process->page_size,
                          .tries = process->tries,
                          .frozen = process->frozen,
                          .clock = process->clock,
                          .real_time = process->real_time,
                          .pages_known = heap->pages_known,
                          .is_live = heap->is_live,
                          .is_torn = heap->is_torn,
                          .failures = heap->failures,
                          .metadata_bytes = heap->metadata_bytes,
                          .heap_peak = heap->heap_peak,
                          .in_use_peak = heap->in_use_peak,
                          .ledger_pages = ledger->pages_known,
                          .rss_known = ledger->rss_known,
                          .faults_known = ledger->faults_known,
                          .slack = ledger->slack,
                          .retained = ledger->retained,
                          .metadata = ledger->metadata,
                          .ours = ledger->ours,
                          .rss = ledger->rss,
                          .minor_faults = ledger->minor_faults,
                          .major_faults = ledger->major_faults};
    snprintf(facts.command, sizeof facts.command, "%s", process->live.command);
    snprintf(facts.library, sizeof facts.library, "%.*s", (int)sizeof facts.library - 1, process->library);
    snprintf(facts.fault, sizeof facts.fault, "%s", heap->fault.text);
    pack_table(pack, &facts_table, &facts, 1);
}

static uint64_t pages_of(uint64_t start, uint64_t end, uint64_t page_size) { return (end + page_size - 1) / page_size - start / page_size; }

struct runs {
    struct run *run;
    size_t count, room;
};

static void add_runs(struct runs *runs, const uint8_t *page, uint64_t pages) {
    for (uint64_t k = 0; k < pages; k++) {
        if (runs->count == 0 || runs->run[runs->count - 1].page != page[k]) {
            if (runs->count == runs->room) runs->run = need_memory(runs->run, runs->room = 2 * runs->room + 64, sizeof *runs->run);
            runs->run[runs->count++] = (struct run){.page = page[k]};
        }
        runs->run[runs->count - 1].length++;
    }
}

static void pack_pages(struct pack *pack, const struct heap *heap, uint64_t page_size) {
    struct runs runs = {0};
    for (size_t i = 0; i < heap->region_count; i++) {
        const struct heap_region *region = &heap->regions[i];
        add_runs(&runs, region->page, pages_of(region->start, region->end, page_size));
    }
    for (size_t i = 0; i < heap->block_count; i++) {
        const struct heap_block *block = &heap->blocks[i];
        add_runs(&runs, block->page, pages_of(block->start, block->start + block->length, page_size));
    }
    pack_table(pack, &pages_table, runs.run, runs.count);
    free(runs.run);
}

static void pack_magazines(struct pack *pack, const struct heap *heap) {
    size_t each = heap->descriptor.class_total, count = 0;
    struct heap_magazine *all = need_memory(NULL, heap->cache_count * each, sizeof *all);
    for (size_t i = 0; i < heap->cache_count; i++) {
        if (heap->caches[i].magazines == NULL) continue;
        memcpy(all + count, heap->caches[i].magazines, each * sizeof *all);
        count += each;
    }
    for (size_t i = 0; i < count; i++) all[i].list++; /* none becomes 0 */
    pack_table(pack, &magazines_table, all, count);
    free(all);
}

static void pack_mappings(struct pack *pack, const struct source_mappings *mappings) {
    struct mapping *all = need_memory(NULL, mappings->count, sizeof *all);
    for (size_t i = 0; i < mappings->count; i++) {
        const struct source_mapping *from = &mappings->entry[i];
        all[i] = (struct mapping){.start = from->start, .end = from->end, .offset = from->offset, .inode = from->inode};
        memcpy(all[i].access, from->access, sizeof all[i].access);
        snprintf(all[i].name, sizeof all[i].name, "%.*s", (int)sizeof all[i].name - 1, from->name);
    }
    pack_table(pack, &mappings_table, all, mappings->count);
    free(all);
}

bool snapshot_pack(struct snapshot_bytes *bytes, const struct process *process, const struct ledger *ledger, struct fault *fault) {
    const struct heap *heap = &process->heap;
    struct pack pack = {0};
    pack_table(&pack, &descriptor_table, &heap->descriptor, sizeof heap->descriptor / 8);
    pack_facts(&pack, process, ledger);
    pack_table(&pack, &calls_table, heap->calls, SEEMALLOC_CALL_COUNT);
    pack_table(&pack, &ledger_states_table, ledger->state, HEAP_STATES);
    pack_table(&pack, &ledger_others_table, ledger->other, LEDGER_OTHERS);
    pack_table(&pack, &arenas_table, heap->arenas, heap->arena_count);
    pack_table(&pack, &regions_table, heap->regions, heap->region_count);
    pack_table(&pack, &chunks_table, heap->chunks, heap->chunk_count);
    pack_table(&pack, &blocks_table, heap->blocks, heap->block_count);
    pack_pages(&pack, heap, process->page_size);
    pack_table(&pack, &spans_table, heap->spans, heap->span_count);
    pack_table(&pack, &caches_table, heap->caches, heap->cache_count);
    pack_table(&pack, &lists_table, heap->lists, heap->list_count);
    pack_table(&pack, &listed_table, heap->listed, heap->listed_count);
    pack_magazines(&pack, heap);
    pack_table(&pack, &ranges_table, heap->ranges, heap->range_count);
    pack_table(&pack, &settings_table, heap->settings, heap->setting_count);
    pack_table(&pack, &events_table, heap->events, heap->event_count);
    pack_table(&pack, &threads_table, process->live.threads, process->live.thread_count);
    pack_mappings(&pack, &process->source->mappings);
    struct file_head head = {.version = SNAPSHOT_VERSION, .size = pack.size};
    memcpy(head.magic, SNAPSHOT_MAGIC, sizeof head.magic);
    uLongf packed = compressBound(pack.size);
    bytes->data = need_memory(NULL, sizeof head + packed, 1);
    bool good = compress2(bytes->data + sizeof head, &packed, pack.data, pack.size, 6) == Z_OK;
    free(pack.data);
    if (!good) {
        free(bytes->data);
        *bytes = (struct snapshot_bytes){0};
        return fault_note(fault, "zlib can't compress the snapshot");
    }
    head.packed = packed;
    head.check = (uint32_t)crc32_z(0, bytes->data + sizeof head, packed);
    head.head_check = (uint32_t)crc32_z(0, (const uint8_t *)&head, offsetof(struct file_head, head_check));
    memcpy(bytes->data, &head, sizeof head);
    bytes->size = sizeof head + packed;
    return true;
}

/* --- reading: the tables ---------------------------------------------------------------------------------------------------------------------------- */

static bool wrong(struct fault *fault, const char *what) { return fault_note(fault, "the snapshot is damaged: %s", what); }

#define UNPACK(table, array, count) unpack_table(in, &table##_table, (void **)&(array), &(count), fault)

/* A table of so many numbers at least; more are passed over. */
static bool unpack_numbers(struct unpack *in, const struct pack_table *table, void *to, size_t count, size_t least, struct fault *fault) {
    uint64_t *values;
    size_t have;
    if (!unpack_table(in, table, (void **)&values, &have, fault)) return false;
    if (have >= least) memcpy(to, values, (have < count ? have : count) * sizeof *values);
    free(values);
    return have >= least || wrong(fault, "a table of numbers is too short");
}

static bool unpack_facts(struct unpack *in, struct process *process, struct fault *fault) {
    struct heap *heap = &process->heap;
    struct ledger *ledger = process->ledger;
    struct facts *facts;
    size_t count;
    if (!UNPACK(facts, facts, count)) return false;
    bool good = count == 1 && facts->page_size >= 1024 && facts->page_size <= 1 << 20 && (facts->page_size & (facts->page_size - 1)) == 0 &&
                facts->pid <= INT32_MAX && facts->tries <= UINT32_MAX;
    if (good) {
        process->live.pid = (pid_t)facts->pid;
        process->page_size = facts->page_size;
        process->tries = (unsigned)facts->tries;
        process->frozen = facts->frozen;
        process->clock = facts->clock;
        process->real_time = facts->real_time;
        heap->pages_known = facts->pages_known;
        heap->is_live = facts->is_live;
        heap->is_torn = facts->is_torn;
        heap->failures = facts->failures;
        heap->metadata_bytes = facts->metadata_bytes;
        heap->heap_peak = facts->heap_peak;
        heap->in_use_peak = facts->in_use_peak;
        ledger->pages_known = facts->ledger_pages;
        ledger->rss_known = facts->rss_known;
        ledger->faults_known = facts->faults_known;
        ledger->slack = facts->slack;
        ledger->retained = facts->retained;
        ledger->metadata = facts->metadata;
        ledger->ours = facts->ours;
        ledger->rss = facts->rss;
        ledger->minor_faults = facts->minor_faults;
        ledger->major_faults = facts->major_faults;
        memcpy(process->live.command, facts->command, sizeof process->live.command);
        memcpy(process->library, facts->library, sizeof facts->library);
        memcpy(heap->fault.text, facts->fault, sizeof heap->fault.text);
    }
    free(facts);
    heap->library = process->library;
    process->live.source.page_size = process->page_size;
    return good || wrong(fault, "its facts make no sense");
}

/* The next `pages` pages of the runs, which are used up; they are known to suffice. */
static uint8_t *take_pages(struct run **run, uint64_t pages) {
    uint8_t *page = need_memory(NULL, pages, 1);
    for (uint64_t k = 0; k < pages;) {
        uint64_t here = (*run)->length < pages - k ? (*run)->length : pages - k;
        memset(page + k, (*run)->page, here);
        (*run)->length -= here;
        k += here;
        if ((*run)->length == 0) ++*run;
    }
    return page;
}

static bool add_pages(uint64_t *total, uint64_t pages) {
    *total = pages > PAGES_MOST ? pages : *total + pages;
    return *total <= PAGES_MOST;
}

static bool unpack_pages(struct unpack *in, struct heap *heap, uint64_t page_size, struct fault *fault) {
    struct run *runs;
    size_t count;
    uint64_t total = 0, told = 0;
    if (!UNPACK(pages, runs, count)) return false;
    bool good = true;
    for (size_t i = 0; i < heap->region_count && good; i++) {
        good = add_pages(&total, pages_of(heap->regions[i].start, heap->regions[i].end, page_size));
    }
    for (size_t i = 0; i < heap->block_count && good; i++) {
        good = add_pages(&total, pages_of(heap->blocks[i].start, heap->blocks[i].start + heap->blocks[i].length, page_size));
    }
    for (size_t i = 0; i < count && good; i++) {
        good = runs[i].length <= total - told && runs[i].page <= PAGE_SWAPPED;
        told += runs[i].length;
    }
    good = good && told == total;
    struct run *run = runs;
    for (size_t i = 0; i < heap->region_count && good; i++) {
        heap->regions[i].page = take_pages(&run, pages_of(heap->regions[i].start, heap->regions[i].end, page_size));
    }
    for (size_t i = 0; i < heap->block_count && good; i++) {
        struct heap_block *block = &heap->blocks[i];
        block->page = take_pages(&run, pages_of(block->start, block->start + block->length, page_size));
    }
    free(runs);
    return good || wrong(fault, "its pages are not those of its regions and blocks");
}

static bool unpack_magazines(struct unpack *in, struct heap *heap, struct fault *fault) {
    struct heap_magazine *all;
    size_t count, next = 0, each = heap->descriptor.class_total;
    if (!UNPACK(magazines, all, count)) return false;
    bool good = true;
    for (size_t i = 0; i < heap->cache_count && good; i++) {
        struct heap_cache *cache = &heap->caches[i];
        if (cache->state == heap->descriptor.cache_free) continue;
        good = count - next >= each;
        if (!good) break;
        cache->magazines = need_memory(NULL, each, sizeof *cache->magazines);
        memcpy(cache->magazines, all + next, each * sizeof *all);
        next += each;
        for (size_t k = 0; k < each; k++) {
            good &= cache->magazines[k].list <= heap->list_count;
            cache->magazines[k].list--;
        }
    }
    free(all);
    return (good && next == count) || wrong(fault, "its magazines are not those of its caches");
}

static bool unpack_mappings(struct unpack *in, struct source_mappings *mappings, struct fault *fault) {
    struct mapping *all;
    size_t count, size = sizeof all->name;
    if (!UNPACK(mappings, all, count)) return false;
    mappings->entry = need_memory(NULL, count, sizeof *mappings->entry);
    mappings->names = need_memory(NULL, count, size);
    bool good = true;
    for (size_t i = 0; i < count; i++) {
        good &= all[i].start < all[i].end && (i == 0 || all[i].start >= all[i - 1].end);
        char *name = mappings->names + i * size;
        memcpy(name, all[i].name, size);
        mappings->entry[i] =
            (struct source_mapping){.start = all[i].start, .end = all[i].end, .offset = all[i].offset, .inode = all[i].inode, .name = name};
        memcpy(mappings->entry[i].access, all[i].access, sizeof all[i].access);
    }
    mappings->count = count;
    free(all);
    return good || wrong(fault, "a mapping makes no sense");
}

/* --- reading: what must fit together ------------------------------------------------------------------------------------------------------------------ */

static bool check_descriptor(const struct seemalloc_descriptor *d, struct fault *fault) {
    if (d->magic != SEEMALLOC_DESCRIPTOR_MAGIC) return wrong(fault, "it has no descriptor");
    if (d->version != SEEMALLOC_DESCRIPTOR_VERSION || d->size < sizeof *d) {
        return fault_note(fault,
                          "the snapshot is of a library with a descriptor of version %" PRIu64 " and %" PRIu64
                          " bytes, this command reads version %d and %zu bytes",
                          d->version, d->size, SEEMALLOC_DESCRIPTOR_VERSION, sizeof *d);
    }
    return descriptor_is_sane(d) || wrong(fault, "the fields of its descriptor make no sense");
}

static bool place_regions(struct heap *heap, struct fault *fault) {
    size_t next = 0;
    for (size_t i = 0; i < heap->arena_count; i++) {
        struct heap_arena *arena = &heap->arenas[i];
        arena->first = next;
        if (arena->count > heap->region_count - next || arena->id >= heap->descriptor.arena_most) {
            return wrong(fault, "its arenas make no sense");
        }
        next += arena->count;
        for (size_t k = arena->first; k < next; k++) {
            const struct heap_region *region = &heap->regions[k];
            if (region->arena != i || region->start >= region->end || region->end > region->limit ||
                region->kind >= SEEMALLOC_REGION_BLOCK || (k != arena->first && region->start < heap->regions[k - 1].end)) {
                return wrong(fault, "its regions make no sense");
            }
        }
    }
    return next == heap->region_count || wrong(fault, "it has regions of no arena");
}

static bool place_chunks(struct heap *heap, struct fault *fault) {
    size_t next = 0;
    for (size_t i = 0; i < heap->region_count; i++) {
        struct heap_region *region = &heap->regions[i];
        uint64_t at = region->start;
        region->first = next;
        if (region->count > heap->chunk_count - next) return wrong(fault, "it has too few chunks");
        for (size_t left = region->count; left != 0; left--, next++) {
            struct heap_chunk *chunk = &heap->chunks[next];
            chunk->address = at;
            chunk->region = (uint32_t)i;
            chunk->list = HEAP_NO_LIST;
            if (chunk->size == 0 || chunk->size > region->end - at || chunk->state >= HEAP_STATES || chunk->state == SEEMALLOC_MAPPED ||
                chunk->flags > 7 || chunk->bin < -1 || chunk->bin >= (int64_t)heap->descriptor.bin_total) {
                return wrong(fault, "a chunk makes no sense");
            }
            at += chunk->size;
        }
        if (at != region->end) return wrong(fault, "the chunks of a region are less than it");
    }
    return next == heap->chunk_count || wrong(fault, "it has chunks of no region");
}

static bool check_list(const struct heap *heap, const struct heap_list *list) {
    const struct seemalloc_descriptor *d = &heap->descriptor;
    bool of_cache = list->kind == HEAP_MAGAZINE || list->kind == HEAP_TRANSIT;
    const uint64_t most[] = {[HEAP_BIN] = d->bin_total, [HEAP_FAST_BIN] = d->fast_bins,   [HEAP_PARKED] = d->depot_slots,
                             [HEAP_INBOX] = 1,          [HEAP_MAGAZINE] = d->class_total, [HEAP_TRANSIT] = 1};
    return (unsigned)list->kind <= HEAP_TRANSIT && list->owner < (of_cache ? heap->cache_count : heap->arena_count) &&
           list->number < most[list->kind];
}

static bool place_lists(struct heap *heap, struct fault *fault) {
    size_t next = 0;
    for (size_t i = 0; i < heap->list_count; i++) {
        struct heap_list *list = &heap->lists[i];
        list->first = next;
        if (!check_list(heap, list) || list->count > heap->listed_count - next) {
            return wrong(fault, "a list makes no sense");
        }
        for (size_t left = list->count; left != 0; left--, next++) {
            uint32_t chunk = heap->listed[next];
            if (chunk >= heap->chunk_count || heap->chunks[chunk].list != HEAP_NO_LIST) return wrong(fault, "a list holds what it can't");
            heap->chunks[chunk].list = (uint32_t)i;
            list->bytes += heap->chunks[chunk].size;
        }
    }
    return next == heap->listed_count || wrong(fault, "chunks are listed in no list");
}

static bool check_blocks(const struct heap *heap, struct fault *fault) {
    for (size_t i = 0; i < heap->block_count; i++) {
        const struct heap_block *block = &heap->blocks[i];
        uint64_t least = i != 0 ? block[-1].start + block[-1].length : 0;
        if (block->start < least || block->lead >= block->length || block->start + block->length < block->start ||
            block->resident > block->length) {
            return wrong(fault, "a mapped block makes no sense");
        }
    }
    return true;
}

static bool check_rest(const struct heap *heap, struct fault *fault) {
    for (size_t i = 0; i < heap->span_count; i++) {
        if (heap->spans[i].start >= heap->spans[i].end) return wrong(fault, "a part without pages makes no sense");
    }
    for (size_t i = 0; i < heap->cache_count; i++) {
        const struct heap_cache *cache = &heap->caches[i];
        if (cache->arena < -1 || cache->arena >= (int64_t)heap->arena_count || cache->classes > heap->descriptor.class_total) {
            return wrong(fault, "a cache makes no sense");
        }
    }
    for (size_t i = 0; i < heap->range_count; i++) {
        if (heap->ranges[i].start >= heap->ranges[i].end || (unsigned)heap->ranges[i].kind > HEAP_METADATA) {
            return wrong(fault, "a range makes no sense");
        }
    }
    for (size_t i = 0; i < heap->setting_count; i++) {
        if (heap->settings[i].source > 4) return wrong(fault, "a setting makes no sense");
    }
    return true;
}

bool snapshot_unpack(struct process *process, const uint8_t *data, size_t size, struct fault *fault) {
    struct unpack bytes = {data, data + size}, *in = &bytes;
    struct heap *heap = &process->heap;
    struct ledger *ledger = process->ledger = need_memory(NULL, 1, sizeof *ledger);
    bool good = unpack_numbers(in, &descriptor_table, &heap->descriptor, sizeof heap->descriptor / 8, 3, fault) &&
                check_descriptor(&heap->descriptor, fault) && unpack_facts(in, process, fault) &&
                unpack_numbers(in, &calls_table, heap->calls, SEEMALLOC_CALL_COUNT, 0, fault) &&
                unpack_numbers(in, &ledger_states_table, ledger->state, HEAP_STATES, HEAP_STATES, fault) &&
                unpack_numbers(in, &ledger_others_table, ledger->other, LEDGER_OTHERS, LEDGER_OTHERS, fault) &&
                UNPACK(arenas, heap->arenas, heap->arena_count) && UNPACK(regions, heap->regions, heap->region_count) &&
                place_regions(heap, fault) && UNPACK(chunks, heap->chunks, heap->chunk_count) && place_chunks(heap, fault) &&
                UNPACK(blocks, heap->blocks, heap->block_count) && check_blocks(heap, fault) &&
                unpack_pages(in, heap, process->page_size, fault) && UNPACK(spans, heap->spans, heap->span_count) &&
                UNPACK(caches, heap->caches, heap->cache_count) && UNPACK(lists, heap->lists, heap->list_count) &&
                UNPACK(listed, heap->listed, heap->listed_count) && place_lists(heap, fault) && unpack_magazines(in, heap, fault) &&
                UNPACK(ranges, heap->ranges, heap->range_count) && UNPACK(settings, heap->settings, heap->setting_count) &&
                UNPACK(events, heap->events, heap->event_count) && UNPACK(threads, process->live.threads, process->live.thread_count) &&
                unpack_mappings(in, &process->live.source.mappings, fault) && check_rest(heap, fault);
    if (good && bytes.at != bytes.end) good = wrong(fault, "something stands behind its last table");
    if (good) heap_sum_up(heap);
    return good;
}

/* --- reading: the file -------------------------------------------------------------------------------------------------------------------------------- */

static bool check_head(const struct file_head *head, uint64_t length, struct fault *fault) {
    if (head->version != SNAPSHOT_VERSION) {
        return fault_note(fault, "it is a snapshot of version %u, this command reads version %d: use the command that wrote it",
                          head->version, SNAPSHOT_VERSION);
    }
    if ((uint32_t)crc32_z(0, (const uint8_t *)head, offsetof(struct file_head, head_check)) != head->head_check) {
        return wrong(fault, "the checksum of its head is wrong");
    }
    if (head->packed != length - sizeof *head) {
        return fault_note(fault, "the snapshot is %s: it has %" PRIu64 " bytes, its head says %" PRIu64,
                          length - sizeof *head < head->packed ? "truncated" : "damaged", length, (uint64_t)sizeof *head + head->packed);
    }
    return head->size / RATIO_MOST <= head->packed || wrong(fault, "its size makes no sense");
}

static bool read_packed(struct process *process, const struct file_head *head, uint8_t *packed, struct fault *fault) {
    if ((uint32_t)crc32_z(0, packed, head->packed) != head->check) return wrong(fault, "its checksum is wrong");
    uint8_t *data = need_memory(NULL, head->size, 1);
    uLongf size = head->size;
    bool good = uncompress(data, &size, packed, head->packed) == Z_OK && size == head->size;
    good = good ? snapshot_unpack(process, data, size, fault) : wrong(fault, "zlib can't read it");
    free(data);
    return good;
}

bool snapshot_read(struct process *process, int fd, struct fault *fault) {
    struct file_head head;
    struct stat status;
    if (fstat(fd, &status) != 0) return fault_note(fault, "can't read the snapshot: %s", strerror(errno));
    uint64_t length = (uint64_t)status.st_size;
    if (length < sizeof head || pread(fd, &head, sizeof head, 0) != (ssize_t)sizeof head) {
        return fault_note(fault, "the snapshot is truncated: it has %" PRIu64 " bytes, its head alone has %zu", length, sizeof head);
    }
    if (!check_head(&head, length, fault)) return false;
    uint8_t *packed = need_memory(NULL, head.packed, 1);
    uint64_t done = 0;
    for (ssize_t n; done < head.packed; done += (uint64_t)n) {
        n = pread(fd, packed + done, head.packed - done, (off_t)(sizeof head + done));
        if (n <= 0) break;
    }
    bool good = done == head.packed ? read_packed(process, &head, packed, fault)
                                    : fault_note(fault, "can't read the snapshot: %s", strerror(errno));
    free(packed);
    return good;
}
