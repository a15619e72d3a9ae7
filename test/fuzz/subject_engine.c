/* subject_engine.c: seemalloc under its prefixed names. SPDX-License-Identifier: MIT */
#include "subject.h"

#include "inspect/check.h"
#include "seemalloc.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

void *seemalloc_malloc(size_t size);
void *seemalloc_calloc(size_t number, size_t size);
void *seemalloc_realloc(void *mem, size_t size);
void *seemalloc_memalign(size_t alignment, size_t size);
void *seemalloc_aligned_alloc(size_t alignment, size_t size);
int seemalloc_posix_memalign(void **mem, size_t alignment, size_t size);
void seemalloc_free(void *mem);
size_t seemalloc_malloc_usable_size(void *mem);
int seemalloc_malloc_trim(size_t pad);
int seemalloc_mallopt(int parameter, int value);
struct mallinfo2 seemalloc_mallinfo2(void);
int seemalloc_malloc_info(int options, FILE *out);

static bool totals(struct subject_totals *t) {
    static __thread struct seemalloc_stats stats;
    if (seemalloc_get_stats(&stats) != 0) return false;
    *t = (struct subject_totals){.in_use_bytes = stats.bytes[SEEMALLOC_IN_USE],
                                 .in_use_count = stats.count[SEEMALLOC_IN_USE],
                                 .mapped_bytes = stats.bytes[SEEMALLOC_MAPPED],
                                 .mapped_count = stats.count[SEEMALLOC_MAPPED],
                                 .heap_bytes = stats.heap_bytes};
    for (int state = 0; state < SEEMALLOC_STATE_COUNT; state++) {
        if (state == SEEMALLOC_MAPPED) continue;
        t->state_bytes += stats.bytes[state];
        if (state != SEEMALLOC_IN_USE) t->free_count += stats.count[state];
    }
    return true;
}

struct visitor {
    subject_visit *visit;
    void *arg;
};

static int visit(const struct seemalloc_chunk *chunk, void *arg) {
    const struct visitor *visitor = arg;
    if (chunk->state == SEEMALLOC_IN_USE || chunk->state == SEEMALLOC_MAPPED) {
        visitor->visit(chunk->mem, chunk->size, chunk->state == SEEMALLOC_MAPPED, visitor->arg);
    }
    return 0;
}

static bool walk(subject_visit *function, void *arg) {
    struct visitor visitor = {function, arg};
    return seemalloc_walk(visit, &visitor) == 0;
}

static void statistics(bool alone) {
    struct mallinfo2 info = seemalloc_mallinfo2();
    if (alone && info.uordblks + info.fordblks != info.arena) {
        fprintf(stderr, "mallinfo2: uordblks %zu + fordblks %zu is not arena %zu\n", info.uordblks, info.fordblks, info.arena);
        abort();
    }
    FILE *out = fopen("/dev/null", "w");
    if (out == NULL) return;
    if (seemalloc_malloc_info(0, out) != 0) { /* allowed where memory is refused */
    }
    fclose(out);
}

const struct subject subject_engine = {
    .name = "seemalloc",
    .perturbs = true,
    .strict = true,
    .malloc = seemalloc_malloc,
    .calloc = seemalloc_calloc,
    .realloc = seemalloc_realloc,
    .memalign = seemalloc_memalign,
    .aligned_alloc = seemalloc_aligned_alloc,
    .posix_memalign = seemalloc_posix_memalign,
    .free = seemalloc_free,
    .usable = seemalloc_malloc_usable_size,
    .trim = seemalloc_malloc_trim,
    .mallopt = seemalloc_mallopt,
    .statistics = statistics,
    .check = check_heap,
    .totals = totals,
    .walk = walk,
};
