/* test_chunk.c: what a header says and what its seal refuses, the sizes of requests, and the size classes above them.
 * SPDX-License-Identifier: MIT */
#include "unit.h"

#include "cache/class.h"
#include "fake.h"
#include "heap/chunk.h"

#include <stdlib.h>
#include <string.h>

static const uint32_t states[] = {TAG_IN_USE, TAG_TOP, TAG_MAPPED, TAG_FENCE, TAG_BINNED, TAG_PURGING, TAG_LOOSE};
static const uint32_t ids[] = {0, 1, 63, 1023, TAG_ID};
#define COUNT(table) (sizeof(table) / sizeof(table)[0])

enum { AREA = 1 << 20 };
static char area[AREA] __attribute__((aligned(16)));

static struct chunk *place(uint64_t *random) { return (struct chunk *)(area + unit_random(random) % ((AREA - 256) / 16) * 16); }

/* Sizes of every length in bits. */
static size_t some_size(uint64_t *random) {
    size_t size = unit_random(random) & SIZE_MASK & (((size_t)2 << (unit_random(random) % 47)) - 1);
    return size < CHUNK_FENCE ? CHUNK_FENCE : size;
}

static void set_and_check(struct chunk *chunk, size_t size, uint32_t flags, uint32_t tag) {
    chunk->prev_size = 0x1122334455667788;
    chunk->fd = chunk;
    chunk_set(chunk, size, flags, tag);
    CHECK_EQ(chunk_size(chunk), size);
    CHECK_EQ(chunk_head(chunk) & FLAG_MASK, flags);
    CHECK_EQ(chunk_tag(chunk), tag);
    CHECK_EQ(chunk_tag(chunk) & TAG_ID, tag % 8192);
    CHECK_EQ(chunk_tag(chunk) & TAG_STATE, tag - tag % 8192);
    CHECK_EQ(chunk_next(chunk), (uintptr_t)chunk + size);
    CHECK_EQ(head_usable(chunk_head(chunk)), size - (flags & FLAG_M ? 16 : 8));
    CHECK_EQ(tag_in_use(chunk_tag(chunk)), tag < seal.arenas);
    CHECK_EQ(chunk->prev_size, 0x1122334455667788);
    CHECK_EQ(chunk->fd, chunk);
}

/* All states, owners and flags with every exact size, every power of two and what lies beside it, up to the largest. */
static void seal_round_trip(void) {
    uint64_t random = 1;
    for (uint64_t seed = 1; seed <= 3; seed++) {
        fake_seed(seed);
        seal_init();
        seal.arenas = 64;
        for (size_t s = 0; s < COUNT(states); s++) {
            for (size_t i = 0; i < COUNT(ids); i++) {
                for (uint32_t flags = 0; flags <= (FLAG_P | FLAG_M | FLAG_A); flags++) {
                    uint32_t tag = states[s] | ids[i];
                    CHECK(s == 0 || states[s] % 8192 == 0);
                    CHECK(s == 0 || states[s] > states[s - 1]);
                    for (size_t size = CHUNK_FENCE; size <= 1024; size += CHUNK_ALIGN) set_and_check(place(&random), size, flags, tag);
                    for (unsigned bit = 10; bit < 47; bit++) {
                        size_t power = (size_t)1 << bit;
                        set_and_check(place(&random), power - 16, flags, tag);
                        set_and_check(place(&random), power, flags, tag);
                        set_and_check(place(&random), power + 16, flags, tag);
                    }
                    set_and_check(place(&random), CHUNK_MAX - 16, flags, tag);
                }
            }
        }
    }
    struct chunk *chunk = place(&random);
    CHECK_EQ(chunk_mem(chunk), (uintptr_t)chunk + 16);
    CHECK_EQ(chunk_of(chunk_mem(chunk)), chunk);
}

/* Afterwards the head is the very one that chunk_set would have written. */
static void set_p_keeps_the_rest(void) {
    seal_init();
    uint64_t random = 2;
    for (int i = 0; i < 200000; i++) {
        struct chunk *chunk = place(&random);
        size_t size = some_size(&random);
        uint32_t flags = (uint32_t)(unit_random(&random) % 8), tag = (uint32_t)(unit_random(&random) & 0xffff);
        bool p = unit_random(&random) % 2 != 0;
        chunk_set(chunk, size, (flags & ~FLAG_P) | (p ? FLAG_P : 0), tag);
        uint64_t expected = chunk_head(chunk);
        chunk_set(chunk, size, flags, tag);
        for (int twice = 0; twice < 2; twice++) {
            chunk_set_p(chunk, p);
            CHECK_EQ(chunk_head(chunk), expected);
        }
        CHECK_EQ(chunk_tag(chunk), tag);
    }
}

/* One byte of a header written over: its tag must not stay, but by chance: with 16 bits of seal about 1 in 65536. */
static void one_byte_changed(void) {
    uint64_t random = 3;
    size_t tries = 0, same = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        fake_seed(seed);
        seal_init();
        for (int i = 0; i < 20; i++) {
            struct chunk *chunk = place(&random);
            uint32_t tag = states[unit_random(&random) % COUNT(states)] | ids[unit_random(&random) % COUNT(ids)];
            chunk_set(chunk, some_size(&random), (uint32_t)(unit_random(&random) % 8), tag);
            uint64_t head = chunk_head(chunk);
            for (unsigned byte = 0; byte < 8; byte++) {
                for (uint64_t change = 1; change < 256; change++) {
                    chunk->head = head ^ (change << 8 * byte);
                    bool passes = chunk_tag(chunk) == tag;
                    if (byte >= 6) CHECK(!passes); /* the seal itself: no chance at all */
                    same += passes;
                    tries++;
                }
            }
        }
    }
    CHECK(tries > 1600000);
    CHECK(same <= 4 * tries / 65536);
}

/* Of heads that are any 64 bits as many pass for chunks in use as there are arenas in 65536. */
static void blind_overwrite(void) {
    seal_init();
    uint64_t random = 4;
    const size_t tries = 1 << 20;
    for (uint32_t arenas = 1; arenas <= 64; arenas *= 8) {
        seal.arenas = arenas;
        size_t passed = 0, expected = tries / 65536 * arenas;
        for (size_t i = 0; i < tries; i++) {
            struct chunk *chunk = place(&random);
            chunk->head = unit_random(&random);
            passed += tag_in_use(chunk_tag(chunk));
        }
        CHECK(passed <= 2 * expected + 8);
        if (arenas == 64) CHECK(passed >= expected / 2);
    }
}

/* A header is good at its own address only, and in its own process only. */
static void copied_elsewhere(void) {
    uint64_t random = 5;
    size_t tries = 0, same = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        fake_seed(seed);
        seal_init();
        struct chunk *chunk = place(&random), *other;
        chunk_set(chunk, some_size(&random), FLAG_P, TAG_IN_USE | 3);
        for (int i = 0; i < 5000; i++) {
            other = i < 64 ? chunk_at(chunk, (size_t)(i + 1) * 16) : place(&random);
            if (other == chunk || (char *)other > area + AREA - 256) continue;
            other->head = chunk->head;
            same += chunk_tag(other) == (TAG_IN_USE | 3);
            tries++;
        }
    }
    CHECK(tries > 400000);
    CHECK(same <= 8 * tries / 65536);

    same = 0;
    for (uint64_t seed = 1; seed <= 1000; seed++) {
        struct chunk *chunk = place(&random);
        fake_seed(seed);
        seal_init();
        chunk_set(chunk, 4096, FLAG_P, TAG_IN_USE);
        fake_seed(seed + 1000);
        seal_init();
        same += chunk_tag(chunk) == TAG_IN_USE;
    }
    CHECK(same <= 2);
}

static void secrets(void) {
    uint64_t before[4] = {0};
    for (uint64_t seed = 0; seed < 1000; seed++) {
        fake_seed(seed);
        seal_init();
        CHECK_EQ(seal.s1 % 2, 1);
        CHECK_EQ(seal.s2 % 2, 1);
        CHECK(seal.key != 0);
        CHECK_EQ(seal.link % CHUNK_ALIGN, 0);
        uint64_t now[4] = {seal.s1, seal.s2, seal.key, seal.link};
        for (int i = 0; i < 4; i++) {
            CHECK(now[i] != before[i]);
            CHECK(now[i] >> 32 != 0);
            for (int k = 0; k < i; k++) CHECK(now[i] != now[k]);
        }
        memcpy(before, now, sizeof before);
    }
}

/* A wiped header is zero, and neither good for use nor binned; over all addresses the chance is that of a blind overwrite. */
static void wiped(void) {
    seal_init();
    seal.arenas = 64;
    size_t in_use = 0, binned = 0, tries = 0;
    for (size_t offset = 0; offset + 256 < AREA; offset += 16, tries++) {
        struct chunk *chunk = chunk_at(area, offset);
        chunk_set(chunk, 64, FLAG_P, offset % 32 == 0 ? TAG_IN_USE : TAG_BINNED | 5);
        chunk->prev_size = 7;
        chunk_wipe(chunk);
        CHECK_EQ(chunk_head(chunk), 0);
        CHECK_EQ(chunk->prev_size, 7);
        in_use += tag_in_use(chunk_tag(chunk));
        binned += chunk_tag(chunk) == (TAG_BINNED | 5);
    }
    CHECK(in_use <= tries / 256);
    CHECK(binned <= tries / 4096);
}

static void links_and_keys(void) {
    seal_init();
    uint64_t random = 6;
    for (int i = 0; i < 1000; i++) {
        uint64_t block[4] = {0, 0, 77, 78};
        void *next = place(&random);
        link_store(block, next);
        CHECK(block[0] != (uintptr_t)next);
        CHECK_EQ(link_load(block), next);
        CHECK_EQ(block[0] % 16, 0);
        block[0] += 8; /* misaligned stays misaligned */
        CHECK_EQ((uintptr_t)link_load(block) % 16, 8);
        CHECK_EQ(block[1], 0);
        CHECK(!key_matches(block));
        key_set(block);
        CHECK(key_matches(block));
        block[1] ^= (uint64_t)1 << i % 64;
        CHECK(!key_matches(block));
        key_set(block);
        key_clear(block);
        CHECK(!key_matches(block));
        CHECK_EQ(block[1], 0);
        CHECK_EQ(block[2], 77);
    }
    uint64_t block[2];
    link_store(block, NULL);
    CHECK(link_load(block) == NULL);
}

/* The smallest chunk with room for the request, eight bytes of it in the next chunk's header. */
static void request_sizes(void) {
    static const size_t table[][2] = {{0, 32}, {1, 32}, {23, 32}, {24, 32}, {25, 48}, {40, 48}, {41, 64}, {1016, 1024}, {1017, 1040}};
    for (size_t i = 0; i < COUNT(table); i++) CHECK_EQ(request_size(table[i][0]), table[i][1]);
    for (size_t bytes = 0; bytes < KIB(300); bytes++) {
        size_t size = request_size(bytes);
        CHECK_EQ(size % 16, 0);
        CHECK(size >= 32 && size >= bytes + 8);
        CHECK(size == 32 || size - 16 < bytes + 8);
    }
    CHECK_EQ(request_size(PTRDIFF_MAX), (size_t)PTRDIFF_MAX + 1 + 16);
    CHECK_EQ(request_size(CHUNK_MAX - 8), CHUNK_MAX);
}

/* Strictly rising from the smallest chunk, exact to 1 KiB, then sixteen to a doubling; a power of two is what a class can hold. */
static void classes(void) {
    for (unsigned c = 2; c < CLASS_COUNT; c++) {
        size_t size = class_size(c);
        CHECK_EQ(size % CHUNK_ALIGN, 0);
        CHECK_EQ(class_above(size), c);
        CHECK_EQ(class_below(size), c);
        size_t step = size <= 1040 ? 16 : ((size_t)1 << top_bit(size - 17)) / 16;
        if (c > 2) CHECK_EQ(size - class_size(c - 1), step);
    }
    CHECK_EQ(class_size(2), CHUNK_MIN);
    CHECK_EQ(class_size(CLASS_COUNT - 1), CLASS_SIZE_MAX);
    for (size_t bytes = 32; bytes <= KIB(128); bytes *= 2) CHECK_EQ(class_size(class_above(request_size(bytes))), bytes + CHUNK_HEADER);
}

/* Every size: the class of a request is the smallest that holds it, that of a block the largest that it can serve. */
static void sizes_to_classes(void) {
    for (size_t size = CHUNK_MIN; size <= CLASS_SIZE_MAX; size += CHUNK_ALIGN) {
        unsigned above = class_above(size), below = class_below(size);
        CHECK(above < CLASS_COUNT);
        CHECK(class_size(above) >= size);
        CHECK(above == 2 || class_size(above - 1) < size);
        CHECK(class_size(below) <= size);
        CHECK(below == CLASS_COUNT - 1 || class_size(below + 1) > size);
        CHECK(size <= 1024 ? above == below : above - below <= 1);
    }
}

/* What malloc computes from the bytes asked for is the class of their chunk. */
static void requests_to_classes(void) {
    for (size_t bytes = 0; bytes <= KIB(128); bytes++) {
        size_t expected = class_above(request_size(bytes));
        if (bytes <= CLASS_EXACT_SIZE - CHUNK_OVERHEAD)
            CHECK_EQ(class_of_small(bytes), expected);
        else
            CHECK_EQ(class_at_least(bytes + CHUNK_OVERHEAD), expected);
    }
    CHECK_EQ(class_above(request_size(KIB(128))), CLASS_COUNT - 1);
}

UNIT_MAIN({"seal_round_trip", seal_round_trip}, {"set_p_keeps_the_rest", set_p_keeps_the_rest}, {"one_byte_changed", one_byte_changed},
          {"blind_overwrite", blind_overwrite}, {"copied_elsewhere", copied_elsewhere}, {"secrets", secrets}, {"wiped", wiped},
          {"links_and_keys", links_and_keys}, {"request_sizes", request_sizes}, {"classes", classes},
          {"sizes_to_classes", sizes_to_classes}, {"requests_to_classes", requests_to_classes})
