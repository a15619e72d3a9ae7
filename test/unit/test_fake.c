/* test_fake.c: the fake system itself, on which the other tests rely. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "fake.h"
#include "os/prim.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE prim_page_size()

/* Random calls against a plain array of page states. */
static void books(void) {
    enum { PAGES = 64 };
    struct fake_counts before = fake_count();
    char *base = prim_map(NULL, PAGES * PAGE, false);
    CHECK((uintptr_t)base % PAGE == 0);
    char state[PAGES];
    memset(state, 'r', sizeof state);
    uint64_t random = 7;
    for (int i = 0; i < 3000; i++) {
        size_t from = unit_random(&random) % PAGES, n = 1 + unit_random(&random) % 8;
        if (from + n > PAGES) n = PAGES - from;
        bool whole = true;
        for (size_t p = from; p < from + n; p++) whole &= state[p] != '-';
        if (!whole) continue;
        char *at = base + from * PAGE;
        char now = "rruuuu-"[unit_random(&random) % (i < 2900 ? 6 : 7)];
        if (now == 'u') {
            CHECK(prim_make_usable(at, n * PAGE));
            at[0] = at[n * PAGE - 1] = 1;
        }
        if (now == 'r') CHECK(prim_make_unusable(at, n * PAGE));
        if (now == '-') CHECK(prim_unmap(at, n * PAGE));
        memset(state + from, now, n);
        size_t mapped = 0, usable = 0, runs = 0;
        for (size_t p = 0; p < PAGES; p++) {
            CHECK_EQ(fake_is_mapped(base + p * PAGE, PAGE, false), state[p] != '-');
            CHECK_EQ(fake_is_mapped(base + p * PAGE, PAGE, true), state[p] == 'u');
            mapped += state[p] != '-';
            usable += state[p] == 'u';
            runs += state[p] != '-' && (p == 0 || state[p - 1] != state[p]);
        }
        struct fake_counts counts = fake_count();
        CHECK_EQ(counts.mapped - before.mapped, mapped * PAGE);
        CHECK_EQ(counts.usable - before.usable, usable * PAGE);
        CHECK(counts.extents <= before.extents + runs); /* neighbours may join with what was there before */
        CHECK(fake_check() == NULL);
    }
}

static void plans(void) {
    fake_plan_set(FAKE_MAP, (struct fake_plan){.skip = 2, .next = 3});
    for (int i = 0; i < 10; i++) CHECK_EQ(prim_map(NULL, PAGE, true) == NULL, i >= 2 && i < 5);
    CHECK_EQ(fake_count().injected[FAKE_MAP], 3);
    fake_plan_set(FAKE_MAP, (struct fake_plan){.skip = 1, .every = 4});
    for (int i = 1; i <= 20; i++) CHECK_EQ(prim_map(NULL, PAGE, true) == NULL, i > 1 && (i - 1) % 4 == 0);
    unsigned failed = 0;
    fake_plan_set(FAKE_MAP, (struct fake_plan){.per_mille = 250});
    for (int i = 0; i < 4000; i++) failed += prim_map(NULL, PAGE, false) == NULL;
    CHECK(failed > 800 && failed < 1200); /* the seed is fixed: this passes or fails for good */
    fake_calm();
    for (int i = 0; i < 100; i++) CHECK(prim_map(NULL, PAGE, false) != NULL);
}

static void the_break(void) {
    char *start = prim_sbrk(0);
    CHECK(prim_sbrk(1000) == start);
    memset(start, 1, 1000);
    CHECK(prim_sbrk(0) == start + 1000);
    CHECK(prim_sbrk(-1000) == start + 1000);
    CHECK(prim_sbrk((intptr_t)(3 * PAGE)) == start);
    memset(start, 1, 3 * PAGE);
    CHECK(prim_sbrk(-(intptr_t)(3 * PAGE)) != (void *)-1);
    CHECK(prim_sbrk((intptr_t)(3 * PAGE)) == start);
    for (size_t i = PAGE; i < 3 * PAGE; i++) CHECK_EQ(start[i], 0); /* whole pages come back zeroed */
    CHECK(fake_foreign_take(100));
    CHECK(prim_sbrk(0) == start + 3 * PAGE + 100);
    CHECK(fake_foreign_release());
    CHECK(!fake_foreign_release());
    fake_set_brk_room(5000);
    CHECK(prim_sbrk(5001) == (void *)-1);
    CHECK(prim_sbrk(4000) == start + 3 * PAGE);
    CHECK(prim_sbrk(2000) == (void *)-1);
    CHECK(prim_sbrk(-4000) != (void *)-1);
    CHECK(prim_sbrk(5000) != (void *)-1);
    fake_calm();
    fake_foreign_chance(1000, 50);
    char *top = prim_sbrk(0);
    char *got = prim_sbrk(10000);
    CHECK(got > top && got <= top + 50);
    CHECK(fake_check() == NULL);
    top[0] ^= 1;
    CHECK_TEXT(fake_check(), "foreign memory on the break was written to");
}

static void limits(void) {
    struct fake_counts counts = fake_count();
    fake_set_space_limit(counts.mapped + counts.brk_bytes + 10 * PAGE);
    CHECK_EQ(prim_address_space_limit(), counts.mapped + counts.brk_bytes + 10 * PAGE);
    char *at = prim_map(NULL, 6 * PAGE, true);
    CHECK(at != NULL);
    CHECK(prim_map(NULL, 5 * PAGE, false) == NULL);
    CHECK(prim_sbrk((intptr_t)(5 * PAGE)) == (void *)-1);
    CHECK(prim_remap(at, 6 * PAGE, 11 * PAGE) == NULL);
    CHECK(fake_is_mapped(at, 6 * PAGE, true));
    at = prim_remap(at, 6 * PAGE, 10 * PAGE);
    CHECK(at != NULL);
    CHECK(prim_unmap(at, 10 * PAGE));
    CHECK(prim_map(NULL, 5 * PAGE, true) != NULL);
}

static void remapping(void) {
    static const enum fake_remap hows[] = {FAKE_REMAP_EITHER, FAKE_REMAP_MOVE, FAKE_REMAP_STAY};
    for (int i = 0; i < 3; i++) {
        fake_set_remap(hows[i]);
        char *at = prim_map(NULL, 2 * PAGE, true);
        at[0] = 1, at[2 * PAGE - 1] = 2;
        char *bigger = prim_remap(at, 2 * PAGE, 7 * PAGE);
        if (bigger == NULL) {
            CHECK(hows[i] == FAKE_REMAP_STAY); /* something was in the way */
            continue;
        }
        CHECK((uintptr_t)bigger % PAGE == 0);
        CHECK_EQ(bigger == at, hows[i] != FAKE_REMAP_MOVE && bigger == at);
        CHECK(bigger[0] == 1 && bigger[2 * PAGE - 1] == 2 && bigger[2 * PAGE] == 0 && bigger[7 * PAGE - 1] == 0);
        CHECK(prim_remap(bigger, 7 * PAGE, PAGE) == bigger);
        CHECK(fake_is_mapped(bigger, PAGE, true) && !fake_is_mapped(bigger + PAGE, PAGE, false));
    }
}

static void unmap_beside(void *arg) { prim_unmap((char *)arg + PAGE, PAGE); }
static void unmap_crooked(void *arg) { prim_unmap((char *)arg + 16, PAGE); }
static void discard_reserved(void *arg) {
    prim_make_unusable(arg, PAGE);
    prim_discard(arg, PAGE);
}

static void violations(void) {
    void (*const bad[])(void *) = {unmap_beside, unmap_crooked, discard_reserved};
    char *at = prim_map(NULL, 3 * PAGE, true);
    CHECK(prim_unmap(at + PAGE, 2 * PAGE));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            close(STDERR_FILENO);
            bad[i](at);
            _exit(0);
        }
        int status;
        waitpid(pid, &status, 0);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    }
}

UNIT_MAIN({"books", books}, {"plans", plans}, {"break", the_break}, {"limits", limits}, {"remapping", remapping},
          {"violations", violations})
