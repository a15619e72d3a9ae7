/* ledger.c: where the resident memory is: each resident page of ours by /proc/self/pagemap, byte by byte in the state of its chunk; what is not ours by
 * /proc/self/smaps, by kind. Nothing is allocated: files are read in pieces, and the list of our ranges lies in a mapping of its own.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <string.h>

#include "cache/cache.h"
#include "heap/mapped.h"
#include "heap/retain.h"
#include "inspect/walk.h"
#include "os/os.h"

/* --- what is resident ------------------------------------------------------------------------------------------------------------------------------ */

#define WINDOW 256 /* pages that are asked for at a time */
#define PRESENT ((uint64_t)1 << 63)

struct pagemap {
    int fd;
    bool failed;
    size_t first, count; /* pages in the window */
    uint64_t entry[WINDOW];
};

static bool is_resident(struct pagemap *map, size_t page) {
    if (page - map->first >= map->count) {
        long got = prim_read_at(map->fd, (char *)map->entry, sizeof map->entry, page * sizeof map->entry[0]);
        map->first = page;
        map->count = got > 0 ? (size_t)got / sizeof map->entry[0] : 0;
        if (map->count == 0) {
            map->failed = true;
            return false;
        }
    }
    return (map->entry[page - map->first] & PRESENT) != 0;
}

/* Bytes of [from, to) that lie on resident pages. */
static size_t resident_bytes(struct pagemap *map, uintptr_t from, uintptr_t to) {
    size_t page = os_page_size(), bytes = 0;
    while (from < to) {
        uintptr_t end = align_down(from, page) + page;
        if (end > to) end = to;
        if (is_resident(map, from / page)) bytes += end - from;
        from = end;
    }
    return bytes;
}

/* --- what is ours ---------------------------------------------------------------------------------------------------------------------------------- */

struct ours {
    struct seemalloc_ledger *ledger;
    struct pagemap map;
    struct marks borders; /* of our ranges; which of the two in the place of the state */
    const void *region;   /* start of the one that was added last */
};
enum border { BORDER_START, BORDER_END };

static void add_range(struct ours *ours, const void *start, const void *end) {
    marks_add(&ours->borders, start, (enum seemalloc_state)BORDER_START);
    marks_add(&ours->borders, (const void *)align_up((uintptr_t)end, CHUNK_ALIGN), (enum seemalloc_state)BORDER_END);
}

/* The part of a free chunk that should have no pages. */
static struct span pageless(const struct seemalloc_chunk *seen) {
    struct arena *arena = arena_of_id(seen->arena);
    const struct chunk *chunk = seen->chunk;
    if (seen->state == SEEMALLOC_TOP) {
        char *clean = (char *)align_up((uintptr_t)arena->top_region->clean, os_page_size());
        return (struct span){clean, arena->top_end};
    }
    return arena_clean(arena, chunk, seen->size);
}

static int add_chunk_pages(const struct seemalloc_chunk *seen, void *arg) {
    struct ours *ours = arg;
    uintptr_t from = (uintptr_t)seen->chunk, to = from + seen->size;
    if (seen->region->start != ours->region) {
        ours->region = seen->region->start;
        add_range(ours, seen->region->start, seen->region->end);
    }
    if (seen->state == SEEMALLOC_MAPPED) from = (uintptr_t)seen->region->start; /* what alignment put before it as well */
    struct span without = {NULL, NULL};
    if (seen->state == SEEMALLOC_TOP || (seen->bin > 0 && seen->state != SEEMALLOC_FAST)) without = pageless(seen);
    if (without.from < without.to) {
        size_t slack = resident_bytes(&ours->map, (uintptr_t)without.from, (uintptr_t)without.to);
        ours->ledger->slack += slack;
        ours->ledger->bytes[seen->state] += resident_bytes(&ours->map, from, (uintptr_t)without.from);
        from = (uintptr_t)without.to;
    }
    ours->ledger->bytes[seen->state] += resident_bytes(&ours->map, from, to);
    return 0;
}

static void add_retained(const void *start, size_t size, void *arg) {
    struct ours *ours = arg;
    add_range(ours, start, (const char *)start + size);
    ours->ledger->retained += resident_bytes(&ours->map, (uintptr_t)start, (uintptr_t)start + size);
}

static void add_books(const void *start, size_t size, void *arg) {
    struct ours *ours = arg;
    add_range(ours, start, (const char *)start + size);
    ours->ledger->metadata += resident_bytes(&ours->map, (uintptr_t)start, (uintptr_t)start + size);
}

static bool add_ours(struct ours *ours) {
    if (seemalloc_walk(add_chunk_pages, ours) != 0) return false;
    retain_walk(add_retained, ours);
    cache_walk_books(add_books, ours);
    arena_walk_books(add_books, ours);
    depot_walk_books(add_books, ours);
    region_walk_books(add_books, ours);
    mapped_walk_books(add_books, ours);
    marks_sort(&ours->borders);
    return !ours->borders.failed && !ours->map.failed;
}

/* Bytes of ours on resident pages of [from, to). */
static size_t ours_within(struct ours *ours, uintptr_t from, uintptr_t to) {
    size_t bytes = 0, depth = 0;
    uintptr_t start = 0;
    for (size_t i = 0; i < ours->borders.count; i++) {
        uintptr_t at = ours->borders.entry[i] & ~(uintptr_t)15;
        if ((ours->borders.entry[i] & 15) == BORDER_START) {
            if (depth++ == 0) start = at;
            continue;
        }
        if (--depth != 0 || at <= from || start >= to) continue;
        bytes += resident_bytes(&ours->map, start > from ? start : from, at < to ? at : to);
    }
    return bytes;
}

/* --- what is not ----------------------------------------------------------------------------------------------------------------------------------- */

/* A mapping as smaps shows it, and how the one before ended. */
struct seen_mapping {
    uintptr_t start, end;
    bool is_anonymous, is_data, is_reserved; /* data: private and writable; reserved: without any access */
    size_t *kind;                            /* where its bytes are added */
};

static uintptr_t hexadecimal(const char **at) {
    uintptr_t n = 0;
    for (;; ++*at) {
        char c = **at;
        unsigned digit = c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 16;
        if (digit == 16) return n;
        n = n << 4 | digit;
    }
}

/* The bytes that "NAME:   123 kB" says; false for another line. */
static bool figure(const char *line, const char *name, size_t *bytes) {
    size_t length = strlen(name), n = 0;
    if (strncmp(line, name, length) != 0) return false;
    for (line += length; *line == ' '; line++) {}
    for (; *line >= '0' && *line <= '9'; line++) n = n * 10 + (size_t)(*line - '0');
    *bytes = n * 1024;
    return true;
}

/* START-END PERMISSIONS OFFSET DEVICE INODE [PATH] */
static void look_at_mapping(struct seemalloc_ledger *ledger, struct seen_mapping *now, const char *line) {
    struct seen_mapping before = *now;
    const char *at = line;
    now->start = hexadecimal(&at);
    at++;
    now->end = hexadecimal(&at);
    now->is_data = at[0] != '\0' && at[2] == 'w' && at[4] == 'p';
    now->is_reserved = strncmp(at, " ---", 4) == 0;
    for (unsigned fields = 0; fields < 4 && *at != '\0'; fields++) {
        while (*at == ' ') at++;
        while (*at != ' ' && *at != '\0') at++;
    }
    while (*at == ' ') at++;
    while (*at >= '0' && *at <= '9') at++; /* the inode */
    while (*at == ' ') at++;
    now->is_anonymous = *at == '\0' || strncmp(at, "[anon", 5) == 0;
    bool adjacent = before.end == now->start;
    if (*at == '/') {
        now->kind = &ledger->files;
    } else if (strcmp(at, "[heap]") == 0) {
        now->kind = &ledger->brk;
    } else if (strcmp(at, "[stack]") == 0 || (now->is_anonymous && now->is_data && adjacent && before.is_reserved)) {
        now->kind = &ledger->stacks;
    } else if (now->is_anonymous && now->is_data && adjacent && before.kind == &ledger->files && before.is_data) {
        now->kind = &ledger->files; /* its data that begin as zero */
    } else {
        now->kind = now->is_anonymous ? &ledger->anonymous : &ledger->other;
    }
}

static void look_at_line(struct ours *ours, struct seen_mapping *mapping, const char *line) {
    size_t bytes;
    bool is_header = (*line >= '0' && *line <= '9') || (*line >= 'a' && *line <= 'f');
    if (is_header) {
        look_at_mapping(ours->ledger, mapping, line);
    } else if (figure(line, "Rss:", &bytes) && bytes != 0) {
        size_t part = ours_within(ours, mapping->start, mapping->end);
        *mapping->kind += bytes > part ? bytes - part : 0;
    }
}

/* Calls look_at_line for each line of smaps, cut to what fits. */
static bool read_smaps(struct ours *ours, int fd) {
    char piece[1024], line[256] = "";
    struct seen_mapping mapping = {.kind = &ours->ledger->other};
    size_t length = 0;
    uint64_t offset = 0;
    ours->map.count = 0; /* as it is now */
    for (long got; (got = prim_read_at(fd, piece, sizeof piece, offset)) != 0; offset += (uint64_t)got) {
        if (got < 0) return false;
        for (long i = 0; i < got; i++) {
            if (piece[i] != '\n') {
                if (length < sizeof line - 1) line[length++] = piece[i];
                continue;
            }
            line[length] = '\0';
            look_at_line(ours, &mapping, line);
            length = 0;
        }
    }
    return true;
}

static bool read_rollup(size_t *rss) {
    char text[1024];
    long length = prim_read_file("/proc/self/smaps_rollup", text, sizeof text - 1);
    if (length <= 0) return false;
    text[length] = '\0';
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (figure(line, "Rss:", rss)) return true;
    }
    return false;
}

/* --- the whole ------------------------------------------------------------------------------------------------------------------------------------- */

static size_t sum_of(const struct seemalloc_ledger *ledger) {
    size_t sum = ledger->metadata + ledger->retained + ledger->slack + ledger->stacks + ledger->files + ledger->brk + ledger->anonymous +
                 ledger->other;
    for (unsigned state = 0; state < SEEMALLOC_STATE_COUNT; state++) sum += ledger->bytes[state];
    return sum;
}

EXPORT int seemalloc_ledger(struct seemalloc_ledger *ledger) {
    cache_init();
    memset(ledger, 0, sizeof *ledger);
    struct ours ours = {.ledger = ledger, .map.fd = prim_open_file("/proc/self/pagemap")};
    int smaps = prim_open_file("/proc/self/smaps"), error = 0;
    if (ours.map.fd < 0 || smaps < 0) {
        error = ENOENT;
    } else if (!add_ours(&ours)) {
        error = ours.map.failed ? ENOENT : ENOMEM;
    } else if (!read_rollup(&ledger->rss) || !read_smaps(&ours, smaps)) {
        error = ENOENT;
    }
    marks_free(&ours.borders);
    prim_close_file(smaps);
    prim_close_file(ours.map.fd);
    if (error != 0) {
        errno = error;
        return -1;
    }
    ledger->residual = (ptrdiff_t)(ledger->rss - sum_of(ledger));
    size_t major;
    ledger->minor_faults = prim_minor_faults(&major);
    ledger->major_faults = major;
    for (unsigned call = 0; call < SEEMALLOC_CALL_COUNT; call++) ledger->calls[call] = load_relaxed(&os_counters.calls[call]);
    return 0;
}
