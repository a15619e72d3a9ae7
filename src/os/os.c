/* os.c: counts what prim.h does. SPDX-License-Identifier: MIT */
#include "os/os.h"

#include "base/probe.h"
#include "os/lock.h"

APART struct os_counters os_counters;
bool os_names;

static void note(enum seemalloc_call call, const void *address, size_t size) {
    add_relaxed(&os_counters.calls[call], 1);
    uint64_t index = add_relaxed(&os_counters.event_count, 1);
    struct os_event *event = &os_counters.events[index % OS_EVENTS];
    store_relaxed(&event->sequence, 0);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    store_relaxed(&event->time, prim_clock());
    store_relaxed(&event->address, address);
    store_relaxed(&event->size, size);
    store_relaxed(&event->call, (uint32_t)call);
    store_release(&event->sequence, index + 1);
}

static bool noted(bool done, enum seemalloc_call call, const void *address, size_t size) {
    lock_count_call();
    if (done) {
        note(call, address, size);
    } else {
        add_relaxed(&os_counters.failures, 1);
    }
    return done;
}

bool os_take(size_t bytes) {
    size_t taken = load_relaxed(&os_counters.taken), limit = load_relaxed(&os_counters.limit);
    do {
        if (UNLIKELY(limit != 0) && (taken > limit || bytes > limit - taken)) return false;
    } while (!cas_acquire(&os_counters.taken, &taken, taken + bytes));
    return true;
}

void *os_sbrk(intptr_t delta) {
    void *old = prim_sbrk(delta);
    if (delta > 0) noted(old != (void *)-1, SEEMALLOC_CALL_BRK_GROW, old, (size_t)delta);
    if (delta < 0) noted(old != (void *)-1, SEEMALLOC_CALL_BRK_TRIM, old, (size_t)-delta);
    if (delta > 0 && old != (void *)-1) PROBE2(memory_sbrk_more, old, delta);
    if (delta < 0 && old != (void *)-1) PROBE2(memory_sbrk_less, (char *)old + delta, (size_t)-delta);
    return old;
}

void *os_map(void *hint, size_t size, bool usable, enum seemalloc_call reason) {
    void *start = prim_map(hint, size, usable);
    noted(start != NULL, reason, start, size);
    if (start != NULL && usable && reason == SEEMALLOC_CALL_MMAP_META) { /* not refused: a walk needs its lists at the limit, too */
        add_relaxed(&os_counters.metadata_bytes, size);
        add_relaxed(&os_counters.taken, size);
    }
    return start;
}

bool os_unmap(void *start, size_t size, enum seemalloc_call reason) { return noted(prim_unmap(start, size), reason, start, size); }

bool os_make_usable(void *start, size_t size) { return noted(prim_make_usable(start, size), SEEMALLOC_CALL_MPROTECT_GROW, start, size); }

bool os_make_unusable(void *start, size_t size) { return noted(prim_make_unusable(start, size), SEEMALLOC_CALL_MADVISE_TRIM, start, size); }

bool os_discard(void *start, size_t size, enum seemalloc_call reason) { return noted(prim_discard(start, size), reason, start, size); }

bool os_renew(void *start, size_t size, enum seemalloc_call reason) { return noted(prim_renew(start, size), reason, start, size); }

bool os_move(void *from, void *to, size_t size) { return noted(prim_move(from, to, size), SEEMALLOC_CALL_MREMAP_MOVE, to, size); }

void os_advise_huge(void *start, size_t size, bool wanted) {
    noted(prim_advise_huge(start, size, wanted), SEEMALLOC_CALL_MADVISE_HUGE, start, size);
}

void os_name(void *start, size_t size, const char *name) {
    if (LIKELY(!load_relaxed(&os_names))) return;
    lock_count_call();
    if (!prim_name(start, size, name)) store_relaxed(&os_names, false);
}

void *os_remap(void *start, size_t old_size, size_t new_size) {
    if (new_size > old_size && !os_take(new_size - old_size)) return NULL;
    void *moved = prim_remap(start, old_size, new_size);
    if ((moved != NULL) != (new_size > old_size)) os_give(new_size > old_size ? new_size - old_size : old_size - new_size);
    noted(moved != NULL, SEEMALLOC_CALL_MREMAP_BLOCK, moved, new_size);
    return moved;
}

bool os_unmap_meta(void *start, size_t size) {
    if (!os_unmap(start, size, SEEMALLOC_CALL_MUNMAP_META)) return false;
    sub_relaxed(&os_counters.metadata_bytes, size);
    os_give(size);
    return true;
}

/* --- books -------------------------------------------------------------------------------------------------------------------------------------- */

/* They lie side by side in reservations with an inaccessible page at either end, each as large as all before it together: few mappings, however many
 * threads there are or were. What is left of the last one is a page number and a count of pages in one word: those whom fork turned away take from it, too. */
#define BOOKS_COUNT_BITS 28
#define BOOKS_COUNT_MASK (((uint64_t)1 << BOOKS_COUNT_BITS) - 1)
#define BOOKS_NOT_HUGE MIB(2) /* from this size on the kernel might make huge pages of what is hardly touched */

static uint64_t books_left;

static uint64_t books_word(const char *start, size_t pages) {
    return (uint64_t)((uintptr_t)start / os_page_size()) << BOOKS_COUNT_BITS | pages;
}

/* `pages` pages and what is then left in `*left`, from a reservation that is as large as all others together. */
static char *reserve_books(size_t pages, uint64_t *left) {
    size_t page = os_page_size(), all = load_relaxed(&os_counters.metadata_bytes) + load_relaxed(&os_counters.reserved_bytes);
    size_t sizes[] = {min_size(max_size(all / page, pages), BOOKS_COUNT_MASK), pages};
    for (size_t i = 0; i < 2; i++) {
        size_t bytes = (sizes[i] + 2) * page;
        char *start = os_map(NULL, bytes, false, SEEMALLOC_CALL_MMAP_META);
        if (start == NULL) continue;
        if (bytes >= BOOKS_NOT_HUGE) os_advise_huge(start, bytes, false);
        os_name(start, bytes, OS_NAME_BOOKS);
        *left = books_word(start + page + pages * page, sizes[i] - pages);
        return start + page;
    }
    return NULL;
}

static char *claim_books(size_t pages) {
    for (;;) {
        uint64_t word = load_acquire(&books_left), left;
        if ((word & BOOKS_COUNT_MASK) >= pages) {
            char *start = (char *)((word >> BOOKS_COUNT_BITS) * os_page_size());
            if (cas_acq_rel(&books_left, &word, books_word(start + pages * os_page_size(), (word & BOOKS_COUNT_MASK) - pages)))
                return start;
            continue;
        }
        char *start = reserve_books(pages, &left);
        if (start == NULL) return NULL;
        size_t bytes = (pages + (left & BOOKS_COUNT_MASK) + 2) * os_page_size();
        add_relaxed(&os_counters.reserved_bytes, bytes);
        if (cas_acq_rel(&books_left, &word, left)) return start;
        if (os_unmap(start - os_page_size(), bytes, SEEMALLOC_CALL_MUNMAP_META))
            sub_relaxed(&os_counters.reserved_bytes, bytes); /* another was faster */
    }
}

/* For the next one, if nobody has taken what lies behind it; else it stays reserved. */
static COLD void unclaim_books(char *start, size_t pages) {
    uint64_t word = load_acquire(&books_left);
    if (start + pages * os_page_size() != (char *)((word >> BOOKS_COUNT_BITS) * os_page_size())) return;
    cas_acq_rel(&books_left, &word, books_word(start, (word & BOOKS_COUNT_MASK) + pages));
}

void *os_map_guarded(size_t size) {
    size_t pages = align_up(size, os_page_size()) / os_page_size();
    size = pages * os_page_size();
    if (!os_take(size)) return NULL;
    char *start = claim_books(pages);
    if (start != NULL && os_make_usable(start, size)) {
        add_relaxed(&os_counters.metadata_bytes, size);
        sub_relaxed(&os_counters.reserved_bytes, size);
        return start;
    }
    os_give(size);
    if (start != NULL) unclaim_books(start, pages);
    return NULL;
}

COLD void os_unmap_guarded(void *start, size_t size) {
    size_t pages = align_up(size, os_page_size()) / os_page_size();
    size = pages * os_page_size();
    if (!os_make_unusable(start, size)) return;
    os_name(start, size, OS_NAME_BOOKS);
    sub_relaxed(&os_counters.metadata_bytes, size);
    add_relaxed(&os_counters.reserved_bytes, size);
    os_give(size);
    unclaim_books(start, pages);
}
