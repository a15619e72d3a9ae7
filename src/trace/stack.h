/* stack.h: where an allocation comes from: return addresses, innermost first, and each thread's memory of those that it told the command. SPDX-License-Identifier: MIT */
#ifndef TRACE_STACK_H
#define TRACE_STACK_H

#include "base/base.h"

struct trace_stacks;

void stacks_begin(bool by_pointers);   /* once, before the first walk */
struct trace_stacks *stacks_new(void); /* for a thread; NULL: no memory */

/* The return addresses of the caller's callers outside of this library, at most `depth`. */
unsigned stack_walk(struct trace_stacks *stacks, uint64_t *frame, unsigned depth);

/* Whether the stack is remembered; *slot is where, or where it would be once stacks_keep was called. */
bool stacks_find(struct trace_stacks *stacks, const uint64_t *frame, unsigned count, unsigned *slot);
void stacks_keep(struct trace_stacks *stacks, unsigned slot);
void stacks_end(struct trace_stacks *stacks);

#endif
