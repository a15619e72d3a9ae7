/* sparse.c: huge pages only for those who write all of their large blocks.
 * usage: sparse sparse | turned | kept | dense | never
 * sparse: such blocks are freed and taken again, a few pages of each are written: no more is resident than was ever written, and no page is huge.
 * turned: all were written wholly first; then the same. It never has more resident than before.
 * kept:   likewise, but what is written sparsely then is much more, and is not freed: half as much again at most is resident.
 * dense:  written wholly each time: there are huge pages. never: not with that setting. SPDX-License-Identifier: MIT */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pages.h"

enum { SLOTS = 10, ROUNDS = 300, KEPT = 100, PAGE = 4096, PAGES_EACH = 8 };
#define SIZE_LEAST ((size_t)5 << 20)
#define SIZE_MOST ((size_t)30 << 20)

static struct block blocks[SLOTS];
static uint64_t seed = 1;

static void renew(struct block *block, bool whole) {
    free(block->mem);
    block->size = SIZE_LEAST + pages_random(&seed) % (SIZE_MOST - SIZE_LEAST);
    block->mem = malloc(block->size);
    if (block->mem == NULL) abort();
    size_t step = whole ? PAGE : block->size / PAGES_EACH;
    for (size_t at = PAGE; at + PAGE <= block->size; at += step) block->mem[at] = 1;
}

static size_t work(unsigned rounds, bool whole) {
    size_t most = 0;
    for (unsigned i = 0; i < rounds; i++) {
        renew(&blocks[pages_random(&seed) % SLOTS], whole);
        size_t now = i % 8 == 0 ? pages_of_heap() : 0;
        if (now > most) most = now;
    }
    return most;
}

static size_t huge_kib(void) {
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    char line[256];
    size_t kib = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL) sscanf(line, "AnonHugePages: %zu", &kib);
    if (file != NULL) fclose(file);
    return kib;
}

static bool system_asks(void) {
    FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");
    char line[256] = "";
    bool asks = file != NULL && fgets(line, sizeof line, file) != NULL && strstr(line, "[madvise]") != NULL;
    if (file != NULL) fclose(file);
    return asks;
}

int main(int argc, char **argv) {
    const char *how = argc > 1 ? argv[1] : "sparse";
    bool sparse = strcmp(how, "sparse") == 0, turned = strcmp(how, "turned") == 0, never = strcmp(how, "never") == 0;
    bool kept = strcmp(how, "kept") == 0;
    if (!system_asks()) {
        printf("the system does not ask for advice: skipped\n");
        return 77;
    }
    size_t vmas = pages_vmas().found, dense = sparse ? 0 : work(ROUNDS, true), huge = huge_kib(), after = 0;
    for (unsigned i = 0; i < SLOTS && kept; i++) {
        free(blocks[i].mem);
        blocks[i].mem = NULL;
    }
    for (unsigned i = 0; i < KEPT && kept; i++) {
        struct block block = {NULL, 0};
        renew(&block, false);
        after = pages_of_heap();
    }
    if (sparse || turned) after = work(ROUNDS, false);
    struct vmas now = pages_vmas();
    printf("%s: at most %zu pages dense, with %zu KiB in huge pages at the end; then at most %zu; %zu KiB huge now; %zu mappings more\n",
           how, dense, huge, after, huge_kib(), now.found - vmas);
    pages_print_states();
    bool bad = now.found - vmas > pages_vmas_allowed(now) || (!sparse && (never ? huge != 0 : huge == 0));
    if (sparse) bad |= huge_kib() != 0 || after > ROUNDS * PAGES_EACH + SLOTS * PAGES_EACH;
    if (turned) bad |= after > dense;
    if (kept) bad |= after > dense + dense / 2;
    if (bad) printf("FAILED\n");
    return bad;
}
