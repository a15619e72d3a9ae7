/* op.h: one operation of a stream, and where streams come from: a seeded generator, or bytes (a fuzzer's). An operation stands for itself: it
 * names slots, not addresses, and means something whatever went before, so any part of a stream is a stream. SPDX-License-Identifier: MIT */
#ifndef FUZZ_OP_H
#define FUZZ_OP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum op_kind {
    OP_MALLOC, /* slot, size; whatever is in the slot is freed first, here and in all that allocate */
    OP_CALLOC, /* slot, size = number × arg bytes */
    OP_REALLOC,
    OP_MEMALIGN, /* alignment 2^arg */
    OP_ALIGNED_ALLOC,
    OP_POSIX_MEMALIGN,
    OP_BAD_ALIGNMENT, /* must be refused with EINVAL, or rounded up by memalign */
    OP_FREE,
    OP_USABLE,
    OP_FILL,          /* write the block anew */
    OP_MALLOC_MANY,   /* slots from slot on, extra of them; arg: sizes equal, growing, or random */
    OP_FREE_MANY,     /* likewise; arg: forwards, backwards, every other one, shuffled */
    OP_GIVE,          /* the block goes into a mailbox, from which any thread may take it */
    OP_TAKE,          /* a block from a mailbox comes into the slot */
    OP_TRIM,          /* malloc_trim(size) */
    OP_MALLOPT,       /* arg: which, size: value */
    OP_STATISTICS,    /* mallinfo2 and kin */
    OP_SWITCH,        /* the next operations are done by thread arg */
    OP_EXIT,          /* thread arg ends */
    OP_STAGE_PLAN,    /* refusals by the system; arg: call, extra: skip, size: the rest of the plan */
    OP_STAGE_BREAK,   /* room for the break: size */
    OP_STAGE_SPACE,   /* limit of the address space: size beyond what is mapped */
    OP_STAGE_FOREIGN, /* arg: take now, release, by chance; size */
    OP_STAGE_REMAP,   /* arg: how prim_remap grows */
    OP_CALM,          /* end of all staging */
    OP_KINDS
};

struct op {
    uint8_t kind;
    uint8_t arg;
    uint16_t slot;
    uint32_t extra;
    uint64_t size;
};

/* What a stream may contain and what the player's settings are; drawn from a seed. */
struct op_setup {
    unsigned threads; /* OP_SWITCH goes from 0 to threads - 1; 1: neither SWITCH nor EXIT */
    bool stage;       /* the system is staged (test/fake) */
    bool inject;      /* with refusals and other trouble */
    bool concurrent;  /* several streams at once: nothing that needs quiet */
    unsigned slots;   /* how many are in use */
};

struct op_source {
    struct op_setup setup;
    uint64_t random;
    unsigned mood_left; /* operations until the mixture changes */
    unsigned weight[OP_KINDS], weights;
    unsigned mix_weight[16], mix_weights;
    uint64_t favourite[4];
    unsigned slots;
    bool staged;
};

uint64_t op_random(uint64_t *state); /* splitmix64 */

void op_source_init(struct op_source *source, struct op_setup setup, uint64_t seed);
struct op op_next(struct op_source *source);

/* Reads one operation from bytes; returns how many were used, 0 at the end. */
size_t op_decode(const uint8_t *data, size_t size, struct op_setup setup, struct op *op);

/* As one line of C-like text, into a static buffer of the calling thread. */
const char *op_text(const struct op *op);

#endif
