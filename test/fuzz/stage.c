/* stage.c: see stage.h. A break that refuses is no reason to fail, as mappings stand in for it; nor are unmap, remap, discard and make_unusable,
 * which the allocator can do without. SPDX-License-Identifier: MIT */
#include "stage.h"

#include "fake.h"

bool stage_play(const struct op *op) {
    static bool may_fail; /* under the player's lock */
    switch ((enum op_kind)op->kind) {
    case OP_STAGE_PLAN: {
        struct fake_plan plan = {.skip = op->extra,
                                 .next = op->size & 255,
                                 .every = (uint32_t)(op->size >> 8 & 4095),
                                 .per_mille = (uint32_t)(op->size >> 20 & 4095)};
        enum fake_call call = (enum fake_call)(op->arg % 8);
        if (call == FAKE_WIPE)
            fake_plan_all(plan);
        else
            fake_plan_set(call, plan);
        if (call == FAKE_MAP || call == FAKE_USABLE || call == FAKE_WIPE) may_fail = true;
        break;
    }
    case OP_STAGE_BREAK: fake_set_brk_room(op->size); break;
    case OP_STAGE_SPACE: {
        struct fake_counts counts = fake_count();
        fake_set_space_limit(counts.mapped + counts.brk_bytes + op->size);
        may_fail = true;
        break;
    }
    case OP_STAGE_FOREIGN:
        if (op->arg == 0) fake_foreign_take(op->size);
        if (op->arg == 1) fake_foreign_release();
        if (op->arg == 2) fake_foreign_chance(op->extra % 500, op->size);
        break;
    case OP_STAGE_REMAP: fake_set_remap((enum fake_remap)(op->arg % 3)); break;
    case OP_CALM:
        fake_calm();
        fake_set_remap(FAKE_REMAP_EITHER);
        may_fail = false;
        break;
    default: break;
    }
    return may_fail;
}
