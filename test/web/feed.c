/* feed.c: feeds the writer what a reader of a running process may find: gaps, chunks that can't be, pages of all kinds; and so many chunks that varints,
 * blocks and the list of regions grow. feed TEMPLATE writes a page to standard output; data.py knows what must be in it. feed TEMPLATE CHUNKS writes so
 * many chunks without any order in sizes and states: as little as there can be to compress.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../tools/heap_data.h"

static char page[1 << 20];

static const void *at(uint64_t address) { return (const void *)(uintptr_t)address; }

static void region(struct heap_data *data, uint64_t start, uint64_t end, enum seemalloc_region_kind kind) {
    heap_data_region(data, &(struct seemalloc_region){at(start), at(end), at(end), 0, kind});
}

static void strange(struct heap_data *data) {
    region(data, 0x10000, 0x14008, SEEMALLOC_REGION_BRK); /* five pages, the last one in part */
    heap_data_pages(data, 2, false);
    heap_data_pages(data, 1, true);
    heap_data_pages(data, 1, true);
    heap_data_pages(data, 99, false);
    heap_data_chunk(data, 0x10000, 0x100, SEEMALLOC_IN_USE, -1);
    heap_data_chunk(data, 0x10200, 0x100, SEEMALLOC_SMALL, 16);  /* a gap before it */
    heap_data_chunk(data, 0x10280, 0x100, SEEMALLOC_IN_USE, -1); /* begins in the one before */
    heap_data_chunk(data, 0x10308, 0x100, SEEMALLOC_IN_USE, -1); /* not aligned */
    heap_data_chunk(data, 0x10300, 0x8000, SEEMALLOC_TOP, -1);   /* too long */
    heap_data_chunk(data, 0x10300, 0, SEEMALLOC_IN_USE, -1);
    heap_data_chunk(data, 0x10300, UINT64_MAX - 15, SEEMALLOC_IN_USE, -1);

    region(data, 0x20000, 0x21000, SEEMALLOC_REGION_HEAP); /* of which nothing is known */

    const uint64_t huge = UINT64_C(1) << 37;
    region(data, 0x7f0000000000, 0x7f0000000000 + huge, SEEMALLOC_REGION_BLOCK);
    heap_data_chunk(data, 0x7f0000010000, huge - 0x10000, SEEMALLOC_MAPPED, -1);

    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t start = UINT64_C(0x100000000) + (i << 20);
        region(data, start, start + 200 * 32, SEEMALLOC_REGION_MMAP);
        for (uint64_t j = 0; j < 200; j++)
            heap_data_chunk(data, start + j * 32, 32, j % 2 == 0 ? SEEMALLOC_IN_USE : SEEMALLOC_FAST, j % 2 == 0 ? -1 : (int)(i % 200));
    }
}

static void disorder(struct heap_data *data, uint64_t count) {
    const uint64_t start = UINT64_C(0x100000000);
    uint64_t at_chunk = start, random = 88172645463325252u;
    region(data, start, start + count * 1024, SEEMALLOC_REGION_BRK);
    for (uint64_t i = 0; i < count; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint64_t size = 32 + 16 * ((random >> 33) % 48);
        enum seemalloc_state state = (random >> 60) < 10 ? SEEMALLOC_IN_USE : SEEMALLOC_CACHED + (enum seemalloc_state)((random >> 56) % 4);
        heap_data_chunk(data, at_chunk, size, state, (int)(size / 16 - 2));
        heap_data_pages(data, 1 + (random >> 50) % 4, (random >> 49) % 2);
        at_chunk += size;
    }
    heap_data_chunk(data, at_chunk, start + count * 1024 - at_chunk, SEEMALLOC_TOP, -1);
}

int main(int argc, char **argv) {
    FILE *template = argc == 2 || argc == 3 ? fopen(argv[1], "re") : NULL;
    if (template == NULL) {
        fputs("usage: feed TEMPLATE [CHUNKS]\n", stderr);
        return 2;
    }
    struct heap_data *data = heap_data_open(stdout, page, fread(page, 1, sizeof page, template), 4096);
    fclose(template);
    if (data == NULL) {
        fprintf(stderr, "feed: %s: %s\n", argv[1], strerror(errno));
        return 1;
    }
    if (argc == 3)
        disorder(data, strtoul(argv[2], NULL, 10));
    else
        strange(data);

    const char *states[SEEMALLOC_STATE_COUNT];
    for (int i = 0; i < SEEMALLOC_STATE_COUNT; i++) states[i] = "s";
    const struct heap_data_number ledger[] = {{"a", 1}, {"b", UINT64_C(1) << 50}};
    const struct heap_data_head head = {.process = "\"\\</script>\x01 \xc3\xa9 \xff \xed\xa0\x80",
                                        .version = "0",
                                        .read = "core",
                                        .torn = true,
                                        .clock = UINT64_MAX,
                                        .state_names = states,
                                        .ledger = ledger,
                                        .ledger_count = 2};
    if (!heap_data_close(data, &head)) {
        fprintf(stderr, "feed: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}
