/* depot.c: see depot.h. SPDX-License-Identifier: MIT */
#include "arena/depot.h"

#include "conf/conf.h"
#include "heap/retain.h"
#include "os/os.h"

#define BRIEF 30       /* spins of a thread that could as well go to an arena, */
#define PATIENT 100000 /* and of one that could not */

struct depot_way depot_ways[DEPOT_WAYS];
size_t depot_bytes;

struct depot_page *depot_pages; /* newest first; push only */

static uint64_t self(void) { return (uintptr_t)lock_self(); }

static bool slot_enter(struct depot_slot *slot, unsigned spins) {
    for (;; spins--) {
        uint64_t owner = 0;
        if (load_relaxed(&slot->owner) == 0 && cas_acquire(&slot->owner, &owner, self())) return true;
        if (spins == 0 || load_relaxed(&slot->owner) == self()) return false;
        cpu_relax();
    }
}
static void slot_leave(struct depot_slot *slot) { store_release(&slot->owner, 0); }

/* --- batches ---------------------------------------------------------------------------------------------------------------------------------------- */

static struct depot_batch *batch_from(struct depot_page *page) {
    if (page == NULL || load_relaxed(&page->used) + sizeof(struct depot_batch) > os_page_size()) return NULL;
    size_t at = add_relaxed(&page->used, sizeof(struct depot_batch));
    return at + sizeof(struct depot_batch) <= os_page_size() ? (struct depot_batch *)((char *)page + at) : NULL;
}

static struct depot_batch *new_batch(void) {
    struct depot_batch *batch = batch_from(load_acquire(&depot_pages));
    if (LIKELY(batch != NULL)) return batch;
    struct depot_page *page = os_map_guarded(os_page_size());
    if (page == NULL) return NULL;
    page->used = align_up(sizeof *page, CHUNK_ALIGN);
    batch = batch_from(page);
    page->next = load_relaxed(&depot_pages);
    while (!cas_release(&depot_pages, &page->next, page)) {}
    return batch;
}

static struct depot_batch *begin_batch(struct depot_slot *slot) {
    struct depot_batch *batch = slot->empty;
    if (batch != NULL) {
        slot->empty = batch->next;
    } else {
        batch = new_batch();
        if (batch == NULL) return NULL;
    }
    batch->count = 0;
    batch->next = slot->youngest;
    slot->youngest = batch;
    return batch;
}

static void end_batch(struct depot_slot *slot) {
    struct depot_batch *batch = slot->youngest;
    slot->youngest = batch->next;
    batch->next = slot->empty;
    slot->empty = batch;
}

/* Those that may have blocks: an arena's is the one of its id. */
static unsigned ways(void) { return min_unsigned(load_acquire(&seal.arenas), DEPOT_WAYS); }
static unsigned way_of(const struct arena *arena) { return arena->id % DEPOT_WAYS; }

static void count_blocks(struct depot_slot *slot, unsigned number, int n) {
    store_relaxed(&slot->blocks, slot->blocks + (uint32_t)n);
    if (slot->blocks < load_relaxed(&slot->least)) store_relaxed(&slot->least, slot->blocks);
    add_relaxed(&depot_bytes, (size_t)((ptrdiff_t)n * (ptrdiff_t)(CHUNK_ALIGN * number)));
}

/* --- in and out ------------------------------------------------------------------------------------------------------------------------------------- */

/* What lies here does not make a heap grow: before that it goes home. But it grows cold, and each block must be touched then. */
static size_t depot_room(void) {
    size_t most = DEPOT_BYTES_MOST * (load_relaxed(&seal.arenas) - 1); /* there is always the spare */
    return max_size(min_size(load_relaxed(&heap_bytes) / DEPOT_SHARE, most), DEPOT_BYTES);
}

unsigned depot_put(const struct arena *near, unsigned number, void **mem, unsigned n) {
    struct depot_slot *slot = &depot_ways[way_of(near)].slot[number];
    if (load_relaxed(&depot_bytes) + (size_t)n * number * CHUNK_ALIGN > depot_room() || !slot_enter(slot, BRIEF)) return 0;
    unsigned done = 0;
    while (done < n) {
        struct depot_batch *batch = slot->youngest;
        if (batch == NULL || batch->count == DEPOT_BATCH) batch = begin_batch(slot);
        if (UNLIKELY(batch == NULL)) break;
        unsigned in = min_unsigned(DEPOT_BATCH - batch->count, n - done);
        slots_move(batch->mem + batch->count, mem + done, in); /* oldest first, as in a magazine */
        batch->count += in;
        done += in;
    }
    count_blocks(slot, number, (int)done);
    slot_leave(slot);
    return done;
}

static unsigned take_from(struct depot_slot *slot, unsigned number, unsigned want, void **mem) {
    if (load_relaxed(&slot->blocks) == 0 || !slot_enter(slot, BRIEF)) return 0;
    unsigned n = min_unsigned(want, slot->blocks);
    for (unsigned left = n; left != 0;) {
        struct depot_batch *batch = slot->youngest;
        unsigned got = min_unsigned(batch->count, left);
        void *const *from = batch->mem + (batch->count -= got);
        for (unsigned i = 0; i < got; i++) store_relaxed(&mem[--left], from[i]); /* as they came, which mostly is address order */
        if (batch->count == 0) end_batch(slot);
    }
    count_blocks(slot, number, -(int)n);
    slot_leave(slot);
    return n;
}

unsigned depot_take(const struct arena *near, unsigned number, unsigned want, void **mem) {
    unsigned first = way_of(near), all = ways(), n = take_from(&depot_ways[first].slot[number], number, want, mem);
    for (unsigned way = 0; n == 0 && way < all && load_relaxed(&depot_bytes) != 0; way++) {
        if (way != first) n = take_from(&depot_ways[way].slot[number], number, want, mem);
    }
    return n;
}

/* --- home ---------------------------------------------------------------------------------------------------------------------------------------------- */

bool depot_is_much(size_t size) {
    return load_relaxed(&depot_bytes) > depot_much(load_relaxed(&heap_bytes), load_relaxed(&seal.arenas), size);
}

/* At least n blocks, batch by batch. Meanwhile the slot is taken: others go to their arenas. */
static void slot_home(struct depot_slot *slot, unsigned number, unsigned n, struct arena *mine) {
    for (unsigned gone = 0; gone < n && load_relaxed(&slot->blocks) != 0 && slot_enter(slot, PATIENT);) {
        struct depot_batch *batch = slot->youngest;
        if (batch != NULL) {
            unsigned count = batch->count;
            arena_return(mine, ARENA_MERGED, batch->mem, &batch->count, NULL);
            count_blocks(slot, number, -(int)count);
            end_batch(slot);
            gone += count;
        }
        slot_leave(slot);
        if (batch == NULL) return;
    }
}

void depot_empty(struct arena *mine) {
    for (unsigned way = 0; way < ways(); way++) {
        for (unsigned number = 0; number < DEPOT_SLOTS && load_relaxed(&depot_bytes) != 0; number++) {
            slot_home(&depot_ways[way].slot[number], number, UINT32_MAX, mine);
        }
    }
}

void depot_tend(struct arena *mine, uint64_t now) {
    static uint64_t window; /* when it began; atomic */
    size_t decay = conf_get(CONF_DECAY);
    uint64_t since = load_relaxed(&window);
    if (decay > INT64_MAX / 1000000 || (int64_t)(now - since) < (int64_t)decay * 1000000 || !cas_acq_rel(&window, &since, now)) return;
    for (unsigned i = 0; i < ways() * DEPOT_SLOTS; i++) {
        struct depot_slot *slot = &depot_ways[i / DEPOT_SLOTS].slot[i % DEPOT_SLOTS];
        unsigned idle = decay == 0 ? UINT32_MAX : load_relaxed(&slot->least), blocks = load_relaxed(&slot->blocks);
        if (blocks == 0 && load_relaxed(&slot->least) == 0) continue; /* not to touch what is not used */
        if (idle != 0) slot_home(slot, i % DEPOT_SLOTS, idle, mine);
        store_relaxed(&slot->least, load_relaxed(&slot->blocks));
    }
}

/* --- seeing ----------------------------------------------------------------------------------------------------------------------------------------- */

static COLD void visit_slot(struct depot_slot *slot, void (*visit)(void *arg, void *mem), void *arg) {
    if (load_relaxed(&slot->blocks) == 0 || !slot_enter(slot, PATIENT)) return;
    for (const struct depot_batch *batch = slot->youngest; batch != NULL; batch = batch->next) {
        for (unsigned i = 0; i < batch->count; i++) visit(arg, batch->mem[i]);
    }
    slot_leave(slot);
}

COLD void depot_walk(void (*visit)(void *arg, void *mem), void *arg) {
    for (unsigned i = 0; i < ways() * DEPOT_SLOTS; i++) visit_slot(&depot_ways[i / DEPOT_SLOTS].slot[i % DEPOT_SLOTS], visit, arg);
}

struct wanted {
    const void *mem;
    bool found;
};
static COLD void compare(void *arg, void *mem) {
    struct wanted *wanted = arg;
    wanted->found |= mem == wanted->mem;
}

COLD bool depot_holds(unsigned number, const void *mem) {
    struct wanted wanted = {.mem = mem};
    for (unsigned way = 0; way < ways() && number < DEPOT_SLOTS; way++) visit_slot(&depot_ways[way].slot[number], compare, &wanted);
    return wanted.found;
}

COLD bool depot_adds_up(void) {
    size_t bytes = 0;
    bool good = true;
    for (size_t i = 0; i < DEPOT_WAYS * DEPOT_SLOTS; i++) {
        const struct depot_slot *slot = &depot_ways[i / DEPOT_SLOTS].slot[i % DEPOT_SLOTS];
        size_t blocks = 0;
        for (const struct depot_batch *batch = slot->youngest; batch != NULL && good; batch = batch->next) {
            good = batch->count != 0 && batch->count <= DEPOT_BATCH;
            blocks += batch->count;
        }
        good &= blocks == slot->blocks;
        bytes += blocks * (i % DEPOT_SLOTS) * CHUNK_ALIGN;
    }
    return good && bytes == load_relaxed(&depot_bytes);
}

COLD void depot_walk_books(void (*visit)(const void *start, size_t size, void *arg), void *arg) {
    for (const struct depot_page *page = load_acquire(&depot_pages); page != NULL; page = page->next) visit(page, os_page_size(), arg);
}

/* --- fork ------------------------------------------------------------------------------------------------------------------------------------------- */

#define FORK_BIT 1u /* in `owner`: held by fork, not by what it interrupted */

COLD void depot_fork_prepare(uint64_t deadline) {
    for (unsigned i = 0; i < ways() * DEPOT_SLOTS; i++) {
        struct depot_slot *slot = &depot_ways[i / DEPOT_SLOTS].slot[i % DEPOT_SLOTS];
        for (uint64_t owner = 0; !cas_acquire(&slot->owner, &owner, self() | FORK_BIT); owner = 0) {
            if (owner == self() || os_clock() >= deadline) break;
            cpu_relax();
        }
    }
}

static COLD void leave_after_fork(struct depot_slot *slot) {
    if (load_relaxed(&slot->owner) == (self() | FORK_BIT)) slot_leave(slot);
}

COLD void depot_fork_parent(void) {
    for (unsigned i = 0; i < DEPOT_WAYS * DEPOT_SLOTS; i++) leave_after_fork(&depot_ways[i / DEPOT_SLOTS].slot[i % DEPOT_SLOTS]);
}

/* A slot that somebody else was just changing is lost with what lay in it. */
COLD void depot_fork_child(void) {
    for (unsigned i = 0; i < DEPOT_WAYS * DEPOT_SLOTS; i++) {
        struct depot_slot *slot = &depot_ways[i / DEPOT_SLOTS].slot[i % DEPOT_SLOTS];
        leave_after_fork(slot);
        uint64_t owner = load_relaxed(&slot->owner);
        if (owner == 0 || owner == self()) continue;
        sub_relaxed(&depot_bytes, slot->blocks * CHUNK_ALIGN * (size_t)(i % DEPOT_SLOTS));
        *slot = (struct depot_slot){0};
    }
}
