/* break.c: somebody else moves the program break, or stands in its way.
 *
 * foreign: sbrk calls of odd sizes between mallocs, whose bytes must stay untouched, and which the allocator must not trim away;
 * blocked: a mapping right after the break, so that it cannot grow for a while, and is free again later.
 * SPDX-License-Identifier: MIT */
#include <stdint.h>
#include <sys/mman.h>

#include "probe.h"

enum { BLOCKS = 40000, FOREIGN = 200 };

static unsigned char *blocks[BLOCKS];
static size_t sizes[BLOCKS];
static unsigned seed = 1;

static unsigned next(void) {
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static void fail(const char *what) {
    printf("failed: %s\n", what);
    exit(1);
}

static void block_make(int i) {
    sizes[i] = next() % 3000 + 1;
    blocks[i] = malloc(sizes[i]);
    if (!blocks[i]) fail("malloc returned NULL");
    memset(blocks[i], i & 255, sizes[i]);
}

static void block_drop(int i) {
    if (!blocks[i]) return;
    for (size_t k = 0; k < sizes[i]; k++)
        if (blocks[i][k] != (i & 255)) fail("a block was overwritten");
    free(blocks[i]);
    blocks[i] = NULL;
}

static void foreign(void) {
    static const intptr_t steps[] = {4096, 1000, 24, 65536, 1, 40960, 8192, 333};
    static unsigned char *area[FOREIGN];
    static intptr_t length[FOREIGN];
    for (int i = 0; i < FOREIGN; i++) {
        for (int k = 0; k < 100; k++) block_make(i * 100 + k);
        length[i] = steps[i % 8];
        area[i] = sbrk(length[i]);
        if (area[i] == (void *)-1) fail("sbrk");
        memset(area[i], 0xA0 + i % 7, (size_t)length[i]);
        if (i % 3 == 0)
            for (int k = 0; k < 100; k += 2) block_drop(i * 100 + k);
        if (i % 10 == 9) { /* taken and given back at once */
            void *end = sbrk(0);
            if (sbrk(12288) != end) fail("sbrk(0) did not tell the end");
            sbrk(-12288);
        }
    }
    for (int i = 0; i < FOREIGN * 100; i++) block_drop(i);
    malloc_trim(0);
    if ((unsigned char *)sbrk(0) < area[FOREIGN - 1] + length[FOREIGN - 1]) fail("the allocator took the break below foreign memory");
    for (int i = 0; i < FOREIGN; i++)
        for (intptr_t k = 0; k < length[i]; k++)
            if (area[i][k] != 0xA0 + i % 7) fail("foreign memory was overwritten");
    for (int i = 0; i < BLOCKS / 2; i++) block_make(i);
    for (int i = 0; i < BLOCKS / 2; i++) block_drop(i);
    printf("foreign: kept\n");
}

static void blocked(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < 1000; i++) block_make(i);
    uintptr_t end = ((uintptr_t)sbrk(0) + page - 1) & ~(page - 1);
    void *wall = mmap((void *)end, page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (wall != (void *)end) fail("could not map right after the break");
    if (sbrk((intptr_t)page * 2) != (void *)-1) fail("the break went through the wall");
    for (int i = 1000; i < BLOCKS / 2; i++) block_make(i);
    for (int i = 0; i < BLOCKS / 2; i += 3) block_drop(i);
    malloc_trim(0);
    munmap(wall, page);
    for (int i = BLOCKS / 2; i < BLOCKS; i++) block_make(i);
    for (int i = 0; i < BLOCKS; i += 3)
        if (!blocks[i]) block_make(i);
    for (int i = BLOCKS - 1; i >= 0; i--) block_drop(i);
    malloc_trim(0);
    printf("blocked: went on\n");
}

int main(int argc, char **argv) {
    probe_report(2);
    if (argc < 2) return 2;
    if (!strcmp(argv[1], "foreign"))
        foreign();
    else if (!strcmp(argv[1], "blocked"))
        blocked();
    else
        return 2;
    return 0;
}
