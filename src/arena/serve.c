/* serve.c: a request is met from somewhere: when an arena refuses, the spare; when it has no memory, the main arena; at last a mapping.
 * SPDX-License-Identifier: MIT */
#include "arena/arena.h"
#include "conf/conf.h"
#include "heap/mapped.h"

static enum arena_status ask(struct arena *arena, size_t size, size_t align, bool may_map, void **mem, bool *zeroed) {
    if (align <= CHUNK_ALIGN) return arena_alloc(arena, size, may_map, mem, zeroed);
    *zeroed = false;
    return arena_alloc_aligned(arena, size, align, may_map, mem);
}

void *arena_serve(struct arena *arena, size_t size, size_t align, bool *zeroed) {
    void *mem = NULL;
    enum arena_status status = ask(arena, size, align, true, &mem, zeroed);
    if (status == ARENA_REFUSED) {
        arena = arena_spare();
        status = ask(arena, size, align, true, &mem, zeroed);
    }
    if (status == ARENA_MAP) {
        mem = mapped_alloc(size, align);
        *zeroed = true;
        if (mem != NULL) return mem;
        status = ask(arena, size, align, false, &mem, zeroed);
    }
    if (status == ARENA_FULL && arena != &arena_main) status = ask(&arena_main, size, align, false, &mem, zeroed);
    if (status == ARENA_OK) return mem;
    /* Small mappings are wasteful, but better than none. */
    *zeroed = true;
    return mapped_alloc(size, align);
}

unsigned arena_serve_batch(struct arena *arena, unsigned slot, size_t size, unsigned want, void **mem) {
    unsigned count = 0;
    if (arena_take(arena, slot, size, want, mem, &count) == ARENA_OK) return count;
    bool zeroed;
    mem[0] = arena_serve(arena, size, CHUNK_ALIGN, &zeroed);
    return mem[0] != NULL;
}
