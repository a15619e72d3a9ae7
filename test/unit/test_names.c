/* test_names.c: names of mappings, on a system that has them and on one that has not: what is named how, that names make no more mappings, and that a
 * refusal is the last question. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "cache/cache.h"
#include "conf/conf.h"
#include "fake.h"
#include "heap/mapped.h"
#include "heap/region.h"
#include "os/os.h"

#include <string.h>

#define PAGE os_page_size()

static void begin(bool wanted, bool can) {
    fake_set_names(can);
    store_relaxed(&os_names, wanted);
}

static bool is_named(const void *at, const char *name) {
    const char *found = fake_name_of(at);
    return name == NULL || found == NULL ? found == name : strcmp(found, name) == 0;
}

/* Grows, shrinks and grows again, as an arena does; how many more entries the kernel's list has then. */
static size_t play_heap(const char *name) {
    size_t before = fake_count().extents;
    bool extended;
    struct region *heap = region_grow_heap(NULL, PAGE, PAGE, 0, &extended);
    CHECK(heap != NULL && !extended);
    CHECK(is_named(heap->start, name) && is_named(heap->limit - 1, name));
    for (unsigned i = 0; i < 5; i++) CHECK(region_grow_heap(heap, MIB(1), MIB(1), 0, &extended) == heap && extended);
    CHECK(region_shrink(heap, heap->start + 2 * PAGE));
    CHECK(is_named(heap->start, name) && is_named(heap->end, name) && is_named(heap->limit - 1, name));
    CHECK(region_grow_heap(heap, MIB(2), MIB(2), 0, &extended) == heap && extended);
    CHECK(is_named(heap->end - 1, name));
    size_t extents = fake_count().extents - before;
    CHECK(region_close(heap));
    return extents;
}

static void heaps(void) {
    begin(false, true);
    size_t without = play_heap(NULL);
    CHECK_EQ(fake_count().name_calls, 0);
    begin(true, true);
    CHECK_EQ(play_heap("seemalloc: heap"), without);
    CHECK_EQ(fake_count().name_calls, 2); /* the reservation, and what was given back */
}

static void main_arena_without_a_break(void) {
    begin(true, true);
    fake_set_brk_room(0);
    bool extended;
    struct region *region = region_grow_main(NULL, PAGE, PAGE, 0, &extended);
    CHECK(region != NULL && region->kind == SEEMALLOC_REGION_MMAP);
    CHECK(is_named(region->start, "seemalloc: heap") && is_named(region->end - 1, "seemalloc: heap"));
    fake_calm();
}

static size_t play_books(void) {
    size_t before = fake_count().extents;
    for (unsigned i = 0; i < 100; i++) CHECK(os_map_guarded(3 * PAGE) != NULL);
    char *given_back = os_map_guarded(PAGE);
    os_unmap_guarded(given_back, PAGE);
    for (unsigned i = 0; i < 100; i++) {
        char *mem = os_map_guarded(PAGE);
        CHECK(is_named(mem, load_relaxed(&os_names) ? "seemalloc: books" : NULL));
    }
    return fake_count().extents - before;
}

static void books(void) {
    begin(false, true);
    size_t without = play_books();
    begin(true, true);
    CHECK(play_books() <= without + 3); /* of two kinds, only where one reservation was begun without names */
}

static void blocks(void) {
    begin(true, true);
    bool zeroed;
    char *block = mapped_alloc(MIB(1), CHUNK_ALIGN, &zeroed), *aligned = mapped_alloc(MIB(1), MIB(2), &zeroed);
    CHECK(is_named(block, "seemalloc: block") && is_named(block + MIB(1) - 16, "seemalloc: block"));
    CHECK(is_named(aligned, "seemalloc: block"));
    char *moved = mapped_realloc(block, MIB(3));
    CHECK(moved != NULL && is_named(moved, "seemalloc: block"));
    mapped_free(moved, "");
    mapped_free(aligned, "");
}

static void asked_once(void) {
    begin(true, false);
    uint64_t before = fake_count().name_calls;
    play_heap(NULL);
    CHECK_EQ(fake_count().name_calls, before + 1);
    CHECK(!os_names);
    for (unsigned i = 0; i < 300; i++) CHECK(os_map_guarded(PAGE) != NULL);
    CHECK_EQ(fake_count().name_calls, before + 1);
}

/* Off unless the setting says otherwise. */
static void setting(void) {
    static char *plain[] = {"A=1", NULL}, *asked[] = {"SEEMALLOC_CONF=names:1", NULL}, *wrong[] = {"SEEMALLOC_NAMES=2", NULL};
    fake_set_echo(false);
    conf_init(plain);
    CHECK_EQ(conf_get(CONF_NAMES), 0);
    conf_init(asked);
    CHECK_EQ(conf_get(CONF_NAMES), 1);
    conf_init(wrong);
    CHECK_EQ(conf_get(CONF_NAMES), 0);
    conf_init(NULL);
}

UNIT_MAIN({"heaps", heaps}, {"main_arena_without_a_break", main_arena_without_a_break}, {"books", books}, {"blocks", blocks},
          {"asked_once", asked_once}, {"setting", setting})
