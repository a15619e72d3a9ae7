/* large.c: large blocks of 64 KiB to 32 MiB with mixed lifetimes; every page of each is written once.
 * usage: large BLOCKS
 * SPDX-License-Identifier: MIT */
#include "workload.h"

enum { SLOTS = 12, PAGE = 4096 };

int main(int argc, char **argv) {
    long wanted = argument(argc, argv, 1, 500);
    unsigned char *blocks[SLOTS] = {0};
    uint64_t state = rng_seed(6), sum = 0;
    for (long n = 0; n < wanted; n++) {
        unsigned slot = rng_below(&state, SLOTS);
        if (slot < 3 && rng_below(&state, 4)) slot += 3; /* some live longer */
        if (blocks[slot]) sum += blocks[slot][PAGE];
        free(blocks[slot]);
        size_t size = rng_log_size(&state, 64 << 10, 32 << 20);
        blocks[slot] = must(malloc(size));
        for (size_t at = 0; at < size; at += PAGE) blocks[slot][at] = (unsigned char)n;
    }
    for (unsigned i = 0; i < SLOTS; i++) free(blocks[i]);
    return report("large", (uint64_t)wanted, sum);
}
