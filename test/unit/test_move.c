/* test_move.c: pages that move to a new block; what the table of moved ranges says is held against a model that knows where each page was first.
 * SPDX-License-Identifier: MIT */
#include "unit.h"

#include "conf/conf.h"
#include "fake.h"
#include "heap/move.h"

#include <string.h>

enum { PAGES = 4096 };

static char *area;
static size_t page;
static size_t home[PAGES]; /* where the mapping that a page of the area is in was first */

static void begin(void) {
    conf_init(NULL);
    store_relaxed(&seal.arenas, 1);
    page = os_page_size();
    area = os_map(NULL, (PAGES + 1) * page, true, SEEMALLOC_CALL_MMAP_REGION);
    for (size_t i = 0; i < PAGES; i++) home[i] = i;
}

static struct span pages(size_t from, size_t count) { return (struct span){area + from * page, area + (from + count) * page}; }

static void mark(size_t from, size_t count, unsigned char with) {
    for (size_t i = from; i < from + count; i++) memset(area + i * page, (int)(with + i), page);
}

static bool is_marked(size_t at, unsigned char with) {
    for (size_t i = 0; i < page; i++) {
        if ((unsigned char)area[at * page + i] != with) return false;
    }
    return true;
}

static uint64_t calls(enum fake_call call) { return fake_count().calls[call]; }

static void pages_come_along(void) {
    begin();
    mark(0, 20, 1);
    mark(100, 20, 101);
    CHECK_EQ(move_pages(pages(0, 10), false, pages(100, 20), page, 1), 10 * page);
    for (size_t i = 0; i < 10; i++) CHECK(is_marked(i, 0));
    for (size_t i = 0; i < 10; i++) CHECK(is_marked(100 + i, (unsigned char)(1 + i)));
    for (size_t i = 10; i < 20; i++) CHECK(is_marked(100 + i, (unsigned char)(201 + i)));
    /* The last ones; those that have room. */
    CHECK_EQ(move_pages(pages(10, 10), true, pages(110, 4), page, 1), 4 * page);
    for (size_t i = 10; i < 16; i++) CHECK(is_marked(i, (unsigned char)(1 + i)));
    for (size_t i = 16; i < 20; i++) CHECK(is_marked(i, 0));
    for (size_t i = 0; i < 4; i++) CHECK(is_marked(110 + i, (unsigned char)(17 + i)));
    CHECK_EQ(move_pages(pages(200, 9), false, pages(300, 20), 10 * page, 1), 0); /* too few */
    CHECK_EQ(move_pages(pages(200, 0), false, pages(300, 0), page, 1), 0);
}

/* Before Linux 6.17 a move across a border is refused. */
static void not_across_borders(void) {
    begin();
    move_pages(pages(0, 10), false, pages(100, 10), page, 1);
    CHECK_EQ(move_pages(pages(95, 20), false, pages(200, 20), page, 2), 5 * page);  /* as far as the border */
    CHECK_EQ(move_pages(pages(95, 12), true, pages(300, 20), page, 2), 7 * page);   /* back to it: 100 to 106 */
    CHECK_EQ(move_pages(pages(107, 20), true, pages(400, 30), page, 2), 17 * page); /* 110 to 126 */
    CHECK_EQ(move_pages(pages(107, 20), false, pages(500, 30), page, 2), 3 * page);
    /* All places where moved pages had been are like those around them again, and one move takes them all. */
    CHECK_EQ(move_pages(pages(90, 30), false, pages(600, 30), page, 2), 30 * page);
}

static void refusals_change_nothing(void) {
    begin();
    mark(0, 20, 1);
    fake_plan_set(FAKE_MOVE, (struct fake_plan){.every = 1});
    CHECK_EQ(move_pages(pages(0, 20), false, pages(100, 20), page, 2), 0);
    for (size_t i = 0; i < 20; i++) CHECK(is_marked(i, (unsigned char)(1 + i)));
    fake_plan_set(FAKE_MOVE, (struct fake_plan){0});
    CHECK_EQ(move_pages(pages(0, 20), false, pages(100, 20), page, 2), 20 * page);
    /* The place that pages leave for the second time stays apart where it can't be mapped anew. */
    fake_plan_set(FAKE_RENEW, (struct fake_plan){.every = 1});
    CHECK_EQ(move_pages(pages(100, 20), false, pages(200, 20), page, 2), 20 * page);
    CHECK(move_discard(pages(90, 20), SEEMALLOC_CALL_MADVISE_PURGE)); /* by discarding */
    CHECK_EQ(move_pages(pages(90, 20), false, pages(300, 20), page, 2), 10 * page);
    fake_plan_set(FAKE_RENEW, (struct fake_plan){0});
    uint64_t before = calls(FAKE_RENEW);
    CHECK(move_discard(pages(90, 20), SEEMALLOC_CALL_MADVISE_PURGE));
    CHECK_EQ(calls(FAKE_RENEW), before + 1);
    CHECK_EQ(move_pages(pages(90, 20), false, pages(400, 20), page, 2), 20 * page);
    /* With names that is left alone: a fresh mapping would have none. */
    store_relaxed(&os_names, true);
    before = calls(FAKE_RENEW);
    CHECK(move_discard(pages(400, 20), SEEMALLOC_CALL_MADVISE_PURGE));
    CHECK_EQ(calls(FAKE_RENEW), before);
}

static void mappings_are_bounded(void) {
    begin();
    unsigned moved = 0;
    store_relaxed(&seal.arenas, 3);
    while (moved < PAGES && move_pages(pages(500 - moved, 1), false, pages(2000 + 2 * moved, 1), page, 1) != 0) moved++;
    CHECK_EQ(moved, (MOVE_MAPPINGS_MOST - 2 * MOVE_MAPPINGS_ARENA) / 2);
    store_relaxed(&seal.arenas, 1);
    while (moved < PAGES && move_pages(pages(500 - moved, 1), false, pages(2000 + 2 * moved, 1), page, 1) != 0) moved++;
    CHECK_EQ(moved, MOVE_MAPPINGS_MOST / 2); /* each is one, and what follows it another */
    CHECK_EQ(move_pages(pages(1000, 1), false, pages(3000, 1), page, 1), 0);
    /* What lies between two is one already, and what was side by side stays one. */
    CHECK_EQ(move_pages(pages(1000, 1), false, pages(2001, 1), page, 1), page);
    CHECK_EQ(move_pages(pages(1001, 1), false, pages(2003, 1), page, 1), page);
    CHECK_EQ(move_pages(pages(501, 1), false, pages(2001, 1), page, 1), page);
    CHECK_EQ(move_pages(pages(1000, 1), false, pages(3000, 1), page, 1), 0);
    move_forget(area + 2000 * page, area + 2002 * page);
    CHECK_EQ(move_pages(pages(1000, 1), false, pages(3000, 1), page, 1), page);
}

/* --- against the model -------------------------------------------------------------------------------------------------------------------- */

static unsigned mappings(void) {
    unsigned found = 1;
    for (size_t i = 1; i < PAGES; i++) found += home[i] != home[i - 1] + 1;
    return found;
}

/* How far from `at` on, or back to it, one mapping goes. */
static size_t in_one(size_t at, size_t count, bool last) {
    size_t n = 1;
    while (n < count && (last ? home[at + count - n] == home[at + count - n - 1] + 1 : home[at + n] == home[at + n - 1] + 1)) n++;
    return n;
}

static void as_the_model(void) {
    for (uint64_t seed = 1; seed < 20; seed++) {
        move_forget(NULL, (void *)UINTPTR_MAX);
        begin();
        uint64_t random = seed;
        unsigned moves = 0;
        for (int i = 0; i < 3000; i++) {
            size_t most = (size_t)1 << unit_random(&random) % 10, count = 1 + unit_random(&random) % most;
            size_t from = unit_random(&random) % (PAGES - count), to = unit_random(&random) % (PAGES - count);
            bool last = unit_random(&random) % 2, twice = unit_random(&random) % 4 != 0;
            unsigned what = (unsigned)(unit_random(&random) % 8);
            if (what == 0) {
                bool apart = in_one(from, count, false) != count || home[from] != from;
                uint64_t before = calls(FAKE_RENEW);
                CHECK(move_discard(pages(from, count), SEEMALLOC_CALL_MADVISE_PURGE));
                if (calls(FAKE_RENEW) != before) {
                    CHECK(apart);
                    for (size_t at = from; at < from + count; at++) home[at] = at;
                }
            } else if (what == 1 && i % 7 == 0) {
                move_forget(area + from * page, area + PAGES * page);
                for (size_t at = from; at < PAGES; at++) home[at] = at;
            } else if (from + count <= to || to + count <= from) {
                size_t expected = in_one(from, count, last), start = last ? from + count - expected : from;
                size_t done = move_pages(pages(from, count), last, pages(to, count), page, twice ? 2 : 1) / page;
                CHECK(done == 0 || done == expected);
                bool apart = home[start] != start;
                for (size_t at = 0; at < done; at++) home[to + at] = home[start + at];
                for (size_t at = 0; at < done && apart && twice; at++) home[start + at] = start + at;
                moves += done != 0;
            }
            CHECK(mappings() <= 1 + MOVE_MAPPINGS_MOST);
        }
        CHECK(moves > 200);
        os_unmap(area, (PAGES + 1) * page, SEEMALLOC_CALL_MUNMAP_HEAP);
    }
}

UNIT_MAIN({"pages_come_along", pages_come_along}, {"not_across_borders", not_across_borders},
          {"refusals_change_nothing", refusals_change_nothing}, {"mappings_are_bounded", mappings_are_bounded},
          {"as_the_model", as_the_model})
