/* export.c: `seemalloc export FILE`. SPDX-License-Identifier: MIT */
#include "export.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "recorded.h"
#include "tool.h"

const char export_help[] =
    "Usage: seemalloc export FILE --format FORMAT [OPTION]...\n"
    "Write a recording (seemalloc run --record FILE) in the format of another tool.\n"
    "\n"
    "Formats:\n"
    "  pprof        a gzipped profile for `go tool pprof` and all that reads its format: objects and bytes in all, and in use\n"
    "  collapsed    a line for each stack, \"main;work;make 4096\": what flame graph tools read\n"
    "  trace        counters over time as JSON, for Perfetto (ui.perfetto.dev) and chrome://tracing\n"
    "  heaptrack    for heaptrack_print and heaptrack_gui, gzipped: they want a name that ends in .gz\n"
    "\n"
    "Options:\n"
    "  -f, --format FORMAT  which one\n"
    "  -o, --output FILE    where to; without it standard output\n"
    "  -l, --live           collapsed, pprof: what was never freed (the default)\n"
    "  -p, --peak           what was in use when most bytes were in use\n"
    "  -t, --total          all that was allocated\n"
    "  -c, --count          collapsed: numbers of blocks instead of bytes\n"
    "  -h, --help           show this text\n"
    "\n"
    "The status is 0; 1 if the file is no recording, is damaged or was cut short (what it has is written then, with a message), or\n"
    "can't be read or written; 2 if the command line is wrong.\n";

static const struct format {
    const char *name;
    bool (*put)(FILE *out, const struct export *export, struct fault *fault);
    bool is_binary, has_measure, has_count;
} formats[] = {
    {"pprof", export_pprof, true, true, false},
    {"collapsed", export_collapsed, false, true, true},
    {"trace", export_trace, false, false, false},
    {"heaptrack", export_heaptrack, true, false, false},
};

/* --- collapsed stacks ------------------------------------------------------------------------------------------------------------------------------------ */

/* Semicolons and line ends part frames and stacks. */
static void put_frame(FILE *out, const char *name) {
    for (; *name != '\0'; name++) putc(*name == ';' ? ':' : (unsigned char)*name < ' ' ? '?' : *name, out);
}

bool export_collapsed(FILE *out, const struct export *export, struct fault *fault) {
    const struct calls *calls = export->calls;
    uint32_t *way = need_memory(NULL, calls->node_count, sizeof *way);
    (void)fault;
    for (size_t i = 0; i < calls->site_count; i++) {
        const struct call_site *site = &calls->sites[i];
        const struct profile_amount *amount = calls_amount(&site->sums, export->measure);
        uint64_t value = export->as_count ? profile_count(amount->parts) : amount->bytes;
        size_t depth = 0;
        if (value == 0) continue;
        for (uint32_t node = site->node; node != 0; node = calls->nodes[node].parent) way[depth++] = node;
        if (depth == 0) fputs("(no stack)", out);
        for (size_t k = depth; k-- > 0;) {
            put_frame(out, calls->symbols.texts[calls->frames[calls->nodes[way[k]].frame].function]);
            if (k != 0) putc(';', out);
        }
        fprintf(out, " %" PRIu64 "\n", value);
    }
    free(way);
    return true;
}

/* --- the command ------------------------------------------------------------------------------------------------------------------------------------------ */

struct options {
    const char *file, *output;
    const struct format *format;
    struct export export;
};

static const struct format *format_named(const char *name) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        if (strcmp(formats[i].name, name) == 0) return &formats[i];
    }
    return NULL;
}

/* What does not fit together. -1, or the exit status after a message. */
static int check_options(const struct options *options) {
    if (options->format == NULL) return tool_usage("export", "the format is missing: --format pprof, collapsed, trace or heaptrack");
    const struct format *format = options->format;
    if (options->export.is_chosen && !format->has_measure) {
        return tool_usage("export", "%s has all of it: --live, --peak and --total are for pprof and collapsed", format->name);
    }
    if (options->export.as_count && !format->has_count) return tool_usage("export", "--count is for collapsed");
    if (format->is_binary && options->output == NULL && isatty(STDOUT_FILENO)) {
        return tool_usage("export", "%s is not for a terminal: -o FILE", format->name);
    }
    return -1;
}

static int read_options(struct options *options, int argc, char **argv) {
    static const struct option names[] = {{"format", required_argument, NULL, 'f'}, {"output", required_argument, NULL, 'o'},
                                          {"live", no_argument, NULL, 'l'},         {"peak", no_argument, NULL, 'p'},
                                          {"total", no_argument, NULL, 't'},        {"count", no_argument, NULL, 'c'},
                                          {"help", no_argument, NULL, 'h'},         {0}};
    *options = (struct options){.export.measure = CALLS_LIVE};
    for (int option; (option = getopt_long(argc, argv, ":hf:o:lptc", names, NULL)) != -1;) {
        switch (option) {
        case 'h': fputs(export_help, stdout); return tool_finish(0);
        case 'f':
            options->format = format_named(optarg);
            if (options->format == NULL) {
                return tool_usage("export", "'%s' is no format: there are pprof, collapsed, trace and heaptrack", optarg);
            }
            break;
        case 'o': options->output = optarg; break;
        case 'c': options->export.as_count = true; break;
        case 'l':
        case 'p':
        case 't':
            if (options->export.is_chosen) return tool_usage("export", "--live, --peak and --total exclude each other");
            options->export.is_chosen = true;
            options->export.measure = option == 'l' ? CALLS_LIVE : option == 'p' ? CALLS_PEAK : CALLS_TOTAL;
            break;
        case ':': return tool_usage("export", "option '%s' needs a value", tool_bad_option(argv));
        default: return tool_usage("export", "unknown option '%s'", tool_bad_option(argv));
        }
    }
    options->file = recorded_file("export", argc, argv, optind);
    return options->file != NULL ? check_options(options) : STATUS_USAGE;
}

static bool put(FILE *out, const void *context, struct fault *fault) {
    const struct options *options = context;
    return options->format->put(out, &options->export, fault);
}

int export_main(int argc, char **argv) {
    static struct profile profile;
    struct options options;
    struct calls calls;
    int status = read_options(&options, argc, argv);
    if (status >= 0 || options.format == NULL) return status;
    if (!recorded_open(&profile, &calls, options.file)) return 1;
    status = recorded_warn(&profile, &calls);
    options.export.profile = &profile;
    options.export.calls = &calls;
    if (options.format->put == export_heaptrack && profile_is_sampled(&profile)) {
        tool_say("the recording is of samples: bytes are estimates, and each sample is written as one allocation");
    }
    int written = recorded_write(options.output, put, &options);
    recorded_close(&profile, &calls);
    return tool_finish(written != 0 ? written : status);
}
