/* huge.h: where huge pages are asked for.
 *
 * With thp:always and thp:never whole ranges are advised as they become the allocator's, each next to the one before, so that the kernel makes one mapping of
 * them. By default large blocks first prove that the program writes all of them: one that was wholly resident when it was freed gives credit for its size,
 * and half as much again the first time. The next ones spend it and are advised, the whole huge pages inside each:
 *
 *   credit + live large blocks <= 1.5 times the most there ever were at a time
 *
 * so a program that only reserves gets nothing, and one that takes to it never has much more resident than it had. One large block that was not written all
 * over, and credit and advice are gone, and twice as much must be proved before there is any again. When nobody took a large block for a while the advice
 * is withdrawn, too, for in advised ranges the kernel fills holes by itself. The advised spans of heaps stand in a table of a few places, which bounds the
 * mappings that they cost.
 *
 * Only where the system's own setting is `madvise`: with `never` it would refuse, with `always` residency proves nothing. Not under a limit, for the rest of
 * a huge page may belong to nobody.
 *
 * Locks: the table has one of the last rank; the sums are relaxed atomics, which a race makes a little wrong. Thread-safe. SPDX-License-Identifier: MIT */
#ifndef HEAP_HUGE_H
#define HEAP_HUGE_H

#include "conf/conf.h"
#include "os/os.h"

#define HUGE_SIZE MIB(2)  /* with pages of 4 KiB; with others huge ones are 32 or 512 MiB, and no heap grows by so much at a time */
#define HUGE_BLOCK MIB(4) /* blocks from this size on are large here: there is a huge page inside them */
#define HUGE_SPANS 8      /* each may cost two mappings */

/* Pages that are the allocator's from now on. */
static inline void huge_advise(void *start, size_t size) {
    enum conf_thp thp = conf_thp();
    if (UNLIKELY(thp != THP_DEFAULT)) os_advise_huge(start, size, thp == THP_ALWAYS);
}

/* Where a heap that grows to `end` at least should end: where huge pages are asked for, with one. */
static inline size_t huge_end(size_t end) {
    return UNLIKELY(conf_thp() == THP_ALWAYS) && os_page_size() == KIB(4) ? align_up(end, HUGE_SIZE) : end;
}

/* A block, [from, to), that is just freed: still its owner's alone. */
void huge_note_freed(const void *from, const void *to);

/* One that is handed out next, which nobody has touched yet. No lock is held. */
void huge_note_new(void *from, void *to);
void huge_note_mapping(void *start, size_t length, bool fresh); /* in a mapping of its own */
void huge_note_growth(size_t before, size_t after);             /* where it is */

/* Spans of heaps that are advised at present; relaxed atomic. While there are any a page may bring with it those that share a huge page with it. */
extern uint32_t huge_spans;
static inline bool huge_is_on(void) { return UNLIKELY(load_relaxed(&huge_spans) != 0); }

/* [from, to) is not the allocator's any more, or is so anew. An arena's lock may be held. */
void huge_forget(const void *from, const void *to);

/* Withdraws the advice if nobody used it for a while, or at once. No lock is held. */
void huge_tend(uint64_t now);
void huge_withdraw(void);

void huge_fork_child(void);

#endif
