/* test_os.c: the allocator's own books: pages side by side between inaccessible ones. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "fake.h"
#include "os/os.h"

#include <pthread.h>
#include <string.h>

#define PAGE os_page_size()

static bool is_zero(const char *mem, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (mem[i] != 0) return false;
    }
    return true;
}

enum { MANY = 300 };

/* However many there are, the kernel's list has few entries for them, and whatever lies before and behind them can't be touched. */
static void side_by_side(void) {
    size_t size = 3 * PAGE - 100, extents = fake_count().extents, before = load_relaxed(&os_counters.metadata_bytes);
    char *mem[MANY];
    for (unsigned i = 0; i < MANY; i++) {
        mem[i] = os_map_guarded(size);
        CHECK(mem[i] != NULL && is_zero(mem[i], 3 * PAGE));
        memset(mem[i], 0xff, 3 * PAGE);
    }
    for (unsigned i = 0; i < MANY; i++) {
        bool first = true, last = true;
        for (unsigned j = 0; j < MANY; j++) {
            CHECK(i == j || mem[i] + 3 * PAGE <= mem[j] || mem[j] + 3 * PAGE <= mem[i]);
            first &= mem[j] + 3 * PAGE != mem[i];
            last &= mem[i] + 3 * PAGE != mem[j];
        }
        if (first) CHECK(fake_is_mapped(mem[i] - PAGE, PAGE, false) && !fake_is_mapped(mem[i] - PAGE, PAGE, true));
        if (last) CHECK(fake_is_mapped(mem[i] + 3 * PAGE, PAGE, false) && !fake_is_mapped(mem[i] + 3 * PAGE, PAGE, true));
    }
    CHECK(fake_count().extents <= extents + 3 * 10); /* 2^9 > MANY */
    CHECK_EQ(load_relaxed(&os_counters.metadata_bytes), before + MANY * 3 * PAGE);
}

/* What is refused leaves nothing behind, however often it is. */
static void refused(void) {
    CHECK(os_map_guarded(PAGE) != NULL);
    size_t before = load_relaxed(&os_counters.metadata_bytes), taken = load_relaxed(&os_counters.taken);
    fake_plan_set(FAKE_USABLE, (struct fake_plan){.every = 1});
    for (unsigned i = 0; i < MANY; i++) CHECK(os_map_guarded(5 * PAGE) == NULL);
    size_t mapped = fake_count().mapped;
    for (unsigned i = 0; i < MANY; i++) CHECK(os_map_guarded(5 * PAGE) == NULL);
    CHECK_EQ(fake_count().mapped, mapped);
    fake_calm();
    fake_plan_set(FAKE_MAP, (struct fake_plan){.every = 1});
    for (unsigned i = 0; i < MANY; i++) CHECK(os_map_guarded(5000 * PAGE) == NULL);
    CHECK_EQ(fake_count().mapped, mapped);
    CHECK_EQ(load_relaxed(&os_counters.metadata_bytes), before);
    CHECK_EQ(load_relaxed(&os_counters.taken), taken);
    fake_calm();
    CHECK(os_map_guarded(5 * PAGE) != NULL);
}

/* Where there is no room for a reservation there may be for what is needed. */
static void no_room_for_more(void) {
    CHECK(os_map_guarded(100 * PAGE) != NULL);
    size_t mapped = fake_count().mapped;
    fake_set_space_limit(mapped + fake_count().brk_bytes + 4 * PAGE);
    CHECK(os_map_guarded(PAGE) != NULL);
    CHECK_EQ(fake_count().mapped, mapped + 3 * PAGE);
    fake_calm();
}

/* Given back, it is there for the next one, and zero again. */
static void given_back(void) {
    size_t before = load_relaxed(&os_counters.metadata_bytes);
    char *mem = os_map_guarded(2 * PAGE);
    memset(mem, 0xff, 2 * PAGE);
    os_unmap_guarded(mem, 2 * PAGE);
    CHECK(!fake_is_mapped(mem, PAGE, true));
    CHECK_EQ(load_relaxed(&os_counters.metadata_bytes), before);
    CHECK(os_map_guarded(2 * PAGE) == mem);
    CHECK(is_zero(mem, 2 * PAGE));
}

enum { THREADS = 8, EACH = 200 };

static void *take_many(void *arg) {
    char **mem = arg;
    for (unsigned i = 0; i < EACH; i++) {
        mem[i] = os_map_guarded(PAGE);
        CHECK(mem[i] != NULL);
        memset(mem[i], 0xff, PAGE);
    }
    return NULL;
}

static void by_many_threads(void) {
    static char *mem[THREADS][EACH];
    pthread_t thread[THREADS];
    size_t before = load_relaxed(&os_counters.metadata_bytes);
    for (unsigned t = 0; t < THREADS; t++) CHECK_EQ(pthread_create(&thread[t], NULL, take_many, mem[t]), 0);
    for (unsigned t = 0; t < THREADS; t++) pthread_join(thread[t], NULL);
    char **all = &mem[0][0];
    for (unsigned i = 0; i < THREADS * EACH; i++) {
        for (unsigned j = 0; j < i; j++) CHECK(all[i] != all[j]);
    }
    CHECK_EQ(load_relaxed(&os_counters.metadata_bytes), before + THREADS * EACH * PAGE);
}

UNIT_MAIN({"side_by_side", side_by_side}, {"refused", refused}, {"no_room_for_more", no_room_for_more}, {"given_back", given_back},
          {"by_many_threads", by_many_threads})
