/* test_region.c: where bytes come from: the break with others on it, mappings that stand in, heaps; what is given back and what is refused.
 * SPDX-License-Identifier: MIT */
#include "unit.h"

#include "conf/conf.h"
#include "fake.h"
#include "heap/chunk.h"
#include "heap/region.h"
#include "os/os.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define PAGE os_page_size()

/* --- What holds for every region at every time --- */

static size_t size_of(const struct region *region) { return (size_t)(region->end - region->start); }

/* What is wrong would most likely be so near `from`: there all is looked at, then the start of each page, far away of every eighth, and the end. */
static bool is_zero(const char *from, const char *to) {
    static const char zero[512];
    for (const char *at = from; at < to;) {
        size_t part = min_size((size_t)(to - at), 512 - (uintptr_t)at % 512), pages = at - from > (ptrdiff_t)KIB(64) ? 8 : 1;
        if (memcmp(at, zero, part) != 0) return false;
        at += part;
        if (at - from > 4096 && to - at > 4096)
            at = (const char *)min_size(align_up((size_t)at, PAGE) + (pages - 1) * PAGE, align_down((size_t)to - 4096, 512));
    }
    return true;
}

static void check_region(const struct region *region) {
    CHECK(region->start <= region->clean && region->clean <= region->end && region->end <= region->limit);
    CHECK_EQ((uintptr_t)region->start % CHUNK_ALIGN, 0);
    CHECK_EQ((uintptr_t)region->end % PAGE | (uintptr_t)region->limit % PAGE, 0);
    char *first = (char *)align_down((size_t)region->start, PAGE);
    CHECK(fake_is_mapped(first, (size_t)(region->end - first), true));
    size_t rest = (size_t)(region->limit - region->end);
    if (rest != 0) CHECK(fake_is_mapped(region->end, rest, false) && !fake_is_mapped(region->end, PAGE, true));
    if (region->kind != SEEMALLOC_REGION_HEAP) CHECK_EQ(rest, 0);
    if (region->kind != SEEMALLOC_REGION_BRK) CHECK_EQ((uintptr_t)region->start % PAGE, 0);
    CHECK(is_zero(region->clean, region->end));
}

/* As an arena does: everything below is handed out and written to. */
static void use(struct region *region, size_t bytes) {
    memset(region->start, 0xa5, bytes);
    if (region->clean < region->start + bytes) region->clean = region->start + bytes;
}

static bool is_used(const struct region *region, size_t bytes) {
    for (size_t i = 0; i < bytes; i += 512)
        if (region->start[i] != (char)0xa5) return false;
    return true;
}

static bool disjoint(const struct region *a, const struct region *b) { return a->limit <= b->start || b->limit <= a->start; }

static size_t mapped_now(void) { return fake_count().mapped - os_counters.metadata_bytes - os_counters.reserved_bytes; }

/* What either kind of growth promises; `before` is the size that `last` had. */
static void check_growth(const struct region *region, const struct region *last, size_t before, size_t need, size_t fresh, bool extended) {
    CHECK_EQ(extended, region == last);
    if (extended)
        CHECK(size_of(region) >= before + need);
    else
        CHECK(size_of(region) >= fresh);
    check_region(region);
}

static struct region *grow_main(struct region *last, size_t need, size_t fresh, size_t pad, bool *extended) {
    *extended = last == NULL; /* must be set either way */
    size_t before = last != NULL ? size_of(last) : 0;
    struct region *region = region_grow_main(last, need, fresh, pad, extended);
    if (region == NULL) return NULL;
    check_growth(region, last, before, need, fresh, *extended);
    CHECK(fake_check() == NULL);
    return region;
}

static struct region *grow_heap(struct region *last, size_t need, size_t fresh, size_t pad, bool *extended) {
    *extended = last == NULL;
    size_t before = last != NULL ? size_of(last) : 0;
    struct region *region = region_grow_heap(last, need, fresh, pad, extended);
    if (region == NULL) return NULL;
    CHECK_EQ(region->kind, SEEMALLOC_REGION_HEAP);
    check_growth(region, last, before, need, fresh, *extended);
    return region;
}

/* --- The break --- */

static void break_grows(void) {
    bool extended;
    struct region *region = grow_main(NULL, 0, 5000, 0, &extended);
    CHECK(!extended);
    CHECK_EQ(region->kind, SEEMALLOC_REGION_BRK);
    char *start = region->start;
    uint64_t random = 1;
    for (int i = 0; i < 100; i++) {
        size_t need = 1 + unit_random(&random) % (3 * PAGE), pad = unit_random(&random) % 3 * PAGE, before = size_of(region);
        CHECK_EQ(grow_main(region, need, need + 64, pad, &extended), region);
        CHECK(extended);
        CHECK_EQ(region->start, start);
        CHECK_EQ(size_of(region), before + align_up(need + pad, PAGE)); /* and no page more */
        CHECK_EQ(region->end, os_sbrk(0));
        CHECK_EQ(region->clean, start + (i == 0 ? 0 : before / 2));
        use(region, size_of(region) / 2);
    }
    CHECK(is_used(region, size_of(region) / 2));
    CHECK_EQ(mapped_now(), 0);
    CHECK_EQ(fake_count().brk_bytes, size_of(region));
}

/* The break need not start on a page border; what lies before it is somebody else's. */
static void break_starts_anywhere(void) {
    size_t offsets[] = {0, 1, 8, 15, 16, 17, 1000, PAGE - 17, PAGE - 16, PAGE - 1, PAGE, PAGE + 5};
    size_t sizes[] = {32, 48, PAGE - 32, PAGE - 16, PAGE, PAGE + 16, 200000};
    for (size_t o = 0; o < COUNT(offsets); o++) {
        for (size_t s = 0; s < COUNT(sizes); s++) {
            pid_t pid = fork();
            if (pid == 0) {
                fake_set_brk_start(offsets[o]);
                char *first = os_sbrk(0);
                if (offsets[o] % PAGE != 0) memset(first - offsets[o] % PAGE, 0x77, offsets[o] % PAGE);
                bool extended;
                struct region *region = grow_main(NULL, 0, sizes[s], 0, &extended);
                CHECK_EQ(region->kind, SEEMALLOC_REGION_BRK);
                CHECK_EQ(region->start, align_up((uintptr_t)first, CHUNK_ALIGN));
                CHECK(region->clean >= first && (uintptr_t)region->clean % PAGE == 0);
                use(region, size_of(region));
                CHECK_EQ(grow_main(region, 100, 200, 0, &extended), region);
                CHECK(extended);
                for (size_t i = 1; i <= offsets[o] % PAGE; i++) CHECK_EQ(first[-(ptrdiff_t)i], 0x77);
                _exit(0);
            }
            int status = -1;
            waitpid(pid, &status, 0);
            if (status != 0) unit_fail(__FILE__, __LINE__, "offset %zu, size %zu: status 0x%x", offsets[o], sizes[s], (unsigned)status);
        }
    }
}

/* Others take pieces of any size between our calls: a new span each time, beside the pieces. */
static void others_on_the_break(void) {
    enum { SPANS = 40 };
    struct region *span[SPANS];
    bool extended;
    uint64_t random = 2;
    for (int i = 0; i < SPANS; i++) {
        size_t fresh = 32 + unit_random(&random) % (2 * PAGE) / 16 * 16;
        span[i] = grow_main(i > 0 ? span[i - 1] : NULL, fresh / 2, fresh, 0, &extended);
        CHECK(span[i] != NULL && !extended);
        CHECK_EQ(span[i]->kind, SEEMALLOC_REGION_BRK);
        for (int k = 0; k < i; k++) CHECK(disjoint(span[i], span[k]));
        use(span[i], size_of(span[i]));
        CHECK_EQ(grow_main(span[i], PAGE, 2 * PAGE, 0, &extended), span[i]); /* still ours */
        CHECK(extended);
        use(span[i], size_of(span[i]));
        CHECK(fake_foreign_take(1 + unit_random(&random) % (2 * PAGE)));
    }
    for (int i = 0; i < SPANS; i++) CHECK(is_used(span[i], size_of(span[i])));
    CHECK(fake_check() == NULL);

    /* A piece that goes again leaves the break to the newest span. */
    CHECK(fake_foreign_release());
    struct region *last = grow_main(span[SPANS - 1], PAGE, 2 * PAGE, 0, &extended);
    CHECK(last == span[SPANS - 1] && extended);
}

/* They come between our look at the break and our growth: what we get is not where we thought, or too little. */
static void others_in_between(void) {
    enum { REGIONS = 60 };
    static struct region *region[REGIONS];
    size_t count = 0, extensions = 0, spans = 0;
    bool extended;
    uint64_t random = 3;
    fake_foreign_chance(500, 2 * PAGE);
    while (count < REGIONS) {
        size_t need = 32 + unit_random(&random) % (3 * PAGE) / 16 * 16, fresh = need + unit_random(&random) % PAGE / 16 * 16;
        struct region *last = count > 0 ? region[count - 1] : NULL;
        struct region *got = grow_main(last, need, fresh, unit_random(&random) % 2 * PAGE, &extended);
        CHECK(got != NULL);
        extensions += extended;
        if (!extended) {
            for (size_t k = 0; k < count; k++) CHECK(disjoint(got, region[k]));
            spans += got->kind == SEEMALLOC_REGION_BRK;
            region[count++] = got;
        }
        use(got, size_of(got));
    }
    for (size_t i = 0; i < REGIONS; i++) CHECK(is_used(region[i], size_of(region[i])));
    CHECK(extensions > 10 && spans > 10 && spans < REGIONS);
}

/* A break that refuses costs that call only: a mapping stands in, and the next growth tries the break again. */
static void break_refused(void) {
    bool extended;
    struct region *first = grow_main(NULL, 0, 5000, 0, &extended);
    fake_set_brk_room(0);
    struct region *small = grow_main(first, 5000, 6000, 1000, &extended);
    CHECK_EQ(small->kind, SEEMALLOC_REGION_MMAP);
    CHECK_EQ(size_of(small), REGION_MMAP_MIN);
    struct region *large = grow_main(small, MIB(3), MIB(3), 100, &extended);
    CHECK_EQ(large->kind, SEEMALLOC_REGION_MMAP);
    CHECK_EQ(size_of(large), align_up(MIB(3) + 100, PAGE));
    use(large, size_of(large));
    CHECK(disjoint(small, large) && disjoint(first, large));

    /* With room for the need but not for the pad as well. */
    fake_set_brk_room(2 * PAGE);
    struct region *again = grow_main(large, 100, PAGE, MIB(1), &extended);
    CHECK_EQ(again->kind, SEEMALLOC_REGION_BRK);
    CHECK_EQ(again->start, first->end);
    CHECK_EQ(fake_count().brk_bytes, size_of(first) + size_of(again));
    fake_set_brk_room(SIZE_MAX);
    CHECK_EQ(grow_main(again, PAGE, 2 * PAGE, PAGE, &extended), again);
    CHECK(extended);

    /* Nor the full mapping: then without the pad, less than 1 MiB if need be; at last nothing, and nothing has changed. */
    fake_set_brk_room(0);
    fake_plan_set(FAKE_MAP, (struct fake_plan){.next = 1});
    struct region *least = grow_main(again, 5000, 6000, MIB(5), &extended);
    CHECK_EQ(size_of(least), align_up(6000, PAGE));
    fake_plan_set(FAKE_MAP, (struct fake_plan){.next = 2});
    size_t mapped = mapped_now(), end = (size_t)least->end;
    CHECK(grow_main(least, 5000, 6000, MIB(5), &extended) == NULL);
    CHECK_EQ(mapped_now(), mapped);
    CHECK_EQ(least->end, end);
    CHECK(!extended);

    fake_calm();
    CHECK(grow_main(NULL, (size_t)1 << 60, (size_t)1 << 60, 0, &extended) == NULL);
    CHECK(grow_main(NULL, PTRDIFF_MAX, PTRDIFF_MAX, SIZE_MAX / 4, &extended) == NULL);
    CHECK(grow_heap(NULL, PTRDIFF_MAX, PTRDIFF_MAX, SIZE_MAX / 4, &extended) == NULL);
    CHECK_EQ(mapped_now(), mapped);
}

/* --- Heaps --- */

static void heaps(void) {
    bool extended;
    struct region *heap = grow_heap(NULL, 0, 1000, 0, &extended);
    uint64_t calls = fake_count().calls[FAKE_USABLE];
    size_t growths = 0;
    CHECK_EQ(heap->limit - heap->start, MIB(64));
    for (;; growths++) {
        char *end = heap->end;
        struct region *got = region_grow_heap(heap, PAGE, 2 * PAGE, 0, &extended); /* looking at all of it each time takes too long */
        CHECK_EQ((uintptr_t)got->start % MIB(64), 0);
        CHECK_EQ(got->limit - got->start, MIB(64));
        CHECK_EQ(extended, end < heap->limit);
        if (!extended) {
            check_region(got);
            CHECK(disjoint(heap, got));
            break;
        }
        CHECK_EQ(got, heap);
        CHECK(heap->end >= end + PAGE && heap->end - end <= (ptrdiff_t)(MIB(1) + PAGE));
        CHECK(fake_is_mapped(heap->start, size_of(heap), true));
        CHECK(heap->end == heap->limit || !fake_is_mapped(heap->end, PAGE, true));
        CHECK_EQ(heap->clean, heap->start);
        heap->start[size_of(heap) - 1] = 0;
    }
    CHECK(growths < 200); /* the steps grow with it */
    CHECK_EQ(fake_count().calls[FAKE_USABLE] - calls, growths + 1);

    /* What doesn't fit behind begins a new one. */
    struct region *other = grow_heap(NULL, 0, MIB(60), 0, &extended);
    CHECK(grow_heap(other, MIB(5), MIB(5), 0, &extended) != other);
    CHECK(!extended);
    CHECK_EQ(grow_heap(other, MIB(3), MIB(6), MIB(100), &extended), other); /* the pad is only wished for */
    CHECK_EQ(other->end, other->limit);

    /* What fits into none gets one of its own size. */
    size_t large = MIB(100) + 5 * PAGE;
    other = grow_heap(NULL, 0, large - 17, MIB(1), &extended);
    CHECK_EQ(other->limit - other->start, large);
    CHECK_EQ(other->end, other->limit);
    CHECK_EQ((uintptr_t)other->start % MIB(64), 0);
}

/* The step is refused: the need alone is tried. That too: nothing has changed, and no description is lost. */
static void heap_steps_refused(void) {
    bool extended;
    struct region *heap = grow_heap(NULL, 0, 1000, 0, &extended);
    char *end = heap->end;
    fake_plan_set(FAKE_USABLE, (struct fake_plan){.next = 1});
    CHECK_EQ(grow_heap(heap, 3 * PAGE - 5, MIB(1), KIB(512), &extended), heap);
    CHECK_EQ(heap->end, end + 3 * PAGE);
    size_t mapped = mapped_now(), metadata = os_counters.metadata_bytes;
    for (int i = 0; i < 20; i++) {
        fake_plan_set(FAKE_USABLE, (struct fake_plan){.every = 1});
        CHECK(grow_heap(heap, PAGE, 2 * PAGE, MIB(1), &extended) == NULL);
        CHECK_EQ(heap->end, end + 3 * PAGE);
        CHECK_EQ(mapped_now(), mapped);
    }
    fake_calm();
    CHECK_EQ(grow_heap(heap, PAGE, 2 * PAGE, MIB(1), &extended), heap);
    CHECK(grow_heap(NULL, 0, 1000, 0, &extended) != NULL);
    CHECK_EQ(os_counters.metadata_bytes, metadata);
}

/* At most 1/64 of the limit, a power of two from 1 to 64 MiB. */
static void heaps_under_a_limit(void) {
    static const size_t table[][2] = {{SIZE_MAX, 64}, {MIB(8192), 64}, {MIB(4096), 64}, {MIB(4096) - 1, 32},
                                      {MIB(1000), 8}, {MIB(64), 1},    {MIB(1), 1},     {0, 1}};
    bool extended;
    for (size_t i = 0; i < COUNT(table); i++) {
        fake_tell_space_limit(table[i][0]);
        CHECK_EQ(region_heap_size(), MIB(table[i][1]));
        struct region *heap = grow_heap(NULL, 0, 1000, 0, &extended);
        CHECK_EQ(heap->limit - heap->start, MIB(table[i][1]));
        heap = grow_heap(heap, MIB(table[i][1]), MIB(table[i][1]) + PAGE, 0, &extended);
        CHECK_EQ(heap->limit - heap->start, MIB(table[i][1]) + PAGE);
    }

    /* Less room than the limit promised: smaller ones, at last not aligned, down to what is needed. */
    fake_tell_space_limit(SIZE_MAX);
    static const size_t room[][2] = {{MIB(200), MIB(64)}, {MIB(100), MIB(64)}, {MIB(63), MIB(32)}, {MIB(3), MIB(2)}, {MIB(1), MIB(1)}};
    for (size_t i = 0; i < COUNT(room); i++) {
        size_t before = fake_count().mapped;
        fake_set_space_limit(before + fake_count().brk_bytes + room[i][0]);
        struct region *heap = grow_heap(NULL, 0, KIB(128), MIB(1), &extended);
        CHECK_EQ(heap->limit - heap->start, room[i][1]);
        fake_set_space_limit(SIZE_MAX);
        CHECK(region_close(heap));
        CHECK_EQ(fake_count().mapped, before);
    }
    size_t before = fake_count().mapped;
    fake_set_space_limit(before + fake_count().brk_bytes + KIB(128));
    struct region *heap = grow_heap(NULL, 0, KIB(128), MIB(1), &extended);
    CHECK_EQ(heap->limit - heap->start, KIB(128));
    CHECK_EQ(heap->end, heap->limit);
    CHECK(grow_heap(heap, PAGE, KIB(64), 0, &extended) == NULL);
    CHECK(!extended);
    CHECK_EQ(size_of(heap), KIB(128));
}

/* --- Giving back --- */

/* Of each kind one, used to `used`, as it is before a shrink. */
static struct region *make(enum seemalloc_region_kind kind, size_t used) {
    bool extended;
    if (kind == SEEMALLOC_REGION_MMAP) fake_set_brk_room(0);
    struct region *region =
        kind == SEEMALLOC_REGION_HEAP ? grow_heap(NULL, 0, MIB(1), 0, &extended) : grow_main(NULL, 0, MIB(1), 0, &extended);
    fake_set_brk_room(SIZE_MAX);
    CHECK_EQ(region->kind, kind);
    use(region, used);
    return region;
}

static const enum seemalloc_region_kind kinds[] = {SEEMALLOC_REGION_BRK, SEEMALLOC_REGION_MMAP, SEEMALLOC_REGION_HEAP};

static void shrinks(void) {
    bool extended;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        bool can = kinds[k] != SEEMALLOC_REGION_MMAP;
        struct region *region = make(kinds[k], KIB(900));
        char *end = region->end, *limit = region->limit, *new_end = (char *)align_up((size_t)region->start + KIB(300), PAGE);
        size_t brk = fake_count().brk_bytes, usable = fake_count().usable, size = (size_t)(end - new_end);
        CHECK_EQ(region_shrink(region, new_end), can);
        CHECK_EQ(region->end, can ? new_end : end);
        CHECK_EQ(region->limit, kinds[k] == SEEMALLOC_REGION_BRK ? new_end : limit);
        CHECK_EQ(region->clean, new_end);
        CHECK_EQ(brk - fake_count().brk_bytes, kinds[k] == SEEMALLOC_REGION_BRK ? size : 0);
        CHECK_EQ(usable - fake_count().usable, kinds[k] == SEEMALLOC_REGION_HEAP ? size : 0);
        check_region(region);
        CHECK(is_used(region, (size_t)(new_end - region->start)));
        if (!can) continue;

        /* What comes back later is zero; an end beyond what was used leaves `clean` as it is. */
        CHECK_EQ((kinds[k] == SEEMALLOC_REGION_BRK ? grow_main : grow_heap)(region, KIB(600), MIB(1), 0, &extended), region);
        use(region, KIB(200));
        CHECK(region_shrink(region, region->end - PAGE));
        CHECK_EQ(region->clean, new_end);
        check_region(region);
    }
}

/* Refused, or the break is somebody else's by now: the end stays, and the pages are as `clean` says. */
static void shrink_refused(void) {
    for (size_t k = 0; k < COUNT(kinds); k++) {
        for (int way = 0; way < 4; way++) { /* bit 0: the discard is refused as well; bit 1: another holds what lies behind */
            if (way >= 2 && kinds[k] != SEEMALLOC_REGION_BRK) continue;
            struct region *region = make(kinds[k], KIB(900));
            struct region before = *region;
            if (way >= 2) fake_foreign_take(PAGE + 77);
            if (way < 2) fake_plan_set(FAKE_SBRK, (struct fake_plan){.every = 1});
            fake_plan_set(FAKE_UNUSABLE, (struct fake_plan){.every = 1});
            if (way % 2) fake_plan_set(FAKE_DISCARD, (struct fake_plan){.every = 1});
            char *new_end = (char *)align_up((size_t)region->start + KIB(300), PAGE);
            CHECK(!region_shrink(region, new_end));
            fake_calm();
            CHECK_EQ(region->start, before.start);
            CHECK_EQ(region->end, before.end);
            CHECK_EQ(region->limit, before.limit);
            CHECK_EQ(region->clean, way % 2 ? before.clean : new_end);
            CHECK(is_used(region, way % 2 ? KIB(900) : (size_t)(new_end - region->start)));
            check_region(region);
            CHECK(fake_check() == NULL);
        }
    }
}

static void fixes(void) {
    bool extended;
    for (size_t k = 0; k < COUNT(kinds); k++) {
        struct region *region = make(kinds[k], KIB(900));
        size_t mapped = mapped_now(), rest = (size_t)(region->limit - region->end);
        char *end = region->end;
        CHECK_EQ(rest != 0, kinds[k] == SEEMALLOC_REGION_HEAP);
        fake_plan_set(FAKE_UNMAP, (struct fake_plan){.every = 1});
        region_fix(region);
        CHECK_EQ(region->limit, end + rest);
        check_region(region);
        fake_calm();
        for (int twice = 0; twice < 2; twice++) {
            region_fix(region);
            CHECK_EQ(region->limit, end);
            CHECK_EQ(region->end, end);
            CHECK_EQ(mapped - mapped_now(), rest);
            check_region(region);
        }
        CHECK(is_used(region, KIB(900)));
        if (kinds[k] != SEEMALLOC_REGION_HEAP) continue;
        struct region *next = grow_heap(region, PAGE, 2 * PAGE, 0, &extended);
        CHECK(next != NULL && next != region && !extended);
    }
}

static void closes(void) {
    for (size_t k = 0; k < COUNT(kinds); k++) {
        size_t mapped = mapped_now();
        struct region *region = make(kinds[k], KIB(900));
        struct region before = *region;
        fake_plan_set(FAKE_UNMAP, (struct fake_plan){.every = 1});
        CHECK(!region_close(region));
        fake_calm();
        CHECK(memcmp(region, &before, sizeof before) == 0);
        CHECK(is_used(region, KIB(900)));
        check_region(region);
        CHECK_EQ(region_close(region), kinds[k] != SEEMALLOC_REGION_BRK);
        CHECK_EQ(mapped_now(), mapped);
        if (kinds[k] == SEEMALLOC_REGION_BRK) check_region(region);
    }
}

/* Descriptions are used again: as many as were needed at once, and no more; of these the first few cost no mapping. */
static void descriptions(void) {
    enum { MANY = 120 };
    static struct region *region[MANY];
    bool extended;
    size_t metadata = os_counters.metadata_bytes, needed = 0;
    fake_set_brk_room(0);
    for (int i = 0; i < 3; i++) region[i] = grow_main(NULL, 0, 1000, 0, &extended);
    CHECK_EQ(os_counters.metadata_bytes, metadata);
    for (int i = 0; i < 3; i++) CHECK(region_close(region[i]));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < MANY; i++) {
            region[i] = region_grow_main(NULL, 0, 1000, 0, &extended);
            CHECK(region[i] != NULL);
            region[i]->start[0] = 1; /* the description is not in the region */
            CHECK((char *)region[i] < region[i]->start || (char *)region[i] >= region[i]->limit);
        }
        for (int i = 0; i < MANY; i++) { /* each has its own */
            for (int k = 0; k < i; k++) CHECK(region[i] != region[k]);
            check_region(&(struct region){NULL, region[i]->start, region[i]->end, region[i]->limit, region[i]->end, region[i]->kind});
        }
        if (round == 0) needed = os_counters.metadata_bytes;
        CHECK_EQ(os_counters.metadata_bytes, needed);
        for (int i = 0; i < MANY; i++) CHECK(region_close(region[(i * 7 + round) % MANY]));
    }
    CHECK(needed - metadata >= (MANY - 8) * sizeof(struct region));
    CHECK(needed - metadata <= 8 * MANY * sizeof(struct region) + 32 * PAGE * MANY / 100);
}

/* No memory for another description: nothing is kept of what was got for it. */
static void no_description(void) {
    bool extended;
    fake_set_brk_room(0);
    struct region *region = NULL;
    fake_plan_set(FAKE_USABLE, (struct fake_plan){.every = 1});
    size_t got = 0, mapped = mapped_now();
    while ((region = grow_main(NULL, 0, 1000, 0, &extended)) != NULL) {
        CHECK(++got < 20);
        mapped = mapped_now();
    }
    CHECK_EQ(mapped_now(), mapped);
    fake_set_brk_room(SIZE_MAX);
    size_t brk = fake_count().brk_bytes;
    for (int i = 0; i < 10; i++) CHECK(grow_main(NULL, 0, 1000, 0, &extended) == NULL);
    CHECK_EQ(fake_count().brk_bytes, brk);
    CHECK_EQ(mapped_now(), mapped);
    CHECK(grow_heap(NULL, 0, 1000, 0, &extended) == NULL);
    CHECK_EQ(mapped_now(), mapped);
    fake_calm();
    CHECK(grow_main(NULL, 0, 1000, 0, &extended) != NULL);
}

/* --- Everything at once --- */

struct arena_like {
    struct region *region[64];
    size_t count;
};

static struct arena_like sides[2]; /* main and heaps; the last region of each grows */

static void check_everything(void) {
    const struct region *all[128];
    size_t n = 0, mapped = 0;
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < sides[side].count; i++) {
            const struct region *region = sides[side].region[i];
            check_region(region);
            for (size_t k = 0; k < n; k++) CHECK(disjoint(region, all[k]));
            all[n++] = region;
            if (region->kind != SEEMALLOC_REGION_BRK) mapped += (size_t)(region->limit - region->start);
        }
    }
    CHECK(mapped_now() >= mapped);
    if (fake_count().injected[FAKE_UNMAP] == 0) CHECK_EQ(mapped_now(), mapped);
    CHECK(fake_check() == NULL);
}

static void step(uint64_t *random) {
    int side = unit_random(random) % 2;
    struct arena_like *arena = &sides[side];
    struct region *last = arena->count != 0 ? arena->region[arena->count - 1] : NULL;
    bool extended;
    switch (unit_random(random) % 10) {
    case 0:
        if (side == 0) fake_foreign_take(1 + unit_random(random) % PAGE);
        if (side == 1) fake_set_brk_room(unit_random(random) % 2 ? SIZE_MAX : 0);
        break;
    case 1: fake_foreign_release(); break;
    case 2:
    case 3:
        if (last == NULL || size_of(last) < 4 * PAGE) break;
        char *new_end = (char *)align_up((size_t)last->start + unit_random(random) % size_of(last) + 1, PAGE);
        if (new_end < last->end) region_shrink(last, new_end);
        break;
    case 4:
        if (arena->count < 2) break;
        size_t which = unit_random(random) % (arena->count - 1);
        if (region_close(arena->region[which])) arena->region[which] = arena->region[--arena->count];
        break;
    case 5:
    case 6:
    case 7:
        if (last == NULL) break;
        size_t used = unit_random(random) % (size_of(last) + 1) / 16 * 16;
        if (used < KIB(12)) {
            memset(last->start, 0xa5, used);
        } else { /* each page, and the end wholly */
            memset(last->start, 0xa5, 512);
            for (char *at = (char *)align_up((size_t)last->start, PAGE); at < last->start + used; at += PAGE) *at = (char)0xa5;
            memset(last->start + used - 4096, 0xa5, 4096);
        }
        if (last->clean < last->start + used) last->clean = last->start + used;
        break;
    default:;
        size_t need = 32 + unit_random(random) % (8 * PAGE) / 16 * 16, pad = unit_random(random) % 2 * 5000;
        if (arena->count == 60) break;
        if (unit_random(random) % 4 == 0) last = NULL; /* a new one, although this one could grow */
        struct region *got = (side == 0 ? grow_main : grow_heap)(last, need, need + 48, pad, &extended);
        if (got == NULL || extended) break;
        if (arena->count != 0) region_fix(arena->region[arena->count - 1]);
        arena->region[arena->count++] = got;
    }
}

static void at_random(void) {
    for (uint64_t seed = 0; seed < 8; seed++) {
        pid_t pid = fork();
        if (pid == 0) {
            uint64_t random = seed;
            fake_seed(seed);
            fake_tell_space_limit(MIB(64)); /* heaps of 1 MiB */
            fake_set_brk_start(seed * 1001);
            if (seed % 3 != 0) fake_foreign_chance(100, 3 * PAGE);
            if (seed % 2 != 0) fake_plan_all((struct fake_plan){.per_mille = 100});
            for (int i = 0; i < 200; i++) {
                step(&random);
                check_everything();
            }
            fake_calm();
            bool extended;
            CHECK(grow_main(NULL, 0, 1000, 0, &extended) != NULL && grow_heap(NULL, 0, 1000, 0, &extended) != NULL);
            _exit(0);
        }
        int status = -1;
        waitpid(pid, &status, 0);
        if (status != 0) unit_fail(__FILE__, __LINE__, "seed %zu: status 0x%x", (size_t)seed, (unsigned)status);
    }
}

/* The same steps each time; one call is refused, or all from there on. Exits with 2 if there was nothing to refuse any more. */
static _Noreturn void refuse(enum fake_call call, uint32_t skip, uint32_t next) {
    uint64_t random = 5;
    fake_tell_space_limit(MIB(64));
    fake_plan_set(call, (struct fake_plan){.skip = skip, .next = next});
    for (int i = 0; i < 100; i++) {
        step(&random);
        if (i % 25 == 0) check_everything();
    }
    check_everything();
    bool done = fake_count().injected[call] == 0;
    fake_calm();
    for (int i = 0; i < 20; i++) step(&random);
    check_everything();
    _exit(done ? 2 : 0);
}

/* At every position, or every fifth: of all that follow, and with larger pages. */
static void refuse_everywhere(enum fake_call call, uint32_t least) {
    for (uint32_t next = 1; next != 0; next = next == 1 ? UINT32_MAX : 0) {
        uint32_t skip = 0;
        for (int status = 0; status == 0; skip += next == 1 && PAGE == 4096 ? 1 : 5) {
            pid_t pid = fork();
            if (pid == 0) refuse(call, skip, next);
            waitpid(pid, &status, 0);
            if (status == 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 2)) continue;
            unit_fail(__FILE__, __LINE__, "%s refused after %u others: status 0x%x", fake_call_name(call), skip, (unsigned)status);
        }
        CHECK(skip > least);
    }
}

static void sbrk_refused(void) { refuse_everywhere(FAKE_SBRK, 10); }
static void map_refused(void) { refuse_everywhere(FAKE_MAP, 4); }
static void unmap_refused(void) { refuse_everywhere(FAKE_UNMAP, 4); }
static void usable_refused(void) { refuse_everywhere(FAKE_USABLE, 8); }
static void unusable_refused(void) { refuse_everywhere(FAKE_UNUSABLE, 4); }
static void discard_refused(void) { refuse_everywhere(FAKE_DISCARD, 2); }

UNIT_MAIN({"break_grows", break_grows}, {"break_starts_anywhere", break_starts_anywhere}, {"others_on_the_break", others_on_the_break},
          {"others_in_between", others_in_between}, {"break_refused", break_refused}, {"heaps", heaps},
          {"heap_steps_refused", heap_steps_refused}, {"heaps_under_a_limit", heaps_under_a_limit}, {"shrinks", shrinks},
          {"shrink_refused", shrink_refused}, {"fixes", fixes}, {"closes", closes}, {"descriptions", descriptions},
          {"no_description", no_description}, {"at_random", at_random}, {"sbrk_refused", sbrk_refused}, {"map_refused", map_refused},
          {"unmap_refused", unmap_refused}, {"usable_refused", usable_refused}, {"unusable_refused", unusable_refused},
          {"discard_refused", discard_refused})
