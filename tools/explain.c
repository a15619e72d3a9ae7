/* explain.c: see explain.h. SPDX-License-Identifier: MIT */
#include "explain.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "reader/rules.h"

uint64_t explain_usable(const struct place *place, const struct heap *heap) {
    uint64_t header = heap->descriptor.chunk_header;
    if (place->kind == PLACE_BLOCK) return place->block->length - place->block->lead - header;
    return place->chunk->size - (place->chunk->state == SEEMALLOC_FENCEPOST ? place->chunk->size : header / 2);
}

const struct heap_cache *explain_cache(const struct place *place, const struct heap *heap) {
    const struct heap_cache *main = NULL, *found = NULL; /* the oldest of several: they come newest first */
    for (size_t i = 0; i < heap->cache_count; i++) {
        const struct heap_cache *cache = &heap->caches[i];
        if (cache->state != heap->descriptor.cache_live || cache->arena < 0) continue;
        if (place->arena != NULL && &heap->arenas[cache->arena] == place->arena) found = cache;
        if (heap->arenas[cache->arena].id == 0) main = cache;
    }
    return found != NULL ? found : main;
}

/* --- what it is ---------------------------------------------------------------------------------------------------------------------------------- */

static void say_owner(FILE *out, const struct heap_cache *cache) {
    if (cache->thread != 0) {
        fprintf(out, "thread %d", cache->thread);
    } else {
        fprintf(out, "a thread that can't be told (cache 0x%" PRIx64 ")", cache->address);
    }
}

static void say_list(FILE *out, const struct heap *heap, const struct heap_chunk *chunk) {
    const struct heap_list *list = &heap->lists[chunk->list];
    size_t position = chunk_position(heap, chunk);
    uint64_t first, last;
    switch (list->kind) {
    case HEAP_BIN:
        if (list->number == heap->descriptor.bin_unsorted) {
            fprintf(out, "It is free, in the unsorted bin, number %zu of %zu that requests look at.\n", position, list->count);
        } else if (list->number < heap->descriptor.bin_first_large) {
            fprintf(out, "It is free, in small bin %u (chunks of %" PRIu64 " bytes), number %zu of %zu to be taken.\n", list->number,
                    chunk->size, position, list->count);
        } else if (rules_bin_range(list->number, &first, &last) && last != UINT64_MAX) {
            fprintf(out, "It is free, in large bin %u (%" PRIu64 " to %" PRIu64 " bytes), number %zu of %zu from the largest on.\n",
                    list->number, first, last, position, list->count);
        } else {
            fprintf(out, "It is free, in the last large bin, %u, number %zu of %zu from the largest on.\n", list->number, position,
                    list->count);
        }
        break;
    case HEAP_FAST_BIN:
        fprintf(out, "It is free, in the fast bin for chunks of %" PRIu64 " bytes, number %zu of %zu to be taken; it is not merged.\n",
                chunk->size, position, list->count);
        break;
    case HEAP_PARKED:
        fprintf(out,
                "It is free, parked in the depot with %zu other blocks of its arena and size for the next thread that wants it; it is not "
                "merged.\n",
                list->count - 1);
        break;
    case HEAP_INBOX:
        fprintf(out, "It is free, in the inbox of arena %u, where another arena's thread sent it; nobody has fetched it yet.\n",
                heap->arenas[list->owner].id);
        break;
    case HEAP_MAGAZINE:
        fprintf(out, "It is free, in the magazine for chunks of %" PRIu64 " bytes of ", rules_class_size(list->number));
        say_owner(out, &heap->caches[list->owner]);
        fprintf(out, ", number %zu of %zu to be taken.\n", position, list->count);
        break;
    case HEAP_TRANSIT:
        fputs("It is free, just moving between an arena and the cache of ", out);
        say_owner(out, &heap->caches[list->owner]);
        fputs(".\n", out);
        break;
    }
    if (chunk->state == SEEMALLOC_LAST_REMAINDER) fputs("It is the last remainder: small requests in a row are cut from it.\n", out);
}

static void say_state(FILE *out, const struct heap *heap, const struct place *place) {
    const struct heap_chunk *chunk = place->chunk;
    if (chunk->list != HEAP_NO_LIST) {
        say_list(out, heap, chunk);
        return;
    }
    switch (chunk->state) {
    case SEEMALLOC_IN_USE: fputs("It is in use.\n", out); break;
    case SEEMALLOC_TOP: fprintf(out, "It is the top of arena %u: free, and cut when nothing else fits.\n", place->arena->id); break;
    case SEEMALLOC_PURGING: fputs("It is free, and its pages are just going back to the system.\n", out); break;
    case SEEMALLOC_FENCEPOST: fputs("It is a fencepost: the end of a region that can't grow any more.\n", out); break;
    case SEEMALLOC_ABANDONED: fputs("It is lost: the process was forked while another thread was changing this arena.\n", out); break;
    default: fputs("What it is can't be told: no list says so, or what stands there makes no sense.\n", out);
    }
}

static void say_offset(FILE *out, const struct place *place, const struct heap *heap) {
    uint64_t mem = place_mem(place, heap), header = heap->descriptor.chunk_header;
    if (place->address == mem) {
        fprintf(out, "0x%" PRIx64 " is what malloc returned for ", place->address);
    } else if (place->address > mem) {
        fprintf(out, "0x%" PRIx64 " lies %" PRIu64 " bytes into the block 0x%" PRIx64 ", ", place->address, place->address - mem, mem);
    } else {
        fprintf(out, "0x%" PRIx64 " lies in the header of ", place->address);
    }
    if (place->kind == PLACE_BLOCK) {
        fprintf(out, "a mapped block: %" PRIu64 " bytes from 0x%" PRIx64 " on, %" PRIu64 " of them usable.\n", place->block->length,
                place->block->start, explain_usable(place, heap));
        return;
    }
    fprintf(out, "the chunk 0x%" PRIx64 " of %" PRIu64 " bytes, %" PRIu64 " of them usable.\n", mem - header, place->chunk->size,
            explain_usable(place, heap));
    const struct heap_chunk *before = chunk_before(heap, place->chunk);
    bool is_used = before != NULL && place->chunk->flags & SEEMALLOC_FLAG_P && before->state != SEEMALLOC_FENCEPOST;
    if (place->address < mem - header / 2 && is_used) {
        fprintf(out, "These first 8 bytes of a header are the last of the block before, 0x%" PRIx64 ".\n", before->address + header);
    }
}

static void say_beside(FILE *out, const char *where, const struct heap_chunk *chunk) {
    if (chunk == NULL) {
        fprintf(out, "%s it is the %s of the region.\n", where, where[2] == 'f' ? "start" : "end");
        return;
    }
    fprintf(out, "%s it stands 0x%" PRIx64 ", %" PRIu64 " bytes, %s.\n", where, chunk->address, chunk->size, heap_state_name(chunk->state));
}

static void say_chunk(FILE *out, const struct place *place, const struct process *process) {
    const struct heap *heap = &process->heap;
    say_offset(out, place, heap);
    if (place->kind == PLACE_BLOCK) return;
    fprintf(out, "It belongs to arena %u (%s), in a region of kind %s from 0x%" PRIx64 " to 0x%" PRIx64 ".\n", place->arena->id,
            place->arena->is_spare  ? "the spare one"
            : place->arena->id == 0 ? "the main one"
                                    : "a thread's",
            heap_kind_name(place->region->kind), place->region->start, place->region->end);
    say_state(out, heap, place);
    if (place->arena->is_torn) fputs("The arena was being changed while it was read: this may be wrong.\n", out);
    if (place->arena->is_abandoned) return;
    say_beside(out, "Before", chunk_before(heap, place->chunk));
    say_beside(out, "Behind", chunk_behind(heap, place->chunk));
}

/* --- what is not of the heap ---------------------------------------------------------------------------------------------------------------------- */

static void say_books(FILE *out, const struct place *place, const struct process *process) {
    const struct heap *heap = &process->heap;
    fprintf(out, "0x%" PRIx64 " lies in the allocator's own books: ", place->address);
    for (size_t i = 0; i < heap->arena_count; i++) {
        if (place->address - heap->arenas[i].address >= heap->descriptor.arena_size) continue;
        fprintf(out, "the struct of arena %u.\n", heap->arenas[i].id);
        return;
    }
    for (size_t i = 0; i < heap->cache_count; i++) {
        if (place->address - heap->caches[i].address >= heap->descriptor.cache_size) continue;
        if (heap->caches[i].state == heap->descriptor.cache_free) {
            fputs("a thread cache that nobody has now.\n", out);
        } else {
            fputs("the thread cache of ", out);
            say_owner(out, &heap->caches[i]);
            fputs(".\n", out);
        }
        return;
    }
    fputs("tables and counters.\n", out);
}

static void say_mapping(FILE *out, const struct place *place, const char *what) {
    fprintf(out, "0x%" PRIx64 " lies in %s, not in the heap: 0x%" PRIx64 " to 0x%" PRIx64 " (%s)%s%s.\n", place->address, what,
            place->mapping.start, place->mapping.end, place->mapping.access, place->mapping.name[0] != '\0' ? ", " : "",
            place->mapping.name);
}

static void say_place(FILE *out, const struct place *place, const struct process *process) {
    char what[64] = "the main thread's stack";
    switch (place->kind) {
    case PLACE_CHUNK:
    case PLACE_BLOCK: say_chunk(out, place, process); break;
    case PLACE_PADDING:
        fprintf(
            out,
            "0x%" PRIx64
            " lies in the mapping of a block, before its chunk: nobody's bytes, there for the block's alignment. The block is 0x%" PRIx64
            ".\n",
            place->address, place_mem(place, &process->heap));
        break;
    case PLACE_RESERVED:
        fprintf(out,
                "0x%" PRIx64
                " lies in the reserved part of a heap of arena %u: address space that it will grow into, without access or memory.\n",
                place->address, place->arena->id);
        break;
    case PLACE_RETAINED:
        fprintf(out, "0x%" PRIx64 " lies in the mapping of a block that was freed; it is kept a short while for the next large one.\n",
                place->address);
        break;
    case PLACE_BOOKS: say_books(out, place, process); break;
    case PLACE_STACK:
        if (place->thread != 0) snprintf(what, sizeof what, "the stack of thread %d", place->thread);
        say_mapping(out, place, what);
        break;
    case PLACE_FILE: say_mapping(out, place, "the mapping of a file"); break;
    case PLACE_KERNEL: say_mapping(out, place, "a mapping of the kernel's"); break;
    case PLACE_OTHER: say_mapping(out, place, "memory that others mapped"); break;
    case PLACE_NOTHING:
        fprintf(out, "0x%" PRIx64 " is not mapped: nothing is there, and using it ends the program.\n", place->address);
        break;
    }
}

/* --- free ------------------------------------------------------------------------------------------------------------------------------------------ */

static void say_thread(FILE *out, const struct heap_cache *cache) {
    fputs("free of it, by ", out);
    if (cache == NULL) {
        fputs("a thread without a cache, ", out);
    } else {
        say_owner(out, cache);
        fputs(", ", out);
    }
}

static void say_merged(FILE *out, const struct freeing *freeing) {
    if (freeing->before != NULL) fprintf(out, " with the free %" PRIu64 " bytes before it", freeing->before->size);
    if (freeing->before != NULL && freeing->next != NULL) fputs(" and", out);
    if (freeing->next != NULL) {
        fprintf(out, " with the %s of %" PRIu64 " bytes behind it", freeing->next->state == SEEMALLOC_TOP ? "top" : "free chunk",
                freeing->next->size);
    }
}

static void say_free(FILE *out, const struct place *place, const struct heap *heap) {
    const struct heap_cache *cache = explain_cache(place, heap);
    struct freeing freeing;
    place_free(&freeing, place, heap, cache);
    if (freeing.way == FREE_ABORT) {
        fprintf(out, "free of this address would abort with \"%s\".\n", freeing.line);
        return;
    }
    if (freeing.way == FREE_CRASH) {
        fputs("free of this address would end the program: where it looks for a header nothing can be read.\n", out);
        return;
    }
    say_thread(out, cache);
    switch (freeing.way) {
    case FREE_MAGAZINE:
    case FREE_WIDEN:
        fprintf(out, "would put it into that thread's magazine for chunks of %" PRIu64 " bytes, which holds %u of %u now%s.\n",
                freeing.class_size, freeing.blocks, freeing.limit, freeing.way == FREE_WIDEN ? " and would be widened" : "");
        break;
    case FREE_HALF:
        fprintf(out,
                "would put it into that thread's magazine for chunks of %" PRIu64
                " bytes; that holds %u of %u now, so its older half would first "
                "go back to the arenas.\n",
                freeing.class_size, freeing.blocks, freeing.limit);
        break;
    case FREE_FAST: fprintf(out, "would put it into the fast bin for chunks of %" PRIu64 " bytes, unmerged.\n", freeing.size); break;
    case FREE_TOP:
        fputs("would merge it", out);
        say_merged(out, &freeing);
        fprintf(out, ": a top of %" PRIu64 " bytes. What of that was touched beyond the trim threshold goes back to the system.\n",
                freeing.size);
        break;
    case FREE_MERGE:
        fputs(freeing.before != NULL || freeing.next != NULL ? "would merge it"
                                                             : "would leave it as it is: no neighbour is free to be merged",
              out);
        say_merged(out, &freeing);
        fprintf(out, ": a free chunk of %" PRIu64 " bytes, in the unsorted bin.\n", freeing.size);
        break;
    case FREE_REGION: fprintf(out, "would make the whole region free: its %" PRIu64 " bytes go back to the system.\n", freeing.size); break;
    case FREE_UNMAP:
        fprintf(out, "would unmap its %" PRIu64 " bytes", freeing.size);
        if (freeing.size > rules_threshold_most()) fputs(", or keep them a second for the next block of the kind", out);
        if (freeing.threshold != 0) fprintf(out, "; from then on mappings are for chunks of %" PRIu64 " bytes or more", freeing.threshold);
        fputs(".\n", out);
        break;
    default: fputs("would do nothing: its arena is lost.\n", out);
    }
    if (freeing.may_first_shed) fputs("The thread was idle: its cache may first give back what lay in it for long.\n", out);
}

char *explain_words(const struct place *place, const struct process *process) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL) return need_memory(NULL, 1, 1);
    say_place(out, place, process);
    say_free(out, place, &process->heap);
    fclose(out);
    return text;
}
