/* story_svg.c: the story as pictures: one SVG a step and a sheet with all nine, one above the other, so that brk can be followed down the page.
 *
 * Everything is to one scale over all nine. A row is a title with its figures, the bar of the heap with the mapping area apart, a cell for each page
 * (filled: in memory), brk, and what is to be seen. Widths of text can't be measured here, so they are estimated for a wide font, and a label that
 * might not fit is left to the tooltip. The colours are Okabe and Ito's, and hatching tells the states apart without them.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "story.h"
#include "tool.h"

enum { WIDTH = 960, MARGIN = 24, INNER = WIDTH - 2 * MARGIN, GAP = 70, HEADER = 84, LEGEND = 76, LINE_HEIGHT = 19 };
enum {
    BAR_Y = 34,
    BAR_HEIGHT = 36,
    PAGES_Y = BAR_Y + BAR_HEIGHT + 5,
    PAGES_HEIGHT = 8,
    MARK_Y = PAGES_Y + PAGES_HEIGHT + 17,
    TEXT_Y = MARK_Y + 24
};
enum { ROW_SPACE = 30 };

struct canvas {
    FILE *out;
    const struct story *story;
    double scale;    /* points per byte */
    double mapped_x; /* where the mapping area begins */
};

static const char style[] =
    "<style>\n"
    "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;font-size:13.5px;fill:#1f2328}\n"
    ".bg{fill:#fff;stroke:#d1d9e0}.h1{font-size:22px;font-weight:600}.h2{font-size:17px;font-weight:600}.muted,.fact{fill:#59636e}.fact{"
    "font-size:12.5px}\n"
    ".num{fill:#1f2328}.numt{fill:#fff;font-weight:600;text-anchor:middle}.end{text-anchor:end}.mid{text-anchor:middle}.lab{font-weight:"
    "600;font-size:13px}\n"
    ".small{font-size:12px}.base{stroke:#d1d9e0;stroke-width:1.5}.rule{stroke:#d1d9e0}.edge{stroke:#fff;stroke-width:1}\n"
    ".used{fill:#0072b2}.usedt{fill:#fff}.mapped{fill:#e69f00}.mappedt{fill:#201500}.other{fill:#cc79a7}.othert{fill:#200015}\n"
    ".free{fill:url(#hatch)}.hatchbg{fill:#eaf3f9}.hatch{stroke:#a5cbe3;stroke-width:2}.freet{fill:#0b3d5c}.top{fill:#eef0f2}.topt{fill:#"
    "4a535c}\n"
    ".outline{fill:none;stroke:#8a939c}.merged{fill:none;stroke:#8a939c;stroke-width:1.5}.in{fill:#009e73}.out{fill:none;stroke:#b8c0c8;"
    "stroke-width:.8}\n"
    ".brk{stroke:#c04c00;stroke-width:2.5}.brkt{fill:#b04500;font-weight:600}\n"
    "@media (prefers-color-scheme:dark){\n"
    "text{fill:#e6edf3}.bg{fill:#0d1117;stroke:#3d444d}.muted,.fact{fill:#9aa4ae}.num{fill:#e6edf3}.numt{fill:#0d1117}.base{stroke:#3d444d}"
    ".rule{stroke:#3d444d}\n"
    ".edge{stroke:#0d1117}.used{fill:#1f78b8}.usedt{fill:#fff}.mappedt{fill:#201500}.othert{fill:#200015}.hatchbg{fill:#10202d}.hatch{"
    "stroke:#2b5775}\n"
    ".freet{fill:#d5e9f7}.top{fill:#1d232b}.topt{fill:#b3bcc5}.outline,.merged{stroke:#6b747d}.in{fill:#20b68b}.out{stroke:#4b535c}.brk{"
    "stroke:#"
    "ff8a47}.brkt{fill:#ff9d63}\n"
    "}\n"
    "</style>\n"
    "<defs><pattern id=\"hatch\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">"
    "<rect class=\"hatchbg\" width=\"8\" height=\"8\"/><path class=\"hatch\" d=\"M0 0V8\"/></pattern></defs>\n";

static void put_text(FILE *out, const char *text, size_t length) {
    for (size_t i = 0; i < length && text[i]; i++) {
        switch (text[i]) {
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '&': fputs("&amp;", out); break;
        default: putc(text[i], out);
        }
    }
}

static void put_label(FILE *out, double x, double y, const char *class, const char *text) {
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", x, y, class);
    put_text(out, text, SIZE_MAX);
    fputs("</text>\n", out);
}

/* An upper estimate of the width of `length` characters. */
static double text_width(size_t length, double font_size) { return (double)length * font_size * 0.6; }

/* ---- one row ---- */

static const char *class_of(const struct story_chunk *chunk, const char *name) {
    if (strcmp(name, "other") == 0) return "other";
    if (chunk->state == SEEMALLOC_IN_USE) return "used";
    if (tell_is_mapped(chunk)) return "mapped";
    return chunk->state == SEEMALLOC_TOP ? "top" : "free";
}

/* The chunk's name and size around its middle: whole if they fit, else without what it was, else on two lines, else the name alone, else nothing. */
static void draw_label(FILE *out, double x, double y, double room, const char *kind, const char *name, const char *size) {
    enum { FONT = 13 };
    char label[TELL_LINE + TELL_SIZE + 4], class[32];
    int brief = (int)strcspn(name, ",");
    snprintf(class, sizeof class, "mid lab %st", kind);
    snprintf(label, sizeof label, name[brief] ? "%s, %s" : "%s %s", name, size);
    if (text_width(strlen(label), FONT) > room) snprintf(label, sizeof label, "%.*s %s", brief, name, size);
    if (text_width(strlen(label), FONT) <= room) {
        put_label(out, x, y + 5, class, label);
        return;
    }
    snprintf(label, sizeof label, "%.*s", brief, name);
    bool both = text_width(strlen(size), FONT) <= room;
    if (text_width(strlen(label), FONT) > room) return;
    put_label(out, x, both ? y - 3 : y + 5, class, label);
    if (both) put_label(out, x, y + 13, class, size);
}

static void draw_chunk(const struct canvas *canvas, const struct story_step *step, const struct story_chunk *chunk, double x, double y) {
    char name[TELL_LINE], size[TELL_SIZE];
    double width = (double)chunk->size * canvas->scale;
    const char *kind = class_of(chunk, tell_chunk(name, step, chunk));
    tell_size(size, chunk->size);
    fprintf(canvas->out, "<g><title>");
    put_text(canvas->out, name, SIZE_MAX);
    fprintf(canvas->out, ": %llu bytes, %s, %llu page%s in memory</title>", (unsigned long long)chunk->size,
            step->state_names[chunk->state], (unsigned long long)chunk->resident, chunk->resident == 1 ? "" : "s");
    fprintf(canvas->out, "<rect class=\"%s\" x=\"%.3f\" y=\"%.1f\" width=\"%.3f\" height=\"%d\" data-state=\"%s\" data-size=\"%llu\"/>",
            kind, x, y + BAR_Y, width, BAR_HEIGHT, step->state_names[chunk->state], (unsigned long long)chunk->size);
    fprintf(canvas->out, "<rect class=\"outline\" x=\"%.3f\" y=\"%.1f\" width=\"%.3f\" height=\"%d\"/>", x, y + BAR_Y, width, BAR_HEIGHT);

    draw_label(canvas->out, x + width / 2, y + BAR_Y + BAR_HEIGHT / 2.0, width - 4, kind, name, size);
    fprintf(canvas->out, "</g>\n");
}

/* Notches where the picture before had borders that are inside a chunk now: what has merged. */
static void draw_merged(const struct canvas *canvas, const struct story_step *last, const struct story_chunk *chunk, double x, double y) {
    for (uint32_t i = 0; i < last->chunk_count; i++) {
        uint64_t offset = last->chunks[i].chunk - chunk->chunk;
        if (offset == 0 || offset >= chunk->size) continue;
        fprintf(canvas->out, "<g><title>two chunks merged here</title><path class=\"merged\" d=\"M%.3f %.1fv8m0 %dv8\"/></g>\n",
                x + (double)offset * canvas->scale, y + BAR_Y, BAR_HEIGHT - 16);
    }
}

static void draw_pages(const struct canvas *canvas, const struct story_step *step, const struct story_span *span, double x, double y) {
    double width = (double)step->page_size * canvas->scale;
    double first = x - (double)(span->start % step->page_size) * canvas->scale; /* a break inside a page */
    if (!span->pages) return;
    fprintf(canvas->out, "<g><title>%u of %u pages in memory</title>", span->resident, span->pages);
    for (uint32_t i = 0; i < span->pages; i++)
        fprintf(canvas->out, "<rect class=\"%s\" x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%d\"/>", story_page(span, i) ? "in" : "out",
                first + i * width + 0.6, y + PAGES_Y, width - 1.2, PAGES_HEIGHT);
    fprintf(canvas->out, "</g>\n");
}

static void draw_bars(const struct canvas *canvas, const struct story_step *step, double y) {
    double mapped = canvas->mapped_x;
    fprintf(canvas->out, "<path class=\"base\" d=\"M%d %.1fH%.1fM%.1f %.1fH%d\"/>\n", MARGIN, y + BAR_Y + BAR_HEIGHT,
            MARGIN + (double)tell_heap_max(canvas->story) * canvas->scale, canvas->mapped_x, y + BAR_Y + BAR_HEIGHT, WIDTH - MARGIN);
    for (uint32_t i = 0; i < step->chunk_count; i++) {
        const struct story_chunk *chunk = &step->chunks[i];
        bool apart = step->regions[chunk->region].kind != SEEMALLOC_REGION_BRK;
        double x = apart ? mapped : MARGIN + (double)(chunk->chunk - step->start_brk) * canvas->scale;
        draw_chunk(canvas, step, chunk, x, y);
        if (step->number > 1 && !apart) draw_merged(canvas, step - 1, chunk, x, y);
        mapped += apart ? (double)chunk->size * canvas->scale : 0;
    }
    draw_pages(canvas, step, &step->heap, MARGIN, y);
    draw_pages(canvas, step, &step->mapped, canvas->mapped_x, y);
}

static void draw_brk(const struct canvas *canvas, const struct story_step *step, double y) {
    char label[TELL_LINE], size[TELL_SIZE];
    uint64_t heap = step->brk - step->start_brk;
    double x = MARGIN + (double)heap * canvas->scale;
    fprintf(canvas->out, "<path class=\"brk\" d=\"M%.3f %dV%d\" transform=\"translate(0 %.1f)\" data-brk=\"%llu\"/>\n", x, BAR_Y - 5,
            PAGES_Y + PAGES_HEIGHT + 3, y, (unsigned long long)heap);
    if (heap == 0) {
        put_label(canvas->out, MARGIN, y + MARK_Y, "small brkt", "brk = start_brk");
    } else {
        snprintf(label, sizeof label, "brk = start_brk + %s", tell_size(size, heap));
        bool beside = x < MARGIN + text_width(strlen(label) + 12, 12); /* no room for it left of the mark, after "start_brk" */
        put_label(canvas->out, MARGIN, y + MARK_Y, "small muted", "start_brk");
        put_label(canvas->out, beside ? (x > MARGIN + 70 ? x : MARGIN + 70) : x, y + MARK_Y, beside ? "small brkt" : "small brkt end",
                  label);
    }
    put_label(canvas->out, canvas->mapped_x, y + MARK_Y, "small muted",
              tell_virtual(step, true) ? "mapping area" : "mapping area: no block");
}

/* Breaks `text` into lines at blanks; draws them from `y` on if `out`; returns their number. */
static unsigned draw_text(FILE *out, const char *text, double y) {
    enum { COLUMNS = 122 };
    unsigned lines = 0;
    while (*text) {
        size_t length = strlen(text);
        if (length > COLUMNS)
            for (length = COLUMNS; length > 1 && text[length] != ' '; length--)
                ;
        if (out) {
            fprintf(out, "<text x=\"%d\" y=\"%.1f\">", MARGIN, y + lines * LINE_HEIGHT);
            put_text(out, text, length);
            fputs("</text>\n", out);
        }
        lines++;
        text += length + strspn(text + length, " ");
    }
    return lines;
}

static double row_height(const struct story *story, unsigned number) {
    char what[TELL_TEXT];
    return TEXT_Y + draw_text(NULL, tell_what(what, story, number), 0) * LINE_HEIGHT + ROW_SPACE - LINE_HEIGHT;
}

static void draw_row(const struct canvas *canvas, unsigned number, double y) {
    const struct story_step *step = &canvas->story->steps[number - 1];
    char text[TELL_TEXT], calls[TELL_TEXT], size[2][TELL_SIZE];
    fprintf(canvas->out, "<g role=\"group\" aria-label=\"Picture %u\" data-step=\"%u\">\n", number, number);
    fprintf(canvas->out, "<circle class=\"num\" cx=\"%d\" cy=\"%.1f\" r=\"12\"/>", MARGIN + 12, y + 12);
    fprintf(canvas->out, "<text class=\"numt\" x=\"%d\" y=\"%.1f\">%u</text>\n", MARGIN + 12, y + 17, number);
    put_label(canvas->out, MARGIN + 34, y + 18, "h2", tell_title(text, &story_acts[number - 1]));
    snprintf(text, sizeof text, "%s virtual  ·  %s resident  ·  %llu page fault%s  ·  %.400s",
             tell_size(size[0], tell_virtual(step, false) + tell_virtual(step, true)),
             tell_size(size[1], tell_resident(step, false) + tell_resident(step, true)), (unsigned long long)step->minor_faults,
             step->minor_faults == 1 ? "" : "s", tell_calls(calls, step));
    put_label(canvas->out, WIDTH - MARGIN, y + 18, "fact end", text);
    draw_bars(canvas, step, y);
    draw_brk(canvas, step, y);
    draw_text(canvas->out, tell_what(text, canvas->story, number), y + TEXT_Y);
    fprintf(canvas->out, "</g>\n");
}

/* ---- whole pictures ---- */

static void draw_legend(FILE *out, double y) {
    static const struct {
        const char *class, *text;
        int width; /* of the entry */
    } entries[] = {{"used", "in use", 96},    {"mapped", "mapped apart", 142}, {"free", "free, kept", 122},
                   {"top", "top chunk", 122}, {"in", "page in memory", 152},   {"out", "page not in memory", 182}};
    double x = MARGIN;
    fprintf(out, "<g role=\"group\" aria-label=\"Legend\"><path class=\"rule\" d=\"M%d %.1fH%d\"/>\n", MARGIN, y, WIDTH - MARGIN);
    for (size_t i = 0; i < sizeof entries / sizeof *entries; i++) {
        bool page = i >= 4;
        fprintf(out, "<rect class=\"%s\" x=\"%.1f\" y=\"%.1f\" width=\"%d\" height=\"%d\"/>", entries[i].class, x, y + (page ? 22 : 18),
                page ? 10 : 22, page ? 8 : 16);
        if (!page) fprintf(out, "<rect class=\"outline\" x=\"%.1f\" y=\"%.1f\" width=\"22\" height=\"16\"/>", x, y + 18);
        put_label(out, x + (page ? 17 : 29), y + 31, "small", entries[i].text);
        x += entries[i].width;
    }
    fprintf(out, "<path class=\"brk\" d=\"M%.1f %.1fv20\"/>", x + 2, y + 16);
    put_label(out, x + 11, y + 31, "small", "brk");
    fprintf(out, "</g>\n");
}

static void open_svg(FILE *out, double height, const char *title, const char *description) {
    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %.0f\" width=\"%d\" height=\"%.0f\" role=\"img\" "
            "aria-labelledby=\"t d\">\n",
            WIDTH, height, WIDTH, height);
    fputs("<title id=\"t\">", out);
    put_text(out, title, SIZE_MAX);
    fputs("</title>\n<desc id=\"d\">", out);
    put_text(out, description, SIZE_MAX);
    fputs("</desc>\n", out);
    fputs(style, out);
    fprintf(out, "<rect class=\"bg\" x=\".5\" y=\".5\" width=\"%d\" height=\"%.0f\" rx=\"8\"/>\n", WIDTH - 1, height - 1);
}

static void draw_header(const struct canvas *canvas) {
    char text[TELL_LINE];
    put_label(canvas->out, MARGIN, 42, "h1", "The story of a heap");
    snprintf(text, sizeof text,
             "Played on seemalloc %s with its thread cache off; every figure was read from the running process. All to one scale.",
             canvas->story->steps[0].version);
    put_label(canvas->out, MARGIN, 65, "muted", text);
}

static void draw_sheet(struct canvas *canvas) {
    char description[STORY_STEPS * (TELL_TEXT + TELL_LINE)] = "", title[TELL_LINE], what[TELL_TEXT];
    double height = HEADER + LEGEND, y = HEADER + 10;
    for (unsigned i = 1; i <= STORY_STEPS; i++) {
        size_t used = strlen(description);
        snprintf(description + used, sizeof description - used, "%u. %s: %s ", i, tell_title(title, &story_acts[i - 1]),
                 tell_what(what, canvas->story, i));
        height += row_height(canvas->story, i);
    }
    open_svg(canvas->out, height, "The story of a heap in nine pictures", description);
    draw_header(canvas);
    for (unsigned i = 1; i <= STORY_STEPS; i++) {
        draw_row(canvas, i, y);
        y += row_height(canvas->story, i);
    }
    draw_legend(canvas->out, y);
    fputs("</svg>\n", canvas->out);
}

static void draw_single(struct canvas *canvas, unsigned number) {
    char title[TELL_LINE], full[TELL_LINE + 32], what[TELL_TEXT];
    double row = row_height(canvas->story, number);
    snprintf(full, sizeof full, "Picture %u of %d: %s", number, STORY_STEPS, tell_title(title, &story_acts[number - 1]));
    open_svg(canvas->out, MARGIN + row + LEGEND - 14, full, tell_what(what, canvas->story, number));
    draw_row(canvas, number, MARGIN);
    draw_legend(canvas->out, MARGIN + row - 6);
    fputs("</svg>\n", canvas->out);
}

/* Picture 0 is the sheet. */
static bool write_picture(const char *folder, struct canvas *canvas, unsigned number) {
    char path[PATH_MAX], suffix[16] = "";
    if (number) snprintf(suffix, sizeof suffix, "-%u", number);
    if (snprintf(path, sizeof path, "%s/story%s.svg", folder, suffix) >= (int)sizeof path) {
        tool_say("%s: the path is too long", folder);
        return false;
    }
    canvas->out = fopen(path, "w");
    if (canvas->out && number)
        draw_single(canvas, number);
    else if (canvas->out)
        draw_sheet(canvas);
    if (!canvas->out || ferror(canvas->out) | fclose(canvas->out)) {
        tool_say("can't write %s: %s", path, strerror(errno));
        return false;
    }
    return true;
}

bool story_svg(const char *folder, const struct story *story) {
    uint64_t bytes = tell_heap_max(story) + tell_mapped_max(story);
    struct canvas canvas = {.story = story, .scale = (double)(INNER - GAP) / (double)(bytes ? bytes : 1)};
    canvas.mapped_x = MARGIN + (double)tell_heap_max(story) * canvas.scale + GAP;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST) {
        tool_say("can't make the folder %s: %s", folder, strerror(errno));
        return false;
    }
    for (unsigned i = 0; i <= STORY_STEPS; i++)
        if (!write_picture(folder, &canvas, i)) return false;
    return true;
}
