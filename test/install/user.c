/* user.c: a user's program that links an installed seemalloc and finds itself running on it. SPDX-License-Identifier: MIT */
#include <malloc.h>
#include <seemalloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int found;

static int is_mine(const struct seemalloc_chunk *chunk, void *mem) {
    if (chunk->mem == mem && chunk->state == SEEMALLOC_IN_USE) found = 1;
    return 0;
}

int main(void) {
    if (seemalloc_version() == NULL || *seemalloc_version() == '\0') return 1;
    char *block = malloc(1000);
    if (block == NULL) return 2;
    memset(block, 'x', malloc_usable_size(block));
    if (seemalloc_walk(is_mine, block) != 0) return 3;
    struct seemalloc_stats stats;
    if (seemalloc_get_stats(&stats) != 0 || stats.bytes[SEEMALLOC_IN_USE] < 1000) return 4;
    free(block);
    if (!found) return 5; /* malloc was somebody else's */
    puts(seemalloc_version());
    return 0;
}
