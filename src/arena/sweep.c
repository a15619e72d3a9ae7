/* sweep.c: merges very many fast blocks by going over the arena in address order.
 *
 * Block by block, in the order in which they were freed, each merge waits for the memory of its neighbours and of the chunks beside those in their bins. Where
 * a large part of the arena lies in fast bins it is cheaper to go over all of it: first every block leaves its list and is sealed as `loose`, then chunk after
 * chunk is looked at, and loose ones that follow each other become one. Both in bounded parts, with the lock let go between; whoever merges next goes on.
 * Meanwhile loose blocks count as fast. SPDX-License-Identifier: MIT */
#include "arena/arena.h"

#include "os/report.h"

#define SWEEP_VISITS 1024 /* chunks that one critical section goes past; that takes less time than merging ARENA_STEP of them one by one */

static const char sweep_line[] = "malloc_consolidate(): invalid chunk size";

static bool worth_it(const struct arena *arena) {
    return arena->fast_bytes >= SWEEP_LEAST && arena->fast_bytes > arena->system_bytes / SWEEP_SHARE;
}

bool arena_sweeps(const struct arena *arena) { return arena->sweep.region != NULL || arena->sweep.left != 0 || worth_it(arena); }

/* Takes up to `most` blocks out of their fast bins. */
static unsigned loosen(struct arena *arena, unsigned most) {
    void *mem[ARENA_STEP];
    unsigned n = 0;
    for (unsigned index = 0; index < FAST_BINS && n < most; index++) {
        unsigned got = arena_pop_fast(arena, index, min_unsigned(most - n, ARENA_STEP), mem, sweep_line);
        for (unsigned i = 0; i < got; i++) {
            struct chunk *chunk = chunk_of(mem[i]);
            key_clear(mem[i]);
            chunk_set(chunk, chunk_size(chunk), (chunk_head(chunk) & FLAG_P) | arena->flag_a, TAG_LOOSE | arena->id);
        }
        arena_count_fast(arena, (int)got, (ptrdiff_t)got * (index + 2) * CHUNK_ALIGN);
        n += got;
    }
    arena->sweep.loose += n;
    return n;
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
    struct sweep *sweep = &arena->sweep;
    if (most == 0) return 0;
    if (sweep->region != NULL) return max_unsigned(go_over(arena, most), 1);
    if (sweep->left == 0) sweep->left = arena->fast_count;
    unsigned n = loosen(arena, min_unsigned(most, sweep->left));
    sweep->left = n != 0 ? sweep->left - n : 0; /* others may have taken the rest */
    if (sweep->left == 0) arena_sweep_region(arena, arena->regions);
    return max_unsigned(n, 1);
}
