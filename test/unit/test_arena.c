/* test_arena.c: one arena through the public interface, on a system that is staged. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "arena/arena.h"
#include "cache/cache.h"
#include "conf/conf.h"
#include "fake.h"

#include <malloc.h>
#include <string.h>

void *seemalloc_malloc(size_t size);
void *seemalloc_calloc(size_t number, size_t size);
void *seemalloc_realloc(void *mem, size_t size);
void seemalloc_free(void *mem);
int seemalloc_malloc_trim(size_t pad);

static void no_cache_no_mappings(void) {
    cache_init();
    store_relaxed(&conf_values[CONF_TCACHE_MAX], 0);
    store_relaxed(&conf_values[CONF_MMAP_THRESHOLD], MIB(32));
    store_relaxed(&conf_sources[CONF_MMAP_THRESHOLD], CONF_MALLOPT);
}

/* A region whose end was retired, handed out, written to and freed becomes top again: what is cut from it then isn't zero any more, and calloc must
 * know. */
static void reopened_top_is_dirty(void) {
    no_cache_no_mappings();
    fake_set_brk_room(0); /* regions are mappings of 1 MiB at least */
    char *first = seemalloc_malloc(300 << 10);
    char *second = seemalloc_malloc(1000 << 10); /* a second region; the rest of the first is retired */
    char *third = seemalloc_malloc(600 << 10);
    CHECK(third > first && third < first + (1 << 20));
    memset(third, 0xff, 600 << 10);
    memset(second, 0xff, 1000 << 10);
    seemalloc_free(third);
    seemalloc_free(second);
    CHECK_HEAP();
    char *zero = seemalloc_calloc(1, 500 << 10);
    for (size_t i = 0; i < 500 << 10; i++) CHECK_EQ(zero[i], 0);
    CHECK_HEAP();
    (void)first;
}

UNIT_MAIN({"reopened_top_is_dirty", reopened_top_is_dirty})
