/* phases.c: a program whose block size changes: MIB of 48-byte blocks, all freed in random order, then as many of 64 bytes, and so on in turn.
 * What the first phase left behind must serve the second. As a memory workload it works lightly for QUIET milliseconds at the end.
 * usage: phases MIB PHASES [QUIET]
 * SPDX-License-Identifier: MIT */
#include "memory.h"

int main(int argc, char **argv) {
    size_t bytes = (size_t)argument(argc, argv, 1, 100) << 20;
    long phases = argument(argc, argv, 2, 2), quiet = argument(argc, argv, 3, 0);
    static const size_t sizes[] = {48, 64};
    uint64_t state = rng_seed(7), sum = 0, operations = 0;
    void **blocks = must(calloc(bytes / sizes[0], sizeof *blocks));
    for (long phase = 0; phase < phases; phase++) {
        size_t size = sizes[phase % 2], count = bytes / size;
        for (size_t i = 0; i < count; i++) blocks[i] = memset(must(malloc(size)), (int)(i & 255), size);
        rng_shuffle(&state, blocks, count);
        for (size_t i = 0; i < count; i++) {
            sum += *(unsigned char *)blocks[i];
            free(blocks[i]);
        }
        operations += count;
    }
    work_lightly(&state, quiet, &sum);
    look();
    free(blocks);
    return report("phases", operations, sum);
}
