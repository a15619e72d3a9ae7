/* pairs.c: LIFO pairs: blocks are freed in the reverse order of their allocation, up to sixteen deep, sizes 16 to 256.
 * usage: pairs THOUSANDS
 * SPDX-License-Identifier: MIT */
#include "workload.h"

enum { DEPTH = 16 };

int main(int argc, char **argv) {
    long rounds = argument(argc, argv, 1, 1000) * 1000;
    uint64_t state = rng_seed(1), sum = 0, operations = 0;
    for (long r = 0; r < rounds; r += DEPTH) {
        unsigned char *stack[DEPTH];
        unsigned depth = 1 + rng_below(&state, DEPTH);
        for (unsigned i = 0; i < depth; i++) {
            stack[i] = must(malloc(16 + rng_below(&state, 241)));
            stack[i][0] = (unsigned char)i;
        }
        while (depth-- > 0) {
            sum += stack[depth][0];
            free(stack[depth]);
            operations++;
        }
    }
    return report("pairs", operations, sum);
}
