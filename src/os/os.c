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

void *os_sbrk(intptr_t delta) {
    void *old = prim_sbrk(delta);
    if (delta > 0) noted(old != (void *)-1, SEEMALLOC_CALL_BRK_GROW, old, (size_t)delta);
    if (delta < 0) noted(old != (void *)-1, SEEMALLOC_CALL_BRK_TRIM, old, (size_t)-delta);
    return old;
}

void *os_map(void *hint, size_t size, bool usable, enum seemalloc_call reason) {
    void *start = prim_map(hint, size, usable);
    noted(start != NULL, reason, start, size);
    if (start != NULL && reason == SEEMALLOC_CALL_MMAP_META) add_relaxed(&os_counters.metadata_bytes, size);
    return start;
}

bool os_unmap(void *start, size_t size, enum seemalloc_call reason) { return noted(prim_unmap(start, size), reason, start, size); }

bool os_make_usable(void *start, size_t size) { return noted(prim_make_usable(start, size), SEEMALLOC_CALL_MPROTECT_GROW, start, size); }

bool os_make_unusable(void *start, size_t size) { return noted(prim_make_unusable(start, size), SEEMALLOC_CALL_MADVISE_TRIM, start, size); }

bool os_discard(void *start, size_t size, enum seemalloc_call reason) { return noted(prim_discard(start, size), reason, start, size); }

void *os_remap(void *start, size_t old_size, size_t new_size) {
    void *moved = prim_remap(start, old_size, new_size);
    noted(moved != NULL, SEEMALLOC_CALL_MREMAP_BLOCK, moved, new_size);
    return moved;
}

bool os_unmap_meta(void *start, size_t size) {
    if (!os_unmap(start, size, SEEMALLOC_CALL_MUNMAP_META)) return false;
    sub_relaxed(&os_counters.metadata_bytes, size);
    return true;
}

void *os_map_guarded(size_t size) {
    size_t page = os_page_size();
    size = align_up(size, page);
    char *start = os_map(NULL, size + 2 * page, false, SEEMALLOC_CALL_MMAP_META);
    if (start == NULL) return NULL;
    if (!os_make_usable(start + page, size)) {
        os_unmap_meta(start, size + 2 * page);
        return NULL;
    }
    return start + page;
}
