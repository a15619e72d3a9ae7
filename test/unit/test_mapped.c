/* test_mapped.c: blocks in mappings of their own: the table against a plain list, moves, refusals, forged pointers, threads, and the mappings that
 * wait for the next block. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "conf/conf.h"
#include "fake.h"
#include "heap/mapped.h"
#include "heap/retain.h"
#include "os/os.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define PAGE os_page_size()
#define LARGE (CONF_MMAP_THRESHOLD_MOST + MIB(1)) /* of a block whose mapping may be retained */

/* --- The list of what should be there --- */

struct block {
    char *mem;
    size_t size; /* of the chunk that was asked for */
};

enum { MOST = 8000 };
static struct block live[MOST];
static size_t live_count, base; /* base: bytes that were mapped besides blocks and metadata */

static size_t mapped_now(void) { return fake_count().mapped - os_counters.metadata_bytes - os_counters.reserved_bytes; }

static void begin(void) {
    store_relaxed(&conf_values[CONF_MMAP_MAX], 1000000);
    base = mapped_now();
}

static size_t usable(const void *mem) { return head_usable(chunk_head(chunk_of(mem))); }

/* Its first and last eight bytes, and one in each page, tell which block it is. */
static uint64_t text_of_block(const char *mem, size_t offset) { return ((uintptr_t)mem + offset) * 0x9e3779b97f4a7c15u; }

static void mark_at(const struct block *block, size_t offset) {
    uint64_t text = text_of_block(block->mem, offset);
    memcpy(block->mem + offset, &text, 8);
}

static void mark(const struct block *block) {
    for (size_t offset = 0; offset < block->size - 16 && offset < 16 * PAGE; offset += PAGE) mark_at(block, offset);
    mark_at(block, block->size - 16);
}

/* What was marked when the block was at `was.mem` with was.size bytes, and lies below `kept`, is still in `mem`. */
static void check_marks(const struct block *was, const char *mem, size_t kept) {
    for (size_t offset = 0; offset < was->size - 16 && offset < 16 * PAGE && offset + 8 <= kept; offset += PAGE) {
        uint64_t text = text_of_block(was->mem, offset);
        CHECK(memcmp(mem + offset, &text, 8) == 0);
    }
    uint64_t last = text_of_block(was->mem, was->size - 16);
    if (was->size - 8 <= kept) CHECK(memcmp(mem + was->size - 16, &last, 8) == 0);
}

static struct block *add(size_t size, size_t align) {
    bool zeroed = false;
    char *mem = mapped_alloc(size, align, &zeroed);
    if (mem == NULL) return NULL;
    CHECK(live_count < MOST);
    CHECK_EQ((uintptr_t)mem % align, 0);
    CHECK(usable(mem) >= size - CHUNK_OVERHEAD);
    CHECK(chunk_size(chunk_of(mem)) >= size);
    uint64_t first, last;
    memcpy(&first, mem, 8);
    memcpy(&last, mem + usable(mem) - 8, 8);
    if (zeroed) CHECK_EQ(first | last, 0);
    live[live_count] = (struct block){mem, size};
    mark(&live[live_count]);
    return &live[live_count++];
}

static void drop(size_t i) {
    struct block block = live[i];
    check_marks(&block, block.mem, block.size);
    live[i] = live[--live_count];
    mapped_free(block.mem, "free(): invalid pointer");
    CHECK(!mapped_owns(block.mem));
}

/* False if it was refused; then the block is as it was. */
static bool resize(size_t i, size_t size) {
    struct block *block = &live[i], before = *block;
    uint64_t head = chunk_head(chunk_of(before.mem));
    char *mem = mapped_realloc(before.mem, size);
    if (mem == NULL) {
        CHECK_EQ(chunk_head(chunk_of(before.mem)), head);
        CHECK(mapped_owns(before.mem));
        check_marks(&before, before.mem, before.size);
        return false;
    }
    CHECK(chunk_size(chunk_of(mem)) >= size);
    CHECK_EQ(((uintptr_t)mem - (uintptr_t)before.mem) % PAGE, 0);
    if (mem != before.mem) CHECK(!mapped_owns(before.mem));
    CHECK(mapped_owns(mem));
    *block = (struct block){mem, size};
    check_marks(&before, mem, size - CHUNK_OVERHEAD);
    mark(block);
    return true;
}

struct seen {
    uintptr_t mem[MOST];
    size_t count, bytes;
};

static int look(const struct mapped_record *record, void *arg) {
    struct seen *seen = arg;
    const struct chunk *chunk = (const struct chunk *)record->chunk;
    CHECK(seen->count < MOST);
    CHECK_EQ(chunk_tag(chunk), TAG_MAPPED);
    CHECK_EQ(chunk_head(chunk) & FLAG_MASK, FLAG_M);
    CHECK_EQ(chunk->prev_size, record->lead);
    CHECK_EQ(chunk_size(chunk), record->length - record->lead);
    CHECK_EQ((record->chunk - record->lead) % PAGE | record->length % PAGE, 0);
    seen->mem[seen->count++] = (uintptr_t)chunk_mem(chunk);
    seen->bytes += record->length;
    return 0;
}

static int ascending(const void *a, const void *b) {
    uintptr_t x = *(const uintptr_t *)a, y = *(const uintptr_t *)b;
    return x < y ? -1 : x > y;
}

/* The walk sees the live blocks and nothing else; counters and the system's books agree. `lost`: bytes that the system did not take back. */
static void check_all(size_t lost) {
    static struct seen seen, expected;
    seen.count = seen.bytes = expected.count = 0;
    CHECK_EQ(mapped_walk(look, &seen), 0);
    for (size_t i = 0; i < live_count; i++) {
        expected.mem[expected.count++] = (uintptr_t)live[i].mem;
        CHECK(mapped_owns(live[i].mem));
        check_marks(&live[i], live[i].mem, live[i].size);
    }
    CHECK_EQ(seen.count, live_count);
    qsort(seen.mem, live_count, sizeof *seen.mem, ascending);
    qsort(expected.mem, live_count, sizeof *expected.mem, ascending);
    CHECK(memcmp(seen.mem, expected.mem, live_count * sizeof *seen.mem) == 0);
    CHECK_EQ(mapped_count, live_count);
    CHECK_EQ(mapped_bytes, seen.bytes);
    CHECK(mapped_count_peak >= mapped_count && mapped_bytes_peak >= mapped_bytes);
    CHECK_EQ(mapped_now(), base + seen.bytes + retained_bytes + lost);
    CHECK_HEAP();
}

static void drop_all(void) {
    while (live_count != 0) drop(live_count - 1);
    CHECK_EQ(mapped_count, 0);
    CHECK_EQ(mapped_bytes, 0);
}

/* --- One after another --- */

/* More than the first three segments of the table hold, in several waves. */
static void thousands(void) {
    begin();
    uint64_t random = 1;
    size_t metadata = os_counters.metadata_bytes, most_bytes = 0;
    for (int wave = 0; wave < 2; wave++) {
        while (live_count < 3500) CHECK(add(request_size(unit_random(&random) % (2 * PAGE) + 16), CHUNK_ALIGN) != NULL);
        most_bytes = mapped_bytes > most_bytes ? mapped_bytes : most_bytes;
        check_all(0);
        CHECK_EQ(mapped_count_peak, 3500);
        CHECK_EQ(mapped_bytes_peak, most_bytes);
        while (live_count > 1000) drop(unit_random(&random) % live_count);
        check_all(0);
    }
    CHECK(os_counters.metadata_bytes - metadata >= 3500 * sizeof(struct mapped_record) / 2);
    drop_all();
    check_all(0);
    CHECK_EQ(mapped_count_peak, 3500);
    CHECK_EQ(mapped_bytes_peak, most_bytes);
}

static int stop_at_third(const struct mapped_record *record, void *arg) {
    (void)record;
    return ++*(int *)arg == 3 ? 42 : 0;
}

static void walk_stops(void) {
    begin();
    for (int i = 0; i < 10; i++) add(PAGE, CHUNK_ALIGN);
    int visits = 0;
    CHECK_EQ(mapped_walk(stop_at_third, &visits), 42);
    CHECK_EQ(visits, 3);
}

/* Each alignment with each size: no page too many, and all of it goes back, also where the system did not take the slack. */
static void alignments(void) {
    begin();
    static const size_t sizes[] = {32, 48, 4080, 4096, 16384 - 16, 65520, 65536, 200000, MIB(3)};
    for (int refuse = 0; refuse < 2; refuse++) {
        for (size_t align = CHUNK_ALIGN; align <= MIB(8); align *= 2) {
            for (size_t i = 0; i < COUNT(sizes); i++) {
                if (refuse) fake_plan_set(FAKE_UNMAP, (struct fake_plan){.every = 1});
                size_t before = mapped_now();
                CHECK(add(sizes[i], align) != NULL);
                size_t length = mapped_now() - before, lead = chunk_of(live[live_count - 1].mem)->prev_size;
                CHECK_EQ(length, chunk_size(chunk_of(live[live_count - 1].mem)) + lead);
                if (!refuse) CHECK(lead < PAGE && length == align_up(lead + sizes[i] + CHUNK_OVERHEAD, PAGE));
                fake_calm();
                check_all(0);
                if (unit_random(&(uint64_t){align + i}) % 2) drop(live_count - 1);
            }
        }
        check_all(0);
        drop_all();
        check_all(0);
    }
}

static void too_large(void) {
    begin();
    add(PAGE, CHUNK_ALIGN);
    static const size_t sizes[] = {PTRDIFF_MAX, (size_t)PTRDIFF_MAX + 17, SIZE_MAX - 15, SIZE_MAX, (size_t)1 << 46};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        bool zeroed;
        CHECK(mapped_alloc(sizes[i], CHUNK_ALIGN, &zeroed) == NULL);
        CHECK(mapped_alloc(sizes[i], MIB(1), &zeroed) == NULL);
        CHECK(mapped_alloc(64, (size_t)1 << 62, &zeroed) == NULL);
        CHECK(mapped_realloc(live[0].mem, sizes[i]) == NULL);
        check_all(0);
        CHECK_EQ(mapped_count_peak, 1);
    }
}

static void number_is_limited(void) {
    begin();
    for (size_t most = 0; most < 300; most += 50) {
        store_relaxed(&conf_values[CONF_MMAP_MAX], most);
        while (add(PAGE, live_count % 2 ? CHUNK_ALIGN : 4 * PAGE) != NULL) CHECK(live_count <= most);
        CHECK_EQ(live_count, most);
        CHECK_EQ(mapped_count_peak, most);
        check_all(0);
        if (most == 0) continue;
        CHECK(resize(0, 9 * PAGE)); /* needs no more of them */
        drop(most / 2);
        CHECK(add(PAGE, CHUNK_ALIGN) != NULL);
        CHECK(add(PAGE, CHUNK_ALIGN) == NULL);
    }
}

static void resizing(void) {
    begin();
    uint64_t random = 2;
    for (int how = FAKE_REMAP_EITHER; how <= FAKE_REMAP_STAY; how++) {
        fake_set_remap((enum fake_remap)how);
        size_t moved = 0, refused = 0, grown = 0;
        while (live_count < 200) add(request_size(unit_random(&random) % (8 * PAGE) + 16), (size_t)16 << unit_random(&random) % 14);
        for (int step = 0; step < 1500; step++) {
            size_t i = unit_random(&random) % live_count, size = request_size(unit_random(&random) % (12 * PAGE) + 16);
            char *before = live[i].mem;
            size_t had = chunk_size(chunk_of(before)), bytes = mapped_bytes;
            uint64_t calls = fake_count().calls[FAKE_REMAP];
            bool done = resize(i, size);
            size_t have = chunk_size(chunk_of(live[i].mem));
            CHECK_EQ(mapped_bytes - bytes, have - had);
            CHECK_EQ(fake_count().calls[FAKE_REMAP] - calls, had != have || !done);
            if (done) CHECK_EQ((chunk_of(live[i].mem)->prev_size + have) - align_up(chunk_of(live[i].mem)->prev_size + size + 8, PAGE), 0);
            if (have <= had) CHECK(live[i].mem == before);
            moved += live[i].mem != before;
            refused += !done;
            grown += have > had;
            if (step % 100 == 0) check_all(0);
        }
        check_all(0);
        CHECK(grown > 100);
        if (how == FAKE_REMAP_MOVE) CHECK_EQ(moved, grown);
        if (how == FAKE_REMAP_STAY) CHECK(moved == 0 && refused > 0);
        if (how != FAKE_REMAP_STAY) CHECK_EQ(refused, 0);
    }
    drop_all();
    check_all(0);
}

/* No memory for a second segment: what fits into the first is served, and of blocks that move as many as there are reserves. */
static void no_segments(void) {
    begin();
    fake_plan_set(FAKE_USABLE, (struct fake_plan){.every = 1});
    fake_set_remap(FAKE_REMAP_MOVE);
    for (size_t refusals = 0; refusals < 3000;) refusals += add(PAGE * (1 + refusals % 50), CHUNK_ALIGN) == NULL; /* at many addresses */
    CHECK_EQ(live_count, 128);
    check_all(0);
    uint64_t random = 3;
    size_t refused = 0, most = 0;
    for (int step = 0; step < 1500; step++) {
        size_t i = unit_random(&random) % live_count;
        refused += !resize(i, chunk_size(chunk_of(live[i].mem)) > 20 * PAGE ? PAGE : live[i].size + PAGE);
        add(PAGE * (1 + unit_random(&random) % 50), CHUNK_ALIGN);
        if (step % 100 == 0) check_all(0);
        most = live_count > most ? live_count : most;
    }
    CHECK(most > 128 + 16 && most <= 128 + 32); /* whether the last reserves are hit depends on the addresses */
    CHECK(refused > 0);
    check_all(0);
    while (live_count > 10) drop(unit_random(&random) % live_count);
    check_all(0);
    fake_calm();
    while (live_count < 500) CHECK(add(PAGE, CHUNK_ALIGN) != NULL);
    while (live_count < 600) CHECK(resize(unit_random(&random) % live_count, 3 * PAGE) && add(PAGE, CHUNK_ALIGN) != NULL);
    check_all(0);
    drop_all();
    check_all(0);
}

/* --- What is refused --- */

struct plan {
    enum fake_call call; /* FAKE_CALLS: all of them */
    uint32_t skip, next;
};

/* Some of everything: the table grows beyond its first segment, mappings are retained, taken, grown and given back. Returns the refusals. */
static uint64_t run_planned(struct plan plan) {
    uint64_t random = 4, injected = 0;
    fake_set_remap(FAKE_REMAP_MOVE);
    for (int call = 0; call < FAKE_CALLS; call++) {
        if (plan.call == FAKE_CALLS || plan.call == (enum fake_call)call)
            fake_plan_set((enum fake_call)call, (struct fake_plan){.skip = plan.skip, .next = plan.next});
    }
    for (int i = 0; i < 20; i++) add(PAGE * (1 + unit_random(&random) % 3), (size_t)16 << unit_random(&random) % 16);
    for (int i = 0; i < 12; i++) resize(unit_random(&random) % live_count, PAGE * (1 + unit_random(&random) % 9));
    for (int i = 0; i < 8; i++) drop(unit_random(&random) % live_count);
    for (size_t i = 0; i < 6; i++) {
        if (add(LARGE + i % 3 * MIB(9), CHUNK_ALIGN) == NULL) continue;
        if (i % 3 == 1) resize(live_count - 1, LARGE + MIB(20));
        if (i % 3 != 2) drop(live_count - 1);
    }
    struct fake_counts counts = fake_count();
    for (int call = 0; call < FAKE_CALLS; call++) injected += counts.injected[call];
    fake_calm();
    return injected;
}

/* In a process of its own, for the table's segments stay. Exits with 2 if there was nothing to refuse any more. */
static _Noreturn void refuse(struct plan plan) {
    uint64_t injected = run_planned(plan);
    /* What the system does not take back of a block that is gone is nobody's; nothing else may be missing. */
    size_t lost = mapped_now() - base - mapped_bytes - retained_bytes;
    CHECK(lost == 0 || fake_count().injected[FAKE_UNMAP] != 0);
    check_all(lost);
    CHECK(add(PAGE, 2 * PAGE) != NULL);
    CHECK(resize(live_count - 1, 5 * PAGE));
    while (live_count < 140) CHECK(add(PAGE, CHUNK_ALIGN) != NULL);
    check_all(lost);
    drop_all();
    retain_release();
    CHECK_EQ(retained_bytes, 0);
    check_all(lost);
    _exit(injected != 0 ? 0 : 2);
}

/* At every position one call is refused until no position is left; at every fifth only with larger pages, and if all that follow are, too. */
static void refuse_everywhere(enum fake_call call, uint32_t next, uint32_t least) {
    uint32_t skip = 0;
    begin();
    while (live_count < 90) add(PAGE, CHUNK_ALIGN);
    for (int status = 0; status == 0; skip += next == 1 && PAGE == 4096 ? 1 : 5) {
        pid_t pid = fork();
        if (pid == 0) refuse((struct plan){call, skip, next});
        waitpid(pid, &status, 0);
        if (status == 0 || (WIFEXITED(status) && WEXITSTATUS(status) == 2)) continue;
        unit_fail(__FILE__, __LINE__, "%s refused after %u others: status 0x%x", fake_call_name(call), skip, (unsigned)status);
    }
    CHECK(skip > least);
}

static void map_refused(void) { refuse_everywhere(FAKE_MAP, 1, 12); }
static void unmap_refused(void) { refuse_everywhere(FAKE_UNMAP, 1, 12); }
static void remap_refused(void) { refuse_everywhere(FAKE_REMAP, 1, 8); }
static void segment_refused(void) { refuse_everywhere(FAKE_USABLE, 1, 1); }
static void map_refused_from(void) { refuse_everywhere(FAKE_MAP, UINT32_MAX, 12); }
static void unmap_refused_from(void) { refuse_everywhere(FAKE_UNMAP, UINT32_MAX, 12); }
static void remap_refused_from(void) { refuse_everywhere(FAKE_REMAP, UINT32_MAX, 8); }
static void segment_refused_from(void) { refuse_everywhere(FAKE_USABLE, UINT32_MAX, 1); }
static void all_refused(void) { refuse_everywhere(FAKE_CALLS, UINT32_MAX, 12); }

/* --- Pointers that are none --- */

static const char line[] = "munmap_chunk(): invalid pointer";

static void free_it(void *mem) { mapped_free(mem, line); }
static void resize_it(void *mem) { mapped_realloc(mem, 3 * PAGE); }
static void free_twice(void *mem) {
    mapped_free(mem, line);
    mapped_free(mem, line);
}
static void free_other_then_twice(void *mem) {
    mapped_free(mem, line);
    for (int i = 0; i < 5; i++) add(9 * PAGE, CHUNK_ALIGN); /* others don't hide it */
    mapped_free(mem, line);
}
static void resize_freed(void *mem) {
    mapped_free(mem, line);
    mapped_realloc(mem, PAGE);
}
static void free_where_it_was(void *mem) {
    fake_set_remap(FAKE_REMAP_MOVE);
    CHECK(mapped_realloc(mem, 9 * PAGE) != mem);
    mapped_free(mem, line);
}

static void forged_pointers(void) {
    begin();
    for (int i = 0; i < 300; i++) add(2 * PAGE, CHUNK_ALIGN);
    char *mem = live[150].mem;
    static char forged[256] __attribute__((aligned(16)));
    ((struct chunk *)forged)->prev_size = 0;
    chunk_set((struct chunk *)forged, 2 * PAGE, FLAG_M, TAG_MAPPED);
    chunk_of(mem + 4096)->prev_size = 4096; /* inside a block, as if it began there */
    chunk_set(chunk_of(mem + 4096), chunk_size(chunk_of(mem)) - 4096, FLAG_M, TAG_MAPPED);
    char *pointers[] = {mem + 16, mem + 4096, mem - 16, mem + 1, forged + 16, (char *)16, (char *)17, (char *)15, NULL};
    for (size_t i = 0; i < COUNT(pointers); i++) {
        CHECK(!mapped_owns(pointers[i]));
        CHECK_ABORTS(free_it, pointers[i], line);
        CHECK_ABORTS(resize_it, pointers[i], "realloc(): invalid pointer");
    }
    CHECK_ABORTS(free_twice, mem, line);
    CHECK_ABORTS(free_other_then_twice, mem, line);
    CHECK_ABORTS(resize_freed, mem, "realloc(): invalid pointer");
    CHECK_ABORTS(free_where_it_was, mem, line);
    check_all(0);
}

/* Only the record says what is unmapped. */
static void forged_headers(void) {
    begin();
    uint64_t random = 5;
    while (live_count < 100) {
        struct block *block = add(PAGE * (1 + unit_random(&random) % 5), (size_t)16 << unit_random(&random) % 14);
        chunk_of(block->mem)->prev_size = unit_random(&random);
        chunk_of(block->mem)->head = unit_random(&random);
    }
    for (size_t i = 0; i < 50; i++) CHECK(resize(i, 7 * PAGE)); /* writes the header anew */
    while (live_count != 0) drop(live_count - 1);
    check_all(0);
}

/* --- Mappings that wait --- */

static uint64_t maps(void) { return os_counters.calls[SEEMALLOC_CALL_MMAP_BLOCK]; }

static size_t of_number(size_t i) { return LARGE + i * MIB(4) - 16; }

static void retained(void) {
    begin();
    enum { BLOCKS = 20, SLOTS = 16 };
    store_relaxed(&conf_values[CONF_RETAIN_MAX], (size_t)1 << 40);
    char *was[BLOCKS];
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < BLOCKS; i++) was[i] = add(of_number(i), CHUNK_ALIGN)->mem;
        check_all(0);
        CHECK_EQ(maps(), (uint64_t)BLOCKS * (round + 1));
        CHECK_EQ(retained_bytes, 0);
        for (size_t i = 0; i < BLOCKS; i++) {
            for (size_t k = 0; k < live_count; k++)
                if (live[k].mem == was[i]) drop(k);
        }
        check_all(0);
    }
    size_t sum = 0;
    for (size_t i = 0; i < SLOTS; i++) sum += align_up(of_number(i) + CHUNK_OVERHEAD, PAGE);
    CHECK_EQ(retained_bytes, sum); /* of the second round: one a slot */
    for (size_t i = 0; i < SLOTS; i++) CHECK_EQ(add(of_number(i * 7 % SLOTS), CHUNK_ALIGN)->mem, was[i * 7 % SLOTS]);
    CHECK_EQ(retained_bytes, 0);
    CHECK_EQ(maps(), 2 * BLOCKS);
    check_all(0);
    drop_all();
    CHECK_EQ(retained_bytes, sum);

    /* Larger than all of them: the largest grows. Refused: another is mapped, and it goes on waiting. */
    fake_plan_set(FAKE_REMAP, (struct fake_plan){.next = 1});
    add(of_number(30), CHUNK_ALIGN);
    CHECK_EQ(retained_bytes, sum);
    CHECK_EQ(maps(), 2 * BLOCKS + 1);
    check_all(0);
    drop_all();
    sum = retained_bytes;
    add(of_number(40), CHUNK_ALIGN);
    CHECK_EQ(maps(), 2 * BLOCKS + 1);
    CHECK(retained_bytes < sum);
    check_all(0);

    /* Alignment has a mapping of its own, and so have the smaller ones. */
    sum = retained_bytes;
    add(of_number(0), 2 * PAGE);
    add(CONF_MMAP_THRESHOLD_MOST - PAGE, CHUNK_ALIGN);
    CHECK_EQ(retained_bytes, sum);
    drop(live_count - 1);
    CHECK_EQ(retained_bytes, sum);
    check_all(0);

    /* Memory is short: what waits is given up for the request. */
    fake_set_space_limit(fake_count().mapped + fake_count().brk_bytes + PAGE);
    CHECK(add(MIB(1), CHUNK_ALIGN) != NULL);
    CHECK_EQ(retained_bytes, 0);
    CHECK(!retain_release());
    fake_calm();
    drop_all();
    CHECK(add(PAGE, CHUNK_ALIGN) != NULL);
    CHECK(retained_bytes != 0);
    fake_set_space_limit(fake_count().mapped + fake_count().brk_bytes + PAGE);
    CHECK(resize(0, MIB(1)));
    CHECK_EQ(retained_bytes, 0);
    fake_calm();
    add(of_number(0), CHUNK_ALIGN);
    drop_all();
    check_all(0);
    CHECK(retain_release());
    CHECK_EQ(retained_bytes, 0);
    check_all(0);
}

/* Random sizes come and go: every byte is with a block, or waits. */
static void retained_at_random(void) {
    begin();
    uint64_t random = 6;
    size_t waited = 0;
    for (int step = 0; step < 700; step++) {
        size_t size = LARGE + unit_random(&random) % 64 * MIB(1);
        if (live_count < 4 || (live_count < 12 && unit_random(&random) % 2))
            add(size, CHUNK_ALIGN);
        else if (unit_random(&random) % 4 == 0)
            CHECK(resize(unit_random(&random) % live_count, size));
        else
            drop(unit_random(&random) % live_count);
        if (step % 50 == 0) retain_shed();
        waited += retained_bytes != 0;
        CHECK(retained_bytes <= conf_get(CONF_RETAIN_MAX));
        if (step % 20 == 0) check_all(0);
    }
    CHECK(waited > 50);
    drop_all();
    retain_release();
    check_all(0);
}

/* --- Threads --- */

enum { THREADS = 4, TABLE = 256, STEPS = 1000 };
static char *table[TABLE];
static uint32_t running;

static void check_owner(const char *mem) { CHECK(*(char *const *)mem == mem); }

static void *exchange_blocks(void *arg) {
    uint64_t random = (uintptr_t)arg;
    for (int i = 0; i < STEPS; i++) {
        bool zeroed;
        char *mem = mapped_alloc(PAGE * (1 + unit_random(&random) % 3), unit_random(&random) % 8 ? CHUNK_ALIGN : 4 * PAGE, &zeroed);
        CHECK(mem != NULL);
        if (zeroed) CHECK(*(char **)mem == NULL);
        *(char **)mem = mem;
        mem = __atomic_exchange_n(&table[unit_random(&random) % TABLE], mem, __ATOMIC_ACQ_REL);
        if (mem == NULL) continue;
        check_owner(mem); /* most come from another thread */
        if (i % 4 == 0) {
            char *moved = mapped_realloc(mem, PAGE * 4);
            CHECK(moved != NULL);
            CHECK(*(char **)moved == mem);
            mem = moved;
        }
        mapped_free(mem, line);
    }
    sub_relaxed(&running, 1);
    return NULL;
}

static int look_for(const struct mapped_record *record, void *arg) { return load_relaxed(&record->chunk) == (uintptr_t)arg; }

/* Four threads map, move and free each other's blocks; a fifth walks, and finds the one that stays each time. */
static void threads(void) {
    begin();
    pthread_t thread[THREADS];
    struct block *mine = add(3 * PAGE, CHUNK_ALIGN);
    store_relaxed(&running, THREADS);
    for (uintptr_t i = 0; i < THREADS; i++) CHECK_EQ(pthread_create(&thread[i], NULL, exchange_blocks, (void *)(i + 1)), 0);
    for (size_t rounds = 0; rounds < 10 || load_relaxed(&running) != 0; rounds++) {
        CHECK_EQ(mapped_walk(look_for, chunk_of(mine->mem)), 1);
        CHECK(mapped_owns(mine->mem));
        sched_yield();
    }
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    CHECK(mapped_count_peak > TABLE / 2 && mapped_count_peak <= TABLE + 2 * THREADS + 1);
    for (int i = 0; i < TABLE; i++) {
        if (table[i] == NULL) continue;
        check_owner(table[i]);
        mapped_free(table[i], line);
    }
    check_all(0);
}

static pthread_barrier_t barrier;
static uint32_t losers;
static char *result;

static void lose(void) {
    add_relaxed(&losers, 1);
    pthread_exit(NULL);
}

static void *free_at_once(void *mem) {
    pthread_barrier_wait(&barrier);
    mapped_free(mem, line);
    return NULL;
}

static void *resize_at_once(void *mem) {
    pthread_barrier_wait(&barrier);
    result = mapped_realloc(mem, 9 * PAGE);
    return NULL;
}

/* Two threads free a block, or one of them moves it: one wins, the other is told. */
static void two_at_once(void) {
    begin();
    fake_set_remap(FAKE_REMAP_MOVE);
    fake_set_echo(false);
    fake_on_abort(lose);
    for (uint32_t round = 0; round < 300; round++) {
        pthread_t one, two;
        result = NULL;
        bool zeroed, moves = round % 2;
        char *mem = mapped_alloc(2 * PAGE, CHUNK_ALIGN, &zeroed);
        fake_clear_written();
        pthread_barrier_init(&barrier, NULL, 2);
        pthread_create(&one, NULL, free_at_once, mem);
        pthread_create(&two, NULL, moves ? resize_at_once : free_at_once, mem);
        pthread_join(one, NULL);
        pthread_join(two, NULL);
        pthread_barrier_destroy(&barrier);
        CHECK_EQ(losers, round + 1);
        const char *told = result != NULL || !moves ? line : "realloc(): invalid pointer";
        CHECK(strncmp(fake_written(), told, strlen(told)) == 0);
        if (result != NULL) mapped_free(result, line);
        check_all(0);
    }
}

UNIT_MAIN({"thousands", thousands}, {"walk_stops", walk_stops}, {"alignments", alignments}, {"too_large", too_large},
          {"number_is_limited", number_is_limited}, {"resizing", resizing}, {"no_segments", no_segments}, {"map_refused", map_refused},
          {"unmap_refused", unmap_refused}, {"remap_refused", remap_refused}, {"segment_refused", segment_refused},
          {"map_refused_from", map_refused_from}, {"unmap_refused_from", unmap_refused_from}, {"remap_refused_from", remap_refused_from},
          {"segment_refused_from", segment_refused_from}, {"all_refused", all_refused}, {"forged_pointers", forged_pointers},
          {"forged_headers", forged_headers}, {"retained", retained}, {"retained_at_random", retained_at_random}, {"threads", threads},
          {"two_at_once", two_at_once})
