/* t17.c: T17. Small bins are FIFO: freed chunks enter at the head, requests are served from the tail. Large bins are sorted by size, equal
 * sizes by recency. Fast bins are off (mxfast:0), so that all small sizes go into bins.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#define CONF NO_CACHE ",mxfast:0"
#define N 5

static void small(void) {
    static const size_t sizes[] = {32, 64, 512, 1008};
    static const size_t order[N] = {2, 0, 4, 1, 3};
    for (size_t k = 0; k < COUNT_OF(sizes); k++) {
        void *mem[N];
        uintptr_t ring[N + 2];
        texts_say("small bin of %zu", sizes[k]);
        for (size_t i = 0; i < N; i++) mem[i] = get_guarded(sizes[k]);
        for (size_t i = 0; i < N; i++) put(mem[order[i]]);
        sort_bins();
        CHECK_EQ("all are in the small bin of that size", bin_of(mem[0]), sizes[k] / 16);
        CHECK_EQ("chunks in its ring", ring_of((uintptr_t)mem[0] - 16, ring, COUNT_OF(ring)), N);
        for (size_t i = 0; i < N; i++)
            CHECK_PTR("from the tail: in the order in which they were freed", ring[N - 1 - i], (uintptr_t)mem[order[i]] - 16);

        /* One is served from the tail; freed again it enters at the head. */
        void *first = get(request_of(sizes[k]));
        CHECK_PTR("a request is served from the tail: the one freed first", first, mem[order[0]]);
        put(first);
        sort_bins();
        CHECK_EQ("chunks in the ring", ring_of((uintptr_t)mem[0] - 16, ring, COUNT_OF(ring)), N);
        CHECK_PTR("freed again it is at the head", ring[0], (uintptr_t)first - 16);
        for (size_t i = 1; i < N; i++) CHECK_PTR("served in the order in which they were freed", get(request_of(sizes[k])), mem[order[i]]);
        CHECK_PTR("and that one last", get(request_of(sizes[k])), first);
    }
}

static void large(void) {
    /* All of bin 97, [3136, 3584); freed in this order, so that equal sizes come between others. */
    static const size_t sizes[] = {3264, 3200, 3520, 3200, 3136, 3200};
    enum { L3264, A3200, L3520, B3200, L3136, C3200, CHUNKS };
    /* Largest first; of one size the first keeps its place before the others, which follow newest first. */
    static const int sorted[CHUNKS] = {L3520, L3264, A3200, C3200, B3200, L3136};
    char *mem[CHUNKS];
    uintptr_t ring[CHUNKS + 2], chunk[CHUNKS];
    char *neighbour = NULL;
    for (int i = 0; i < CHUNKS; i++) {
        mem[i] = get_guarded(sizes[i]);
        chunk[i] = (uintptr_t)mem[i] - 16;
        if (i == A3200) {
            neighbour = mem[i] + sizes[i]; /* its guard; and another behind that */
            get_filled(24);
        } /* its guard */
    }
    for (int i = 0; i < CHUNKS; i++) put(mem[i]);
    sort_bins();
    for (int i = 0; i < CHUNKS; i++) CHECK_EQ("all are in bin 97", bin_of(mem[i]), 97);
    CHECK_EQ("chunks in its ring", ring_of(chunk[0], ring, COUNT_OF(ring)), CHUNKS);
    for (int i = 0; i < CHUNKS; i++) CHECK_PTR("sorted by size, largest first, equal sizes by recency", ring[i], chunk[sorted[i]]);

    /* The ring of sizes has one chunk of each. */
    static const int heads[] = {L3520, L3264, A3200, L3136};
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        CHECK_PTR("fd_nextsize leads to the first chunk of the next smaller size", raw(chunk[heads[i]])->fd_nextsize,
                  chunk[heads[(i + 1) % 4]]);
        CHECK_PTR("bk_nextsize leads to that of the next larger", raw(chunk[heads[i]])->bk_nextsize, chunk[heads[(i + 3) % 4]]);
    }
    CHECK_PTR("a further chunk of a size has no fd_nextsize", raw(chunk[B3200])->fd_nextsize, 0);
    CHECK_PTR("nor bk_nextsize", raw(chunk[B3200])->bk_nextsize, 0);
    CHECK_PTR("a further chunk of a size has no fd_nextsize", raw(chunk[C3200])->fd_nextsize, 0);
    CHECK_PTR("nor bk_nextsize", raw(chunk[C3200])->bk_nextsize, 0);

    /* The newest of the further ones is served first. */
    CHECK_PTR("of equal sizes the most recent is served", get(request_of(3200)), mem[C3200]);
    put(mem[C3200]);
    sort_bins();
    CHECK_EQ("freed again: chunks in the ring", ring_of(chunk[0], ring, COUNT_OF(ring)), CHUNKS);
    CHECK_PTR("it is second of its size again", ring[3], chunk[C3200]);

    /* The first of its size goes (its neighbour is freed, they merge): the next takes its place in the ring of sizes. */
    put(neighbour);
    sort_bins();
    CHECK_EQ("chunks in the ring of bin 97 with A merged away (3232, in the same bin)", ring_of(chunk[0], ring, COUNT_OF(ring)), CHUNKS);
    CHECK_PTR("A and its neighbour are 3232 and stand by their size", ring[2], chunk[A3200]);
    CHECK_PTR("C heads 3200 now", ring[3], chunk[C3200]);
    CHECK_PTR("fd_nextsize of C", raw(chunk[C3200])->fd_nextsize, chunk[L3136]);
    CHECK_PTR("bk_nextsize of C", raw(chunk[C3200])->bk_nextsize, chunk[A3200]);
    CHECK_PTR("fd_nextsize of A", raw(chunk[A3200])->fd_nextsize, chunk[C3200]);
    CHECK_PTR("bk_nextsize of A", raw(chunk[A3200])->bk_nextsize, chunk[L3264]);
    CHECK_PTR("of 3200 the further one is served first", get(request_of(3200)), mem[B3200]);
    CHECK_PTR("then the head", get(request_of(3200)), mem[C3200]);
    CHECK_PTR("the ring of sizes closes over it", raw(chunk[A3200])->fd_nextsize, chunk[L3136]);
}

static void many(void) {
    /* 600 chunks in mixed order into few bins: sorted they are. */
    static void *mem[600];
    static uintptr_t ring[700];
    unsigned state = 1;
    for (size_t i = 0; i < COUNT_OF(mem); i++) {
        state = state * 1103515245 + 12345;
        mem[i] = get_guarded(10752 + (state >> 16) % 300 * 16);
    }
    for (size_t i = 0; i < COUNT_OF(mem); i++) put(mem[i * 7 % COUNT_OF(mem)]);
    sort_bins();
    CHECK_EQ("left unsorted", views_in(SEEMALLOC_UNSORTED), 0);
    texts_quiet = 1;
    size_t seen = 0;
    int done[128] = {0};
    for (size_t i = 0; i < COUNT_OF(mem); i++) {
        int bin = bin_of(mem[i]);
        if (bin < 64 || bin > 126 || done[bin]) continue;
        done[bin] = 1;
        size_t n = ring_of((uintptr_t)mem[i] - 16, ring, COUNT_OF(ring)), heads = 0, sizes = n != 0;
        CHECK("the ring is whole", n != 0);
        seen += n;
        for (size_t j = 0; j + 1 < n; j++) {
            CHECK("never smaller before larger", raw_size(ring[j]) >= raw_size(ring[j + 1]));
            sizes += raw_size(ring[j]) != raw_size(ring[j + 1]);
        }
        uintptr_t c = n ? ring[0] : 0;
        do {
            heads++;
            CHECK("the ring of sizes is whole", c && raw(raw(c)->fd_nextsize)->bk_nextsize == c);
            c = c ? raw(c)->fd_nextsize : 0;
        } while (c && c != ring[0] && heads <= n);
        CHECK_EQ("the ring of sizes has each size once", heads, sizes);
    }
    texts_quiet = 0;
    CHECK_EQ("chunks seen in the bins' rings", seen, COUNT_OF(mem));
}

int main(int argc, char **argv) {
    (void)argc;
    static const struct texts_part parts[] = {{"small", small}, {"large", large}, {"many", many}};
    texts_parts(texts_begin(argv, "T17", CONF), CONF, parts, COUNT_OF(parts));
    return texts_end();
}
