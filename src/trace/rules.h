/* rules.h: how to get from a frame to its caller's, by return address: read from the tables for exceptions (.eh_frame) once, and remembered. Most code needs
 * little: the frame's end (CFA) is the stack or the frame pointer plus a number, the return address lies just below it, and the frame pointer is as it was
 * or lies at a place known from there. Everything else is UNWIND_OTHER. x86-64 only. SPDX-License-Identifier: MIT */
#ifndef TRACE_RULES_H
#define TRACE_RULES_H

#include "base/base.h"

#if defined(SEEMALLOC_TRACE) && defined(__x86_64__)
#define RULES_COMPILED

enum unwind { UNWIND_UNKNOWN, UNWIND_BY_STACK, UNWIND_BY_FRAME, UNWIND_END, UNWIND_OTHER };

/* In one word: bits 0..2 enum unwind, 3..31 CFA offset, from 32 where the frame pointer was saved: bytes below the CFA, 0: it is as it was. */
typedef uint64_t unwind_rule;

#define RULES 16384

struct rule_entry {
    uint64_t check; /* address ^ rule: what two threads wrote at once is seen to be nonsense */
    unwind_rule rule;
};
extern struct rule_entry rules[RULES];

unwind_rule rule_find(uint64_t address); /* in the tables; remembers it */

/* For a return address: what is there is a call that ended just before. */
static ALWAYS_INLINE unwind_rule rule_of(uint64_t address) {
    struct rule_entry *entry = &rules[(address ^ address >> 14) % RULES];
    unwind_rule known = load_relaxed(&entry->rule);
    return LIKELY((load_relaxed(&entry->check) ^ known) == address) ? known : rule_find(address);
}

#endif
#endif
