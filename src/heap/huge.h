/* huge.h: what the setting thp asks of the system. Whole ranges are advised, each next to the one before, so that the kernel makes one mapping of them.
 * SPDX-License-Identifier: MIT */
#ifndef HEAP_HUGE_H
#define HEAP_HUGE_H

#include "conf/conf.h"
#include "os/os.h"

#define HUGE_SIZE MIB(2) /* with pages of 4 KiB; with others huge ones are 32 or 512 MiB, and no heap grows by so much at a time */

/* Pages that are the allocator's from now on. */
static inline void huge_advise(void *start, size_t size) {
    enum conf_thp thp = conf_thp();
    if (UNLIKELY(thp != THP_DEFAULT)) os_advise_huge(start, size, thp == THP_ALWAYS);
}

/* Where a heap that grows to `end` at least should end: where huge pages are asked for, with one. */
static inline size_t huge_end(size_t end) {
    return UNLIKELY(conf_thp() == THP_ALWAYS) && os_page_size() == KIB(4) ? align_up(end, HUGE_SIZE) : end;
}

#endif
