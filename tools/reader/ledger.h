/* ledger.h: where each resident byte of a process is: ours by state, and what is not ours by kind.
 *
 *   rss = states + slack + metadata + retained + others + residual
 *
 * Ours is what the page table says of our regions, blocks and books; others in mappings that hold something of ours likewise; other mappings as smaps
 * has them. The residual is what that leaves of smaps_rollup. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_LEDGER_H
#define SEEMALLOC_READER_LEDGER_H

#include "reader/process.h"

enum ledger_other { LEDGER_STACKS, LEDGER_FILES, LEDGER_SHARED, LEDGER_BREAK, LEDGER_ANONYMOUS, LEDGER_KERNEL, LEDGER_OTHERS };

struct ledger {
    bool pages_known; /* else nothing of ours is known, and no residual */
    bool rss_known, faults_known;
    uint64_t state[HEAP_STATES]; /* resident bytes of chunks */
    uint64_t slack; /* of free chunks, in whole pages that were never handed out, or went back since: the kernel brought them unasked */
    uint64_t retained, metadata;   /* resident bytes */
    uint64_t ours;                 /* all of these */
    uint64_t other[LEDGER_OTHERS]; /* resident bytes that are not ours */
    uint64_t rss;                  /* as smaps_rollup has it */
    uint64_t minor_faults, major_faults;
};

const char *ledger_other_name(enum ledger_other other);

static inline uint64_t ledger_accounted(const struct ledger *ledger) {
    uint64_t sum = ledger->ours;
    for (unsigned i = 0; i < LEDGER_OTHERS; i++) sum += ledger->other[i];
    return sum;
}
static inline int64_t ledger_residual(const struct ledger *ledger) { return (int64_t)(ledger->rss - ledger_accounted(ledger)); }

/* While the process is frozen: what the kernel knows. A core knows nothing of that, a snapshot has it all. False after noting why. */
bool ledger_read(struct ledger *ledger, struct process *process, struct fault *fault);

/* All that is the allocator's, regions and blocks included, by address; none overlaps another. Free it. */
struct heap_range *ledger_list_ours(const struct heap *heap, size_t *count);

/* At any time after that: what each byte of ours is. */
void ledger_sum(struct ledger *ledger, const struct process *process);

#endif
