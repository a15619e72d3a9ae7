/* abuse.h: what every misuse program shares.
 *
 * One source per family of misuse; a source is a table of cases. Called without arguments a program is the runner: it starts itself once per
 * case, in a child of its own with the library preloaded, and holds what the child did against the case. Called with --case NAME it is that
 * child: it announces the addresses involved on stdout (about) and commits the misuse.
 * SPDX-License-Identifier: MIT */
#ifndef ABUSE_H
#define ABUSE_H

#include "seemalloc.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum abuse_flags {
    ABUSE_CACHE_OFF = 1,  /* run with tcache_max:0, so that a free reaches the arena */
    ABUSE_SEGV_OK = 2,    /* the address may be unmapped by now: the kernel's SIGSEGV is as good an answer */
    ABUSE_SURVIVE_OK = 4, /* an attack: harmless survival is as good as the message */
    ABUSE_SURVIVE = 8,    /* correct use that looks like misuse: only survival will do */
    ABUSE_SEAL = 16,      /* a forged seal matches by chance once in 65536/arenas: one more try in a new process (new secrets) */
    ABUSE_ARENAS = 32,    /* run with one arena only, so that threads share it */
    ABUSE_ANY = 64,       /* an attack in several steps: it may be stopped at any of them, with any of glibc's messages */
};

struct abuse_case {
    const char *name;
    void (*run)(void);
    unsigned flags;
    const char *expect[8]; /* the first line that may appear; several where the order of checks decides */
};

/* The program's table, ended by a case without name. */
extern const struct abuse_case abuse_cases[];

/* malloc and the rest through pointers that the compiler can't see through: neither removed, nor warned about. */
extern void *(*volatile take)(size_t);
extern void *(*volatile take_aligned)(size_t, size_t);
extern void *(*volatile retake)(void *, size_t);
extern void (*volatile give)(void *);

/* Announces an address that the second line of the message should name (as given, or the chunk's, 16 below). */
void about(const void *p);
/* Ends the child: the misuse did no harm. */
_Noreturn void survived(void);
/* Ends the child: the misuse gave an attacker what he wanted. */
_Noreturn void attack_won(const char *what);
/* Ends the child: the situation that the case needs could not be made. */
_Noreturn void not_reached(const char *what);

/* ---- the heap as the library's own walk shows it ---- */

/* Finds the chunk that starts at mem, false if no chunk starts there. */
bool find_chunk(const void *mem, struct seemalloc_chunk *out);
/* Finds the first chunk of the main arena in this state. */
bool find_state(enum seemalloc_state state, struct seemalloc_chunk *out);
/* The state of the chunk that starts at mem; ends the child if none does. */
enum seemalloc_state state_of(const void *mem);
/* Ends the child unless mem is in one of the two states. */
void need_state(const void *mem, enum seemalloc_state a, enum seemalloc_state b);

static inline size_t chunk_bytes(size_t request) {
    size_t n = (request + 8 + 15) & ~(size_t)15;
    return n < 32 ? 32 : n;
}

/* The header word of a chunk: seal, size and flags. */
static inline uint64_t *head_of(void *mem) { return (uint64_t *)mem - 1; }

/* Count blocks of the same size that follow each other in memory; ends the child if the allocator does not hand them out so. */
void adjacent(size_t request, void **blocks, int count);

#endif
