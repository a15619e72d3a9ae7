/* test_huge.c: who is advised huge pages, on a system that asks for advice; refusals change nothing. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "conf/conf.h"
#include "fake.h"
#include "heap/huge.h"
#include "heap/retain.h"
#include "os/os.h"

#include <string.h>

#define ENABLED "/sys/kernel/mm/transparent_hugepage/enabled"
#define BLOCK MIB(8)
#define AREA MIB(256)

static char *area; /* aligned; nothing of it is touched */

static void begin(const char *system) {
    fake_set_file(ENABLED, system);
    conf_init(NULL);
    area = os_map(NULL, AREA + HUGE_SIZE, true, SEEMALLOC_CALL_MMAP_REGION);
    area = (char *)align_up((size_t)area, HUGE_SIZE);
    store_relaxed(&heap_bytes, AREA);
}

static uint64_t advice(void) { return fake_count().calls[FAKE_HUGE]; }

static void write_all(char *from, size_t size) {
    for (size_t at = 0; at < size; at += os_page_size()) from[at] = 1;
}

/* Hands a block out, has it written all over, and takes it back. */
static void prove(size_t at, size_t size) {
    huge_note_new(area + at, area + at + size);
    write_all(area + at, size);
    huge_note_freed(area + at, area + at + size);
}

static void take(size_t at, size_t size) { huge_note_new(area + at, area + at + size); }

static void proof_is_needed(void) {
    begin("always [madvise] never\n");
    take(0, BLOCK);
    huge_note_freed(area, area + BLOCK);
    CHECK_EQ(advice(), 0);
    for (size_t proved = 0; proved < MIB(32); proved += BLOCK) { /* in doubt now */
        prove(0, BLOCK);
        take(BLOCK, BLOCK);
        CHECK_EQ(advice(), 0);
    }
    prove(0, BLOCK);
    take(2 * BLOCK, BLOCK);
    CHECK_EQ(advice(), 1);
    CHECK_EQ(huge_spans, 1);
    take(4 * BLOCK, BLOCK); /* half as much again is not enough for this one */
    CHECK_EQ(advice(), 1);
}

/* With huge pages all is resident: what counts is what is not zero. */
static void sparse_block_withdraws(void) {
    begin("[madvise]");
    prove(0, BLOCK);
    take(0, BLOCK);
    CHECK_EQ(huge_spans, 1);
    memset(area, 0, BLOCK);
    huge_note_freed(area, area + BLOCK);
    CHECK_EQ(huge_spans, 0);
    CHECK_EQ(advice(), 2);
    prove(0, BLOCK);
    take(0, BLOCK);
    CHECK_EQ(advice(), 2);
}

static void withdrawn_when_unused(void) {
    begin("[madvise]");
    fake_set_clock(1000000000u, 0);
    prove(0, BLOCK);
    take(0, BLOCK);
    huge_tend(os_clock() + 400000000u);
    CHECK_EQ(huge_spans, 1);
    huge_tend(os_clock() + 500000000u);
    CHECK_EQ(huge_spans, 0);
    huge_note_freed(area, area + BLOCK);
    take(0, BLOCK); /* at the same place: advised anew */
    CHECK_EQ(advice(), 3);
    CHECK_EQ(huge_spans, 1);
}

static void spans_are_few(void) {
    begin("[madvise]");
    prove(0, MIB(128));
    for (size_t at = 0; at < 10 * MIB(16); at += MIB(16)) take(at, MIB(4));
    CHECK_EQ(huge_spans, HUGE_SPANS);
    CHECK_EQ(advice(), HUGE_SPANS);
    take(MIB(4), MIB(12)); /* joins two; a neighbour with a huge page in common comes along */
    CHECK_EQ(huge_spans, HUGE_SPANS - 1);
    take(MIB(21), MIB(9));
    CHECK_EQ(huge_spans, HUGE_SPANS - 2);
    uint64_t before = advice();
    take(MIB(4), MIB(4));
    CHECK_EQ(advice(), before);
    huge_forget(area + MIB(30), area + AREA);
    CHECK_EQ(huge_spans, 1);
    huge_forget(area, area + AREA);
    CHECK_EQ(huge_spans, 0);
}

static void unaligned_blocks(void) {
    begin("[madvise]");
    prove(0, MIB(64));
    huge_note_new(area + 16, area + MIB(4) - 16); /* no whole one inside but one */
    CHECK_EQ(huge_spans, 0);                      /* and it is less than a large block */
    huge_note_new(area + 16, area + MIB(4) + 16);
    CHECK_EQ(huge_spans, 1);
    huge_note_mapping(area + MIB(64), MIB(8), false);
    CHECK_EQ(advice(), 1);
    huge_note_mapping(area + MIB(64), MIB(8), true);
    CHECK_EQ(advice(), 2);
    CHECK_EQ(huge_spans, 1);
}

/* Each time a little is handed out without its being counted: the sum stays bounded. */
static void credit_is_bounded(void) {
    begin("[madvise]");
    write_all(area, AREA);
    for (unsigned i = 0; i < 1000; i++) huge_note_freed(area, area + BLOCK);
    unsigned taken = 0;
    for (uint64_t before = 0; taken < 1000; taken++) {
        huge_note_mapping(area, BLOCK, true);
        if (advice() == before) break;
        before = advice();
    }
    CHECK_EQ(taken, (AREA + AREA / 2) / BLOCK);
    huge_note_growth(MIB(1), MIB(2)); /* nothing is left to be spent, and no large block */
    huge_note_growth(MIB(8), MIB(12));
}

static void refused(void) {
    begin("[madvise]");
    fake_plan_set(FAKE_RESIDENT, (struct fake_plan){.next = 1});
    prove(0, BLOCK);
    take(0, BLOCK);
    CHECK_EQ(advice(), 0);
    for (unsigned i = 0; i < 8; i++) prove(0, BLOCK);
    fake_plan_set(FAKE_HUGE, (struct fake_plan){.next = UINT32_MAX});
    take(0, BLOCK);
    CHECK_EQ(advice(), 1);
    huge_withdraw();
    CHECK_EQ(advice(), 2);
    CHECK_EQ(huge_spans, 0);
    fake_calm();
}

static void not_asked(const char *system, char **environment) {
    begin(system);
    conf_init(environment);
    uint64_t before = advice();
    prove(0, MIB(64));
    take(0, BLOCK);
    CHECK_EQ(advice(), before);
    CHECK_EQ(fake_count().calls[FAKE_RESIDENT], 0);
}

static void system_never(void) { not_asked("always madvise [never]\n", NULL); }
static void system_always(void) { not_asked("[always] madvise never\n", NULL); }
static void system_unknown(void) { not_asked("", NULL); }
static void setting_never(void) { not_asked("[madvise]", (char *[]){"SEEMALLOC_CONF=thp:never", NULL}); }
static void setting_always(void) { not_asked("[madvise]", (char *[]){"SEEMALLOC_CONF=thp:always", NULL}); }
static void setting_limit(void) {
    store_relaxed(&os_counters.limit, MIB(512));
    not_asked("[madvise]", NULL);
}

UNIT_MAIN({"proof_is_needed", proof_is_needed}, {"sparse_block_withdraws", sparse_block_withdraws},
          {"withdrawn_when_unused", withdrawn_when_unused}, {"spans_are_few", spans_are_few}, {"unaligned_blocks", unaligned_blocks},
          {"credit_is_bounded", credit_is_bounded}, {"refused", refused}, {"system_never", system_never}, {"system_always", system_always},
          {"system_unknown", system_unknown}, {"setting_never", setting_never}, {"setting_always", setting_always},
          {"setting_limit", setting_limit})
