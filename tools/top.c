/* top.c: `seemalloc top PID`: a process's heap, again and again. SPDX-License-Identifier: MIT */
#include "top.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "outside.h"
#include "tool.h"

const char top_help[] =
    "Usage: seemalloc top PID [--delay SECONDS] [--live] [--once | --batch N] [--json]\n"
    "Show the heap of a running process on the terminal, again and again: what it has, faults and system calls a second, each arena as\n"
    "a strip of cells in address order, and below these thread caches, bins, or the latest system calls.\n"
    "\n"
    "Counters are read while the process runs. For strips, caches and bins it is frozen, and then left alone for at least fifty times\n"
    "as long as that took. Sizes: K, M and G are KiB, MiB and GiB. `peak` is the most that heaps and mapped blocks had together; `books` "
    "is what\n"
    "the allocator mapped for itself. A cell looks as in `seemalloc map`; a small letter, or a hatched cell, is not in memory.\n"
    "\n"
    "Keys:\n"
    "  q             quit\n"
    "  h, ?          help\n"
    "  Space         read everything now\n"
    "  p             pause, and go on\n"
    "  d, s          set the delay\n"
    "  1             all arenas in one strip, or each in its own\n"
    "  c             caches, bins, events\n"
    "  f             freeze the process for strips, caches and bins, or read them while it runs\n"
    "  Up, Down, PgUp, PgDn, Home, End\n"
    "                move in the table\n"
    "  <, >          move in the strips, if there are more than fit\n"
    "No key does anything to the process.\n"
    "\n"
    "Options:\n"
    "  -d, --delay SECONDS  between two readings, from 0.1 on (1)\n"
    "  -l, --live           don't freeze the process: blocks in thread caches count as in use\n"
    "  -o, --once           print all once and end; so it is where input or output is no terminal\n"
    "  -b, --batch N        print all N times\n"
    "  -j, --json           print a line of JSON each time, once if no number is given; sizes in bytes\n"
    "  -h, --help           show this text\n"
    "\n"
    "The status is 0, also when the process ends; 1 if it can't be read; 2 if the command line is wrong. What is printed without a\n"
    "terminal has the rates of the process's whole life first.\n";

struct options {
    double delay;
    uint64_t batch; /* 0: on the terminal */
    bool as_json;
};

static int read_delay(struct options *options, const char *text) {
    char *end = NULL;
    options->delay = strtod(text, &end);
    if (end != text && *end == '\0' && options->delay >= 0.1 && options->delay <= 3600) return -1;
    return tool_usage("top", "a delay is 0.1 to 3600 seconds, got '%s'", text);
}

static int read_option(struct options *options, struct top *top, int option, char **argv) {
    switch (option) {
    case 'h': fputs(top_help, stdout); return tool_finish(0);
    case 'l': top->is_live = true; return -1;
    case 'o': options->batch = 1; return -1;
    case 'j': options->as_json = true; return -1;
    case 'd': return read_delay(options, optarg);
    case 'b':
        if (outside_count(optarg, &options->batch) && options->batch != 0) return -1;
        return tool_usage("top", "option '--batch' needs a number from 1 on, got '%s'", optarg);
    case ':': return tool_usage("top", "option '%s' needs a value", tool_bad_option(argv));
    default: return tool_usage("top", "unknown option '%s'", tool_bad_option(argv));
    }
}

static int read_options(struct options *options, struct top *top, int argc, char **argv) {
    static const struct option names[] = {{"delay", required_argument, NULL, 'd'},
                                          {"live", no_argument, NULL, 'l'},
                                          {"once", no_argument, NULL, 'o'},
                                          {"batch", required_argument, NULL, 'b'},
                                          {"json", no_argument, NULL, 'j'},
                                          {"help", no_argument, NULL, 'h'},
                                          {0}};
    *options = (struct options){.delay = 1};
    for (int option; (option = getopt_long(argc, argv, ":hjlob:d:", names, NULL)) != -1;) {
        int status = read_option(options, top, option, argv);
        if (status >= 0) return status;
    }
    const char *subject = outside_subject("top", argc, argv, optind);
    if (subject == NULL) return STATUS_USAGE;
    if (subject[strspn(subject, "0123456789")] != '\0')
        return tool_usage("top", "'%s' is a file; expected the number of a running process: 'seemalloc stats' reads files", subject);
    top->pid = (pid_t)strtol(subject, NULL, 10);
    top->delay = (uint64_t)(options->delay * 1e9);
    return -1;
}

static void wait_for(uint64_t ns) {
    struct timespec rest = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR) {}
}

static int print_all(struct top *top, const struct options *options) {
    struct fault fault = {0};
    int status = 0;
    for (uint64_t n = 0; n < options->batch; n++) {
        if (n != 0) wait_for(top->delay);
        if (!top_read(top, false, &fault)) {
            if (n != 0 && top_has_ended(top)) break;
            tool_say("%s", fault.text);
            return 1;
        }
        status = outside_warn(top->picture);
        if (options->as_json) {
            top_json(top);
        } else {
            if (n != 0) putchar('\n');
            top_print(top, TOP_CACHES);
        }
        if (fflush(stdout) != 0) break;
    }
    return tool_finish(status);
}

int top_main(int argc, char **argv) {
    static struct top top;
    struct options options;
    int status = read_options(&options, &top, argc, argv);
    if (status >= 0) return status;
    bool has_terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (options.batch == 0 && (options.as_json || !has_terminal)) options.batch = 1;
#ifdef SEEMALLOC_NCURSES
    status = options.batch != 0 ? print_all(&top, &options) : top_screen(&top);
#else
    if (options.batch == 0) {
        tool_say("this command was built without ncurses and can't fill the terminal; --batch N prints the same");
        return 1;
    }
    status = print_all(&top, &options);
#endif
    top_free(&top);
    return status;
}
