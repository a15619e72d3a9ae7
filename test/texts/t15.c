/* t15.c: T15. P = the previous chunk is in use; with P = 1 prev_size belongs to that chunk's user. The first chunk of a heap has P = 1.
 * M = from mmap. A = not the main arena.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <malloc.h>
#include <pthread.h>

static void flag_p(void) {
    char *a = get_filled(1000), *b = get_filled(2000), *c = get_filled(3000), *guard = get_filled(200);
    uintptr_t chunk_a = (uintptr_t)a - 16, chunk_b = (uintptr_t)b - 16, chunk_c = (uintptr_t)c - 16;
    look();
    CHECK_PTR("a is the first chunk of the heap", chunk_a, views[0].chunk);
    CHECK("the first chunk has P = 1", raw_flags(chunk_a) & SEEMALLOC_FLAG_P);
    CHECK("b after a in use: P = 1", raw_flags(chunk_b) & SEEMALLOC_FLAG_P);
    CHECK("c after b in use: P = 1", raw_flags(chunk_c) & SEEMALLOC_FLAG_P);

    /* P = 1: prev_size is the last 8 bytes of the block before. */
    size_t usable = malloc_usable_size(b);
    CHECK_PTR("b's user may write up to c's size", b + usable, (char *)chunk_c + sizeof(size_t));
    fill(b, usable, 0x42);
    CHECK_EQ("c's prev_size then holds b's bytes", raw(chunk_c)->prev_size, 0x4242424242424242u);
    look();
    CHECK_EQ("and is not taken for a size", view_at(chunk_c)->prev_size, 0);

    put(b);
    look();
    CHECK_EQ("b freed: P of c = 0", raw_flags(chunk_c) & SEEMALLOC_FLAG_P, 0);
    CHECK_EQ("c's prev_size is now b's size", raw(chunk_c)->prev_size, chunk_of(2000));
    CHECK("P of b itself stays 1: a is in use", raw_flags(chunk_b) & SEEMALLOC_FLAG_P);
    char *again = get_filled(2000);
    CHECK_PTR("b again", again, b);
    CHECK("P of c = 1 again", raw_flags(chunk_c) & SEEMALLOC_FLAG_P);
    put(a);
    CHECK_EQ("a freed: P of b = 0", raw_flags(chunk_b) & SEEMALLOC_FLAG_P, 0);
    CHECK("P of a stays 1, though nothing is before it", raw_flags(chunk_a) & SEEMALLOC_FLAG_P);
    put(b);
    look();
    CHECK_EQ("b freed too, merged with a: c's prev_size is the sum", raw(chunk_c)->prev_size, chunk_of(1000) + chunk_of(2000));
    put(c);
    put(guard);
    look();
    CHECK("all freed: the top is the first chunk, with P = 1", view_top(0)->chunk == chunk_a && (view_top(0)->flags & SEEMALLOC_FLAG_P));
}

static void flag_m(void) {
    void *small = get_filled(KIB(40)), *large = get_filled(MIB(1));
    look();
    CHECK_EQ("a block of the heap: M", view_of(small)->flags & SEEMALLOC_FLAG_M, 0);
    CHECK("a mapped block: M", raw_flags((uintptr_t)large - 16) & SEEMALLOC_FLAG_M);
    CHECK_EQ("its A", raw_flags((uintptr_t)large - 16) & SEEMALLOC_FLAG_A, 0);
    CHECK_EQ("bytes of its mapping before the chunk, in prev_size", raw((uintptr_t)large - 16)->prev_size, 0);
    void *aligned = aligned_alloc(MIB(1), MIB(2));
    look();
    const struct view *v = view_of(aligned);
    REQUIRE("the walk knows the aligned block", v);
    CHECK("M", v->flags & SEEMALLOC_FLAG_M);
    CHECK_EQ("bytes of its mapping before the chunk", raw(v->chunk)->prev_size, v->chunk - v->region_start);
    CHECK_EQ("as walked", v->prev_size, v->chunk - v->region_start);
}

static void *in_thread(void *unused) {
    void **blocks = unused;
    blocks[0] = get_filled(1000);
    blocks[1] = get_filled(MIB(1));
    return NULL;
}

static void flag_a(void) {
    void *blocks[2], *own = get_filled(1000);
    pthread_t thread;
    REQUIRE("a thread", pthread_create(&thread, NULL, in_thread, blocks) == 0);
    pthread_join(thread, NULL);
    look();
    const struct view *v = view_of(blocks[0]), *w = view_of(own);
    REQUIRE("the walk knows the blocks", v && w);
    CHECK("a thread's block is of another arena", v->arena != 0);
    CHECK("its A", raw_flags(v->chunk) & SEEMALLOC_FLAG_A);
    CHECK_EQ("its M", raw_flags(v->chunk) & SEEMALLOC_FLAG_M, 0);
    CHECK_EQ("the main thread's block is of the main arena", w->arena, 0);
    CHECK_EQ("its A", raw_flags(w->chunk) & SEEMALLOC_FLAG_A, 0);
    CHECK_EQ("a mapped block has no A, whoever took it", raw_flags((uintptr_t)blocks[1] - 16) & SEEMALLOC_FLAG_A, 0);
    texts_quiet = 1;
    for (size_t i = 0; i < view_count; i++)
        if (views[i].state != SEEMALLOC_MAPPED && !view_prev(&views[i]))
            CHECK("the first chunk of each heap has P = 1", raw_flags(views[i].chunk) & SEEMALLOC_FLAG_P);
    texts_quiet = 0;
    put(blocks[0]);
    put(blocks[1]);
}

int main(int argc, char **argv) {
    (void)argc;
    static const struct texts_part parts[] = {{"P", flag_p}, {"M", flag_m}, {"A", flag_a}};
    texts_parts(texts_begin(argv, "T15", NO_CACHE), NO_CACHE, parts, COUNT_OF(parts));
    return texts_end();
}
