/* os.c: counts what prim.h does. SPDX-License-Identifier: MIT */
#include "os/os.h"

#include "os/lock.h"

struct os_counters os_counters;

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
    return old;
}

void *os_map(void *hint, size_t size, bool usable, enum seemalloc_call reason) {
    void *start = prim_map(hint, size, usable);
    noted(start != NULL, reason, start, size);
    if (start != NULL && reason == SEEMALLOC_CALL_MMAP_META) { /* not refused: a walk needs its lists at the limit, too */
        add_relaxed(&os_counters.metadata_bytes, size);
        add_relaxed(&os_counters.taken, size);
    }
    return start;
}

bool os_unmap(void *start, size_t size, enum seemalloc_call reason) { return noted(prim_unmap(start, size), reason, start, size); }

bool os_make_usable(void *start, size_t size) { return noted(prim_make_usable(start, size), SEEMALLOC_CALL_MPROTECT_GROW, start, size); }

bool os_make_unusable(void *start, size_t size) { return noted(prim_make_unusable(start, size), SEEMALLOC_CALL_MADVISE_TRIM, start, size); }

bool os_discard(void *start, size_t size, enum seemalloc_call reason) { return noted(prim_discard(start, size), reason, start, size); }

void os_advise_huge(void *start, size_t size, bool wanted) {
    noted(prim_advise_huge(start, size, wanted), SEEMALLOC_CALL_MADVISE_HUGE, start, size);
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

void *os_map_guarded(size_t size) {
    size_t page = os_page_size();
    size = align_up(size, page);
    if (!os_take(size + 2 * page)) return NULL;
    char *start = os_map(NULL, size + 2 * page, false, SEEMALLOC_CALL_MMAP_META);
    os_give(size + 2 * page); /* os_map has counted it */
    if (start == NULL) return NULL;
    if (!os_make_usable(start + page, size)) {
        os_unmap_meta(start, size + 2 * page);
        return NULL;
    }
    return start + page;
}
