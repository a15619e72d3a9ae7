/* story.h: what a picture of the story is made of.
 *
 * The player (story_play.c) runs on seemalloc in a process of its own, does one step after the other, reads its heap after each, and writes one
 * struct story_step to its standard output, whole. The teller (story.c) collects them and draws them as text, SVG or JSON. Nothing that is drawn
 * comes from anywhere but these records, except the titles, which say what the program did.
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_STORY_H
#define SEEMALLOC_TOOL_STORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "seemalloc.h"

enum { STORY_STEPS = 9, STORY_BLOCKS = 4, STORY_CHUNKS = 256, STORY_REGIONS = 16, STORY_PAGES = 4096, STORY_NAME = 24 };

enum story_operation { STORY_START, STORY_MALLOC, STORY_FREE, STORY_FREE_UNTRIMMED, STORY_TRIM };

/* What the program does: the only part that is written down in advance. */
struct story_act {
    enum story_operation operation;
    char letter;  /* of the block; 0 if none */
    size_t bytes; /* asked for */
};
extern const struct story_act story_acts[STORY_STEPS];

struct story_block { /* a block of the program, by its letter: blocks[letter - 'A'] */
    uint64_t address;
    uint64_t bytes;
    bool known; /* was allocated at some time */
    bool live;
};

struct story_chunk {
    uint64_t chunk, mem, size;
    uint64_t resident; /* pages that it lies in, wholly or in part, and that are in memory */
    uint32_t flags;
    int32_t bin;
    int32_t state;
    uint32_t region;
};

struct story_region {
    uint64_t start, end;
    int32_t kind;
    uint32_t pages, resident;
};

/* The pages of [start, end), rounded to whole pages, as the kernel's page table has them. */
struct story_span {
    uint64_t start, end;
    uint32_t pages, resident;
    uint8_t in_memory[STORY_PAGES / 8];
};

struct story_step {
    uint64_t magic;
    uint32_t size; /* of this struct */
    uint32_t number;
    char version[32]; /* of the library */
    char fault[160];  /* what went wrong in the player; empty if nothing */
    char state_names[SEEMALLOC_STATE_COUNT][STORY_NAME], call_names[SEEMALLOC_CALL_COUNT][STORY_NAME]; /* as the library has them */

    uint64_t page_size;
    uint64_t start_code, end_code, start_data, end_data, start_brk, start_stack; /* as the kernel keeps them */
    uint64_t brk;                                                                /* sbrk(0) */
    uint64_t mappings;                                                           /* lines of /proc/self/maps */

    uint64_t minor_faults, major_faults;     /* of this step's act alone */
    uint64_t calls[SEEMALLOC_CALL_COUNT];    /* likewise; of the first step: since the process began */
    uint64_t trim_threshold, mmap_threshold; /* in force now */
    struct story_block blocks[STORY_BLOCKS];

    struct story_span heap;   /* from start_brk to brk */
    struct story_span mapped; /* of the last mapped block, if there is one */
    uint32_t region_count, chunk_count;
    struct story_region regions[STORY_REGIONS];
    struct story_chunk chunks[STORY_CHUNKS];
};

#define STORY_MAGIC UINT64_C(0x79726f74734d5353)

struct story {
    const char *library;
    struct story_step *steps; /* STORY_STEPS of them */
};

static inline bool story_page(const struct story_span *span, uint32_t page) { return span->in_memory[page / 8] >> page % 8 & 1; }

/* story_tell.c: words and figures */
enum { TELL_SIZE = 24, TELL_LINE = 160, TELL_TEXT = 640 };
const char *tell_size(char out[TELL_SIZE], uint64_t bytes);                                         /* "30 K", "132.5 K" */
const char *tell_title(char out[TELL_LINE], const struct story_act *act);                           /* "A = malloc(30 K)" */
const char *tell_chunk(char out[TELL_LINE], const struct story_step *, const struct story_chunk *); /* "A", "free, was B", "top" */
const char *tell_calls(char out[TELL_TEXT], const struct story_step *);                             /* "1 brk grow", "no system call" */
const char *tell_what(char out[TELL_TEXT], const struct story *, unsigned number);                  /* what the figures show, in words */
uint64_t tell_virtual(const struct story_step *, bool mapped);                                      /* bytes */
uint64_t tell_resident(const struct story_step *, bool mapped);
const struct story_chunk *tell_block(const struct story_step *, char letter); /* the chunk of a live block; NULL if the walk has none */
bool tell_is_mapped(const struct story_chunk *);
uint64_t tell_heap_max(const struct story *); /* the widest picture: bytes of the heap, and of mapped blocks */
uint64_t tell_mapped_max(const struct story *);

/* the pictures */
void story_text(FILE *out, const struct story *);
void story_json(FILE *out, const struct story *);
bool story_svg(const char *folder, const struct story *); /* false after a message */

#endif
