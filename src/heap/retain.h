/* retain.h: mappings of freed blocks that the next ones will have: of those beyond 32 MiB, which the sliding threshold never brings into the heap.
 *
 * A program that frees and maps such blocks again and again pays a system call and a page fault for every page each time. So what is freed
 * stays for a short while, if
 *   - lately something was mapped soon after as much was unmapped (regret; the first free of all always unmaps),
 *   - heaps, mapped blocks and what is retained together stay below what heaps and mapped blocks had at their highest,
 *   - it is within the setting retain_max and a quarter of what a control group's limit leaves, and the user has not fixed the thresholds.
 * What nobody took within RETAIN_TIME goes back on a slow path, and everything in malloc_trim and when memory is short.
 *
 * Lock-free, as the table of mapped blocks; thread-safe. A fork that happens while another thread holds a slot loses that mapping in the child.
 * SPDX-License-Identifier: MIT */
#ifndef HEAP_RETAIN_H
#define HEAP_RETAIN_H

#include "base/base.h"

#define RETAIN_TIME 1000000000u /* ns */
#define RETAIN_SLOTS 16
#define RETAIN_CLAIMED 1u

struct retained {
    uintptr_t start; /* 0 empty, RETAIN_CLAIMED, else the mapping's address; atomic */
    size_t length;   /* both valid if `start` is an address; whoever has claimed the slot may change them */
    uint64_t since;
};
extern struct retained retain_slots[RETAIN_SLOTS]; /* for readers */

extern size_t retained_bytes; /* relaxed atomic */
extern size_t heap_bytes;     /* of all arenas, from the system; relaxed atomic, kept by them */
extern size_t footprint_peak; /* highest sum of heaps and mapped blocks, as noted; relaxed atomic */
size_t footprint_note(void);  /* the sum now; not with a lock held, for it may read files */
size_t footprint_spare(void); /* what may lie about unused: a quarter of what the control group allows beyond that sum; SIZE_MAX: any */

/* Retains a mapping that is not in use any more, or a part of it, and unmaps the rest. */
void retain_free(char *start, size_t length);

/* A mapping of `length` bytes or a little more, *length then says so; contents are any. NULL: map a new one. */
char *retain_take(size_t *length);

/* A new mapping of `length` bytes had to be made: had one been retained, it need not have been. */
void retain_note_new(size_t length);

/* Gives back what is too old or, with what the heaps have by now, too much. Cheap if there is nothing. */
void retain_shed(void);

/* Everything; true if there was anything. */
bool retain_release(void);

/* Calls visit for each mapping that waits; one that is just taken may be missing. */
void retain_walk(void (*visit)(const void *start, size_t size, void *arg), void *arg);

/* In a forked child: what another thread was about to take or to put there is not there. */
void retain_fork_child(void);

/* Gives a mapping back, or at least its memory. */
void mapping_drop(char *start, size_t length);

#endif
