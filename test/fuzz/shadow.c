/* shadow.c: a bitmap of the address space under a tree of two levels; the parts that are in use exist. SPDX-License-Identifier: MIT */
#include "shadow.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

/* address = root index (bits 36..47) | middle index (bits 23..35) | bit in leaf (bits 3..22: 2^20 bits, 128 KiB) */
#define LEAF_WORDS ((size_t)1 << 14)
#define MIDDLE ((size_t)1 << 13)
#define ROOT ((size_t)1 << 12)

struct leaf {
    uint64_t words[LEAF_WORDS];
};

struct middle {
    struct leaf *leaves[MIDDLE];
};

static struct middle *root[ROOT];

void *shadow_pages(size_t size) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at != MAP_FAILED) return at;
    fprintf(stderr, "no memory for the test's own books: %zu bytes\n", size);
    abort();
}

/* The pointer in *slot, made on demand; whoever loses the race gives its pages back. */
static void *obtain(void **slot, size_t size, bool make) {
    void *have = __atomic_load_n(slot, __ATOMIC_ACQUIRE);
    if (have != NULL || !make) return have;
    void *fresh = shadow_pages(size);
    if (__atomic_compare_exchange_n(slot, &have, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return fresh;
    munmap(fresh, size);
    return have;
}

static uint64_t *word_at(uintptr_t address, bool make) {
    struct middle *middle = obtain((void **)&root[(address >> 36) % ROOT], sizeof *middle, make);
    if (middle == NULL) return NULL;
    struct leaf *leaf = obtain((void **)&middle->leaves[(address >> 23) % MIDDLE], sizeof *leaf, make);
    return leaf != NULL ? &leaf->words[(address >> 9) % LEAF_WORDS] : NULL;
}

static const void *change(const void *start, size_t size, bool mark) {
    uintptr_t at = (uintptr_t)start, end = at + ((size + 7) & ~(size_t)7);
    const void *wrong = NULL;
    uint64_t *word = NULL;
    while (at < end) {
        if (word == NULL || at % ((size_t)1 << 23) == 0) word = word_at(at, true);
        unsigned from = (unsigned)(at >> 3) % 64;
        uintptr_t next = (at | 511) + 1;
        unsigned bits = (unsigned)(((end < next ? end : next) - at) >> 3);
        uint64_t mask = (bits == 64 ? ~(uint64_t)0 : ((uint64_t)1 << bits) - 1) << from;
        uint64_t old = mark ? __atomic_fetch_or(word, mask, __ATOMIC_RELAXED) : __atomic_fetch_and(word, ~mask, __ATOMIC_RELAXED);
        uint64_t bad = (mark ? old : ~old) & mask;
        if (bad != 0 && wrong == NULL) wrong = (const void *)((at & ~(uintptr_t)511) + 8 * (uintptr_t)__builtin_ctzll(bad));
        at = next;
        word++;
    }
    return wrong;
}

const void *shadow_mark(const void *start, size_t size) { return change(start, size, true); }
const void *shadow_clear(const void *start, size_t size) { return change(start, size, false); }

bool shadow_is_live(const void *at) {
    uint64_t *word = word_at((uintptr_t)at, false);
    return word != NULL && (__atomic_load_n(word, __ATOMIC_RELAXED) >> ((uintptr_t)at >> 3) % 64 & 1) != 0;
}

void shadow_reset(void) {
    for (size_t i = 0; i < ROOT; i++) {
        if (root[i] == NULL) continue;
        for (size_t k = 0; k < MIDDLE; k++) {
            if (root[i]->leaves[k] != NULL) munmap(root[i]->leaves[k], sizeof(struct leaf));
        }
        munmap(root[i], sizeof(struct middle));
        root[i] = NULL;
    }
}
