/* process.c: the life of the process around the allocator: start, fork, exit. SPDX-License-Identifier: MIT */
#include <pthread.h>

#include "api/names.h"
#include "cache/cache.h"
#include "conf/conf.h"
#include "inspect/stats.h"
#include "os/os.h"
#include "seemalloc.h"
#include "trace/trace.h"

/* ns that fork waits for all locks together: longer than a critical section takes whose thread the system does not let run for a while. Only a signal handler
 * that waits for something else can keep a lock for so long. */
#define FORK_DEADLINE 100000000u
#define STRING_(x) #x
#define STRING(x) STRING_(x)

EXPORT const char *seemalloc_version(void) {
    return STRING(SEEMALLOC_VERSION_MAJOR) "." STRING(SEEMALLOC_VERSION_MINOR) "." STRING(SEEMALLOC_VERSION_PATCH);
}

/* A page that the kernel zeroes in a forked child: who finds it zero and has not been told repairs first. */
static uint32_t *fork_marker;

/* Held from prepare to the end of fork. A signal handler may fork while its thread forks: the outermost prepare does the work, the depth
 * belongs to the holder. A thread that can't get the lock in time forks without any: its child gives up what others were changing. */
static struct lock fork_lock = {.rank = RANK_FORK};
static unsigned fork_depth;

static COLD void fork_prepare(void) {
    uint64_t deadline = os_clock() + FORK_DEADLINE;
    lock_fork_begins();
    if (lock_is_fork(&fork_lock)) {
        fork_depth++;
    } else if (lock_take_for_fork(&fork_lock, deadline)) {
        fork_depth = 1;
        cache_fork_prepare(deadline);
    }
}

static COLD void fork_parent(void) {
    if (lock_is_fork(&fork_lock) && --fork_depth == 0) {
        cache_fork_parent();
        lock_release_from_fork(&fork_lock);
    }
    lock_fork_ends();
}

static COLD void child_begins(void) {
    if (fork_marker != NULL && load_relaxed(fork_marker) == 0) {
        store_relaxed(fork_marker, 1);
        cache_fork_child();
    }
}

static COLD void fork_child(void) {
    trace_fork_child();
    bool mine = lock_is_fork(&fork_lock);
    lock_fork_in_child(mine ? fork_depth - 1 : 0);
    if (mine && --fork_depth != 0) return; /* the child of a fork within a fork goes on with the outer one, whose locks it still holds */
    if (fork_marker != NULL) {
        child_begins();
    } else {
        cache_fork_child();
    }
    lock_release_from_fork(&fork_lock);
}

EXPORT void seemalloc_on_limit(int (*callback)(size_t needed, void *arg), void *arg) { cache_set_last_resort(callback, arg); }

EXPORT COLD void seemalloc_set_limit(size_t bytes) {
    cache_init();
    store_relaxed(&conf_values[CONF_LIMIT], bytes);
    store_relaxed(&os_counters.limit, bytes);
}

static int statistics_fd = PRIM_STDERR; /* many programs close their own before they end */

__attribute__((constructor)) static void process_begins(void) {
    cache_init();
    trace_begin();
    if (conf_get(CONF_STATS) != 0) statistics_fd = prim_keep_stderr();
    uint32_t *marker = os_map(NULL, os_page_size(), true, SEEMALLOC_CALL_MMAP_META);
    if (marker != NULL && prim_wipe_on_fork(marker, os_page_size())) {
        *marker = 1;
        os_name(marker, os_page_size(), OS_NAME_BOOKS);
        fork_marker = marker;
        lock_set_repair(marker, child_begins);
    } else if (marker != NULL) {
        os_unmap_meta(marker, os_page_size());
    }
    pthread_atfork(fork_prepare, fork_parent, fork_child);
}

__attribute__((destructor)) static void process_ends(void) {
    trace_end();
    if (conf_get(CONF_STATS) != 0) stats_print_exit(statistics_fd);
}
