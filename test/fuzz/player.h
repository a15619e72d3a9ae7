/* player.h: plays streams of operations on an allocator and notices whatever it does wrong.
 *
 * What is checked at every operation: alignment; no overlap of live blocks, up to their usable size (shadow.h); contents kept, slack included
 * (each block carries a pattern); calloc's zeros; errno; failure only for a reason. Between operations, every `check_every` of them: the
 * allocator's own invariants, and that its books agree with the player's: as many blocks and bytes in use, each where the player has it.
 * At the end: all given back, and in-use bytes are what they were at the start.
 *
 * A lane is one stream with its blocks. Alone, it may be played by several threads that take turns (OP_SWITCH), which is repeatable; several
 * lanes play at the same time, each in a thread of its own, and meet at barriers. The player keeps its books in memory of its own.
 * SPDX-License-Identifier: MIT */
#ifndef FUZZ_PLAYER_H
#define FUZZ_PLAYER_H

#include "op.h"
#include "subject.h"

enum { PLAYER_SLOTS = 4096, PLAYER_ACTORS = 8 };

struct player;
struct lane;

struct player_setup {
    const struct subject *subject;
    struct op_setup ops;
    bool limited;         /* by a setting: every request may fail */
    unsigned lanes;       /* that play at the same time */
    unsigned check_every; /* operations; 0: never but at the end and at barriers */
    size_t live_limit;    /* bytes per lane that may be live; beyond it, the player frees first */
    uint64_t seed;        /* of the blocks' patterns */

    /* Carries out the operations OP_STAGE_*; NULL: there is none. Returns true while calls of the system may fail. */
    bool (*stage)(const struct op *op);
    const char *(*stage_check)(void); /* NULL if all is well */

    /* Told of the first fault; must not return. */
    void (*fault)(const char *message);
    /* Told before every operation, or NULL: for a report after a crash. */
    void (*progress)(unsigned lane, uint64_t number, const struct op *op);
};

struct player *player_new(const struct player_setup *setup);
void player_delete(struct player *player); /* after player_finish */

struct lane *player_lane(struct player *player, unsigned index);
void lane_play(struct lane *lane, const struct op *op);

/* With all lanes at rest: the allocator's books against the player's. */
void player_check(struct player *player);

/* With all lanes at rest: ends the staging and the other threads, frees all, and looks whether the allocator is as at the start. */
void player_finish(struct player *player);

uint64_t player_operations(const struct player *player); /* blocks allocated, freed, or resized, and all other calls */

#endif
