/* loops.c: what the golden counts are counted on: rounds of malloc and free that all hit, after the first few rounds.
 * usage: loops BLOCKS LEAST MOST ROUNDS: each round allocates BLOCKS blocks of LEAST to MOST bytes, evenly spread and mixed, then frees them.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>

enum { MOST_BLOCKS = 100 };

int main(int argc, char **argv) {
    if (argc != 5) return 2;
    int blocks = atoi(argv[1]), rounds = atoi(argv[4]);
    size_t least = strtoul(argv[2], NULL, 10), most = strtoul(argv[3], NULL, 10), size[MOST_BLOCKS];
    void *mem[MOST_BLOCKS];
    if (blocks < 1 || blocks > MOST_BLOCKS) return 2;
    for (int i = 0; i < blocks; i++) size[i] = least + (most - least) * (size_t)(i * 37 % blocks) / (size_t)(blocks > 1 ? blocks - 1 : 1);
    if (blocks == 1) {
        for (int round = rounds; round > 0; round--) {
            void *one = malloc(least);
            __asm__ __volatile__("" : "+r"(one)); /* the pair is not the compiler's to leave out */
            free(one);
        }
        return 0;
    }
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < blocks; i++) mem[i] = malloc(size[i]);
        for (int i = 0; i < blocks; i++) free(mem[i]);
    }
    return 0;
}
