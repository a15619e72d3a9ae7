/* subject_mutant.c: allocators with one fault each. The fault shows now and then, as real ones do, by a counter. What the player must catch is
 * what these do; a player that passes one of them is broken. SPDX-License-Identifier: MIT */
#include "subject.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct subject *of;
static struct subject spoilt;
static unsigned calls;

static const char *const names[SUBJECT_MUTANTS + 1] = {
    "none",
    "malloc hands out a live block again",
    "malloc hands out the middle of a live block",
    "realloc loses the contents",
    "realloc loses the last 8 bytes",
    "memalign misaligns",
    "malloc misaligns by 8",
    "calloc leaves a byte",
    "malloc fails without need",
    "failure without ENOMEM",
    "free writes into another live block",
    "free changes errno",
    "usable size is too large by 16",
    "usable size is less than was asked for",
    "malloc of an impossible size succeeds",
};

static bool now(unsigned every) { return __atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) % every == 0; }

/* A block that the player holds, most likely: the newest that malloc gave and free hasn't taken. */
static char *volatile held;

static void *note(void *mem) {
    if (mem != NULL && of->usable(mem) >= 64) held = mem;
    return mem;
}

static void *malloc_again(size_t size) { return held != NULL && size <= 64 && now(50) ? held : note(of->malloc(size)); }
static void *inner; /* that malloc_middle made */
static void *malloc_middle(size_t size) {
    if (held == NULL || size > 16 || !now(20)) return note(of->malloc(size));
    return inner = held + 32;
}
static size_t usable_inner(void *mem) { return mem != NULL && mem == inner ? 24 : of->usable(mem); }
static void *malloc_noting(size_t size) { return note(of->malloc(size)); }
static void free_held(void *mem) {
    if (mem == held) held = NULL;
    of->free(mem);
}
static void free_and_write(void *mem) {
    char *other = held;
    if (mem == other) held = NULL;
    of->free(mem);
    if (other != NULL && other != mem && now(50)) other[24] ^= 1;
}
static void *realloc_held(void *mem, size_t size) {
    if (mem == held) held = NULL;
    return of->realloc(mem, size);
}
static void *realloc_loses(void *mem, size_t size) {
    if (mem == NULL || size == 0 || !now(5)) return of->realloc(mem, size);
    void *fresh = of->malloc(size);
    if (fresh != NULL) of->free(mem);
    return fresh;
}
static void *realloc_loses_end(void *mem, size_t size) {
    size_t old = mem != NULL ? of->usable(mem) : 0;
    char *fresh = of->realloc(mem, size);
    if (fresh != NULL && old >= 8 && size >= old && now(5)) memset(fresh + old - 8, 0x5a, 8);
    return fresh;
}
static void *memalign_misaligns(size_t alignment, size_t size) {
    return alignment > 16 && now(5) ? (char *)of->memalign(alignment, size + 16) + 16 : of->memalign(alignment, size);
}
static void *malloc_misaligns(size_t size) {
    if (size > 1000 || !now(100)) return of->malloc(size);
    char *mem = of->malloc(size + 8);
    return mem != NULL ? mem + 8 : NULL;
}
static size_t usable_or_0(void *mem) { return (uintptr_t)mem % 16 == 0 ? of->usable(mem) : 0; }
static void *calloc_dirty(size_t number, size_t size) {
    char *mem = of->calloc(number, size);
    if (mem != NULL && number * size > 20 && now(20)) mem[number * size - 3] = 1;
    return mem;
}
static void *malloc_fails(size_t size) {
    if (!now(200)) return of->malloc(size);
    errno = ENOMEM;
    return NULL;
}
static void *malloc_no_errno(size_t size) {
    void *mem = of->malloc(size);
    if (mem == NULL) errno = 0;
    return mem;
}
static void free_errno(void *mem) {
    of->free(mem);
    if (now(100)) errno = EINVAL;
}
static size_t usable_large(void *mem) { return mem != NULL ? of->usable(mem) + 16 : 0; }
static size_t usable_small(void *mem) { return mem != NULL && of->usable(mem) % 32 == 24 ? of->usable(mem) - 16 : of->usable(mem); }
static void *malloc_huge(size_t size) { return of->malloc(size > PTRDIFF_MAX ? 24 : size); }

const char *subject_mutant_name(unsigned mutant) { return mutant <= SUBJECT_MUTANTS ? names[mutant] : "?"; }

const struct subject *subject_mutant(const struct subject *original, unsigned mutant) {
    of = original;
    spoilt = *original;
    spoilt.name = names[mutant];
    switch (mutant) {
    case 1: spoilt.malloc = malloc_again, spoilt.free = free_held, spoilt.realloc = realloc_held; break;
    case 2: spoilt.malloc = malloc_middle, spoilt.usable = usable_inner, spoilt.free = free_held, spoilt.realloc = realloc_held; break;
    case 3: spoilt.realloc = realloc_loses; break;
    case 4: spoilt.realloc = realloc_loses_end; break;
    case 5: spoilt.memalign = memalign_misaligns; break;
    case 6: spoilt.malloc = malloc_misaligns, spoilt.usable = usable_or_0; break;
    case 7: spoilt.calloc = calloc_dirty; break;
    case 8: spoilt.malloc = malloc_fails; break;
    case 9: spoilt.malloc = malloc_no_errno; break;
    case 10: spoilt.malloc = malloc_noting, spoilt.free = free_and_write, spoilt.realloc = realloc_held; break;
    case 11: spoilt.free = free_errno; break;
    case 12: spoilt.usable = usable_large; break;
    case 13: spoilt.usable = usable_small; break;
    case 14: spoilt.malloc = malloc_huge; break;
    default: abort();
    }
    return &spoilt;
}
