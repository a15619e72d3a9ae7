/* symbols.h: what the addresses of a recording are: function, file and line, by elfutils' libdw from the files that were mapped, if they are still those that
 * ran. Where nothing is known, a frame is named by file and offset. Each address is looked up once. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_SYMBOLS_H
#define SEEMALLOC_READER_SYMBOLS_H

#include "reader/replay.h"

struct symbol_frame {
    uint32_t function, file; /* texts; file 0: not known */
    uint32_t module;         /* of the recording, or REPLAY_NO_MODULE */
    uint32_t line;           /* 0: not known */
    bool is_inlined;         /* into the next one */
    bool is_known;           /* function is a name, not a file and an offset */
};

struct symbol_place { /* one address */
    uint64_t address;
    uint32_t module;
    size_t first, count; /* of its frames, innermost first; one at least */
};

enum symbol_state { SYMBOLS_UNUSED, SYMBOLS_FOUND, SYMBOLS_NO_FILE, SYMBOLS_OTHER_FILE, SYMBOLS_NONE };

struct symbols {
    const struct replay *replay;
    struct symbol_frame *frames;
    size_t frame_count, frame_room;
    struct symbol_place *places;
    size_t place_count, place_room;
    char **texts; /* [0] is "" */
    size_t text_count, text_room;
    struct lookup by_address, by_text;
    struct debug_file **files; /* by module */
    enum symbol_state *states; /* by module */
    uint32_t *file_of;         /* by module: the first module of the same file */
    char *(*demangle)(const char *name, char *room, size_t *size, int *status);
};

void symbols_open(struct symbols *symbols, const struct replay *replay);
void symbols_close(struct symbols *symbols);

/* The place of address `index` (of `replay->addresses`) of a stack. */
uint32_t symbols_place(struct symbols *symbols, const struct replay_stack *stack, size_t index);

/* The number of a text, which is copied. */
uint32_t symbols_text(struct symbols *symbols, const char *text);

#endif
