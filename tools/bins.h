/* bins.h: how a list of free chunks is called. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_BINS_H
#define SEEMALLOC_TOOL_BINS_H

#include "reader/heap.h"

struct bins_words {
    char name[24], sizes[48]; /* "small 12" and "208": the sizes of chunks that belong there */
};

/* False: the list is not one of an arena. */
bool bins_words(const struct heap *heap, const struct heap_list *list, struct bins_words *words);

#endif
