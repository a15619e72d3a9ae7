/* report.c: `seemalloc report FILE`. SPDX-License-Identifier: MIT */
#include "report.h"

#include <getopt.h>

#include "recorded.h"
#include "tool.h"

const char report_help[] =
    "Usage: seemalloc report FILE -o NAME.html\n"
    "       seemalloc report FILE --json [-o NAME.json]\n"
    "Show a recording (seemalloc run --record FILE): what was in use over time, a flame graph of what was live at the end, at the\n"
    "peak and in all, the places that allocate, temporary allocations, sizes. NAME.html opens in a browser without a network.\n"
    "\n"
    "Functions, files and lines are looked up now, in the programs and libraries that were mapped, if they are still the same\n"
    "(by their build ids), and in their separate debugging files.\n"
    "\n"
    "Options:\n"
    "  -o, --output FILE    where to\n"
    "  -j, --json           JSON instead of a page (docs/json.md); without -o on standard output\n"
    "  -h, --help           show this text\n"
    "\n"
    "The status is 0; 1 if the file is no recording, is damaged or was cut short (what it has is shown then, with a message), or\n"
    "can't be read or written; 2 if the command line is wrong.\n";

static bool put_json(FILE *out, const void *report, struct fault *fault) {
    (void)fault;
    return report_json(out, report);
}

static bool put_page(FILE *out, const void *report, struct fault *fault) {
    (void)fault;
    return report_page(out, report);
}

int report_main(int argc, char **argv) {
    static const struct option options[] = {
        {"output", required_argument, NULL, 'o'}, {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    static struct profile profile;
    struct calls calls;
    const char *output = NULL;
    bool as_json = false;
    for (int option; (option = getopt_long(argc, argv, ":hjo:", options, NULL)) != -1;) {
        switch (option) {
        case 'h': fputs(report_help, stdout); return tool_finish(0);
        case 'j': as_json = true; break;
        case 'o': output = optarg; break;
        case ':': return tool_usage("report", "option '%s' needs a value", tool_bad_option(argv));
        default: return tool_usage("report", "unknown option '%s'", tool_bad_option(argv));
        }
    }
    const char *file = recorded_file("report", argc, argv, optind);
    if (file == NULL) return STATUS_USAGE;
    if (output == NULL && !as_json) return tool_usage("report", "where to write is missing: -o NAME.html, or --json");
    if (!recorded_open(&profile, &calls, file)) return 1;
    int status = recorded_warn(&profile, &calls);
    const struct report report = {&profile, &calls};
    int written = recorded_write(output, as_json ? put_json : put_page, &report);
    recorded_close(&profile, &calls);
    return tool_finish(written != 0 ? written : status);
}
