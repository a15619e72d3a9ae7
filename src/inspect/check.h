/* check.h: every invariant of the heap, checked. SPDX-License-Identifier: MIT */
#ifndef INSPECT_CHECK_H
#define INSPECT_CHECK_H

/* Checks all arenas: walk, seals, P bits and feet, merging, bins and their index, sums, and that every free block is in one place.
 * NULL if all holds, else a message in a static buffer. Other threads must be quiet: what they change meanwhile may look like a fault. */
const char *check_heap(void);

#endif
