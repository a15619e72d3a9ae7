/* light.c: the same for a process of one thread that, after its burst of frees, only takes and gives a few blocks now and then, which all come from its
 * cache: it must be seen that time goes on. usage: light SIZE DEPTH (0: sizes of 16 to 2063 bytes). SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pages.h"

enum { BLOCKS = 200000, KEPT = 20, ROUNDS = 3000, DEPTH_MOST = 16 };

int main(int argc, char **argv) {
    size_t size = argc > 1 ? strtoul(argv[1], NULL, 10) : 0;
    unsigned depth = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 4;
    if (depth > DEPTH_MOST) return 2;
    struct block *blocks = pages_map(BLOCKS * sizeof *blocks);
    uint64_t random = 1;
    for (size_t i = 0; i < BLOCKS; i++) {
        blocks[i].size = size != 0 ? size : 16 + pages_random(&random) % 2048;
        blocks[i].mem = memset(malloc(blocks[i].size), 1, blocks[i].size);
    }
    pages_shuffle(blocks, BLOCKS, &random);
    size_t left = BLOCKS / KEPT, before = pages_of_heap();
    for (size_t i = left; i < BLOCKS; i++) free(blocks[i].mem);
    for (unsigned round = 0; round < ROUNDS; round++) {
        void *some[DEPTH_MOST];
        for (unsigned k = 0; k < depth; k++) {
            size_t here = size != 0 ? size : 16 + pages_random(&random) % 200;
            some[k] = memset(malloc(here), 1, here);
        }
        for (unsigned k = 0; k < depth; k++) free(some[k]);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    const struct block *group = blocks;
    size_t resident = pages_of_heap(), live = pages_live(&group, &left, 1);
    printf("blocks of %zu bytes, %u at a time: %zu pages, then %zu, of which %zu hold a live byte: %.3f times\n", size, depth, before,
           resident, live, (double)resident / (double)live);
    pages_print_states();
    if ((double)resident <= 1.10 * (double)live) return 0;
    printf("FAILED: more than 1.10 times\n");
    return 1;
}
