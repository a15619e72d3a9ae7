/* mapped.c: see mapped.h. The table is a chain of hash segments, each four times as big as the one before; a record may stand in PROBES
 * places of each segment. Segments are never freed. SPDX-License-Identifier: MIT */
#include "heap/mapped.h"

#include "conf/conf.h"
#include "heap/huge.h"
#include "heap/retain.h"
#include "os/os.h"
#include "os/report.h"

#define PROBES 8

static APART struct mapped_record first_segment[MAPPED_FIRST];
struct mapped_record *mapped_segments[MAPPED_SEGMENTS] = {first_segment};
size_t mapped_count, mapped_bytes, mapped_count_peak, mapped_bytes_peak;

/* For a block that mremap has moved when there is no memory for another segment. */
APART struct mapped_record mapped_overflow[MAPPED_OVERFLOW];
static bool overflow_used; /* was ever: lookups skip it until then */

static size_t segment_records(size_t i) { return (size_t)MAPPED_FIRST << MAPPED_GROWTH * i; }

static struct mapped_record *probe(size_t i, struct mapped_record *segment, uintptr_t chunk, size_t try) {
    size_t hash = (size_t)((chunk >> 12) * 0x9e3779b97f4a7c15u >> 20);
    return &segment[(hash + try) & (segment_records(i) - 1)];
}

static struct mapped_record *segment_new(size_t i) {
    size_t bytes = segment_records(i) * sizeof(struct mapped_record);
    struct mapped_record *fresh = os_map_guarded(bytes), *expected = NULL;
    if (fresh == NULL) return NULL;
    if (cas_acq_rel(&mapped_segments[i], &expected, fresh)) return fresh;
    os_unmap_guarded(fresh, bytes); /* another thread was faster */
    return expected;
}

/* A slot for a chunk that will be at `chunk`, claimed. NULL if there is no memory for a segment. */
static struct mapped_record *record_claim(uintptr_t chunk) {
    for (size_t i = 0; i < MAPPED_SEGMENTS; i++) {
        struct mapped_record *segment = load_acquire(&mapped_segments[i]);
        if (segment == NULL) segment = segment_new(i);
        if (segment == NULL) return NULL;
        for (size_t try = 0; try < PROBES; try++) {
            struct mapped_record *record = probe(i, segment, chunk, try);
            uintptr_t empty = 0;
            if (cas_acq_rel(&record->chunk, &empty, MAPPED_CLAIMED)) return record;
        }
    }
    return NULL;
}

static void record_drop(struct mapped_record *record) { store_release(&record->chunk, 0); }

static struct mapped_record *overflow_claim(void) {
    for (size_t i = 0; i < MAPPED_OVERFLOW; i++) {
        uintptr_t empty = 0;
        if (cas_acq_rel(&mapped_overflow[i].chunk, &empty, MAPPED_CLAIMED)) return &mapped_overflow[i];
    }
    return NULL;
}

static struct mapped_record *record_find(uintptr_t chunk) {
    if (chunk <= MAPPED_CLAIMED) return NULL;
    for (size_t i = 0; UNLIKELY(load_relaxed(&overflow_used)) && i < MAPPED_OVERFLOW; i++) {
        if (load_acquire(&mapped_overflow[i].chunk) == chunk) return &mapped_overflow[i];
    }
    for (size_t i = 0; i < MAPPED_SEGMENTS; i++) {
        struct mapped_record *segment = load_acquire(&mapped_segments[i]);
        if (segment == NULL) return NULL;
        for (size_t try = 0; try < PROBES; try++) {
            struct mapped_record *record = probe(i, segment, chunk, try);
            if (load_acquire(&record->chunk) == chunk) return record;
        }
    }
    return NULL;
}

/* Fills in a claimed record and the header, and shows them. */
static void *record_publish(struct mapped_record *record, uintptr_t start, size_t lead, size_t length) {
    struct chunk *chunk = chunk_at((void *)start, lead);
    chunk->prev_size = lead;
    chunk_set(chunk, length - lead, FLAG_M, TAG_MAPPED);
    store_relaxed(&record->lead, lead);
    store_relaxed(&record->length, length);
    store_release(&record->chunk, (uintptr_t)chunk);
    return chunk_mem(chunk);
}

static char *map_new(size_t length) {
    if (!os_take(length)) return NULL;
    char *start = os_map(NULL, length, true, SEEMALLOC_CALL_MMAP_BLOCK);
    if (start == NULL) {
        os_give(length);
    } else {
        huge_advise(start, length);
        os_name(start, length, OS_NAME_BLOCK);
    }
    return start;
}

void *mapped_alloc(size_t size, size_t align, bool *zeroed) {
    size_t page = os_page_size(), length;
    if (add_relaxed(&mapped_count, 1) >= conf_get(CONF_MMAP_MAX)) goto refused;
    size_t slack = align > CHUNK_ALIGN ? align : 0;
    if (__builtin_add_overflow(size, slack + CHUNK_OVERHEAD + page - 1, &length) || length > PTRDIFF_MAX) goto refused;
    length = align_down(length, page);
    char *start = slack == 0 ? retain_take(&length) : NULL;
    *zeroed = start == NULL;
    if (start == NULL) {
        start = map_new(length);
        if (start == NULL && retain_release()) start = map_new(length);
        if (start == NULL) goto refused;
        retain_note_new(length);
    }
    size_t lead = align_up((size_t)start + CHUNK_HEADER, max_size(align, CHUNK_ALIGN)) - (size_t)start - CHUNK_HEADER;
    if (slack != 0) { /* whole pages that alignment made superfluous, before and behind */
        size_t before = align_down(lead, page);
        size_t used = align_up(lead + size + CHUNK_OVERHEAD, page);
        if (before != 0 && os_unmap(start, before, SEEMALLOC_CALL_MUNMAP_META)) {
            os_give(before);
            start += before;
            lead -= before;
            length -= before;
            used -= before;
        }
        if (used < length && os_unmap(start + used, length - used, SEEMALLOC_CALL_MUNMAP_META)) {
            os_give(length - used);
            length = used;
        }
    }
    struct mapped_record *record = record_claim((uintptr_t)start + lead);
    if (record == NULL) {
        mapping_drop(start, length);
        goto refused;
    }
    atomic_max(&mapped_bytes_peak, add_relaxed(&mapped_bytes, length) + length);
    atomic_max(&mapped_count_peak, load_relaxed(&mapped_count));
    footprint_note();
    return record_publish(record, (uintptr_t)start, lead, length);
refused:
    sub_relaxed(&mapped_count, 1);
    return NULL;
}

/* Takes the record of a block out of sight, so that this thread alone has it. */
static struct mapped_record *record_take(void *mem, const char *line) {
    uintptr_t chunk = (uintptr_t)chunk_of(mem), expected = chunk;
    struct mapped_record *record = record_find(chunk);
    if (record == NULL || !cas_acq_rel(&record->chunk, &expected, MAPPED_CLAIMED)) {
        fatal(line,
              "pointer %p: its header says that it is a mapped block, but no such block is recorded; it was freed already, or the header "
              "was forged",
              mem);
    }
    return record;
}

void mapped_free(void *mem, const char *line) {
    struct mapped_record *record = record_take(mem, line);
    size_t lead = load_relaxed(&record->lead), length = load_relaxed(&record->length);
    char *start = (char *)chunk_of(mem) - lead;
    chunk_wipe(chunk_of(mem));
    record_drop(record);
    sub_relaxed(&mapped_bytes, length);
    sub_relaxed(&mapped_count, 1);
    retain_free(start, length);
}

void *mapped_realloc(void *mem, size_t size) {
    struct mapped_record *record = record_take(mem, "realloc(): invalid pointer");
    struct chunk *chunk = chunk_of(mem);
    size_t lead = load_relaxed(&record->lead), length = load_relaxed(&record->length), page = os_page_size(), wanted;
    char *start = (char *)chunk - lead;
    if (__builtin_add_overflow(size, lead + CHUNK_OVERHEAD + page - 1, &wanted) || wanted > PTRDIFF_MAX) goto refused;
    wanted = align_down(wanted, page);
    if (wanted == length) goto same;
    struct mapped_record *reserve = overflow_claim();
    if (reserve == NULL) goto refused;
    char *moved = os_remap(start, length, wanted);
    if (moved == NULL && retain_release()) moved = os_remap(start, length, wanted);
    if (moved == NULL) {
        record_drop(reserve);
        goto refused;
    }
    atomic_max(&mapped_bytes_peak, add_relaxed(&mapped_bytes, wanted - length) + wanted - length);
    footprint_note();
    length = wanted;
    if (moved != start) {
        /* The new place hashes elsewhere. Should no slot be had there, the reserve that was claimed before serves. */
        struct mapped_record *other = record_claim((uintptr_t)moved + lead);
        if (other == NULL) {
            other = reserve;
            reserve = NULL;
            store_relaxed(&overflow_used, true);
        }
        record_drop(record);
        record = other;
        start = moved;
    }
    if (reserve != NULL) record_drop(reserve);
same:
    return record_publish(record, (uintptr_t)start, lead, length);
refused:
    store_release(&record->chunk, (uintptr_t)chunk);
    return NULL;
}

bool mapped_owns(const void *mem) { return record_find((uintptr_t)chunk_of(mem)) != NULL; }

int mapped_walk(int (*visit)(const struct mapped_record *record, void *arg), void *arg) {
    for (size_t i = 0; i <= MAPPED_SEGMENTS; i++) {
        struct mapped_record *segment = i < MAPPED_SEGMENTS ? load_acquire(&mapped_segments[i]) : mapped_overflow;
        size_t records = i < MAPPED_SEGMENTS ? segment_records(i) : MAPPED_OVERFLOW;
        for (size_t at = 0; segment != NULL && at < records; at++) {
            if (load_acquire(&segment[at].chunk) <= MAPPED_CLAIMED) continue;
            int result = visit(&segment[at], arg);
            if (result != 0) return result;
        }
    }
    return 0;
}

void mapped_walk_books(void (*visit)(const void *start, size_t size, void *arg), void *arg) {
    for (size_t i = 1; i < MAPPED_SEGMENTS; i++) {
        const struct mapped_record *segment = load_acquire(&mapped_segments[i]);
        if (segment != NULL) visit(segment, segment_records(i) * sizeof *segment, arg);
    }
}
