/* sweep.c: merges very many fast blocks by going over the arena in address order.
 *
 * Block by block, in the order in which they were freed, each merge waits for the memory of its neighbours and of the chunks beside those in their bins. Where
 * a large part of the arena lies in fast bins it is cheaper to go over all of it. What lies in fast bins is sealed as `loose`: so the lists are forgotten, all
 * at once, and chunk after chunk is looked at; loose ones that follow each other become one. In bounded parts, with the lock let go between; whoever merges
 * next goes on. Meanwhile loose blocks count as fast, and nothing comes into fast bins. SPDX-License-Identifier: MIT */
#include "arena/arena.h"

#include <string.h>

#include "os/report.h"

#define SWEEP_VISITS 1024 /* chunks that one critical section goes past; that takes less time than merging ARENA_STEP of them one by one */

static const char sweep_line[] = "malloc_consolidate(): invalid chunk size";

static bool worth_it(const struct arena *arena) {
    return arena->fast_bytes >= SWEEP_LEAST && arena->fast_bytes > arena->system_bytes / SWEEP_SHARE;
}

bool arena_sweeps(const struct arena *arena) { return arena->sweep.region != NULL || worth_it(arena); }

static void forget_lists(struct arena *arena) {
    memset(arena->fast, 0, sizeof arena->fast);
    arena->sweep.loose = arena->fast_count;
}

static COLD _Noreturn void bad_chunk(struct arena *arena, const struct chunk *chunk) {
    fatal(sweep_line, "chunk at %p: its header 0x%lx carries no seal of arena %u; something wrote past the end of the block before it",
          (void *)(uintptr_t)chunk, (unsigned long)chunk_head(chunk), arena->id);
}

/* The chunk at `at` in the region; aborts if there is none. */
static ALWAYS_INLINE uint64_t head_at(struct arena *arena, const struct chunk *at, const char *end) {
    uint64_t head = chunk_head(at);
    uint32_t tag = head_tag(head, at);
    if (UNLIKELY((tag & TAG_ID) != arena->id || tag >= TAG_STATE || head_size(head) < CHUNK_FENCE ||
                 head_size(head) > (size_t)(end - (const char *)at))) {
        bad_chunk(arena, at);
    }
    return head;
}

static bool is_loose(const struct arena *arena, const struct chunk *at, uint64_t head) {
    return head_tag(head, at) == (TAG_LOOSE | arena->id);
}

/* Loose chunks from `first` on become one, merged with what is free beside them. How many they were. */
static unsigned merge_run(struct arena *arena, struct chunk *first, unsigned most) {
    const char *end = arena->sweep.region->end;
    size_t size = 0;
    uint32_t p = chunk_head(first) & FLAG_P;
    unsigned n = 0;
    for (struct chunk *chunk = first; n < most && (const char *)chunk < end; n++) {
        uint64_t head = head_at(arena, chunk, end);
        if (!is_loose(arena, chunk, head)) break;
        if (UNLIKELY(n != 0 && !(head & FLAG_P))) bad_chunk(arena, chunk);
        chunk_wipe(chunk);
        size += head_size(head);
        chunk = chunk_at(chunk, head_size(head));
        arena->sweep.at = chunk;
    }
    chunk_set(first, size, p | arena->flag_a, TAG_IN_USE | arena->id);
    arena->sweep.loose -= n;
    arena_count_fast(arena, -(int)n, -(ptrdiff_t)size);
    arena_merge(arena, first);
    return n;
}

/* Goes on with the regions; merges at most `most` runs. How many. */
static unsigned go_over(struct arena *arena, unsigned most) {
    unsigned runs = 0;
    for (unsigned visits = 0; visits < SWEEP_VISITS && runs < most && arena->sweep.region != NULL;) {
        struct chunk *at = arena->sweep.at;
        if ((char *)at >= arena->sweep.region->end) {
            arena_sweep_region(arena, arena->sweep.region->next);
            continue;
        }
        uint64_t head = head_at(arena, at, arena->sweep.region->end);
        if (!is_loose(arena, at, head)) {
            arena->sweep.at = chunk_at(at, head_size(head));
            visits++;
            continue;
        }
        visits += merge_run(arena, at, SWEEP_VISITS - visits);
        runs++;
    }
    return runs;
}

unsigned arena_sweep(struct arena *arena, unsigned most) {
    if (most == 0) return 0;
    if (arena->sweep.region == NULL) {
        forget_lists(arena);
        arena_sweep_region(arena, arena->regions);
    }
    return max_unsigned(go_over(arena, most), 1);
}
