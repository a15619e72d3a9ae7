/* main.c: the `seemalloc` command: picks the subcommand, answers --help and --version.
 * SPDX-License-Identifier: MIT */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "seemalloc.h"
#include "tool.h"

#define TEXT(x) #x
#define NUMBER(x) TEXT(x)
#define VERSION NUMBER(SEEMALLOC_VERSION_MAJOR) "." NUMBER(SEEMALLOC_VERSION_MINOR) "." NUMBER(SEEMALLOC_VERSION_PATCH)

static const char main_help[] = "Usage: seemalloc COMMAND [OPTION]... [ARGUMENT]...\n"
                                "Run programs on the seemalloc allocator, and see what a heap does.\n"
                                "\n"
                                "Commands:\n"
                                "  run      run a program on seemalloc instead of the system's malloc\n"
                                "  story    play nine pictures of a heap on the real allocator and draw them\n"
                                "  stats    show where each resident byte of a running process is\n"
                                "  pins     show which blocks keep free memory from going back to the system\n"
                                "  map      draw the heap of a running process, or write a page with it\n"
                                "  bins     show what lies in its bins, fast bins, parked batches and inboxes\n"
                                "  arenas   show its arenas and their regions\n"
                                "  threads  show its thread caches and what they hold\n"
                                "  chunk    show the chunk that holds an address\n"
                                "  explain  say in words what an address is, and what freeing it would do\n"
                                "  try-malloc\n"
                                "           say which way a request would go now\n"
                                "  snapshot write all that can be read of a process to a file\n"
                                "  diff     show what grew between two snapshots\n"
                                "  leaks    show blocks that nothing leads to any more\n"
                                "  top      show a running process's heap on the terminal, again and again\n"
                                "  report   write a page that shows a recording: time, flame graph, sites\n"
                                "  export   write a recording in the format of pprof, heaptrack and others\n"
                                "  help     show this text, or the help of a command: seemalloc help run\n"
                                "\n"
                                "Options:\n"
                                "  -h, --help       show this text; after a command, the help of that command\n"
                                "  -V, --version    show the version\n"
                                "\n"
                                "Example: seemalloc run --stats -- gcc -O2 -c hello.c\n";

static const struct command {
    const char *name;
    const char *help;
    int (*main)(int argc, char **argv);
} commands[] = {
    {"run", run_help, run_main},
    {"story", story_help, story_main},
    {"stats", stats_help, stats_main},
    {"pins", pins_help, pins_main},
    {"map", map_help, map_main},
    {"bins", bins_help, bins_main},
    {"arenas", arenas_help, arenas_main},
    {"threads", threads_help, threads_main},
    {"chunk", chunk_help, chunk_main},
    {"explain", explain_help, explain_main},
    {"try-malloc", try_malloc_help, try_malloc_main},
#ifdef SEEMALLOC_ZLIB
    {"snapshot", snapshot_help, snapshot_main},
#endif
    {"diff", diff_help, diff_main},
    {"leaks", leaks_help, leaks_main},
    {"top", top_help, top_main},
#ifdef SEEMALLOC_ZLIB
    {"report", report_help, report_main},
    {"export", export_help, export_main},
#endif
};

void tool_say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("seemalloc: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

int tool_usage(const char *command, const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "seemalloc%s%s: ", command[0] ? " " : "", command);
    vfprintf(stderr, format, args);
    fprintf(stderr, "\nTry 'seemalloc%s%s --help'.\n", command[0] ? " " : "", command);
    va_end(args);
    return STATUS_USAGE;
}

const char *tool_bad_option(char **argv) {
    static char letter[] = "-?";
    const char *word = argv[optind - 1];
    if (optopt == 0 || strncmp(word, "--", 2) == 0) /* a long one, unknown or with a value it does not take */
        return word;
    letter[1] = (char)optopt;
    return letter;
}

int tool_finish(int status) {
    if (fflush(stdout) != 0 || ferror(stdout)) {
        tool_say("can't write the output: %s", strerror(errno));
        return STATUS_TOOL;
    }
    return status;
}

static const struct command *command_find(const char *name) {
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    return NULL;
}

static int help_main(int argc, char **argv) {
    if (argc > 2) return tool_usage("", "help takes one command, got '%s' too", argv[2]);
    const struct command *command = argc == 2 ? command_find(argv[1]) : NULL;
    if (argc == 2 && !command && strcmp(argv[1], "help") != 0) return tool_usage("", "there is no command '%s'", argv[1]);
    fputs(command ? command->help : main_help, stdout);
    return tool_finish(0);
}

int main(int argc, char **argv) {
    /* First of all, and before anything that might allocate: the player's heap must be untouched. */
    if (argc == 2 && strcmp(argv[1], TOOL_PLAYER) == 0) return story_player_main();

    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {"version", no_argument, NULL, 'V'}, {0}};
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, "+hV", options, NULL)) != -1;) {
        if (option == 'h') {
            fputs(main_help, stdout);
            return tool_finish(0);
        }
        if (option == 'V') {
            puts("seemalloc " VERSION);
            return tool_finish(0);
        }
        return tool_usage("", "unknown option '%s'", tool_bad_option(argv));
    }
    if (optind >= argc) return tool_usage("", "a command is missing: 'seemalloc help' lists them");

    argc -= optind;
    argv += optind;
    optind = 0; /* glibc: start afresh with the command's own options */
    if (strcmp(argv[0], "help") == 0) return help_main(argc, argv);
    const struct command *command = command_find(argv[0]);
    if (!command) return tool_usage("", "there is no command '%s'; 'seemalloc help' lists them", argv[0]);
    return command->main(argc, argv);
}
