/* shadow.h: which bytes are live, one bit for each 8, in memory of its own. Tells at once when two blocks overlap, also across threads: marking
 * is one atomic OR a word. Mark after the allocator handed a block out, clear before it gets it back. SPDX-License-Identifier: MIT */
#ifndef FUZZ_SHADOW_H
#define FUZZ_SHADOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Each returns the first address at which it found the opposite of what must be (already live, not live), or NULL. Size is rounded up to 8. */
const void *shadow_mark(const void *start, size_t size);
const void *shadow_clear(const void *start, size_t size);

bool shadow_is_live(const void *at);
void shadow_reset(void); /* forget all; nobody else may be using it */

/* Zeroed pages from the system for the tests' own books; ends the program if there are none. */
void *shadow_pages(size_t size);

#endif
