/* prim_fake.c: prim.h for tests. Real memory underneath, from libc's mmap and kin (which the sanitizers watch); what the allocator holds is
 * kept in an interval map, so that limits can be enforced and a range that was never given out is noticed. One mutex guards it all; the
 * plans' random numbers come from one seeded generator. SPDX-License-Identifier: MIT */
#include "fake.h"

#include "os/prim.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

enum access { NONE, RESERVED, USABLE }; /* NONE: not mapped; never stored */

struct extent {
    uintptr_t start, end;
    enum access access;
    const char *name; /* static; NULL: none */
};

struct foreign {
    uint8_t *start;
    size_t size;
};

#define BRK_RESERVE ((size_t)4 << 30)
#define MEMORY_MAX ((size_t)1 << 40) /* beyond it the system refuses always: however far the host overcommits, results are the same */
#define FOREIGN_MAX 4096
#define FILES_MAX 16

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static struct {
    struct fake_plan plans[FAKE_CALLS];
    uint64_t seen[FAKE_CALLS]; /* calls since the plan was set */
    struct fake_counts counts;
    size_t space_limit;
    size_t told_limit;
    bool told;
    size_t brk_room;
    unsigned foreign_per_mille;
    size_t foreign_most;
    enum fake_remap remap;
    bool names;
    unsigned cpus;
    int cpu;
    uint64_t random;
    uint64_t plan_random;
} fake = {.space_limit = SIZE_MAX, .brk_room = SIZE_MAX, .cpus = 2, .cpu = -1, .random = 1, .plan_random = 1};

static size_t page_size;
static uint64_t clock_now = 1000000000u, clock_step = 1000;

static struct extent *extents; /* sorted by address; neighbours of the same access are one */
static size_t extent_count, extent_room;

static uint8_t *brk_area, *brk_start, *brk_now;
static size_t brk_offset;
static unsigned sbrk_busy;
static struct foreign foreign[FOREIGN_MAX];
static size_t foreign_count;

static struct { const char *path, *contents; } files[FILES_MAX];
static size_t file_count;

static char written[8192];
static size_t written_length;
static bool echo = true;
static void (*abort_function)(void);
static __thread int main_thread = -1;
static char **environment;
static bool environment_set, environment_known;

static _Noreturn void violation(const char *what, const void *start, size_t size) {
    fprintf(stderr, "fake os: %s: %p, %zu bytes\n", what, start, size);
    abort();
}

const char *fake_call_name(enum fake_call call) {
    static const char *const names[FAKE_CALLS] = {"sbrk",    "map",          "unmap",       "remap", "make_usable", "make_unusable",
                                                  "discard", "wipe_on_fork", "advise_huge", "move",  "renew"};
    return call < FAKE_CALLS ? names[call] : "?";
}

/* xorshift64*: small, and of a period that no test exhausts. */
static uint64_t random_next(uint64_t *state) {
    uint64_t x = *state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    *state = x;
    return x * 0x2545f4914f6cdd1du;
}

/* --- The books: which bytes the allocator holds --- */

/* Index of the first extent that ends after `at`. */
static size_t extent_find(uintptr_t at) {
    size_t low = 0, high = extent_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (extents[middle].end > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static void extents_reserve(size_t count) {
    if (count <= extent_room) return;
    size_t room = extent_room != 0 ? extent_room * 2 : 1024;
    struct extent *bigger = mmap(NULL, room * sizeof *bigger, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bigger == MAP_FAILED) violation("no memory for the books", NULL, room * sizeof *bigger);
    if (extents != NULL) {
        memcpy(bigger, extents, extent_count * sizeof *extents);
        munmap(extents, extent_room * sizeof *extents);
    }
    extents = bigger;
    extent_room = room;
}

static void account(const struct extent *e, bool add) {
    size_t size = e->end - e->start;
    fake.counts.mapped += add ? size : -size;
    if (e->access == USABLE) fake.counts.usable += add ? size : -size;
}

/* The kernel makes one mapping of neighbours. */
static bool alike(const struct extent *a, const struct extent *b) { return a->access == b->access && a->name == b->name; }

/* Gives [start, end) access and name, whatever it had; splits and joins extents as needed. */
static void extents_assign(uintptr_t start, uintptr_t end, enum access access, const char *name) {
    extents_reserve(extent_count + 2);
    size_t first = extent_find(start), last = first; /* [first, last) are replaced */
    while (last < extent_count && extents[last].start < end) last++;
    struct extent fresh[3];
    size_t n = 0;
    if (first < last && extents[first].start < start)
        fresh[n++] = (struct extent){extents[first].start, start, extents[first].access, extents[first].name};
    if (access != NONE) fresh[n++] = (struct extent){start, end, access, name};
    if (first < last && extents[last - 1].end > end)
        fresh[n++] = (struct extent){end, extents[last - 1].end, extents[last - 1].access, extents[last - 1].name};
    for (size_t i = 0; i + 1 < n;) {
        if (fresh[i].end == fresh[i + 1].start && alike(&fresh[i], &fresh[i + 1])) {
            fresh[i].end = fresh[i + 1].end;
            for (size_t k = i + 1; k + 1 < n; k++) fresh[k] = fresh[k + 1];
            n--;
        } else {
            i++;
        }
    }
    if (n != 0 && first > 0 && extents[first - 1].end == fresh[0].start && alike(&extents[first - 1], &fresh[0])) {
        fresh[0].start = extents[--first].start;
    }
    if (n != 0 && last < extent_count && extents[last].start == fresh[n - 1].end && alike(&extents[last], &fresh[n - 1])) {
        fresh[n - 1].end = extents[last++].end;
    }
    for (size_t i = first; i < last; i++) account(&extents[i], false);
    memmove(extents + first + n, extents + last, (extent_count - last) * sizeof *extents);
    extent_count = extent_count - (last - first) + n;
    for (size_t i = 0; i < n; i++) {
        extents[first + i] = fresh[i];
        account(&fresh[i], true);
    }
    if (fake.counts.mapped > fake.counts.mapped_peak) fake.counts.mapped_peak = fake.counts.mapped;
}

/* The same where some of it stays as it is: the name, or the access. */
static void extents_change(uintptr_t start, uintptr_t end, const enum access *access, const char *name) {
    while (start < end) {
        struct extent now = extents[extent_find(start)];
        uintptr_t to = now.end < end ? now.end : end;
        extents_assign(start, to, access != NULL ? *access : now.access, access != NULL ? now.name : name);
        start = to;
    }
}

/* Is every byte of the range held, and, if asked, usable? */
static bool extents_cover(uintptr_t start, uintptr_t end, bool usable) {
    for (size_t i = extent_find(start); start < end; i++) {
        if (i == extent_count || extents[i].start > start || (usable && extents[i].access != USABLE)) return false;
        start = extents[i].end;
    }
    return true;
}

static bool in_break(const void *start, size_t size) {
    const uint8_t *s = start;
    if (brk_area == NULL || s < brk_area || s >= brk_area + BRK_RESERVE) return false;
    return (uintptr_t)s + size <= align_up((uintptr_t)brk_now, page_size);
}

static void check_range(const char *what, const void *start, size_t size, bool usable, bool break_too) {
    size_t page = prim_page_size();
    if (size == 0 || ((uintptr_t)start | size) % page != 0) violation(what, start, size);
    if (break_too && in_break(start, size)) return;
    if (!extents_cover((uintptr_t)start, (uintptr_t)start + size, usable)) violation(what, start, size);
}

static bool over_limit(size_t more) {
    size_t held = fake.counts.mapped + (size_t)(brk_now - brk_start);
    size_t limit = min_size(fake.space_limit, MEMORY_MAX);
    return more > limit || held > limit - more;
}

/* Counts the call; true if a plan refuses it. */
static bool refused(enum fake_call call) {
    fake.counts.calls[call]++;
    struct fake_plan *plan = &fake.plans[call];
    if (fake.seen[call]++ < plan->skip) return false;
    uint64_t nth = fake.seen[call] - plan->skip; /* from 1 */
    bool no = nth <= plan->next;
    if (plan->every != 0 && nth % plan->every == 0) no = true;
    if (plan->per_mille != 0 && random_next(&fake.plan_random) % 1000 < plan->per_mille) no = true;
    if (no) {
        fake.counts.injected[call]++;
        fake.counts.failed[call]++;
    }
    return no;
}

static void *fail(enum fake_call call) {
    fake.counts.failed[call]++;
    return NULL;
}

/* --- prim.h: memory --- */

size_t prim_page_size(void) {
    size_t size = __atomic_load_n(&page_size, __ATOMIC_RELAXED);
    if (size == 0) {
        const char *text = getenv("FAKE_PAGE_SIZE");
        size = text != NULL ? strtoul(text, NULL, 10) : 4096;
        if (!is_power_of_two(size) || size < 4096 || size > 65536) violation("bad FAKE_PAGE_SIZE", text, size);
        __atomic_store_n(&page_size, size, __ATOMIC_RELAXED);
    }
    return size;
}

/* A mapping of whole fake pages on a border of fake pages. */
static void *map_aligned(void *hint, size_t size, int protection) {
    size_t page = prim_page_size();
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (protection == PROT_NONE ? MAP_NORESERVE : 0);
    uint8_t *at = mmap(hint, size, protection, flags, -1, 0);
    if (at == MAP_FAILED) return NULL;
    if ((uintptr_t)at % page == 0) return at;
    munmap(at, size);
    at = mmap(NULL, size + page, protection, flags, -1, 0);
    if (at == MAP_FAILED) return NULL;
    uint8_t *start = (uint8_t *)align_up((uintptr_t)at, page);
    if (start != at) munmap(at, (size_t)(start - at));
    size_t behind = (size_t)(at + size + page - (start + size));
    if (behind != 0) munmap(start + size, behind);
    return start;
}

static bool break_move(uint8_t *to) {
    size_t page = prim_page_size();
    uint8_t *have = (uint8_t *)align_up((uintptr_t)brk_now, page), *want = (uint8_t *)align_up((uintptr_t)to, page);
    if (want > have) {
        if (mprotect(have, (size_t)(want - have), PROT_READ | PROT_WRITE) != 0) return false;
    } else if (want < have) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
        if (mmap(want, (size_t)(have - want), PROT_NONE, flags, -1, 0) == MAP_FAILED) violation("can't lower the break", want, 0);
    }
    brk_now = to;
    return true;
}

static void break_prepare(void) {
    if (brk_area != NULL) return;
    brk_area = map_aligned(NULL, BRK_RESERVE, PROT_NONE);
    if (brk_area == NULL) violation("no room for a break", NULL, BRK_RESERVE);
    uint8_t *at = brk_area + 16 * 65536; /* something below it, as data and bss are in a real process */
    brk_now = at;
    break_move(at + brk_offset);
    brk_start = brk_now;
}

static uint8_t foreign_byte(const uint8_t *at) { return (uint8_t)(((uintptr_t)at * 0x9e3779b97f4a7c15u) >> 56); }

static bool foreign_take(size_t bytes) {
    break_prepare();
    if (foreign_count == FOREIGN_MAX || bytes > (size_t)(brk_area + BRK_RESERVE - brk_now) || over_limit(bytes)) return false;
    uint8_t *start = brk_now;
    if (!break_move(start + bytes)) return false;
    for (size_t i = 0; i < bytes; i++) start[i] = foreign_byte(start + i);
    foreign[foreign_count++] = (struct foreign){start, bytes};
    fake.counts.foreign_bytes += bytes;
    return true;
}

void *prim_sbrk(intptr_t delta) {
    int saved = errno;
    if (__atomic_exchange_n(&sbrk_busy, 1, __ATOMIC_ACQUIRE) != 0) violation("two threads in sbrk", NULL, (size_t)delta);
    pthread_mutex_lock(&mutex);
    break_prepare();
    void *result = (void *)-1;
    if (delta == 0) {
        fake.counts.calls[FAKE_SBRK]++; /* reading always works */
        result = brk_now;
    } else if (!refused(FAKE_SBRK)) {
        if (delta > 0 && fake.foreign_per_mille != 0 && random_next(&fake.plan_random) % 1000 < fake.foreign_per_mille) {
            foreign_take(1 + (size_t)(random_next(&fake.plan_random) % fake.foreign_most));
        }
        size_t most = min_size(fake.brk_room, (size_t)(brk_area + BRK_RESERVE - brk_now));
        uint8_t *old = brk_now;
        if (delta > 0 && (size_t)delta <= most && !over_limit((size_t)delta) && break_move(old + delta)) {
            if (fake.brk_room != SIZE_MAX) fake.brk_room -= (size_t)delta;
            result = old;
        } else if (delta < 0) {
            uint8_t *to = old + delta;
            if (to < brk_start || to > old) violation("the break below its start", to, (size_t)-delta);
            if (foreign_count != 0 && to < foreign[foreign_count - 1].start + foreign[foreign_count - 1].size) {
                violation("the break lowered below foreign memory", to, (size_t)-delta);
            }
            if (fake.brk_room != SIZE_MAX) fake.brk_room += (size_t)-delta;
            break_move(to);
            result = old;
        } else {
            fail(FAKE_SBRK);
        }
    }
    pthread_mutex_unlock(&mutex);
    __atomic_store_n(&sbrk_busy, 0, __ATOMIC_RELEASE);
    errno = saved;
    return result;
}

void *prim_map(void *hint, size_t size, bool usable) {
    int saved = errno;
    if (size == 0 || ((uintptr_t)hint | size) % prim_page_size() != 0) violation("map of a range not on page borders", hint, size);
    pthread_mutex_lock(&mutex);
    void *at = NULL;
    if (!refused(FAKE_MAP)) {
        if (!over_limit(size)) at = map_aligned(hint, size, usable ? PROT_READ | PROT_WRITE : PROT_NONE);
        if (at != NULL)
            extents_assign((uintptr_t)at, (uintptr_t)at + size, usable ? USABLE : RESERVED, NULL);
        else
            fail(FAKE_MAP);
    }
    pthread_mutex_unlock(&mutex);
    errno = saved;
    return at;
}

bool prim_unmap(void *start, size_t size) {
    int saved = errno;
    pthread_mutex_lock(&mutex);
    check_range("unmap of what isn't mapped", start, size, false, false);
    bool done = !refused(FAKE_UNMAP);
    if (done) {
        if (munmap(start, size) != 0) violation("munmap", start, size);
        extents_assign((uintptr_t)start, (uintptr_t)start + size, NONE, NULL);
    }
    pthread_mutex_unlock(&mutex);
    errno = saved;
    return done;
}

bool prim_make_usable(void *start, size_t size) {
    int saved = errno;
    pthread_mutex_lock(&mutex);
    check_range("make_usable of what isn't mapped", start, size, false, false);
    bool done = !refused(FAKE_USABLE);
    if (done) {
        if (mprotect(start, size, PROT_READ | PROT_WRITE) != 0) violation("mprotect", start, size);
        extents_change((uintptr_t)start, (uintptr_t)start + size, &(enum access){USABLE}, NULL);
    }
    pthread_mutex_unlock(&mutex);
    errno = saved;
    return done;
}

/* A new mapping over what is there, and must be usable if the new one is. */
static bool map_over(enum fake_call call, const char *what, void *start, size_t size, enum access access) {
    int saved = errno;
    pthread_mutex_lock(&mutex);
    check_range(what, start, size, access == USABLE, access == USABLE);
    bool done = !refused(call);
    if (done) {
        int protection = access == USABLE ? PROT_READ | PROT_WRITE : PROT_NONE;
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | (access == USABLE ? 0 : MAP_NORESERVE);
        if (mmap(start, size, protection, flags, -1, 0) == MAP_FAILED) violation("mmap", start, size);
        extents_assign((uintptr_t)start, (uintptr_t)start + size, access, NULL);
    }
    pthread_mutex_unlock(&mutex);
    errno = saved;
    return done;
}

bool prim_make_unusable(void *start, size_t size) {
    return map_over(FAKE_UNUSABLE, "make_unusable of what isn't mapped", start, size, RESERVED);
}

bool prim_renew(void *start, size_t size) { return map_over(FAKE_RENEW, "renewal of what isn't usable", start, size, USABLE); }

bool prim_discard(void *start, size_t size) {
    int saved = errno;
    pthread_mutex_lock(&mutex);
    check_range("discard of what isn't usable", start, size, true, true);
    bool done = !refused(FAKE_DISCARD);
    if (done && madvise(start, size, MADV_DONTNEED) != 0) violation("madvise", start, size);
    pthread_mutex_unlock(&mutex);
    errno = saved;
    return done;
}

/* As the kernel: the target's own pages go first, whether or not the rest is refused. */
bool prim_move(void *from, void *to, size_t size) {
    int saved = errno;
    pthread_mutex_lock(&mutex);
    check_range("a move of what isn't usable", from, size + page_size, true, true);
    check_range("a move to what isn't usable", to, size, true, true);
    if ((uintptr_t)from < (uintptr_t)to + size && (uintptr_t)to < (uintptr_t)from + size) violation("a move onto itself", from, size);
    if (madvise(to, size, MADV_DONTNEED) != 0) violation("madvise", to, size);
    bool done = !refused(FAKE_MOVE);
    if (done && mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP, to) != to) {
        memcpy(to, from, size); /* an old kernel, or too many mappings */
        if (madvise(from, size, MADV_DONTNEED) != 0) violation("madvise", from, size);
    }
    pthread_mutex_unlock(&mutex);
    errno = saved;
    return done;
}

bool prim_wipe_on_fork(void *start, size_t size) {
    int saved = errno;
    pthread_mutex_lock(&mutex);
    bool done = !refused(FAKE_WIPE);
    if (done && madvise(start, size, MADV_WIPEONFORK) != 0) done = fail(FAKE_WIPE) != NULL;
    pthread_mutex_unlock(&mutex);
    errno = saved;
    return done;
}

bool prim_name(void *start, size_t size, const char *name) {
    pthread_mutex_lock(&mutex);
    check_range("a name for what isn't mapped", start, size, false, false);
    fake.counts.name_calls++;
    bool done = fake.names;
    if (done) extents_change((uintptr_t)start, (uintptr_t)start + size, NULL, name);
    pthread_mutex_unlock(&mutex);
    return done;
}

/* Asking is all: huge pages would make the tests slower, not different. */
bool prim_advise_huge(void *start, size_t size, bool wanted) {
    (void)wanted;
    pthread_mutex_lock(&mutex);
    check_range("advice on what isn't mapped", start, size, false, true);
    bool done = !refused(FAKE_HUGE);
    pthread_mutex_unlock(&mutex);
    return done;
}

/* Grows where it is, if the pages behind are free. */
static bool remap_stay(uint8_t *start, size_t old_size, size_t new_size) { return mremap(start, old_size, new_size, 0) == start; }

static void *remap_grow(uint8_t *start, size_t old_size, size_t new_size) {
    bool stay = fake.remap == FAKE_REMAP_STAY || (fake.remap == FAKE_REMAP_EITHER && random_next(&fake.plan_random) % 2 == 0);
    if (stay && remap_stay(start, old_size, new_size)) return start;
    if (fake.remap == FAKE_REMAP_STAY) return NULL;
    uint8_t *target = map_aligned(NULL, new_size, PROT_NONE);
    if (target == NULL) return NULL;
    if (mremap(start, old_size, new_size, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target) return target;
    munmap(target, new_size);
    return NULL;
}

void *prim_remap(void *start, size_t old_size, size_t new_size) {
    int saved = errno;
    pthread_mutex_lock(&mutex);
    check_range("remap of what isn't usable", start, old_size, true, false);
    if (new_size == 0 || new_size % page_size != 0) violation("remap to a size not of pages", start, new_size);
    void *at = NULL;
    if (!refused(FAKE_REMAP)) {
        if (new_size <= old_size) {
            if (new_size < old_size) munmap((uint8_t *)start + new_size, old_size - new_size);
            at = start;
        } else if (!over_limit(new_size - old_size)) {
            at = remap_grow(start, old_size, new_size);
        }
        if (at != NULL) {
            const char *name = extents[extent_find((uintptr_t)start)].name;
            extents_assign((uintptr_t)start, (uintptr_t)start + old_size, NONE, NULL);
            extents_assign((uintptr_t)at, (uintptr_t)at + new_size, USABLE, name);
        } else {
            fail(FAKE_REMAP);
        }
    }
    pthread_mutex_unlock(&mutex);
    errno = saved;
    return at;
}

/* --- prim.h: the rest --- */

void prim_wait(uint32_t *word, uint32_t expected, uint64_t nanoseconds) {
    int saved = errno;
    struct timespec limit = {.tv_sec = (time_t)(nanoseconds / 1000000000u), .tv_nsec = (long)(nanoseconds % 1000000000u)};
    long result = syscall(SYS_futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, expected, nanoseconds != 0 ? &limit : NULL, NULL, 0);
    if (result != 0 && errno == ETIMEDOUT) __atomic_fetch_add(&clock_now, nanoseconds, __ATOMIC_RELAXED);
    errno = saved;
}

void prim_wake(uint32_t *word, unsigned count) {
    int saved = errno;
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, NULL, NULL, 0);
    errno = saved;
}

bool prim_environment(char ***found) {
    *found = environment_set ? environment : environ;
    return !environment_set || environment_known;
}

/* One key for the life of the process, so that an engine that starts afresh (fake_restart) doesn't use them up. */
static pthread_key_t exit_key;
static void (*exit_function)(void *value);

static void thread_exit(void *value) { exit_function(value); }

bool prim_thread_exit_hook(void (*function)(void *value)) {
    static bool made;
    exit_function = function;
    if (!made) made = pthread_key_create(&exit_key, thread_exit) == 0;
    return made;
}

void prim_thread_exit_arm(void *value) { pthread_setspecific(exit_key, value); }

/* None: what a round does must not depend on when a thread comes by. */
bool prim_start_thread(void (*run)(void)) {
    (void)run;
    return false;
}

bool prim_is_last_thread(void) { return false; }

uint64_t prim_clock(void) { return __atomic_add_fetch(&clock_now, __atomic_load_n(&clock_step, __ATOMIC_RELAXED), __ATOMIC_RELAXED); }

uint64_t prim_random(void) {
    pthread_mutex_lock(&mutex);
    uint64_t value = random_next(&fake.random);
    pthread_mutex_unlock(&mutex);
    return value;
}

bool prim_is_main_thread(void) {
    if (main_thread >= 0) return main_thread != 0;
    return syscall(SYS_gettid) == getpid();
}

unsigned prim_process_id(void) { return (unsigned)getpid(); }

unsigned prim_cpus(void) {
    pthread_mutex_lock(&mutex);
    unsigned cpus = fake.cpus;
    pthread_mutex_unlock(&mutex);
    return cpus;
}

unsigned prim_cpu(void) {
    static unsigned calls;
    pthread_mutex_lock(&mutex);
    unsigned cpu = fake.cpu >= 0 ? (unsigned)fake.cpu : calls++ / 16 % fake.cpus;
    pthread_mutex_unlock(&mutex);
    return cpu;
}

size_t prim_address_space_limit(void) {
    pthread_mutex_lock(&mutex);
    size_t limit = fake.told ? fake.told_limit : fake.space_limit;
    pthread_mutex_unlock(&mutex);
    return limit;
}

size_t prim_minor_faults(size_t *major) {
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    if (major != NULL) *major = (size_t)usage.ru_majflt;
    return (size_t)usage.ru_minflt;
}

size_t prim_peak_rss(void) {
    struct rusage usage = {0};
    getrusage(RUSAGE_SELF, &usage);
    return (size_t)usage.ru_maxrss * 1024;
}

/* Files are read whole here; what is read in pieces is the kernel's account of the real process. */
int prim_open_file(const char *path) {
    (void)path;
    return -1;
}

long prim_read_at(int file, char *data, size_t size, uint64_t offset) {
    (void)file, (void)data, (void)size, (void)offset;
    return -1;
}

void prim_close_file(int file) { (void)file; }

long prim_read_file(const char *path, char *data, size_t size) {
    for (size_t i = 0; i < file_count; i++) {
        if (strcmp(files[i].path, path) != 0) continue;
        size_t length = min_size(strlen(files[i].contents), size);
        memcpy(data, files[i].contents, length);
        return (long)length;
    }
    return -1;
}

int prim_keep_stderr(void) { return PRIM_STDERR; }

void prim_write(int fd, const char *data, size_t size) {
    (void)fd; /* one place for all that is written */
    int saved = errno;
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < size; i++) {
        if (written_length == sizeof written - 1) { /* keep the newer half */
            memmove(written, written + sizeof written / 2, sizeof written / 2);
            written_length -= sizeof written / 2;
        }
        written[written_length++] = data[i];
    }
    written[written_length] = '\0';
    pthread_mutex_unlock(&mutex);
    if (echo && write(STDERR_FILENO, data, size) < 0) { /* nothing to be done about it */
    }
    errno = saved;
}

void prim_abort(void) {
    if (abort_function != NULL) abort_function();
    abort();
}

/* --- The controls --- */

void fake_set_page_size(size_t size) {
    if (page_size != 0 && page_size != size) violation("the page size is in use already", NULL, size);
    page_size = size;
}

static uint64_t scramble(uint64_t seed) { /* never 0, which xorshift can't leave */
    seed = (seed ^ (seed >> 31)) * 0x9e3779b97f4a7c15u;
    return (seed ^ (seed >> 29)) | 1;
}

void fake_seed(uint64_t seed) {
    pthread_mutex_lock(&mutex);
    fake.random = scramble(seed);
    fake.plan_random = scramble(~seed);
    pthread_mutex_unlock(&mutex);
}

void fake_plan_set(enum fake_call call, struct fake_plan plan) {
    pthread_mutex_lock(&mutex);
    fake.plans[call] = plan;
    fake.seen[call] = 0;
    pthread_mutex_unlock(&mutex);
}

void fake_plan_all(struct fake_plan plan) {
    for (int call = 0; call < FAKE_CALLS; call++) {
        if (call != FAKE_WIPE) fake_plan_set((enum fake_call)call, plan);
    }
}

void fake_calm(void) {
    fake_plan_all((struct fake_plan){0});
    pthread_mutex_lock(&mutex);
    fake.space_limit = SIZE_MAX;
    fake.brk_room = SIZE_MAX;
    fake.foreign_per_mille = 0;
    pthread_mutex_unlock(&mutex);
}

#define SETTER(name, type, field)                                                                                                          \
    void name(type value) {                                                                                                                \
        pthread_mutex_lock(&mutex);                                                                                                        \
        fake.field = value;                                                                                                                \
        pthread_mutex_unlock(&mutex);                                                                                                      \
    }

SETTER(fake_set_space_limit, size_t, space_limit)
SETTER(fake_set_brk_room, size_t, brk_room)
SETTER(fake_set_remap, enum fake_remap, remap)
SETTER(fake_set_names, bool, names)
SETTER(fake_set_cpus, unsigned, cpus)
SETTER(fake_set_cpu, int, cpu)

void fake_tell_space_limit(size_t bytes) {
    pthread_mutex_lock(&mutex);
    fake.told = true;
    fake.told_limit = bytes;
    pthread_mutex_unlock(&mutex);
}

void fake_set_brk_start(size_t offset) {
    if (brk_area != NULL) violation("the break is in use already", brk_area, offset);
    brk_offset = offset;
}

bool fake_foreign_take(size_t bytes) {
    pthread_mutex_lock(&mutex);
    bool done = foreign_take(bytes);
    pthread_mutex_unlock(&mutex);
    return done;
}

bool fake_foreign_release(void) {
    bool done = false;
    pthread_mutex_lock(&mutex);
    if (foreign_count != 0 && foreign[foreign_count - 1].start + foreign[foreign_count - 1].size == brk_now) {
        foreign_count--;
        fake.counts.foreign_bytes -= foreign[foreign_count].size;
        break_move(foreign[foreign_count].start);
        done = true;
    }
    pthread_mutex_unlock(&mutex);
    return done;
}

void fake_foreign_chance(unsigned per_mille, size_t most) {
    pthread_mutex_lock(&mutex);
    fake.foreign_per_mille = most != 0 ? per_mille : 0;
    fake.foreign_most = most;
    pthread_mutex_unlock(&mutex);
}

void fake_set_clock(uint64_t now, uint64_t step) {
    __atomic_store_n(&clock_now, now, __ATOMIC_RELAXED);
    __atomic_store_n(&clock_step, step, __ATOMIC_RELAXED);
}

void fake_set_file(const char *path, const char *contents) {
    if (file_count == FILES_MAX) violation("too many files", path, FILES_MAX);
    files[file_count].path = path;
    files[file_count++].contents = contents;
}

void fake_set_environment(char **set, bool known) {
    environment = set;
    environment_set = true;
    environment_known = known;
}

void fake_set_main_thread(int is_main) { main_thread = is_main; }

const char *fake_written(void) { return written; }

void fake_clear_written(void) {
    written_length = 0;
    written[0] = '\0';
}

void fake_set_echo(bool on) { echo = on; }
void fake_on_abort(void (*function)(void)) { abort_function = function; }

struct fake_counts fake_count(void) {
    pthread_mutex_lock(&mutex);
    struct fake_counts counts = fake.counts;
    counts.extents = extent_count;
    counts.brk_bytes = (size_t)(brk_now - brk_start);
    pthread_mutex_unlock(&mutex);
    return counts;
}

bool fake_is_mapped(const void *start, size_t size, bool usable) {
    pthread_mutex_lock(&mutex);
    bool yes = in_break(start, size) || extents_cover((uintptr_t)start, (uintptr_t)start + size, usable);
    pthread_mutex_unlock(&mutex);
    return yes;
}

const char *fake_name_of(const void *at) {
    pthread_mutex_lock(&mutex);
    size_t i = extent_find((uintptr_t)at);
    const char *name = i < extent_count && extents[i].start <= (uintptr_t)at ? extents[i].name : NULL;
    pthread_mutex_unlock(&mutex);
    return name;
}

const char *fake_check(void) {
    const char *wrong = NULL;
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < foreign_count && wrong == NULL; i++) {
        for (size_t k = 0; k < foreign[i].size; k++) {
            if (foreign[i].start[k] != foreign_byte(foreign[i].start + k)) wrong = "foreign memory on the break was written to";
        }
    }
    size_t mapped = 0;
    for (size_t i = 0; i < extent_count; i++) {
        mapped += extents[i].end - extents[i].start;
        if (extents[i].start >= extents[i].end || (i != 0 && extents[i].start < extents[i - 1].end))
            wrong = "the fake's extents are out of order";
    }
    if (mapped != fake.counts.mapped) wrong = "the fake's sum of extents is wrong";
    pthread_mutex_unlock(&mutex);
    return wrong;
}

/* What fake_restart leaves, with the contents it had. */
static struct {
    struct extent extent;
    void *contents; /* NULL: reserved */
} kept[64];
static size_t kept_count;

void fake_keep(void) {
    for (size_t i = 0; i < extent_count; i++) {
        size_t size = extents[i].end - extents[i].start;
        if (kept_count == sizeof kept / sizeof kept[0]) violation("too much to keep", NULL, kept_count);
        kept[kept_count].extent = extents[i];
        if (extents[i].access == USABLE) {
            void *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (copy == MAP_FAILED) violation("no memory to keep", NULL, size);
            kept[kept_count].contents = memcpy(copy, (void *)extents[i].start, size);
        }
        kept_count++;
    }
}

void fake_restart(void) {
    for (size_t i = 0; i < extent_count; i++) {
        uintptr_t at = extents[i].start; /* unmap what lies between the kept ones; these are in order of address, too */
        for (size_t k = 0; k < kept_count && at < extents[i].end; k++) {
            if (kept[k].extent.end <= at || kept[k].extent.start >= extents[i].end) continue;
            if (kept[k].extent.start > at) munmap((void *)at, kept[k].extent.start - at);
            at = kept[k].extent.end;
        }
        if (at < extents[i].end) munmap((void *)at, extents[i].end - at);
    }
    extent_count = 0;
    if (brk_area != NULL) break_move(brk_start);
    foreign_count = 0;
    memset(&fake.counts, 0, sizeof fake.counts);
    for (size_t k = 0; k < kept_count; k++) {
        const struct extent *extent = &kept[k].extent;
        size_t size = extent->end - extent->start;
        int protection = extent->access == USABLE ? PROT_READ | PROT_WRITE : PROT_NONE;
        if (mprotect((void *)extent->start, size, protection) != 0) violation("what was to be kept is gone", (void *)extent->start, size);
        if (kept[k].contents != NULL) memcpy((void *)extent->start, kept[k].contents, size);
        extents_assign(extent->start, extent->end, extent->access, extent->name);
    }
    fake_calm();
    fake.told = false;
    fake.remap = FAKE_REMAP_EITHER;
    fake.names = false;
    fake.cpus = 2;
    fake.cpu = -1;
    file_count = 0;
    clock_now = 1000000000u;
    clock_step = 1000;
    fake_seed(1);
    fake_clear_written();
}
