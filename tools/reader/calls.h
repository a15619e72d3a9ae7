/* calls.h: the stacks of a recording as one tree of frames, from the outermost in: what a node's children share is stored once. Inlined functions are frames of
 * their own. Stacks that look alike (the same functions and lines) are one site. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_CALLS_H
#define SEEMALLOC_READER_CALLS_H

#include "reader/profile.h"
#include "reader/symbols.h"

struct call_node {
    uint32_t parent; /* a lower index; of the root, which is node 0, itself */
    uint32_t frame;
};

struct call_site {
    uint32_t node; /* its innermost frame; 0: the stack is not known */
    struct profile_sums sums;
};

struct calls {
    struct symbols symbols;
    struct symbol_frame *frames; /* no two are alike */
    size_t frame_count, frame_room;
    struct call_node *nodes;
    size_t node_count, node_room;
    struct call_site *sites;
    size_t site_count, site_room;
    struct lookup by_content, by_parent, by_node;
};

/* `profile` must live until calls_close. */
void calls_open(struct calls *calls, const struct profile *profile);
void calls_close(struct calls *calls);

/* Which of the sums a user asks for. */
enum calls_measure { CALLS_LIVE, CALLS_PEAK, CALLS_TOTAL };
const struct profile_amount *calls_amount(const struct profile_sums *sums, enum calls_measure measure);

#endif
