/* stage.h: carries out the operations OP_STAGE_* on the fake system (test/fake). SPDX-License-Identifier: MIT */
#ifndef FUZZ_STAGE_H
#define FUZZ_STAGE_H

#include "op.h"

/* For player_setup. True while requests may fail: refusals that the allocator must make up for in another way don't count. */
bool stage_play(const struct op *op);

#endif
