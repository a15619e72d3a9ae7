/* replace.c: a server in the manner of Larson and Krishnan: each thread replaces random blocks of a set, then ends and leaves the whole set to a new
 * thread, so that most blocks are freed by another thread than the one that made them.
 * usage: replace SETS THOUSANDS LEAST MOST SLOTS (SETS work at the same time; THOUSANDS of replacements in each; blocks of LEAST to MOST bytes)
 * SPDX-License-Identifier: MIT */
#include "workload.h"

enum { LIVES = 20, MOST_SETS = 64 }; /* threads in a row that work on one set */

static long per_life, least, most, slots;

struct set {
    uint64_t state, sum, operations;
    unsigned char **blocks;
};

static void *life(void *arg) {
    struct set *set = arg;
    for (long i = 0; i < per_life; i++) {
        unsigned char **slot = &set->blocks[rng_below(&set->state, (uint32_t)slots)];
        size_t size = (size_t)least + rng_below(&set->state, (uint32_t)(most - least + 1));
        if (*slot) {
            set->sum += **slot;
            free(*slot);
        }
        *slot = must(malloc(size));
        memset(*slot, (int)(size & 255), size < 64 ? size : 64);
        set->operations++;
    }
    return NULL;
}

int main(int argc, char **argv) {
    static struct set sets[MOST_SETS];
    pthread_t threads[MOST_SETS];
    long count = argument(argc, argv, 1, 2), thousands = argument(argc, argv, 2, 1000);
    least = argument(argc, argv, 3, 10);
    most = argument(argc, argv, 4, 1000);
    slots = argument(argc, argv, 5, 5000);
    if (count < 1 || count > MOST_SETS || least < 1 || most < least || slots < 1) return 2;
    per_life = thousands * 1000 / LIVES;
    for (long s = 0; s < count; s++) {
        sets[s].state = rng_seed((uint64_t)s + 3);
        sets[s].blocks = must(calloc((size_t)slots, sizeof *sets[s].blocks));
        threads[s] = thread_start(life, &sets[s]);
    }
    for (int n = 1; n < LIVES; n++)
        for (long s = 0; s < count; s++) {
            pthread_join(threads[s], NULL);
            threads[s] = thread_start(life, &sets[s]);
        }
    uint64_t sum = 0, operations = 0;
    for (long s = 0; s < count; s++) {
        pthread_join(threads[s], NULL);
        for (long i = 0; i < slots; i++) free(sets[s].blocks[i]);
        free(sets[s].blocks);
        sum += sets[s].sum;
        operations += sets[s].operations;
    }
    return report("replace", operations, sum);
}
