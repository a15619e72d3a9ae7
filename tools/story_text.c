/* story_text.c: the story on a terminal or in a file: for each step a title, a bar of the heap and of mapped blocks to one scale, the pages that are
 * in memory, brk, the chunks, and what is to be seen.
 *
 *   5  D = malloc(100 K)
 *      |A  |B   |D             |top             |      |C                         |     the heap, and what was mapped apart
 *      #########################................+      ############################     pages in memory
 *      ^start_brk                               ^brk = start_brk + 300 K
 *
 * UTF-8 and colours only for a terminal that has them, and no colours under NO_COLOR.
 * SPDX-License-Identifier: MIT */
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "story.h"

enum { INDENT = 4, GAP = 4, MIN_COLUMNS = 60, MAX_COLUMNS = 160 };

/* A canvas line: for each column a fill or a letter, and a style. */
enum style { PLAIN, USED, MAPPED, FREE, TOP, OTHER, STYLES };
struct cell {
    const char *glyph;
    char letter; /* instead of the glyph */
    enum style style;
};

struct look {
    FILE *out;
    bool unicode, colour;
    unsigned columns;
    double bytes_per_column;
    unsigned mapped_at; /* column where the mapping area begins */
};

static const char *const colours[STYLES] = {
    [PLAIN] = "", [USED] = "\033[97;44m", [MAPPED] = "\033[30;43m", [FREE] = "\033[36m", [TOP] = "\033[2m", [OTHER] = "\033[97;45m",
};

static unsigned terminal_columns(int fd) {
    struct winsize size;
    const char *named = getenv("COLUMNS");
    unsigned columns = named ? (unsigned)strtoul(named, NULL, 10) : 0;
    if (!columns && ioctl(fd, TIOCGWINSZ, &size) == 0) columns = size.ws_col;
    if (!columns) columns = 100;
    return columns < MIN_COLUMNS ? MIN_COLUMNS : columns > MAX_COLUMNS ? MAX_COLUMNS : columns;
}

static void look_init(struct look *look, FILE *out, const struct story *story) {
    const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
    bool terminal = isatty(fileno(out)) == 1;
    setlocale(LC_CTYPE, "");
    look->out = out;
    look->unicode = terminal && strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    look->colour = terminal && !(no_color && no_color[0]) && term && strcmp(term, "dumb") != 0;
    look->columns = terminal_columns(fileno(out));
    uint64_t heap = tell_heap_max(story), bytes = heap + tell_mapped_max(story);
    unsigned room = look->columns - INDENT - GAP - 3;
    look->bytes_per_column = bytes ? (double)bytes / room : 1;
    look->mapped_at = (unsigned)((double)heap / look->bytes_per_column + 1) + GAP;
}

static unsigned column(const struct look *look, uint64_t bytes) { return (unsigned)((double)bytes / look->bytes_per_column + 0.5); }

static void put_cells(const struct look *look, const struct cell *cells, unsigned count) {
    enum style style = PLAIN;
    while (count && cells[count - 1].letter == ' ' && cells[count - 1].style == PLAIN) count--;
    if (count) fprintf(look->out, "%*s", INDENT, "");
    for (unsigned i = 0; i < count; i++) {
        if (look->colour && cells[i].style != style) fprintf(look->out, "\033[0m%s", colours[cells[i].style]);
        style = cells[i].style;
        if (cells[i].letter)
            putc(cells[i].letter, look->out);
        else
            fputs(cells[i].glyph, look->out);
    }
    fputs(look->colour && style != PLAIN ? "\033[0m\n" : "\n", look->out);
}

static void clear(struct cell *cells, unsigned count) {
    for (unsigned i = 0; i < count; i++) cells[i] = (struct cell){"", ' ', PLAIN};
}

static enum style style_of(const struct story_chunk *chunk, const char *name) {
    if (strcmp(name, "other") == 0) return OTHER;
    if (chunk->state == SEEMALLOC_IN_USE) return USED;
    if (tell_is_mapped(chunk)) return MAPPED;
    return chunk->state == SEEMALLOC_TOP ? TOP : FREE;
}

/* Draws [from, to) as one chunk: a bar at its left edge, the longest label that fits, and a fill that tells its state without colours too. */
static void draw_chunk(const struct look *look, struct cell *cells, unsigned from, unsigned to, const struct story_chunk *chunk,
                       const char *name) {
    static const struct {
        const char *ascii, *unicode;
    } fills[STYLES] = {[USED] = {"=", " "}, [MAPPED] = {"=", " "}, [FREE] = {".", "░"}, [TOP] = {" ", " "}, [OTHER] = {"x", " "}};
    enum style style = style_of(chunk, name);
    char label[TELL_LINE], size[TELL_SIZE];
    for (unsigned i = from; i < to; i++) {
        const char *fill = look->unicode && look->colour   ? fills[style].unicode
                           : look->unicode && style != TOP ? (style == FREE ? "░" : "▒")
                                                           : fills[style].ascii;
        cells[i] = (struct cell){i > from ? fill : look->unicode ? "│" : "|", 0, style};
    }
    unsigned room = to > from + 1 ? to - from - 1 : 0;
    if ((unsigned)snprintf(label, sizeof label, strchr(name, ',') ? " %s, %s " : " %s %s ", name, tell_size(size, chunk->size)) > room &&
        (unsigned)snprintf(label, sizeof label, " %.*s %s ", (int)strcspn(name, ","), name, size) > room &&
        (unsigned)snprintf(label, sizeof label, "%.*s", (int)strcspn(name, ","), name) > room)
        label[0] = '\0';
    unsigned start = from + 1 + (room - (unsigned)strlen(label)) / 2;
    for (unsigned i = 0; label[i]; i++) cells[start + i].letter = label[i];
}

static void draw_bar(const struct look *look, const struct story_step *step) {
    struct cell cells[MAX_COLUMNS + 8];
    char name[TELL_LINE];
    unsigned mapped = look->mapped_at;
    clear(cells, MAX_COLUMNS + 8);
    for (uint32_t i = 0; i < step->chunk_count; i++) {
        const struct story_chunk *chunk = &step->chunks[i];
        bool apart = step->regions[chunk->region].kind != SEEMALLOC_REGION_BRK;
        unsigned from = apart ? mapped : column(look, chunk->chunk - step->start_brk);
        unsigned to = apart ? mapped + column(look, chunk->size) : column(look, chunk->chunk + chunk->size - step->start_brk);
        if (to <= from) to = from + 1; /* thinner than a column */
        if (to > MAX_COLUMNS) to = MAX_COLUMNS;
        if (from < to) draw_chunk(look, cells, from, to, chunk, tell_chunk(name, step, chunk));
        if (apart) mapped = to;
    }
    unsigned end = column(look, step->brk - step->start_brk);
    cells[end] = (struct cell){look->unicode ? "┃" : "|", 0, PLAIN};
    if (mapped > look->mapped_at) cells[mapped] = (struct cell){look->unicode ? "│" : "|", 0, PLAIN};
    put_cells(look, cells, MAX_COLUMNS + 8);
}

/* For each column whether the pages behind it are in memory: all, some, none. */
static void draw_pages(const struct look *look, const struct story_step *step) {
    struct cell cells[MAX_COLUMNS + 8];
    clear(cells, MAX_COLUMNS + 8);
    for (int apart = 0; apart < 2; apart++) {
        const struct story_span *span = apart ? &step->mapped : &step->heap;
        unsigned first = apart ? look->mapped_at : 0, count = column(look, span->end - span->start);
        for (unsigned i = 0; i < count && first + i < MAX_COLUMNS; i++) {
            uint32_t from = (uint32_t)((double)i * look->bytes_per_column / (double)step->page_size), in = 0;
            uint32_t to = (uint32_t)((double)(i + 1) * look->bytes_per_column / (double)step->page_size);
            to = to > span->pages ? span->pages : to <= from ? from + 1 : to;
            for (uint32_t page = from; page < to; page++) in += story_page(span, page);
            bool all = in && in == to - from;
            const char *glyph = look->unicode ? (all ? "▀" : in ? "▘" : "·") : all ? "#" : in ? "+" : ".";
            cells[first + i] = (struct cell){glyph, 0, PLAIN};
        }
    }
    put_cells(look, cells, MAX_COLUMNS + 8);
}

static void draw_brk(const struct look *look, const struct story_step *step) {
    unsigned at = column(look, step->brk - step->start_brk);
    char size[TELL_SIZE];
    const char *mark = look->unicode ? "▲" : "^";
    fprintf(look->out, "%*s%s", INDENT, "", mark);
    if (step->brk == step->start_brk)
        fprintf(look->out, "start_brk = brk\n");
    else if (at > 10)
        fprintf(look->out, "start_brk%*s%sbrk, %s above start_brk\n", (int)at - 10, "", mark, tell_size(size, step->brk - step->start_brk));
    else
        fprintf(look->out, "start_brk, brk %s above it\n", tell_size(size, step->brk - step->start_brk));
}

static void put_chunks(const struct look *look, const struct story_step *step) {
    char name[TELL_LINE], size[TELL_SIZE];
    for (uint32_t i = 0; i < step->chunk_count; i++) {
        const struct story_chunk *chunk = &step->chunks[i];
        fprintf(look->out, "%*s0x%llx  %8s  %8llu bytes  %3llu page%s resident  %-9s  %s\n", INDENT, "", (unsigned long long)chunk->chunk,
                tell_size(size, chunk->size), (unsigned long long)chunk->size, (unsigned long long)chunk->resident,
                chunk->resident == 1 ? " " : "s", step->state_names[chunk->state], tell_chunk(name, step, chunk));
    }
}

/* `text` with lines broken at blanks. */
static void put_wrapped(const struct look *look, const char *text) {
    unsigned width = look->columns - INDENT;
    while (*text) {
        size_t length = strlen(text);
        if (length > width)
            for (length = width; length > 1 && text[length] != ' '; length--)
                ;
        fprintf(look->out, "%*s%.*s\n", INDENT, "", (int)length, text);
        text += length;
        text += strspn(text, " ");
    }
}

static void put_facts(const struct look *look, const struct story_step *step) {
    char line[1024], calls[TELL_TEXT];
    char sizes[4][TELL_SIZE];
    snprintf(line, sizeof line, "virtual: heap %s + mapped %s | resident: %s + %s | %llu minor fault%s | %s",
             tell_size(sizes[0], tell_virtual(step, false)), tell_size(sizes[1], tell_virtual(step, true)),
             tell_size(sizes[2], tell_resident(step, false)), tell_size(sizes[3], tell_resident(step, true)),
             (unsigned long long)step->minor_faults, step->minor_faults == 1 ? "" : "s", tell_calls(calls, step));
    put_wrapped(look, line);
}

void story_text(FILE *out, const struct story *story) {
    struct look look;
    const struct story_step *first = &story->steps[0];
    char title[TELL_LINE], what[TELL_TEXT];
    look_init(&look, out, story);
    fprintf(out, "The story of a heap, played on seemalloc %s\n", first->version);
    snprintf(what, sizeof what,
             "Text at 0x%llx, data at 0x%llx, heap from start_brk 0x%llx up to brk, mapping area above it, stack from 0x%llx down.",
             (unsigned long long)first->start_code, (unsigned long long)first->start_data, (unsigned long long)first->start_brk,
             (unsigned long long)first->start_stack);
    put_wrapped(&look, what);
    snprintf(what, sizeof what,
             "Bar: the heap and, apart from it, what is mapped, to one scale. Below: pages that are in memory (%s), partly (%s), not (%s).",
             look.unicode ? "▀" : "#", look.unicode ? "▘" : "+", look.unicode ? "·" : ".");
    put_wrapped(&look, what);
    for (unsigned i = 1; i <= STORY_STEPS; i++) {
        const struct story_step *step = &story->steps[i - 1];
        fprintf(out, "\n%s%2u  %s%s\n", look.colour ? "\033[1m" : "", i, tell_title(title, &story_acts[i - 1]),
                look.colour ? "\033[0m" : "");
        draw_bar(&look, step);
        draw_pages(&look, step);
        draw_brk(&look, step);
        put_wrapped(&look, tell_what(what, story, i));
        put_facts(&look, step);
        put_chunks(&look, step);
    }
}
