/* explain.h: an address in words. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_EXPLAIN_H
#define SEEMALLOC_TOOL_EXPLAIN_H

#include "place.h"

/* Lines of text. Free it. */
char *explain_words(const struct place *place, const struct process *process);

/* Of a chunk or mapped block: bytes that are the program's, or would be. */
uint64_t explain_usable(const struct place *place, const struct heap *heap);

/* The cache of the thread that free is told for: one that uses the chunk's arena, else the main thread's; NULL: there is none. */
const struct heap_cache *explain_cache(const struct place *place, const struct heap *heap);

/* The place of a chunk in its list: 1 is taken first, in large bins is the largest. */
size_t chunk_position(const struct heap *heap, const struct heap_chunk *chunk);

/* Its neighbours, or NULL at the ends of the region. */
const struct heap_chunk *chunk_before(const struct heap *heap, const struct heap_chunk *chunk);
const struct heap_chunk *chunk_behind(const struct heap *heap, const struct heap_chunk *chunk);

#endif
