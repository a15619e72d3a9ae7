/* os.h: the operating system as the allocator sees it: prim.h with every call counted by reason and put into the event ring.
 *
 * Counters and ring are always on: they cost a few instructions beside a system call. Thread-safe without locks, except that os_sbrk needs
 * the main arena's lock. SPDX-License-Identifier: MIT */
#ifndef OS_OS_H
#define OS_OS_H

#include "base/base.h"
#include "seemalloc.h"

#define os_page_size prim_page_size
#define os_clock prim_clock
#define os_random prim_random
#include "os/prim.h"

/* One system call that succeeded. `sequence` is index + 1 once the entry is whole, 0 while it is being written. */
struct os_event {
    uint64_t sequence;
    uint64_t time; /* nanoseconds, monotonic */
    const void *address;
    size_t size;
    uint32_t call; /* enum seemalloc_call */
};

#define OS_EVENTS 256 /* power of two: the ring keeps the newest */

struct os_counters {
    uint64_t calls[SEEMALLOC_CALL_COUNT];
    uint64_t failures;
    size_t metadata_bytes;
    size_t reserved_bytes; /* that books may grow into, and their guards: address space alone */
    size_t taken, limit;   /* os_take; 0: no limit */
    uint64_t event_count;  /* events so far; the ring holds the last OS_EVENTS */
    struct os_event events[OS_EVENTS];
};
extern struct os_counters os_counters;

/* What counts towards the limit: bytes of regions that are usable, but for pages of holes that went back; mappings of blocks, retained ones too; our own
 * books. Who is about to take more asks first; false: it would be beyond the limit, and nothing has changed. Thread-safe. */
bool os_take(size_t bytes);
static inline void os_give(size_t bytes) { sub_relaxed(&os_counters.taken, bytes); }

/* Whether `more` bytes would be beyond it now. */
static inline bool os_is_beyond(size_t more) {
    size_t limit = load_relaxed(&os_counters.limit), taken = load_relaxed(&os_counters.taken);
    return UNLIKELY(limit != 0) && (taken > limit || more > limit - taken);
}

/* As the prim functions of the same name, for the reason given. */
void *os_sbrk(intptr_t delta);
void *os_map(void *hint, size_t size, bool usable, enum seemalloc_call reason);
bool os_unmap(void *start, size_t size, enum seemalloc_call reason);
bool os_make_usable(void *start, size_t size);
bool os_make_unusable(void *start, size_t size);
bool os_discard(void *start, size_t size, enum seemalloc_call reason);
bool os_renew(void *start, size_t size, enum seemalloc_call reason);
bool os_move(void *from, void *to, size_t size);
void os_advise_huge(void *start, size_t size, bool wanted);
void *os_remap(void *start, size_t old_size, size_t new_size); /* takes and gives the difference */

/* Names a mapping for /proc/PID/maps, if names are wanted (setting `names`); neither counted nor an event. After the system has refused once it is not asked
 * again. Where a fresh mapping replaces a part (os_make_unusable) that must be named anew: else it would stay a mapping of its own. */
extern bool os_names;
void os_name(void *start, size_t size, const char *name);
#define OS_NAME_HEAP "seemalloc: heap"
#define OS_NAME_BLOCK "seemalloc: block"
#define OS_NAME_BOOKS "seemalloc: books"

/* Gives a mapping made with SEEMALLOC_CALL_MMAP_META back. */
bool os_unmap_meta(void *start, size_t size);

/* Zeroed pages for our own books, side by side with others of that kind, with an inaccessible page before and after them all, so that no overflow of a block
 * reaches them. `size` is rounded up to pages. NULL if there is no memory. They may be given back only if nobody else has seen them. */
void *os_map_guarded(size_t size);
void os_unmap_guarded(void *start, size_t size);

#endif
