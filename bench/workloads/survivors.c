/* survivors.c: long-lived survivors: MIB of blocks of one range of sizes, of which all but one in a hundred are freed in random order; then as much of the
 * next range, whose blocks have to fit between what is left, and so on: 48 to 96 bytes, 160 to 320, 600 to 1200, 2000 to 4000. Then light work for QUIET
 * milliseconds.
 * usage: survivors MIB QUIET
 * SPDX-License-Identifier: MIT */
#include "memory.h"

enum { RANGES = 4, KEPT = 100 };

int main(int argc, char **argv) {
    size_t bytes = (size_t)argument(argc, argv, 1, 100) << 20;
    long quiet = argument(argc, argv, 2, 2000);
    static const size_t least[RANGES] = {48, 160, 600, 2000};
    uint64_t state = rng_seed(50), sum = 0, operations = 0;
    void **blocks[RANGES];
    size_t kept[RANGES];
    for (unsigned range = 0; range < RANGES; range++) {
        size_t low = least[range], count = bytes / (low + low / 2);
        void **all = must(malloc(count * sizeof *all));
        for (size_t i = 0; i < count; i++) {
            size_t size = low + rng_below(&state, (uint32_t)low + 1);
            all[i] = memset(must(malloc(size)), (int)(i & 255), size);
        }
        rng_shuffle(&state, all, count);
        kept[range] = count / KEPT;
        for (size_t i = kept[range]; i < count; i++) {
            sum += *(unsigned char *)all[i];
            free(all[i]);
        }
        blocks[range] = memcpy(must(malloc(kept[range] * sizeof *all)), all, kept[range] * sizeof *all);
        free(all);
        operations += count;
    }
    work_lightly(&state, quiet, &sum);
    look();
    for (unsigned range = 0; range < RANGES; range++) {
        for (size_t i = 0; i < kept[range]; i++) {
            sum += *(unsigned char *)blocks[range][i];
            free(blocks[range][i]);
        }
        free(blocks[range]);
    }
    return report("survivors", operations, sum);
}
