/* model.c: see model.h. SPDX-License-Identifier: MIT */
#include "reader/model.h"

#include <limits.h>
#include <stdlib.h>

#include "reader/rules.h"

#define MERGES_MOST 20000 /* beyond it takes long, and the guess is as good */

static struct model_chunk *at(struct model *model, uint32_t chunk) { return &model->chunks[chunk]; }

static void push(struct model_stack *stack, uint32_t chunk) {
    if (stack->count == stack->room) stack->chunk = need_memory(stack->chunk, stack->room = 2 * stack->room + 16, sizeof *stack->chunk);
    stack->chunk[stack->count++] = chunk;
}

static void doubt(struct model *model, const char *why) {
    if (model->doubt == NULL) model->doubt = why;
}

/* --- bins ------------------------------------------------------------------------------------------------------------------------------------------ */

static bool is_large(uint64_t size) { return size >= rules_small_limit(); }

static bool is_binned(const struct model_chunk *chunk) { return chunk->state == MODEL_UNSORTED || chunk->state == MODEL_SORTED; }

static uint32_t first_of_size(const struct model *model, uint64_t size) {
    for (uint32_t i = 0; i < model->count; i++) {
        if (model->chunks[i].state == MODEL_SORTED && model->chunks[i].size == size && model->chunks[i].is_first) return i;
    }
    return MODEL_NONE;
}

/* Of those with exactly this size, but the first of a large one, that nearest to fd or (last) to bk. */
static uint32_t other_of_size(const struct model *model, uint64_t size, bool last) {
    uint32_t found = MODEL_NONE;
    for (uint32_t i = 0; i < model->count; i++) {
        const struct model_chunk *chunk = &model->chunks[i];
        if (chunk->state != MODEL_SORTED || chunk->size != size || chunk->is_first) continue;
        bool better = found == MODEL_NONE || (last ? chunk->order > model->chunks[found].order : chunk->order < model->chunks[found].order);
        if (better) found = i;
    }
    return found;
}

static void sort(struct model *model, uint32_t number) {
    struct model_chunk *chunk = at(model, number);
    chunk->is_first = is_large(chunk->size) && first_of_size(model, chunk->size) == MODEL_NONE;
    chunk->state = MODEL_SORTED;
    chunk->order = --model->newest;
}

static void add_unsorted(struct model *model, uint32_t number) {
    at(model, number)->state = MODEL_UNSORTED;
    at(model, number)->turn = (uint32_t)model->unsorted.count;
    push(&model->unsorted, number);
}

/* Out of its bin. */
static void take_out(struct model *model, uint32_t number) {
    struct model_chunk *chunk = at(model, number);
    bool first = chunk->state == MODEL_SORTED && chunk->is_first;
    chunk->state = MODEL_USED;
    chunk->is_first = false;
    if (model->last_remainder == number) model->last_remainder = MODEL_NONE;
    if (!first) return;
    uint32_t heir = other_of_size(model, chunk->size, false);
    if (heir != MODEL_NONE) at(model, heir)->is_first = true;
}

/* The smallest size of at least `size` in a sorted bin; 0: none. */
static uint64_t smallest(const struct model *model, uint64_t size) {
    uint64_t found = 0;
    for (size_t i = 0; i < model->count; i++) {
        const struct model_chunk *chunk = &model->chunks[i];
        if (chunk->state == MODEL_SORTED && chunk->size >= size && (found == 0 || chunk->size < found)) found = chunk->size;
    }
    return found;
}

/* As bin_best_fit(): which of several of the best size depends on the way it is looked up. */
static uint32_t best_fit(const struct model *model, uint64_t size) {
    uint64_t found = smallest(model, size);
    if (found == 0) return MODEL_NONE;
    bool by_size = is_large(found) && (found < rules_index_limit() || (size >= rules_index_limit() && rules_bin(found) == rules_bin(size)));
    uint32_t other = other_of_size(model, found, !by_size);
    return other != MODEL_NONE ? other : first_of_size(model, found);
}

/* --- merging ---------------------------------------------------------------------------------------------------------------------------------------- */

static void absorb(struct model *model, uint32_t into, uint32_t chunk) {
    struct model_chunk *to = at(model, into), *from = at(model, chunk);
    to->size += from->size;
    to->behind = from->behind;
    if (from->behind != MODEL_NONE) at(model, from->behind)->before = into;
    from->state = MODEL_GONE;
}

static bool fills_region(struct model *model, uint32_t number) {
    const struct model_chunk *chunk = at(model, number);
    const struct heap_region *region = &model->heap->regions[chunk->region];
    return region->kind != SEEMALLOC_REGION_BRK && chunk->before == MODEL_NONE && chunk->behind != MODEL_NONE &&
           at(model, chunk->behind)->is_fence && at(model, chunk->behind)->behind == MODEL_NONE;
}

static void merge(struct model *model, uint32_t number) {
    model->merged += at(model, number)->size;
    uint32_t before = at(model, number)->before, behind = at(model, number)->behind;
    at(model, number)->state = MODEL_USED;
    if (before != MODEL_NONE && is_binned(at(model, before))) {
        take_out(model, before);
        absorb(model, before, number);
        number = before;
    }
    if (behind != MODEL_NONE && behind == model->top) {
        absorb(model, number, behind);
        at(model, number)->state = MODEL_TOP;
        model->top = number;
        return;
    }
    if (behind != MODEL_NONE && is_binned(at(model, behind))) {
        take_out(model, behind);
        absorb(model, number, behind);
    }
    if (fills_region(model, number)) {
        at(model, number)->state = MODEL_GONE;
        return;
    }
    add_unsorted(model, number);
}

static uint64_t bytes_in(const struct model *model, unsigned states) {
    uint64_t sum = 0;
    for (size_t i = 0; i < model->count; i++) sum += states >> model->chunks[i].state & 1 ? model->chunks[i].size : 0;
    return sum;
}
static uint64_t unmerged(const struct model *model) { return bytes_in(model, 1u << MODEL_FAST | 1u << MODEL_INBOX); }

static bool has_fast(const struct model *model) {
    for (uint64_t i = 0; i < model->heap->descriptor.fast_bins; i++) {
        if (model->fast[i].count != 0) return true;
    }
    return false;
}

/* Up to the steps that are left. How many chunks. */
static unsigned empty_inbox(struct model *model, uint64_t fast_most) {
    unsigned n = 0;
    for (; n < model->steps && model->inbox.count != 0; n++) {
        uint32_t chunk = model->inbox.chunk[--model->inbox.count];
        uint64_t size = at(model, chunk)->size;
        if (size <= fast_most) {
            at(model, chunk)->state = MODEL_FAST;
            push(&model->fast[size / model->heap->descriptor.chunk_align - 2], chunk);
        } else {
            merge(model, chunk);
        }
    }
    model->steps -= n;
    return n;
}

static unsigned merge_stack(struct model *model, struct model_stack *stack) {
    unsigned n = 0;
    for (; n < model->steps && stack->count != 0; n++) merge(model, stack->chunk[--stack->count]);
    model->steps -= n;
    return n;
}

static unsigned merge_fast(struct model *model) {
    unsigned n = 0;
    if (rules_sweeps(bytes_in(model, 1u << MODEL_FAST), model->arena->system_bytes)) {
        doubt(model, "so much lies in fast bins that it is merged by going over the whole arena, in parts");
    }
    for (uint64_t i = 0; i < model->heap->descriptor.fast_bins; i++) n += merge_stack(model, &model->fast[i]);
    return n;
}

static unsigned merge_all_kinds(struct model *model) {
    unsigned n = empty_inbox(model, 0);
    return n + merge_fast(model);
}

/* What of the depot is the arena's goes home, if that is much; what is not finds its way into others' inboxes. */
static void empty_depot(struct model *model, uint64_t size) {
    uint64_t parked = 0;
    for (size_t i = 0; i < model->heap->list_count; i++)
        parked += model->heap->lists[i].kind == HEAP_PARKED ? model->heap->lists[i].bytes : 0;
    if (!rules_empties_depot(parked, heap_system_bytes(model->heap), model->heap->arena_count, size)) return;
    while (model->parked.count != 0) {
        model->steps = rules_step();
        merge_stack(model, &model->parked);
    }
    model->steps = rules_step();
}

/* --- finding ---------------------------------------------------------------------------------------------------------------------------------------- */

static struct model_found take(const struct model *model, enum model_way way, uint32_t number) {
    return (struct model_found){.way = way, .address = model->chunks[number].address, .size = model->chunks[number].size, .blocks = 1};
}

/* Up to `want` blocks are cut from the chunk. */
static struct model_found cut(const struct model *model, enum model_way way, uint32_t number, uint64_t size, unsigned want) {
    struct model_found found = take(model, way, number);
    if (found.size / size < want) want = (unsigned)(found.size / size);
    found.blocks = want;
    found.rest = found.size - size * want;
    if (found.rest < rules_least_rest(size)) found.rest = 0;
    return found;
}

/* The next entry of the unsorted list, from the one that came first; MODEL_NONE at its end. */
static uint32_t next_unsorted(struct model *model) {
    for (; model->looked < model->unsorted.count; model->looked++) {
        uint32_t number = model->unsorted.chunk[model->looked];
        if (at(model, number)->state == MODEL_UNSORTED && at(model, number)->turn == model->looked) return number;
    }
    return MODEL_NONE;
}

static bool is_last_unsorted(struct model *model) {
    size_t looked = model->looked++;
    bool last = next_unsorted(model) == MODEL_NONE;
    model->looked = looked;
    return last;
}

static struct model_found from_unsorted(struct model *model, uint64_t size) {
    uint32_t number;
    for (unsigned step = 0; step < rules_step() && (number = next_unsorted(model)) != MODEL_NONE; step++) {
        uint64_t here = at(model, number)->size;
        if (here == size) return take(model, MODEL_WAY_UNSORTED, number);
        bool remainder = !is_large(size) && number == model->last_remainder && here >= size + model->heap->descriptor.chunk_min;
        if (remainder && is_last_unsorted(model)) return cut(model, MODEL_WAY_REMAINDER, number, size, 1);
        sort(model, number);
    }
    return (struct model_found){0};
}

static struct model_found from_bins(struct model *model, uint64_t size, unsigned want) {
    struct model_found found = from_unsorted(model, size);
    if (found.way != MODEL_WAY_NONE) return found;
    uint32_t best = best_fit(model, size);
    return best != MODEL_NONE ? cut(model, MODEL_WAY_BEST, best, size, want) : found;
}

static struct model_found from_top(const struct model *model, uint64_t size, unsigned want) {
    uint64_t least = model->heap->descriptor.chunk_min;
    if (model->top == MODEL_NONE || model->chunks[model->top].size < size + least) return (struct model_found){0};
    uint64_t most = (model->chunks[model->top].size - least) / size;
    struct model_found found = take(model, MODEL_WAY_TOP, model->top);
    found.blocks = most < want ? (unsigned)most : want;
    found.rest = found.size - found.blocks * size;
    return found;
}

static struct model_found from_parked(struct model *model, unsigned slot, unsigned want) {
    const struct heap *heap = model->heap;
    const struct heap_list *list = NULL;
    size_t count = 0, lists = 0;
    for (size_t i = 0; i < heap->list_count; i++) {
        if (heap->lists[i].kind != HEAP_PARKED || heap->lists[i].number != slot) continue;
        if (list == NULL || &heap->arenas[heap->lists[i].owner] == model->arena) list = &heap->lists[i];
        count += heap->lists[i].count;
        lists++;
    }
    if (list == NULL) return (struct model_found){0};
    if (lists > 1) doubt(model, "blocks of several arenas are parked, and it is not told which came last");
    unsigned n = count < want ? (unsigned)count : want, first = list->count < n ? (unsigned)list->count : n;
    const struct heap_chunk *chunk = &heap->chunks[heap->listed[list->first + list->count - first]];
    if (n > 1) doubt(model, "parked blocks are taken batch by batch, each as it came");
    return (struct model_found){.way = MODEL_WAY_PARKED, .address = chunk->address, .size = chunk->size, .blocks = n};
}

static struct model_found from_exact(struct model *model, uint64_t size, unsigned want) {
    uint64_t index = size / model->heap->descriptor.chunk_align - 2;
    if (index < model->heap->descriptor.fast_bins && model->fast[index].count != 0) {
        struct model_stack *bin = &model->fast[index];
        struct model_found found = take(model, MODEL_WAY_FAST, bin->chunk[bin->count - 1]);
        found.blocks = bin->count < want ? (unsigned)bin->count : want;
        return found;
    }
    uint32_t number = is_large(size) ? MODEL_NONE : other_of_size(model, size, true);
    return number != MODEL_NONE ? take(model, MODEL_WAY_SMALL, number) : (struct model_found){0};
}

static void receive(struct model *model) {
    if (model->inbox.count == 0) return;
    uint64_t room = rules_unmerged_room(model->arena->system_bytes);
    empty_inbox(model, unmerged(model) <= room ? rules_fast_most(heap_setting(model->heap, "mxfast"), true) : 0);
}

/* Merges what lies unmerged, if that is much, and sorts all of unsorted, each in rounds. */
static struct model_found merge_and_find(struct model *model, uint64_t size, unsigned want) {
    struct model_found found = {0};
    if (rules_merges_all(unmerged(model), model->arena->system_bytes)) {
        size_t left = MERGES_MOST;
        unsigned n = 1;
        for (; n != 0 && left > n; left -= n) {
            model->steps = rules_step();
            n = merge_all_kinds(model);
        }
        if (n != 0) doubt(model, "very much lies unmerged, and all of it would be merged first");
    }
    for (unsigned round = 0; round < rules_sort_rounds(); round++) {
        model->steps = rules_step();
        bool last = empty_inbox(model, 0) == 0 && next_unsorted(model) == MODEL_NONE;
        found = from_bins(model, size, want);
        if (found.way == MODEL_WAY_NONE) found = from_top(model, size, want);
        if (found.way != MODEL_WAY_NONE || last) break;
    }
    return found;
}

struct model_found model_find(struct model *model, uint64_t size, unsigned want, unsigned want_parked, unsigned slot, bool may_merge) {
    model->steps = rules_step();
    struct model_found found = from_parked(model, slot, want_parked);
    if (found.way != MODEL_WAY_NONE) return found;
    receive(model);
    found = from_exact(model, size, want);
    if (found.way != MODEL_WAY_NONE) return found;
    if (is_large(size) && has_fast(model)) merge_fast(model);
    found = from_bins(model, size, want);
    if (found.way == MODEL_WAY_NONE) found = from_top(model, size, want);
    if (found.way == MODEL_WAY_NONE && may_merge) {
        empty_depot(model, size);
        found = merge_and_find(model, size, 1);
    }
    return found;
}

/* --- making one ------------------------------------------------------------------------------------------------------------------------------------- */

static enum model_state state_of(const struct heap_chunk *chunk) {
    switch (chunk->state) {
    case SEEMALLOC_FAST: return MODEL_FAST;
    case SEEMALLOC_PARKED: return MODEL_PARKED;
    case SEEMALLOC_INBOX: return MODEL_INBOX;
    case SEEMALLOC_UNSORTED: return MODEL_UNSORTED;
    case SEEMALLOC_LAST_REMAINDER: return chunk->bin == 1 ? MODEL_UNSORTED : MODEL_SORTED;
    case SEEMALLOC_SMALL:
    case SEEMALLOC_LARGE: return MODEL_SORTED;
    case SEEMALLOC_TOP: return MODEL_TOP;
    default: return MODEL_USED;
    }
}

static void copy_region(struct model *model, uint32_t region) {
    const struct heap *heap = model->heap;
    size_t base = model->count;
    for (size_t i = 0; i < heap->regions[region].count; i++) {
        const struct heap_chunk *from = &heap->chunks[heap->regions[region].first + i];
        model->chunks[model->count] =
            (struct model_chunk){.address = from->address,
                                 .size = from->size,
                                 .before = i != 0 ? (uint32_t)(base + i - 1) : MODEL_NONE,
                                 .behind = i + 1 < heap->regions[region].count ? (uint32_t)(base + i + 1) : MODEL_NONE,
                                 .region = region,
                                 .state = (uint8_t)state_of(from),
                                 .is_fence = from->state == SEEMALLOC_FENCEPOST};
        if (from->state == SEEMALLOC_TOP) model->top = (uint32_t)model->count;
        if (from->state == SEEMALLOC_LAST_REMAINDER) model->last_remainder = (uint32_t)model->count;
        if (from->state == SEEMALLOC_PURGING) doubt(model, "pages of a free chunk are just going back, which then is free to be taken");
        model->count++;
    }
}

static void copy_list(struct model *model, const struct heap_list *list) {
    const struct heap *heap = model->heap;
    /* An arena's chunks stand in one piece in the heap's list of them, as its regions do. */
    uint32_t first = (uint32_t)heap->regions[model->arena->first].first;
    struct model_stack *stack = list->kind == HEAP_FAST_BIN ? &model->fast[list->number]
                                : list->kind == HEAP_INBOX  ? &model->inbox
                                                            : &model->parked;
    uint64_t size = 0;
    for (size_t i = 0; i < list->count; i++) {
        /* What is taken first comes last. Batches and bins stand the right way round. */
        bool reversed = list->kind == HEAP_FAST_BIN || list->kind == HEAP_INBOX ||
                        (list->kind == HEAP_BIN && list->number == heap->descriptor.bin_unsorted);
        uint32_t number = heap->listed[list->first + (reversed ? list->count - 1 - i : i)] - first;
        struct model_chunk *chunk = at(model, number);
        if (list->kind != HEAP_BIN) {
            push(stack, number);
        } else if (list->number == heap->descriptor.bin_unsorted) {
            add_unsorted(model, number);
        } else {
            chunk->order = (int64_t)i;
            chunk->is_first = is_large(chunk->size) && chunk->size != size;
            size = chunk->size;
        }
    }
}

void model_open(struct model *model, const struct heap *heap, size_t arena) {
    *model = (struct model){.heap = heap, .arena = &heap->arenas[arena], .top = MODEL_NONE, .last_remainder = MODEL_NONE};
    size_t count = 0;
    for (size_t i = 0; i < model->arena->count; i++) count += heap->regions[model->arena->first + i].count;
    model->chunks = need_memory(NULL, count, sizeof *model->chunks);
    model->fast = need_memory(NULL, heap->descriptor.fast_bins, sizeof *model->fast);
    for (size_t i = 0; i < model->arena->count; i++) copy_region(model, (uint32_t)(model->arena->first + i));
    for (size_t i = 0; i < heap->list_count; i++) {
        if (heap->lists[i].kind <= HEAP_INBOX && heap->lists[i].owner == arena) copy_list(model, &heap->lists[i]);
    }
    if (model->arena->is_torn) doubt(model, "the arena was being changed while it was read");
}

void model_close(struct model *model) {
    for (uint64_t i = 0; i < model->heap->descriptor.fast_bins; i++) free(model->fast[i].chunk);
    free(model->fast);
    free(model->inbox.chunk);
    free(model->parked.chunk);
    free(model->unsorted.chunk);
    free(model->chunks);
}
