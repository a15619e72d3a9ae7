/* find.c: see find.h. SPDX-License-Identifier: MIT */
#include "reader/find.h"

#include <elf.h>
#include <stdlib.h>
#include <string.h>

#define HEADERS_MOST 128
#define NOTES_MOST (1 << 16)

struct candidates {
    struct source *source;
    struct seemalloc_descriptor best;
    const char *where;
    uint64_t events;
    bool found;
    struct fault other; /* a note was there, but what it leads to can't be used */
};

bool descriptor_is_sane(const struct seemalloc_descriptor *d) {
    const uint64_t big = UINT64_C(1) << 26;
    const uint64_t sizes[] = {d->arena_size,
                              d->cache_size,
                              d->region_size,
                              d->mapped_size,
                              d->retained_size,
                              d->depot_slot_size,
                              d->fast_bin_size,
                              d->bin_size,
                              d->magazine_size,
                              d->os_counters_size,
                              d->conf_row_size,
                              d->chunk_links,
                              d->fast_bins,
                              d->fast_lanes,
                              d->depot_slots,
                              d->depot_ways,
                              d->depot_way_size,
                              d->batch_most,
                              d->bin_total,
                              d->class_total,
                              d->class_exact,
                              d->narrow_most,
                              d->wide_most,
                              d->deep_most,
                              d->arena_most,
                              d->mapped_segment_most,
                              d->mapped_first,
                              d->retained_most,
                              d->mapped_overflow_most,
                              d->conf_total,
                              d->call_total,
                              d->event_most,
                              d->event_size,
                              d->cache_transit_most,
                              d->region_pool,
                              d->chunk_min,
                              d->chunk_fence};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (sizes[i] == 0 || sizes[i] > big) return false;
    }
    return d->chunk_align == 16 && d->chunk_links <= 4096 && d->chunk_head + 8 <= d->chunk_links && d->chunk_fd + 8 <= d->chunk_links &&
           d->chunk_bk + 8 <= d->chunk_links && d->chunk_clean_from + 8 <= d->chunk_links && d->chunk_clean_to + 8 <= d->chunk_links &&
           d->chunk_fence >= 16 && d->mapped_segment_most <= 16 && d->mapped_growth <= 4 && d->bin_last < d->bin_total &&
           d->arena_most <= 1 << 16 && d->batch_most <= 1 << 12 && d->state_total <= 64;
}

static void consider(struct candidates *all, const char *where, uint32_t noted, uint64_t address) {
    struct seemalloc_descriptor d;
    memset(&d, 0, sizeof d);
    if (noted != SEEMALLOC_DESCRIPTOR_VERSION) {
        fault_note(&all->other,
                   "%s has a descriptor of version %u, this command reads version %d: use the command that belongs to the library", where,
                   (unsigned)noted, SEEMALLOC_DESCRIPTOR_VERSION);
        return;
    }
    if (!source_has(all->source, address, address + 3 * sizeof(uint64_t)) ||
        !all->source->read(all->source, address, &d, 3 * sizeof(uint64_t), NULL) || d.magic != SEEMALLOC_DESCRIPTOR_MAGIC) {
        fault_note(&all->other, "%s has a note of seemalloc, but where that leads to there is no descriptor", where);
        return;
    }
    if (d.version != SEEMALLOC_DESCRIPTOR_VERSION || d.size < sizeof d) {
        fault_note(&all->other, "%s has a descriptor of version %llu and %llu bytes, this command reads version %d and %zu bytes", where,
                   (unsigned long long)d.version, (unsigned long long)d.size, SEEMALLOC_DESCRIPTOR_VERSION, sizeof d);
        return;
    }
    uint64_t events = 0;
    if (!source_has(all->source, address, address + sizeof d) || !all->source->read(all->source, address, &d, sizeof d, NULL) ||
        !descriptor_is_sane(&d) || !source_has(all->source, d.os_counters, d.os_counters + d.os_counters_size)) {
        fault_note(&all->other, "%s has a descriptor whose fields make no sense", where);
        return;
    }
    all->source->read(all->source, d.os_counters + d.os_event_count, &events, sizeof events, NULL);
    if (all->found && events <= all->events) return;
    all->best = d;
    all->where = where;
    all->events = events;
    all->found = true;
}

static uint64_t align4(uint64_t n) { return (n + 3) & ~UINT64_C(3); }

static void look_at_notes(struct candidates *all, const char *where, uint64_t address, uint64_t size) {
    if (size > NOTES_MOST || !source_has(all->source, address, address + size)) return;
    uint8_t *notes = need_memory(NULL, size, 1);
    if (!all->source->read(all->source, address, notes, size, NULL)) size = 0;
    for (uint64_t at = 0; at + sizeof(Elf64_Nhdr) <= size;) {
        Elf64_Nhdr head;
        memcpy(&head, notes + at, sizeof head);
        uint64_t name = at + sizeof head, payload = name + align4(head.n_namesz), end = payload + align4(head.n_descsz);
        if (end > size || end <= at) break;
        if (head.n_type == SEEMALLOC_NOTE_TYPE && head.n_namesz == sizeof SEEMALLOC_NOTE_OWNER && head.n_descsz >= 16 &&
            memcmp(notes + name, SEEMALLOC_NOTE_OWNER, sizeof SEEMALLOC_NOTE_OWNER) == 0) {
            uint32_t version;
            int64_t distance;
            memcpy(&version, notes + payload, sizeof version);
            memcpy(&distance, notes + payload + 8, sizeof distance);
            consider(all, where, version, address + payload + 8 + (uint64_t)distance);
        }
        at = end;
    }
    free(notes);
}

static void look_at_file(struct candidates *all, const struct source_mapping *mapping) {
    Elf64_Ehdr file;
    Elf64_Phdr head[HEADERS_MOST];
    uint64_t length = mapping->end - mapping->start;
    if (!all->source->read(all->source, mapping->start, &file, sizeof file, NULL) || memcmp(file.e_ident, ELFMAG, SELFMAG) != 0 ||
        file.e_ident[EI_CLASS] != ELFCLASS64 || file.e_phentsize != sizeof *head || file.e_phnum > HEADERS_MOST || file.e_phoff > length ||
        file.e_phnum * sizeof *head > length - file.e_phoff ||
        !all->source->read(all->source, mapping->start + file.e_phoff, head, file.e_phnum * sizeof *head, NULL)) {
        return;
    }
    unsigned first = 0;
    while (first < file.e_phnum && (head[first].p_type != PT_LOAD || head[first].p_offset != 0)) first++;
    if (first == file.e_phnum) return;
    uint64_t bias = mapping->start - head[first].p_vaddr;
    for (unsigned i = 0; i < file.e_phnum; i++) {
        if (head[i].p_type == PT_NOTE) look_at_notes(all, mapping->name, bias + head[i].p_vaddr, head[i].p_filesz);
    }
}

bool find_descriptor(struct source *source, struct seemalloc_descriptor *descriptor, const char **where, struct fault *fault) {
    struct candidates all = {.source = source};
    for (size_t i = 0; i < source->mappings.count; i++) {
        const struct source_mapping *mapping = &source->mappings.entry[i];
        bool file = mapping->inode != 0 && mapping->offset == 0 && mapping->access[0] == 'r';
        if (file && mapping->end - mapping->start >= sizeof(Elf64_Ehdr)) look_at_file(&all, mapping);
    }
    *descriptor = all.best;
    *where = all.where;
    if (all.found) return true;
    if (all.other.text[0] != '\0') return fault_note(fault, "%s", all.other.text);
    return fault_note(
        fault, "it does not run on seemalloc: none of its %zu mappings has seemalloc's note; start it with `seemalloc run -- PROGRAM`",
        source->mappings.count);
}
