/* leaks.c: see leaks.h. Targets are numbered: chunks by their index, then mapped blocks; a bit for each, and a list of those that are still to be looked
 * through. SPDX-License-Identifier: MIT */
#include "reader/leaks.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "reader/ledger.h"

#define STEP 4096u           /* of a region's table of chunks */
#define WINDOW (1u << 12)    /* of a region, copied at once, */
#define WINDOWS (1u << 14)   /* and so many are kept */
#define PIECE (1u << 16)     /* of a root or mapped block */
#define REGISTERS (1u << 14) /* bytes of a thread's registers */
#define RED_ZONE 128         /* below the stack pointer, in use on x86-64 */

struct place { /* a region or a mapped block */
    uint64_t start, end;
    size_t number;     /* index of the region; of a block its target */
    uint32_t *covered; /* of a region: for each step the chunk that covers its first byte */
};

struct window {
    uint64_t address;
    uint32_t size;
    uint8_t *data;
};

struct search {
    struct process *process;
    const struct heap *heap;
    struct leaks *leaks;
    struct place *places; /* by address */
    size_t place_count, target_count;
    uint8_t *reached, *held;
    size_t *work, work_count;
    struct window *windows;
    bool among_leaks; /* now it is told which leaks lead to others */
    size_t from;      /* from this one */
};

static bool bit(const uint8_t *bits, size_t i) { return bits[i / 8] >> i % 8 & 1; }
static void set_bit(uint8_t *bits, size_t i) { bits[i / 8] |= (uint8_t)(1u << i % 8); }

/* --- from an address to a target ------------------------------------------------------------------------------------------------------------------ */

static int by_start(const void *a, const void *b) {
    const struct place *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

static void cover(const struct heap *heap, struct place *place) {
    const struct heap_region *region = &heap->regions[place->number];
    uint64_t steps = (region->end - region->start) / STEP + 2;
    size_t chunk = region->first, last = region->first + region->count - 1;
    place->covered = need_memory(NULL, steps, sizeof *place->covered);
    for (uint64_t i = 0; i < steps; i++) {
        uint64_t address = region->start + i * STEP;
        while (chunk < last && heap->chunks[chunk].address + heap->chunks[chunk].size <= address) chunk++;
        place->covered[i] = (uint32_t)chunk;
    }
}

static void list_places(struct search *search) {
    const struct heap *heap = search->heap;
    struct place *places = search->places = need_memory(NULL, heap->region_count + heap->block_count, sizeof *places);
    size_t n = 0;
    for (size_t i = 0; i < heap->region_count; i++) {
        const struct heap_region *region = &heap->regions[i];
        if (region->count == 0) continue;
        places[n] = (struct place){.start = region->start, .end = region->end, .number = i};
        cover(heap, &places[n++]);
    }
    for (size_t i = 0; i < heap->block_count; i++) {
        const struct heap_block *block = &heap->blocks[i];
        places[n++] = (struct place){.start = block->start, .end = block->start + block->length, .number = heap->chunk_count + i};
    }
    qsort(places, n, sizeof *places, by_start);
    search->place_count = n;
}

static const struct place *place_of(const struct search *search, uint64_t address) {
    size_t low = 0, high = search->place_count; /* the first that begins behind it */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (search->places[middle].start <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low != 0 && address < search->places[low - 1].end ? &search->places[low - 1] : NULL;
}

/* What the program may use of a target. */
static void contents(const struct search *search, size_t target, uint64_t *start, uint64_t *end) {
    const struct heap *heap = search->heap;
    uint64_t header = heap->descriptor.chunk_header;
    if (target < heap->chunk_count) {
        *start = heap->chunks[target].address + header;
        *end = heap->chunks[target].address + heap->chunks[target].size + 8;
    } else {
        const struct heap_block *block = &heap->blocks[target - heap->chunk_count];
        *start = block->start + block->lead + header;
        *end = block->start + block->length;
    }
}

static bool is_target(const struct search *search, size_t target) {
    return target >= search->heap->chunk_count || search->heap->chunks[target].state == SEEMALLOC_IN_USE;
}

/* The block in use that has this byte; SIZE_MAX: none. A block's last 8 bytes lie in the next chunk. */
static size_t target_of(const struct search *search, uint64_t address) {
    const struct place *place = place_of(search, address);
    uint64_t start, end;
    size_t target;
    if (place == NULL) return SIZE_MAX;
    if (place->covered == NULL) {
        target = place->number;
    } else {
        const struct heap_chunk *chunks = search->heap->chunks;
        uint64_t step = (address - place->start) / STEP;
        size_t low = place->covered[step], high = (size_t)place->covered[step + 1] + 1;
        while (high - low > 1) {
            size_t middle = low + (high - low) / 2;
            if (chunks[middle].address <= address) {
                low = middle;
            } else {
                high = middle;
            }
        }
        target = low;
        bool of_before = address < chunks[low].address + 8 && low > search->heap->regions[place->number].first;
        if (of_before) target = low - 1;
    }
    if (!is_target(search, target)) return SIZE_MAX;
    contents(search, target, &start, &end);
    return address >= start && address < end ? target : SIZE_MAX;
}

/* --- looking through memory ------------------------------------------------------------------------------------------------------------------------- */

static void look_at_word(struct search *search, uint64_t word) {
    if (word < search->places[0].start || word >= search->places[search->place_count - 1].end) return;
    size_t target = target_of(search, word);
    if (target == SIZE_MAX || bit(search->reached, target)) return;
    if (search->among_leaks) {
        if (target != search->from) set_bit(search->held, target);
        return;
    }
    set_bit(search->reached, target);
    search->work[search->work_count++] = target;
}

static void look_at_bytes(struct search *search, const uint8_t *data, size_t size) {
    for (size_t at = 0; at + 8 <= size; at += 8) {
        uint64_t word;
        memcpy(&word, data + at, sizeof word);
        look_at_word(search, word);
    }
}

/* Adds what could not be read to *unread. */
static void look_at_memory(struct search *search, uint64_t start, uint64_t end, uint64_t *unread) {
    static _Alignas(8) uint8_t piece[PIECE];
    for (start = (start + 7) / 8 * 8; start < end;) {
        uint64_t size = end - start < PIECE ? end - start : PIECE;
        if (source_read(search->process->source, start, piece, size, NULL)) {
            look_at_bytes(search, piece, size);
        } else {
            *unread += size;
        }
        start += size;
    }
}

/* Of a region: a window that holds `address`; pages that are not there are zero. NULL: it can't be read. */
static const struct window *window_at(struct search *search, const struct heap_region *region, uint64_t address) {
    uint64_t start = region->start + (address - region->start) / WINDOW * WINDOW, page = search->process->page_size;
    struct window *window = &search->windows[(start - region->start + region->description) / WINDOW % WINDOWS];
    if (window->data != NULL && window->address == start && window->size != 0) return window;
    if (window->data == NULL) window->data = need_memory(NULL, WINDOW, 1);
    window->address = start;
    window->size = region->end - start < WINDOW ? (uint32_t)(region->end - start) : WINDOW;
    for (uint64_t at = start; at < start + window->size;) {
        uint64_t next = (at / page + 1) * page, first = region->start / page;
        bool there = region->page[at / page - first] >= PAGE_PRESENT;
        while (next < start + window->size && (region->page[next / page - first] >= PAGE_PRESENT) == there) next += page;
        if (next > start + window->size) next = start + window->size;
        uint8_t *to = window->data + (at - start);
        if (!there) {
            memset(to, 0, next - at);
        } else if (!search->process->source->read(search->process->source, at, to, next - at, NULL)) {
            window->size = 0;
            return NULL;
        }
        at = next;
    }
    return window;
}

static void look_at_chunk(struct search *search, const struct heap_chunk *chunk, uint64_t start, uint64_t end) {
    const struct heap_region *region = &search->heap->regions[chunk->region];
    if (end > region->end) end = region->end;
    while (start < end) {
        const struct window *window = window_at(search, region, start);
        uint64_t stop = region->start + ((start - region->start) / WINDOW + 1) * WINDOW;
        if (stop > end) stop = end;
        if (window != NULL) look_at_bytes(search, window->data + (start - window->address), stop - start);
        search->leaks->unread += window == NULL ? stop - start : 0;
        start = stop;
    }
}

static void look_at_target(struct search *search, size_t target) {
    uint64_t start, end;
    contents(search, target, &start, &end);
    if (target < search->heap->chunk_count) {
        look_at_chunk(search, &search->heap->chunks[target], start, end);
    } else {
        look_at_memory(search, start, end, &search->leaks->unread);
    }
}

/* --- roots ---------------------------------------------------------------------------------------------------------------------------------------- */

static void look_at_registers(struct search *search) {
    static _Alignas(8) uint8_t data[REGISTERS];
    struct process *process = search->process;
    if (process->kind == PROCESS_CORE) {
        for (size_t i = 0; i < process->core.thread_count; i++) {
            look_at_bytes(search, process->core.threads[i].registers, process->core.threads[i].size);
        }
        return;
    }
    for (size_t i = 0; i < process->live.thread_count; i++) {
        look_at_bytes(search, data, live_registers(&process->live.threads[i], data, sizeof data));
    }
}

static bool starts(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

/* Memory that can hold addresses of blocks: data of modules, stacks, what is anonymous. */
static bool is_root(const struct source_mapping *mapping) {
    bool writable = mapping->access[1] == 'w', shared = mapping->access[3] == 's';
    if (mapping->access[0] != 'r' || mapping->access[2] == 'x' || starts(mapping->name, "[v")) return false;
    bool memory = starts(mapping->name, "/dev/zero") || starts(mapping->name, "/dev/shm/") || starts(mapping->name, "/memfd:") ||
                  starts(mapping->name, "/SYSV") || mapping->inode == 0;
    return shared ? writable && memory : !starts(mapping->name, "/dev/") || memory;
}

/* Where in a mapping the threads' stacks begin: below that nothing is in use. Without a stack in it, its start. */
static uint64_t stack_start(const struct process *process, const struct source_mapping *mapping) {
    uint64_t least = mapping->end;
    for (size_t i = 0; i < process->live.thread_count; i++) {
        uint64_t pointer = process->live.threads[i].stack_pointer;
        if (pointer >= mapping->start && pointer < least) least = pointer;
    }
    if (least == mapping->end) return mapping->start;
    return least - mapping->start > RED_ZONE ? least - RED_ZONE : mapping->start;
}

/* What of [start, end) the source has: of a core what was dumped. */
static uint64_t known_end(const struct process *process, uint64_t start, uint64_t end) {
#ifdef SEEMALLOC_LIBELF
    if (process->kind == PROCESS_CORE) {
        uint64_t known = core_dumped_end(&process->core, start);
        return known < end ? known : end;
    }
#endif
    (void)process, (void)start;
    return end;
}

static void look_at_root(struct search *search, const struct source_mapping *mapping, uint64_t start, uint64_t end) {
    uint64_t known = known_end(search->process, start, end), unread = end - known;
    search->leaks->root_bytes += end - start;
    look_at_memory(search, start, known, &unread);
    if (mapping->access[1] == 'w') search->leaks->unread += unread; /* what nobody wrote to holds no address */
}

static void look_at_roots(struct search *search) {
    struct process *process = search->process;
    size_t count, next = 0;
    struct heap_range *ours = ledger_list_ours(search->heap, &count);
    look_at_registers(search);
    for (size_t i = 0; i < process->source->mappings.count; i++) {
        const struct source_mapping *mapping = &process->source->mappings.entry[i];
        if (!is_root(mapping)) continue;
        uint64_t at = stack_start(process, mapping);
        while (next < count && ours[next].end <= at) next++;
        for (size_t k = next; at < mapping->end; k++) {
            uint64_t end = k < count && ours[k].start < mapping->end ? ours[k].start : mapping->end;
            if (end > at) look_at_root(search, mapping, at, end);
            if (end == mapping->end) break;
            if (ours[k].end > at) at = ours[k].end;
        }
    }
    free(ours);
}

/* --- all ------------------------------------------------------------------------------------------------------------------------------------------ */

static int by_size(const void *a, const void *b) {
    const struct leak *x = a, *y = b;
    if (x->size != y->size) return x->size > y->size ? -1 : 1;
    return x->address < y->address ? -1 : x->address > y->address;
}

static void list_leaks(struct search *search) {
    struct leaks *leaks = search->leaks;
    const struct heap *heap = search->heap;
    for (size_t i = 0; i < search->target_count; i++) leaks->count += is_target(search, i) && !bit(search->reached, i);
    leaks->leak = need_memory(NULL, leaks->count, sizeof *leaks->leak);
    search->among_leaks = true;
    for (search->from = 0; search->from < search->target_count; search->from++) {
        if (is_target(search, search->from) && !bit(search->reached, search->from)) look_at_target(search, search->from);
    }
    size_t n = 0;
    for (size_t i = 0; i < search->target_count; i++) {
        uint64_t start, end;
        if (!is_target(search, i)) continue;
        leaks->blocks++;
        if (bit(search->reached, i)) continue;
        contents(search, i, &start, &end);
        bool mapped = i >= heap->chunk_count;
        leaks->leak[n] = (struct leak){.address = start,
                                       .size = mapped ? heap->blocks[i - heap->chunk_count].length : heap->chunks[i].size,
                                       .arena = mapped ? 0 : heap->regions[heap->chunks[i].region].arena,
                                       .is_mapped = mapped,
                                       .is_held = bit(search->held, i)};
        leaks->bytes += leaks->leak[n++].size;
    }
    if (n != 0) qsort(leaks->leak, n, sizeof *leaks->leak, by_size);
}

bool leaks_find(struct leaks *leaks, struct process *process, struct fault *fault) {
    const struct heap *heap = &process->heap;
    *leaks = (struct leaks){0};
    if (process->kind == PROCESS_SNAPSHOT) {
        return fault_note(fault, "a snapshot has no contents of memory, so nothing leads anywhere in it; give the process or a core file");
    }
    struct search search = {.process = process, .heap = heap, .leaks = leaks, .target_count = heap->chunk_count + heap->block_count};
    list_places(&search);
    if (search.place_count != 0) {
        search.reached = need_memory(NULL, search.target_count / 8 + 1, 1);
        search.held = need_memory(NULL, search.target_count / 8 + 1, 1);
        search.work = need_memory(NULL, search.target_count, sizeof *search.work);
        search.windows = need_memory(NULL, WINDOWS, sizeof *search.windows);
        look_at_roots(&search);
        while (search.work_count != 0) look_at_target(&search, search.work[--search.work_count]);
        list_leaks(&search);
        for (size_t i = 0; i < WINDOWS; i++) free(search.windows[i].data);
    }
    for (size_t i = 0; i < search.place_count; i++) free(search.places[i].covered);
    free(search.places);
    free(search.reached);
    free(search.held);
    free(search.work);
    free(search.windows);
    return true;
}

void leaks_sample(struct leak *leak, struct process *process) {
    leak->has_begin = source_read(process->source, leak->address, leak->begin, sizeof leak->begin, NULL);
}

void leaks_free(struct leaks *leaks) {
    free(leaks->leak);
    *leaks = (struct leaks){0};
}
