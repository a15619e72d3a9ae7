/* t14.c: T14. Malloc takes large pieces from the system and cuts them into chunks: prev_size, size | A | M | P, fd, bk, and for large free
 * chunks fd_nextsize, bk_nextsize. The user's pointer is after size; a free chunk's size is repeated in the next chunk's prev_size.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <malloc.h>

static void pieces(void) {
    static void *blocks[200];
    size_t sum = 0;
    struct seemalloc_stats before = stats_now();
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        blocks[i] = get_filled(17 + i * 3);
        sum += chunk_of(17 + i * 3);
    }
    struct seemalloc_stats after = stats_now();
    CHECK_EQ("200 blocks from one piece: system calls", calls_all_between(&before, &after), 1);
    look();
    size_t total = 0, in_use = 0;
    for (size_t i = 0; i < view_count; i++) {
        total += views[i].size;
        in_use += views[i].state == SEEMALLOC_IN_USE ? views[i].size : 0;
    }
    CHECK_EQ("chunks: the blocks and the top", view_count, COUNT_OF(blocks) + 1);
    CHECK_EQ("the blocks' chunks are their requests and 8 bytes, in steps of 16", in_use, sum);
    CHECK_EQ("all chunks together are the piece", total, views[0].region_end - views[0].region_start);
    CHECK_PTR("the first chunk is at its start", views[0].chunk, views[0].region_start);
    CHECK_PTR("the last chunk is at its end", views[view_count - 1].end, views[0].region_end);
    texts_quiet = 1;
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        const struct view *v = &views[i];
        CHECK_PTR("blocks follow each other", v->mem, blocks[i]);
        CHECK_EQ("the size in the header", raw_size(v->chunk), chunk_of(17 + i * 3));
        CHECK_PTR("the user's pointer is after prev_size and size", v->mem, v->chunk + 2 * sizeof(size_t));
        CHECK_EQ("the user has the chunk but 8 bytes", malloc_usable_size(blocks[i]), v->size - 8);
    }
    texts_quiet = 0;
}

static void smallest(void) {
    static const size_t requests[] = {0, 1, 8, 23, 24, 25, 40, 41, 56, 57};
    static const size_t sizes[] = {32, 32, 32, 32, 32, 48, 48, 64, 64, 80};
    for (size_t i = 0; i < COUNT_OF(requests); i++) {
        void *mem = get(requests[i]);
        CHECK_EQ("chunk size of a request of 0, 1, 8, 23, 24, 25, 40, 41, 56, 57 bytes", raw_size((uintptr_t)mem - 16), sizes[i]);
    }
}

static void free_chunks(void) {
    char *small = get_guarded(512), *other = get_guarded(512), *large = get_guarded(4000), *larger = get_guarded(4032);
    uintptr_t s = (uintptr_t)small - 16, o = (uintptr_t)other - 16, l = (uintptr_t)large - 16, g = (uintptr_t)larger - 16;
    uintptr_t ring[8];

    CHECK_EQ("in use: bytes of the user where fd will be", raw(s)->fd, 0xA5A5A5A5A5A5A5A5u);
    put(small);
    put(other);
    look();
    CHECK_EQ("the size of a free chunk stays in its header", raw_size(s), 512);
    CHECK_EQ("and is repeated in the next chunk's prev_size", raw(s + 512)->prev_size, 512);
    CHECK_EQ("whose P is clear", raw_flags(s + 512) & SEEMALLOC_FLAG_P, 0);
    CHECK_EQ("free chunks in the ring", ring_of(s, ring, COUNT_OF(ring)), 2);
    CHECK_PTR("fd leads to the next chunk of the ring, not to its user data", raw(o)->fd, s);
    CHECK_PTR("bk leads back", raw(s)->bk, o);
    CHECK_PTR("the ring closes in one place, the bin", raw(s)->fd, raw(o)->bk);
    CHECK("the bin is no chunk of the heap", !view_at(raw(s)->fd));
    CHECK_PTR("the bin's fd is the newest chunk", raw(raw(s)->fd)->fd, o);
    CHECK_PTR("the bin's bk is the oldest", raw(raw(s)->fd)->bk, s);

    put(large);
    put(larger);
    sort_bins();
    REQUIRE("all are known", view_at(l) && view_at(g) && view_at(s));
    CHECK_EQ("4000 and 4032 share a large bin", view_at(l)->bin, view_at(g)->bin);
    CHECK_IN("a large one", view_at(l)->bin, 64, 126);
    CHECK_EQ("chunks in it", ring_of(l, ring, COUNT_OF(ring)), 2);
    CHECK_PTR("fd of the larger: the smaller", raw(g)->fd, l);
    CHECK_PTR("fd_nextsize of the larger: the smaller", raw(g)->fd_nextsize, l);
    CHECK_PTR("bk_nextsize of the larger: the smaller (the ring of sizes has no bin in it)", raw(g)->bk_nextsize, l);
    CHECK_PTR("fd_nextsize of the smaller: the larger", raw(l)->fd_nextsize, g);
    CHECK_PTR("bk_nextsize of the smaller: the larger", raw(l)->bk_nextsize, g);
    CHECK_EQ("the small ones are in a small bin of their size", view_at(s)->bin, 512 / 16);

    /* Taken again, the words are the user's. */
    char *again = get_filled(request_of(4000));
    CHECK_PTR("the chunk is handed out again", again, large);
    CHECK_EQ("fd and bk are overwritten by the user", raw(l)->fd, 0xA5A5A5A5A5A5A5A5u);
    look();
    CHECK_PTR("the other is alone: fd_nextsize", raw(g)->fd_nextsize, g);
    CHECK_PTR("bk_nextsize", raw(g)->bk_nextsize, g);
}

int main(int argc, char **argv) {
    (void)argc;
    static const struct texts_part parts[] = {{"pieces", pieces}, {"smallest", smallest}, {"free chunks", free_chunks}};
    texts_parts(texts_begin(argv, "T14", NO_CACHE), NO_CACHE, parts, COUNT_OF(parts));
    return texts_end();
}
