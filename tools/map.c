/* map.c: `seemalloc map PID`: a heap drawn. SPDX-License-Identifier: MIT */
#include "map.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "outside.h"
#include "tool.h"

#define WIDTH 100
#define WIDTH_LEAST 40
#define WIDTH_MOST 1000

const char map_help[] =
    "Usage: seemalloc map PID|CORE|SNAPSHOT [-o FILE | --json] [--ansi] [--live] [--width N] [--scale SIZE]\n"
    "Draw the heap of a running process: a strip of cells for each region of each arena, in address order.\n"
    "\n"
    "Each cell stands for as many bytes as the scale says, and shows the state that most of them have; in colours the lower half\n"
    "shows the second one, where that has a quarter or more, and cells whose pages are not in memory are hatched. Without colours\n"
    "a small letter stands for those. The legend below has all states with their sums.\n"
    "\n"
    "Options:\n"
    "  -o, --output FILE  write FILE instead: NAME.html is a page that shows everything and opens without a network (docs/heap-data.md);\n"
    "                     NAME.json is the same as --json\n"
    "  -j, --json         every chunk as JSON, sizes in bytes\n"
    "  -a, --ansi         colours also where the output is no terminal or NO_COLOR is set\n"
    "  -l, --live         read while the process runs instead of freezing it: blocks in thread caches count as in use, and what\n"
    "                     changed meanwhile is marked as torn\n"
    "  -w, --width N      columns (those of the terminal, else 100)\n"
    "  -s, --scale SIZE   bytes of a cell, e.g. 4K (so that all fits on about a screen)\n"
    "  -h, --help         show this text\n"
    "\n"
    "The status is 0, 1 if the process can't be read, its heap is corrupted or FILE can't be written, 2 if the command line is\n"
    "wrong.\n";

struct options {
    const char *subject;
    const char *file; /* NULL: standard output */
    bool as_json, as_page, is_live, is_coloured;
    struct map_look look;
};

static bool ends_in(const char *text, const char *end) {
    size_t length = strlen(text), tail = strlen(end);
    return length > tail && strcmp(text + length - tail, end) == 0;
}

static unsigned terminal_width(void) {
    struct winsize size = {0};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return WIDTH;
    return size.ws_col < WIDTH_LEAST ? WIDTH_LEAST : size.ws_col;
}

/* What -o asks for. -1, or the exit status after a message. */
static int look_at_file(struct options *options) {
    if (options->file == NULL) return -1;
    options->as_page = ends_in(options->file, ".html");
    if (!options->as_page && !ends_in(options->file, ".json")) {
        return tool_usage("map", "'%s' is neither NAME.html nor NAME.json", options->file);
    }
    if (options->as_page && options->as_json) return tool_usage("map", "--json and a page (%s) exclude each other", options->file);
    options->as_json = !options->as_page;
#ifndef SEEMALLOC_ZLIB
    if (options->as_page) {
        tool_say("this command was built without zlib and can't write pages; --json works");
        return 1;
    }
#endif
    return -1;
}

static int read_options(struct options *options, int argc, char **argv) {
    static const struct option names[] = {{"output", required_argument, NULL, 'o'}, {"json", no_argument, NULL, 'j'},
                                          {"ansi", no_argument, NULL, 'a'},         {"live", no_argument, NULL, 'l'},
                                          {"width", required_argument, NULL, 'w'},  {"scale", required_argument, NULL, 's'},
                                          {"help", no_argument, NULL, 'h'},         {0}};
    const char *no_colour = getenv("NO_COLOR");
    uint64_t number;
    *options = (struct options){
        .look = {.is_coloured = isatty(STDOUT_FILENO) && (no_colour == NULL || no_colour[0] == '\0'), .width = terminal_width()}};
    for (int option; (option = getopt_long(argc, argv, ":hjalo:w:s:", names, NULL)) != -1;) {
        switch (option) {
        case 'h': fputs(map_help, stdout); return tool_finish(0);
        case 'j': options->as_json = true; break;
        case 'a': options->look.is_coloured = true; break;
        case 'l': options->is_live = true; break;
        case 'o': options->file = optarg; break;
        case 'w':
            if (!outside_number(optarg, &number) || number < WIDTH_LEAST || number > WIDTH_MOST) {
                return tool_usage("map", "a width is %d to %d columns, got '%s'", WIDTH_LEAST, WIDTH_MOST, optarg);
            }
            options->look.width = (unsigned)number;
            break;
        case 's':
            if (!outside_number(optarg, &number) || number < 16) return tool_usage("map", "a cell has 16 bytes at least, got '%s'", optarg);
            options->look.cell_bytes = number;
            break;
        case ':': return tool_usage("map", "option '%s' needs a value", tool_bad_option(argv));
        default: return tool_usage("map", "unknown option '%s'", tool_bad_option(argv));
        }
    }
    options->subject = outside_subject("map", argc, argv, optind);
    if (options->subject == NULL) return STATUS_USAGE;
    return look_at_file(options);
}

static int put_file(const struct options *options, const struct process *process, const struct ledger *ledger) {
    FILE *out = fopen(options->file, "we");
    bool good = out != NULL;
    if (good && options->as_json) map_json(out, process);
#ifdef SEEMALLOC_ZLIB
    if (good && options->as_page) good = map_page(out, process, ledger);
#else
    (void)ledger;
#endif
    good = good && fflush(out) == 0 && !ferror(out);
    int error = errno;
    if (out != NULL && fclose(out) != 0 && good) {
        good = false;
        error = errno;
    }
    if (good) return 0;
    tool_say("can't write '%s': %s", options->file, strerror(error));
    return 1;
}

int map_main(int argc, char **argv) {
    struct options options;
    static struct process process;
    struct fault fault = {0};
    struct ledger ledger;
    int status = read_options(&options, argc, argv);
    if (status >= 0) return status;
    if (!process_open(&process, options.subject, options.is_live, &fault)) {
        tool_say("%s", fault.text);
        return 1;
    }
    bool has_ledger = options.as_page && !options.is_live && ledger_read(&ledger, &process, NULL);
    process_thaw(&process);
    if (has_ledger) ledger_sum(&ledger, &process);
    status = outside_warn(&process);
    if (options.file != NULL) {
        int written = put_file(&options, &process, has_ledger ? &ledger : NULL);
        if (written != 0) status = written;
    } else if (options.as_json) {
        map_json(stdout, &process);
    } else {
        map_text(stdout, &process, &options.look);
    }
    process_close(&process);
    return tool_finish(status);
}
