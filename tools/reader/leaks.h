/* leaks.h: blocks in use that nothing leads to.
 *
 * Roots are the registers of all threads, their stacks from the stack pointer up, and all other memory that holds data and isn't the allocator's. A word
 * that is the address of any byte of a block leads to it, and then all words of that block count too. What a cache, a bin or a free chunk holds leads
 * nowhere. So a block may be missed, because a number looks like its address, but one that is shown had no address in any aligned word.
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_LEAKS_H
#define SEEMALLOC_READER_LEAKS_H

#include "reader/process.h"

#define LEAK_BEGIN 16

struct leak {
    uint64_t address, size; /* as malloc returned it; of its chunk or mapping */
    uint32_t arena;         /* index; of a mapped block: 0 */
    bool is_mapped;
    bool is_held;   /* another leak leads to it */
    bool has_begin; /* leaks_sample has read it */
    uint8_t begin[LEAK_BEGIN];
};

struct leaks {
    struct leak *leak; /* by size, largest first, then by address */
    size_t count;
    uint64_t bytes;
    size_t blocks;       /* in use, all of them */
    uint64_t root_bytes; /* looked at */
    uint64_t unread;     /* of roots that could not be read */
};

/* Needs the process frozen, or a core. Time in proportion to the bytes of roots and of blocks that are reached. False after noting why. */
bool leaks_find(struct leaks *leaks, struct process *process, struct fault *fault);

/* Reads the first bytes of a leak, if they can be; while the process is still frozen. */
void leaks_sample(struct leak *leak, struct process *process);

void leaks_free(struct leaks *leaks);

#endif
