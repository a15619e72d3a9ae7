/* ledger.c: see ledger.h. SPDX-License-Identifier: MIT */
#include "reader/ledger.h"

#include <stdlib.h>
#include <string.h>

const char *ledger_other_name(enum ledger_other other) {
    static const char *const names[LEDGER_OTHERS] = {"stacks", "files", "shared memory", "break, not ours", "other anonymous", "kernel"};
    return other < LEDGER_OTHERS ? names[other] : "unknown";
}

/* --- what is not ours ------------------------------------------------------------------------------------------------------------------------- */

static bool starts(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }

static bool holds_stack(const struct live *live, const struct source_mapping *mapping) {
    for (size_t i = 0; i < live->thread_count; i++) {
        if (live->threads[i].stack_pointer >= mapping->start && live->threads[i].stack_pointer < mapping->end) return true;
    }
    return false;
}

/* A library's zeroed data lies behind what its file has, without a name. */
static bool is_files_data(const struct source_mapping *mapping, const struct source_mapping *before) {
    return before != NULL && mapping->name[0] == '\0' && before->inode != 0 && before->end == mapping->start && before->access[1] == 'w' &&
           before->access[3] == 'p' && mapping->access[1] == 'w';
}

static enum ledger_other kind_of(const struct live *live, const struct source_mapping *mapping, const struct source_mapping *before) {
    const char *name = mapping->name;
    if (strcmp(name, "[heap]") == 0) return LEDGER_BREAK;
    if (strcmp(name, "[stack]") == 0 || holds_stack(live, mapping)) return LEDGER_STACKS;
    if (starts(name, "[v")) return LEDGER_KERNEL; /* vdso, vvar, vsyscall */
    bool shared = starts(name, "/dev/shm/") || starts(name, "/memfd:") || starts(name, "/SYSV") || starts(name, "/dev/zero") ||
                  starts(name, "[anon_shmem");
    if (shared) return LEDGER_SHARED;
    if (mapping->inode != 0 || is_files_data(mapping, before)) return LEDGER_FILES;
    return mapping->access[3] == 's' ? LEDGER_SHARED : LEDGER_ANONYMOUS;
}

/* --- what is ours ------------------------------------------------------------------------------------------------------------------------------ */

static int by_start(const void *a, const void *b) {
    const struct heap_range *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

struct heap_range *ledger_list_ours(const struct heap *heap, size_t *count) {
    struct heap_range *ours = need_memory(NULL, heap->region_count + heap->block_count + heap->range_count, sizeof *ours);
    size_t n = 0, kept = 0;
    for (size_t i = 0; i < heap->region_count; i++)
        ours[n++] = (struct heap_range){heap->regions[i].start, heap->regions[i].end, HEAP_METADATA};
    for (size_t i = 0; i < heap->block_count; i++) {
        ours[n++] = (struct heap_range){heap->blocks[i].start, heap->blocks[i].start + heap->blocks[i].length, HEAP_METADATA};
    }
    for (size_t i = 0; i < heap->range_count; i++) ours[n++] = heap->ranges[i];
    qsort(ours, n, sizeof *ours, by_start);
    for (size_t i = 0; i < n; i++) { /* of a sound heap none overlaps */
        if (kept != 0 && ours[i].start < ours[kept - 1].end) ours[i].start = ours[kept - 1].end;
        if (ours[i].start < ours[i].end) ours[kept++] = ours[i];
    }
    *count = kept;
    return ours;
}

/* A mapping that holds ours: what of it is resident, by the page table, and not ours. *next: the first of ours that may lie in it. */
static uint64_t count_foreign(struct ledger *ledger, struct source *source, const struct source_mapping *mapping,
                              const struct heap_range *ours, size_t count, size_t next) {
    bool known;
    uint8_t *page = source_pages(source, mapping->start, mapping->end, &known);
    ledger->pages_known &= known;
    uint64_t all = heap_resident(page, mapping->start, source->page_size, mapping->start, mapping->end), mine = 0;
    for (; next < count && ours[next].start < mapping->end; next++) {
        uint64_t start = ours[next].start > mapping->start ? ours[next].start : mapping->start;
        uint64_t end = ours[next].end < mapping->end ? ours[next].end : mapping->end, here;
        here = heap_resident(page, mapping->start, source->page_size, start, end);
        if (ours[next].kind == HEAP_RETAINED) ledger->retained += here;
        mine += here;
    }
    free(page);
    ledger->ours += mine;
    return all - mine;
}

bool ledger_read(struct ledger *ledger, struct process *process, struct fault *fault) {
    struct source_mappings mappings;
    struct heap *heap = &process->heap;
    if (process->kind == PROCESS_SNAPSHOT) {
        *ledger = *process->ledger;
        return true;
    }
    *ledger = (struct ledger){.pages_known = heap->pages_known};
    if (process->kind == PROCESS_CORE) return true;
    if (!live_mappings(&process->live, &mappings, true, fault)) return false;
    ledger->rss_known = live_rss(&process->live, &ledger->rss, NULL);
    ledger->faults_known = live_faults(&process->live, &ledger->minor_faults, &ledger->major_faults);
    size_t count, next = 0;
    struct heap_range *ours = ledger_list_ours(heap, &count);
    for (size_t i = 0; i < mappings.count; i++) {
        const struct source_mapping *mapping = &mappings.entry[i];
        while (next < count && ours[next].end <= mapping->start) next++;
        bool holds_ours = next < count && ours[next].start < mapping->end;
        if (mapping->rss == 0) continue;
        uint64_t foreign =
            holds_ours && ledger->pages_known ? count_foreign(ledger, &process->live.source, mapping, ours, count, next) : mapping->rss;
        ledger->other[kind_of(&process->live, mapping, i != 0 ? &mappings.entry[i - 1] : NULL)] += foreign;
    }
    free(ours);
    source_mappings_free(&mappings);
    return true;
}

void ledger_sum(struct ledger *ledger, const struct process *process) {
    const struct heap *heap = &process->heap;
    uint64_t page_size = process->page_size, chunks = 0;
    size_t span = 0;
    if (!ledger->pages_known || process->kind == PROCESS_SNAPSHOT) return;
    for (size_t i = 0; i < heap->chunk_count; i++) {
        const struct heap_chunk *chunk = &heap->chunks[i];
        const struct heap_region *region = &heap->regions[chunk->region];
        uint64_t end = chunk->address + chunk->size, slack = 0;
        uint64_t here = heap_resident(region->page, region->start, page_size, chunk->address, end);
        if (span < heap->span_count && heap->spans[span].start >= chunk->address && heap->spans[span].end <= end) {
            uint64_t from = (heap->spans[span].start + page_size - 1) / page_size * page_size,
                     to = heap->spans[span].end / page_size * page_size;
            if (from < to) slack = heap_resident(region->page, region->start, page_size, from, to);
            span++;
        }
        ledger->state[chunk->state] += here - slack;
        ledger->slack += slack;
        chunks += here;
    }
    for (size_t i = 0; i < heap->block_count; i++) {
        ledger->state[SEEMALLOC_MAPPED] += heap->blocks[i].resident;
        chunks += heap->blocks[i].resident;
    }
    ledger->metadata = ledger->ours - chunks - ledger->retained;
}
