/* vectors.c: vectors that grow by realloc: in each round one to MIB MiB by half of its length at a time, and a thousand small ones by doubling, in turns.
 * usage: vectors ROUNDS MIB
 * SPDX-License-Identifier: MIT */
#include "workload.h"

enum { SMALL = 1000 };

struct vector {
    uint32_t *items;
    size_t count, room;
};

static uint64_t operations;

static void push(struct vector *v, uint32_t item, int halves) {
    if (v->count == v->room) {
        v->room = v->room < 4 ? 4 : v->room + (halves ? v->room / 2 : v->room);
        v->items = must(realloc(v->items, v->room * sizeof *v->items));
        operations++;
    }
    v->items[v->count++] = item;
}

int main(int argc, char **argv) {
    long rounds = argument(argc, argv, 1, 5);
    size_t goal = (size_t)argument(argc, argv, 2, 64) << 18;
    static struct vector small[SMALL];
    uint64_t state = rng_seed(7), sum = 0;
    for (long r = 0; r < rounds; r++) {
        struct vector big = {0};
        for (size_t i = 0; i < goal; i++) {
            push(&big, (uint32_t)i, 1);
            if (i % 8 == 0) push(&small[rng_below(&state, SMALL)], (uint32_t)i, 0);
        }
        sum += big.items[big.count / 2];
        free(big.items);
        for (int i = 0; i < SMALL; i++) {
            if (small[i].count) sum += small[i].items[small[i].count / 2];
            free(small[i].items);
            small[i] = (struct vector){0};
        }
    }
    return report("vectors", operations, sum);
}
