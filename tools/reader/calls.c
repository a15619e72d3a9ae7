/* calls.c: see calls.h. SPDX-License-Identifier: MIT */
#include "reader/calls.h"

#include <stdlib.h>

static uint32_t number_of(struct calls *calls, const struct symbol_frame *frame) {
    uint64_t key = (uint64_t)frame->function << 32 | frame->file;
    uint64_t more = (uint64_t)frame->module << 33 ^ (uint64_t)frame->line << 1 ^ frame->is_inlined;
    uint32_t known = lookup_find(&calls->by_content, key, more);
    if (known != LOOKUP_NONE) return known;
    calls->frames = need_more(calls->frames, calls->frame_count, &calls->frame_room, sizeof *calls->frames);
    calls->frames[calls->frame_count] = *frame;
    lookup_add(&calls->by_content, key, more, (uint32_t)calls->frame_count);
    return (uint32_t)calls->frame_count++;
}

static uint32_t child_of(struct calls *calls, uint32_t parent, uint32_t frame) {
    uint32_t known = lookup_find(&calls->by_parent, parent, frame);
    if (known != LOOKUP_NONE) return known;
    calls->nodes = need_more(calls->nodes, calls->node_count, &calls->node_room, sizeof *calls->nodes);
    calls->nodes[calls->node_count] = (struct call_node){parent, frame};
    lookup_add(&calls->by_parent, parent, frame, (uint32_t)calls->node_count);
    return (uint32_t)calls->node_count++;
}

static uint32_t node_of(struct calls *calls, const struct replay_stack *stack) {
    uint32_t node = 0;
    for (size_t i = stack->count; i-- > 0;) {
        uint32_t index = symbols_place(&calls->symbols, stack, i);
        struct symbol_place place = calls->symbols.places[index];
        for (size_t k = place.count; k-- > 0;) node = child_of(calls, node, number_of(calls, &calls->symbols.frames[place.first + k]));
    }
    return node;
}

static struct call_site *site_of(struct calls *calls, uint32_t node) {
    uint32_t index = lookup_find(&calls->by_node, node, 0);
    if (index == LOOKUP_NONE) {
        calls->sites = need_more(calls->sites, calls->site_count, &calls->site_room, sizeof *calls->sites);
        index = (uint32_t)calls->site_count++;
        calls->sites[index] = (struct call_site){.node = node};
        lookup_add(&calls->by_node, node, 0, index);
    }
    return &calls->sites[index];
}

void calls_open(struct calls *calls, const struct profile *profile) {
    *calls = (struct calls){0};
    symbols_open(&calls->symbols, &profile->replay);
    calls->nodes = need_more(NULL, 0, &calls->node_room, sizeof *calls->nodes);
    calls->nodes[calls->node_count++] = (struct call_node){0};
    for (size_t i = 0; i < profile->replay.stack_count; i++) {
        if (profile->stacks[i].total.parts == 0) continue;
        profile_add(&site_of(calls, node_of(calls, &profile->replay.stacks[i]))->sums, &profile->stacks[i]);
    }
}

void calls_close(struct calls *calls) {
    symbols_close(&calls->symbols);
    for (size_t i = 0; i < calls->site_count; i++) free(calls->sites[i].sums.sizes);
    free(calls->sites);
    free(calls->frames);
    free(calls->nodes);
    lookup_free(&calls->by_content);
    lookup_free(&calls->by_parent);
    lookup_free(&calls->by_node);
    *calls = (struct calls){0};
}

const struct profile_amount *calls_amount(const struct profile_sums *sums, enum calls_measure measure) {
    switch (measure) {
    case CALLS_LIVE: return &sums->live;
    case CALLS_PEAK: return &sums->peak;
    case CALLS_TOTAL: break;
    }
    return &sums->total;
}
