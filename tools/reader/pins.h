/* pins.h: the blocks in use that keep free memory from going back to the system.
 *
 * What would go back if a block alone were freed: it merges with the free chunks before and behind it (in bins, parked, fast, in the inbox, the top; what
 * thread caches hold counts as in use), and of the one free chunk the whole pages behind its links could go, or, where nothing else in a heap is in use,
 * the whole heap. From that is taken what could go back anyway, of the free chunks as they are. Only pages that are in memory count.
 *
 *   releases = those pages, in bytes       keeps = releases - bytes of the block itself in them
 *
 * A pin is a block with keeps > 0. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_PINS_H
#define SEEMALLOC_READER_PINS_H

#include "reader/heap.h"

struct pin {
    size_t chunk; /* index */
    uint64_t releases, keeps;
    bool is_heap; /* the whole heap would go back */
};

struct pins {
    struct pin *largest;             /* by what they release, largest first */
    size_t shown;                    /* how many: at most what was asked for */
    uint64_t count, releases, keeps; /* of all */
};

/* Needs heap->pages_known. Time in proportion to chunks and pages. */
void pins_find(struct pins *pins, const struct heap *heap, uint64_t page_size, size_t most);
void pins_free(struct pins *pins);

#endif
