/* test_limit.c: the setting `limit` on a system that is staged: what is taken never exceeds it, what went back counts as such, and a request at the
 * limit has everything that is free behind it before it fails. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "arena/arena.h"
#include "cache/cache.h"
#include "conf/conf.h"
#include "fake.h"
#include "heap/mapped.h"
#include "heap/retain.h"
#include "os/os.h"
#include "seemalloc.h"

#include <errno.h>
#include <malloc.h>
#include <string.h>

void *seemalloc_malloc(size_t size);
void *seemalloc_calloc(size_t number, size_t size);
void *seemalloc_realloc(void *mem, size_t size);
void *seemalloc_memalign(size_t alignment, size_t size);
void seemalloc_free(void *mem);
int seemalloc_malloc_trim(size_t pad);

enum { BLOCKS = 4096 };
static void *blocks[BLOCKS];

static size_t taken(void) { return load_relaxed(&os_counters.taken); }

/* Until the first refusal; how many there were. */
static unsigned take_all(size_t size) {
    unsigned n = 0;
    for (; n < BLOCKS; n++) {
        errno = 0;
        blocks[n] = seemalloc_malloc(size);
        if (blocks[n] == NULL) {
            CHECK_EQ(errno, ENOMEM);
            break;
        }
        memset(blocks[n], 1, size);
        CHECK(taken() <= os_counters.limit);
    }
    CHECK(n < BLOCKS);
    CHECK_HEAP();
    return n;
}

static void free_all(unsigned n, unsigned every) {
    for (unsigned i = 0; i < n; i++) {
        if (i % every == every - 1) continue;
        seemalloc_free(blocks[i]);
        blocks[i] = NULL;
    }
}

/* Small, medium, large: as many each time round, and nearly all of the limit can be used. */
static void as_many_again(void) {
    static const size_t sizes[] = {5000, 40000, 300000, 3000000};
    seemalloc_set_limit(MIB(12));
    for (unsigned i = 0; i < 4; i++) {
        unsigned first = take_all(sizes[i]);
        CHECK(first * sizes[i] > MIB(9));
        free_all(first, BLOCKS);
        for (unsigned round = 0; round < 3; round++) {
            unsigned again = take_all(sizes[i]);
            CHECK(again + 1 + first / 8 >= first);
            free_all(again, BLOCKS);
        }
    }
    seemalloc_set_limit(0);
    CHECK(seemalloc_malloc(MIB(100)) != NULL);
}

/* Holes that were purged count as given back, and as taken when they are handed out again. */
static void purged_holes(void) {
    cache_init();
    store_relaxed(&conf_values[CONF_MMAP_THRESHOLD], MIB(64));
    store_relaxed(&conf_sources[CONF_MMAP_THRESHOLD], CONF_MALLOPT);
    seemalloc_set_limit(MIB(16));
    unsigned n = take_all(MIB(1));
    CHECK(n >= 14);
    free_all(n, 2); /* every other one stays */
    size_t before = taken();
    seemalloc_malloc_trim(0);
    CHECK(taken() + MIB(6) < before);
    CHECK_HEAP();
    store_relaxed(&conf_values[CONF_MMAP_THRESHOLD], KIB(128));
    void *mapped = seemalloc_malloc(MIB(6));
    CHECK(mapped != NULL && mapped_count == 1);
    CHECK(taken() <= MIB(16));
    store_relaxed(&conf_values[CONF_MMAP_THRESHOLD], MIB(64));
    /* The holes are there, but their pages are not to be had any more: not all. */
    unsigned again = 0;
    for (unsigned i = 0; i < n; i++) {
        if (blocks[i] != NULL) continue;
        blocks[i] = seemalloc_malloc(MIB(1) - 64);
        if (blocks[i] == NULL) break;
        again++;
        CHECK(taken() <= MIB(16));
    }
    CHECK(again <= n / 2 - 5);
    CHECK_HEAP();
    seemalloc_free(mapped);
    void *more = seemalloc_malloc(MIB(1) - 64);
    CHECK(more != NULL);
    CHECK_HEAP();
}

/* A request is met from what lies retained, unmerged, in the cache, in an inbox, at another arena's top. */
static void give_to_inbox(void *arg) {
    void **mem = arg;
    for (unsigned i = 0; i < 100; i++) mem[i] = seemalloc_malloc(20000);
}

static void everything_goes_back_first(void) {
    seemalloc_set_limit(MIB(12));
    void *theirs[100], *small[3000];
    unit_in_thread(give_to_inbox, theirs);
    for (unsigned i = 0; i < 3000; i++) small[i] = seemalloc_malloc(1000);
    unsigned n = take_all(KIB(64));
    free_all(n, BLOCKS);
    for (unsigned i = 0; i < 3000; i++) seemalloc_free(small[i]);
    for (unsigned i = 0; i < 100; i++) seemalloc_free(theirs[i]);
    char *all = seemalloc_calloc(1, MIB(10));
    CHECK(all != NULL);
    for (size_t i = 0; i < MIB(10); i += 4096) CHECK_EQ(all[i], 0);
    CHECK(taken() <= MIB(12));
    CHECK_HEAP();
}

/* realloc needs only the growth of a mapping; in the heap it grows in place as far as the limit goes; what fails leaves the block as it was. */
static void growing(void) {
    seemalloc_set_limit(MIB(16));
    char *mem = seemalloc_malloc(MIB(9));
    memset(mem, 7, MIB(9));
    mem = seemalloc_realloc(mem, MIB(14));
    CHECK(mem != NULL && taken() <= MIB(16));
    errno = 0;
    CHECK(seemalloc_realloc(mem, MIB(17)) == NULL && errno == ENOMEM);
    for (size_t i = 0; i < MIB(9); i++) CHECK_EQ(mem[i], 7);
    mem = seemalloc_realloc(mem, MIB(9));
    CHECK(mem != NULL);
    char *small = seemalloc_malloc(KIB(100)), *grown;
    size_t size = KIB(100);
    for (; (grown = seemalloc_realloc(small, size + KIB(100))) != NULL; size += KIB(100)) {
        small = grown;
        CHECK(taken() <= MIB(16));
    }
    CHECK(size > MIB(3));
    CHECK_EQ(errno, ENOMEM);
    CHECK(seemalloc_memalign(4096, MIB(8)) == NULL);
    seemalloc_free(mem);
    CHECK(seemalloc_memalign(KIB(64), MIB(8)) != NULL);
    CHECK_HEAP();
}

/* A limit below what is taken: what is there can be used and freed, nothing more is to be had, and then again. */
static void lowered(void) {
    unsigned n = 0;
    for (; n < 200; n++) blocks[n] = seemalloc_malloc(KIB(60));
    seemalloc_set_limit(MIB(2));
    CHECK(seemalloc_malloc(KIB(60)) == NULL);
    CHECK(seemalloc_malloc(MIB(1)) == NULL);
    free_all(n, BLOCKS);
    CHECK(seemalloc_malloc(MIB(1)) != NULL);
    CHECK(taken() <= MIB(2));
    CHECK_HEAP();
}

static unsigned calls, cached;
static size_t last_needed;

static int shed_one(size_t needed, void *arg) {
    calls++;
    last_needed = needed;
    CHECK(arg == &cached);
    CHECK(seemalloc_malloc(MIB(4)) == NULL); /* not asked again */
    if (cached == 0) return 0;
    seemalloc_free(blocks[--cached]);
    return 1;
}

static void callback(void) {
    seemalloc_set_limit(MIB(8));
    seemalloc_on_limit(shed_one, &cached);
    cached = 0;
    while (calls == 0) {
        void *mem = seemalloc_malloc(KIB(200));
        if (mem != NULL) blocks[cached++] = mem;
    }
    CHECK_EQ(calls, 1); /* it freed one, and that was enough */
    CHECK(last_needed >= KIB(200) && last_needed < KIB(201));
    unsigned before = cached;
    CHECK(seemalloc_malloc(KIB(600)) != NULL); /* more than one goes */
    CHECK(cached + 2 <= before);
    calls = 0;
    CHECK(seemalloc_malloc(MIB(9)) == NULL); /* never to be had */
    CHECK_EQ(calls, 0);
    CHECK(seemalloc_malloc(MIB(5)) == NULL); /* too much for eight tries */
    CHECK_EQ(calls, 8);
    cached = calls = 0;
    CHECK(seemalloc_malloc(MIB(6)) == NULL);
    CHECK_EQ(calls, 1);
    seemalloc_on_limit(NULL, NULL);
    CHECK(seemalloc_malloc(MIB(6)) == NULL);
    CHECK_EQ(calls, 1);
    CHECK_HEAP();
}

/* The system refuses what the limit would allow: nobody is asked, and the count is right. */
static void refused_by_the_system(void) {
    seemalloc_set_limit(MIB(256));
    seemalloc_on_limit(shed_one, &cached);
    CHECK(seemalloc_malloc(100) != NULL);
    fake_plan_all((struct fake_plan){.per_mille = 1000});
    for (unsigned i = 0; i < 100; i++) seemalloc_malloc(KIB(50) * i);
    CHECK_EQ(calls, 0);
    fake_calm();
    CHECK_HEAP();
    void *mem = seemalloc_malloc(MIB(40));
    CHECK(mem != NULL);
    fake_plan_set(FAKE_REMAP, (struct fake_plan){.per_mille = 1000});
    mem = seemalloc_realloc(mem, MIB(50)); /* copied */
    CHECK(mem != NULL && calls == 0);
    CHECK_HEAP();
    fake_calm();
    CHECK(seemalloc_realloc(mem, MIB(60)) != NULL);
    CHECK_HEAP();
}

/* Without cache or arena of its own a thread goes on. */
static void small_work(void *arg) {
    for (unsigned i = 0; i < 1000; i++) {
        void *mem = seemalloc_malloc(100 + i);
        if (mem == NULL) *(unsigned *)arg += 1;
        seemalloc_free(mem);
    }
}

static void no_room_for_books(void) {
    void *first = seemalloc_malloc(KIB(300));
    seemalloc_free(seemalloc_malloc(KIB(100)));
    seemalloc_set_limit(taken() + KIB(64));
    unsigned failed = 0;
    for (unsigned i = 0; i < 20; i++) unit_in_thread(small_work, &failed);
    CHECK_EQ(failed, 0);
    CHECK(taken() <= os_counters.limit);
    seemalloc_free(first);
    CHECK_HEAP();
}

UNIT_MAIN({"as_many_again", as_many_again}, {"purged_holes", purged_holes}, {"everything_goes_back_first", everything_goes_back_first},
          {"growing", growing}, {"lowered", lowered}, {"callback", callback}, {"refused_by_the_system", refused_by_the_system},
          {"no_room_for_books", no_room_for_books}, )
