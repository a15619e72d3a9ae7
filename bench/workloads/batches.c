/* batches.c: batches of 100 to 10000 blocks of 16 to 512 bytes, freed in order, reversed or shuffled.
 * usage: batches order|reversed|shuffled THOUSANDS
 * SPDX-License-Identifier: MIT */
#include "workload.h"

enum { MOST = 10000 };

int main(int argc, char **argv) {
    const char *order = argc > 1 ? argv[1] : "order";
    long wanted = argument(argc, argv, 2, 1000) * 1000;
    static void *blocks[MOST];
    uint64_t state = rng_seed(2), sum = 0;
    long done = 0;
    while (done < wanted) {
        unsigned count = (unsigned)rng_log_size(&state, 100, MOST);
        for (unsigned i = 0; i < count; i++) {
            size_t size = 16 + rng_below(&state, 497);
            unsigned char *b = blocks[i] = must(malloc(size));
            b[0] = (unsigned char)i;
            b[size - 1] = (unsigned char)size;
        }
        if (order[0] == 's') rng_shuffle(&state, blocks, count);
        for (unsigned i = 0; i < count; i++) {
            unsigned char *b = blocks[order[0] == 'r' ? count - 1 - i : i];
            sum += b[0];
            free(b);
        }
        done += count;
    }
    return report("batches", (uint64_t)done, sum);
}
