/* sizes.c: one thread replaces random blocks of a set, sizes from LEAST to MOST; every fourth operation grows or shrinks a block instead.
 * usage: sizes THOUSANDS LEAST MOST SLOTS [log] (log: each doubling of the size as frequent as the next)
 * SPDX-License-Identifier: MIT */
#include "workload.h"

int main(int argc, char **argv) {
    long operations = argument(argc, argv, 1, 1000) * 1000;
    size_t least = (size_t)argument(argc, argv, 2, 8), most = (size_t)argument(argc, argv, 3, 16000);
    uint32_t slots = (uint32_t)argument(argc, argv, 4, 4000);
    int logarithmic = argc > 5;
    uint64_t state = rng_seed(5), sum = 0;
    unsigned char **blocks = must(calloc(slots, sizeof *blocks));
    for (long i = 0; i < operations; i++) {
        unsigned char **slot = &blocks[rng_below(&state, slots)];
        size_t size = logarithmic ? rng_log_size(&state, least, most) : least + rng_below(&state, (uint32_t)(most - least + 1));
        if (*slot) sum += **slot;
        if (*slot && i % 4 == 0) {
            *slot = must(realloc(*slot, size));
        } else {
            free(*slot);
            *slot = must(malloc(size));
        }
        memset(*slot, (int)(size & 255), size < 256 ? size : 256);
    }
    for (uint32_t i = 0; i < slots; i++) free(blocks[i]);
    free(blocks);
    return report("sizes", (uint64_t)operations, sum);
}
