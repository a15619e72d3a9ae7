/* rules.c: see rules.h. The one file of the tools that includes the library's own headers: what is said of sizes there holds here. Nothing of the library is
 * linked. SPDX-License-Identifier: MIT */
#include "reader/rules.h"

#include "cache/cache.h"
#include "conf/conf.h"
#include "heap/retain.h"

uint64_t rules_request(uint64_t bytes) { return request_size(bytes); }

unsigned rules_bin(uint64_t size) { return bin_index(size); }

/* The smallest size of a bin from `bin` up; bins rise with sizes. */
static uint64_t first_size(unsigned bin) {
    uint64_t low = CHUNK_MIN / CHUNK_ALIGN, high = MIB(64) / CHUNK_ALIGN;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (bin_index(middle * CHUNK_ALIGN) < bin) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low * CHUNK_ALIGN;
}

bool rules_bin_range(unsigned bin, uint64_t *first, uint64_t *last) {
    if (bin < BIN_FIRST_SMALL || bin > BIN_LAST) return false;
    *first = first_size(bin);
    *last = bin == BIN_LAST ? UINT64_MAX : first_size(bin + 1) - CHUNK_ALIGN;
    return *first <= *last && bin_index(*first) == bin;
}

unsigned rules_class_above(uint64_t size) { return size <= CLASS_SIZE_MAX ? class_above(size) : CLASS_COUNT; }
unsigned rules_class_below(uint64_t size) { return size <= CLASS_SIZE_MAX ? class_below(size) : CLASS_COUNT; }
uint64_t rules_class_size(unsigned size_class) { return class_size(size_class); }

uint64_t rules_least_rest(uint64_t size) { return arena_least_rest(size); }

bool rules_lends(uint64_t free_bytes, uint64_t system_bytes) { return free_bytes >= LEND_BYTES && free_bytes > system_bytes / LEND_SHARE; }
unsigned rules_lenders(void) { return LENDERS; }
bool rules_merges_all(uint64_t unmerged, uint64_t system_bytes) { return unmerged > system_bytes / UNMERGED_SHARE; }
bool rules_sweeps(uint64_t fast_bytes, uint64_t system_bytes) {
    return fast_bytes >= SWEEP_LEAST && fast_bytes > system_bytes / SWEEP_SHARE;
}
unsigned rules_sort_rounds(void) { return SORT_ROUNDS; }
uint64_t rules_small_limit(void) { return SMALL_LIMIT; }
uint64_t rules_index_limit(void) { return INDEX_LIMIT; }

uint64_t rules_unmerged_room(uint64_t system_bytes) { return max_size(RECEIVE_BYTES, system_bytes / RECEIVE_SHARE); }
bool rules_empties_depot(uint64_t parked, uint64_t heaps, uint64_t arenas, uint64_t size) {
    return parked > depot_much(heaps, arenas, size);
}

uint64_t rules_fast_most(uint64_t mxfast, bool all) {
    uint64_t limit = align_down(mxfast + CHUNK_OVERHEAD, CHUNK_ALIGN);
    return limit < CHUNK_MIN || mxfast == 0 ? 0 : all ? (FAST_BINS + 1) * CHUNK_ALIGN : limit;
}

unsigned rules_step(void) { return ARENA_STEP; }
uint64_t rules_tend_every(void) { return TEND_EVERY; }
uint64_t rules_threshold_most(void) { return CONF_MMAP_THRESHOLD_MOST; }

/* --- magazines: as widen() and its kin in cache.c ------------------------------------------------------------------------------------------------- */

static uint64_t count_max(const struct rules_widen *widen) {
    uint64_t count = CLASS_BYTES >> class_bits(widen->size_class);
    count = count < CLASS_COUNT_MIN ? CLASS_COUNT_MIN : min_size(count, widen->size_class <= CLASS_EXACT ? DEEP_MAX : WIDE_MAX);
    return min_size(count, widen->tcache_count);
}

static uint64_t count_first(const struct rules_widen *widen) {
    if (class_size(widen->size_class) > FIRST_BYTES) return 0;
    return min_size(min_size(max_size(KIB(1) >> class_bits(widen->size_class), 1), 4), widen->tcache_count);
}

static bool is_below(const struct rules_widen *widen) { return widen->held >= 0 && widen->held < widen->ceiling; }

static uint64_t share_medium(const struct rules_widen *widen) {
    return class_may_idle(widen->size_class, widen->idle) ? SHARE_MEDIUM_IDLE : SHARE_MEDIUM;
}

bool rules_stays_closed(const struct rules_widen *widen) {
    return widen->size_class >= CLASS_FIRST_CLOSED && widen->limit == 0 &&
           (uint64_t)(widen->net + share_medium(widen) - 1) < 2 * share_medium(widen) - 1 && !is_below(widen) && !widen->is_arena_shared;
}

unsigned rules_widened(const struct rules_widen *widen) {
    bool exact = widen->size_class <= CLASS_EXACT, below = is_below(widen);
    uint64_t size = class_size(widen->size_class), held = (uint64_t)(widen->net < 0 ? -widen->net : widen->net), now = widen->limit;
    uint64_t share = min_size(held / (exact ? SHARE_SMALL : share_medium(widen)), WIDE_MAX);
    if (widen->is_drained || (now >= share && !below && (now != 0 || widen->size_class >= CLASS_FIRST_CLOSED))) return widen->limit;
    uint64_t room = widen->budget + max_size(below ? widen->swing : 0, class_may_idle(widen->size_class, widen->idle) ? widen->idle : 0);
    uint64_t reserved = exact && !below ? widen->reserved_small : widen->reserved;
    bool modest = now == 0 && exact;
    if (!modest && reserved + size > room) return widen->limit;
    uint64_t first = count_first(widen), most = count_max(widen);
    if (!below) most = min_size(max_size(share, first), most);
    uint64_t wanted = min_size(now == 0 ? max_size(first, 1) : 2 * now, most);
    if (wanted <= now || (!modest && reserved + size * (wanted - now) > room)) return widen->limit;
    return (unsigned)wanted;
}

unsigned rules_larger(unsigned size_class, uint64_t idle, int64_t ceiling) { return class_larger(size_class, idle, ceiling); }
bool rules_idle_goes_home(uint64_t bytes, uint64_t heaps) { return bytes >= cache_idle_least(heaps); }

unsigned rules_batch(unsigned size_class, unsigned limit) {
    return size_class <= CLASS_EXACT ? (unsigned)min_size(limit, WIDE_MAX) / 2 + 1 : 1;
}
unsigned rules_parked_batch(unsigned limit) { return limit / 2 + 1; }
