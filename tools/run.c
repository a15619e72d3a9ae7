/* run.c: `seemalloc run`: 1. reads its options; 2. finds the program and checks that a preload can reach it (target.c); 3. finds the library
 * (library.c); 4. puts both into the environment; 5. replaces itself by the program, so that exit status, signals, process id and open files are
 * the program's own.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* asprintf */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "outside.h"
#include "record.h"
#include "settings.h"
#include "target.h"
#include "tool.h"
#include "trace/shared.h"

const char run_help[] =
    "Usage: seemalloc run [--stats] [--conf NAME:VALUE,...] [--record FILE [--stacks] [--sample BYTES]] [--] PROGRAM [ARGUMENT]...\n"
    "Run PROGRAM with seemalloc as its malloc. The command becomes the program: exit status, signals and process id are the program's.\n"
    "With --record it stays, as the program's parent: exit status and signals are the program's.\n"
    "\n"
    "Options:\n"
    "  -s, --stats        print statistics to stderr when the program exits\n"
    "  -c, --conf LIST    settings, e.g. --conf tcache_max:0,trim_threshold:131072; may be given more than once. They are added to those\n"
    "                     of SEEMALLOC_CONF and take their place where the name is the same.\n"
    "  -r, --record FILE  write all allocations of the process to FILE. What finds no room is dropped and counted: the program never "
    "waits.\n"
    "                     Processes that PROGRAM starts are not recorded; if it executes another program, the recording begins anew\n"
    "      --stacks       with the stacks that allocations come from; --stacks=fp: by frame pointers, which all code must then have\n"
    "      --depth N      frames of a stack, innermost first, 1 to 64; 64 by default\n"
    "      --sample BYTES record only some allocations, chosen by chance: one in so many bytes (K, M, G), e.g. 512K; and when they are "
    "freed\n"
    "  -h, --help         show this text\n"
    "\n"
    "The library is put before what LD_PRELOAD already holds, and the settings go into SEEMALLOC_CONF. Processes that PROGRAM starts "
    "inherit\n"
    "both. PROGRAM is looked for in PATH. The library is looked for beside this command and in the library folders next to its folder.\n"
    "\n"
    "Environment:\n"
    "  SEEMALLOC_LIBRARY  path of the library to use instead\n"
    "  SEEMALLOC_CONF     settings, as in --conf\n"
    "\n"
    "Exit status: that of PROGRAM, or\n"
    "  2    the command line is wrong\n"
    "  125  the library was not found, or this command failed itself\n"
    "  126  PROGRAM was found, but can't be run on seemalloc: not executable, a directory, statically linked, setuid, setgid or with file\n"
    "       capabilities (unless the user that runs it gains nothing by them), for another machine, 32-bit, or linked with musl\n"
    "  127  PROGRAM, its interpreter or its loader was not found\n";

struct request {
    bool stats;
    char *conf; /* merged --conf; NULL if none */
    struct record_request record;
    const char *only_recorded; /* an option that needs --record; NULL: none */
    char **program;
};

static int out_of_memory(void) {
    tool_say("out of memory");
    return STATUS_TOOL;
}

static bool add_settings(struct request *request, const char *more) {
    char *merged = settings_merge(request->conf, more);
    if (!merged) return false;
    free(request->conf);
    request->conf = merged;
    return true;
}

enum { OPTION_STACKS = 256, OPTION_DEPTH, OPTION_SAMPLE };
#define SAMPLE_MOST ((uint64_t)1 << 40)

/* An option of recordings. False, after a message, if its value is no good. */
static bool parse_recording(struct request *request, int option, int *status) {
    uint64_t number = 0;
    struct record_request *record = &request->record;
    static const char *const names[] = {"--stacks", "--depth", "--sample"};
    if (option == 'r') {
        record->file = optarg;
        if (optarg[0] == '\0') *status = tool_usage("run", "--record: the name of the file is empty");
        return optarg[0] != '\0';
    }
    request->only_recorded = names[option - OPTION_STACKS];
    if (option == OPTION_STACKS) {
        bool by_pointers = optarg != NULL && strcmp(optarg, "fp") == 0;
        if (optarg != NULL && !by_pointers) *status = tool_usage("run", "--stacks: found '%s', expected nothing or =fp", optarg);
        record->unwind = by_pointers ? TRACE_UNWIND_POINTERS : TRACE_UNWIND_TABLES;
        return optarg == NULL || by_pointers;
    }
    if (option == OPTION_DEPTH) {
        bool good = outside_count(optarg, &number) && number >= 1 && number <= TRACE_DEPTH_MOST;
        if (!good) *status = tool_usage("run", "--depth: found '%s', expected a number of frames from 1 to %d", optarg, TRACE_DEPTH_MOST);
        record->depth = (unsigned)number;
        return good;
    }
    bool good = outside_number(optarg, &number) && number >= 1 && number <= SAMPLE_MOST;
    if (!good) *status = tool_usage("run", "--sample: found '%s', expected a number of bytes from 1 to 1024G, e.g. 512K", optarg);
    record->sample_mean = number;
    return good;
}

/* False if that was all, or it was wrong: then *status is the exit status. */
static bool parse(int argc, char **argv, struct request *request, int *status) {
    static const struct option options[] = {{"stats", no_argument, NULL, 's'},
                                            {"conf", required_argument, NULL, 'c'},
                                            {"record", required_argument, NULL, 'r'},
                                            {"stacks", optional_argument, NULL, OPTION_STACKS},
                                            {"depth", required_argument, NULL, OPTION_DEPTH},
                                            {"sample", required_argument, NULL, OPTION_SAMPLE},
                                            {"help", no_argument, NULL, 'h'},
                                            {0}};
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, "+:sc:r:h", options, NULL)) != -1;) {
        const char *fault = option == 'c' ? settings_fault(optarg) : NULL;
        if (option == 's') {
            request->stats = true;
        } else if (option == 'r' || option >= OPTION_STACKS) {
            if (!parse_recording(request, option, status)) return false;
        } else if (option == 'h') {
            fputs(run_help, stdout);
            *status = tool_finish(0);
            return false;
        } else if (fault || option != 'c') {
            *status = fault           ? tool_usage("run", "--conf: %s", fault)
                      : option == ':' ? tool_usage("run", "option '%s' needs a value", argv[optind - 1])
                                      : tool_usage("run", "unknown option '%s'", tool_bad_option(argv));
            return false;
        } else if (!add_settings(request, optarg)) {
            *status = out_of_memory();
            return false;
        }
    }
    request->program = argv + optind;
    *status = optind >= argc                                    ? tool_usage("run", "the program is missing")
              : request->only_recorded && !request->record.file ? tool_usage("run", "%s needs --record FILE", request->only_recorded)
                                                                : 0;
    return *status == 0;
}

/* The library stands first. What else is preloaded stays, in its order. */
static bool set_preload(const char *library) {
    const char *old = getenv("LD_PRELOAD");
    size_t length = strlen(library);
    if (!old || !old[0]) return setenv("LD_PRELOAD", library, 1) == 0;
    if (strncmp(old, library, length) == 0 && strchr(" :", old[length]))
        return true; /* as inside another `run`; strchr finds the final '\0' too */
    char *both = NULL;
    bool done = asprintf(&both, "%s:%s", library, old) >= 0 && setenv("LD_PRELOAD", both, 1) == 0;
    free(both);
    return done;
}

static bool set_conf(const struct request *request) {
    const char *own = request->conf ? request->conf : "";
    char *wanted = request->stats ? settings_merge(own, "stats:1") : strdup(own);
    char *merged = wanted ? settings_merge(getenv("SEEMALLOC_CONF"), wanted) : NULL;
    bool done = merged && (wanted[0] == '\0' || setenv("SEEMALLOC_CONF", merged, 1) == 0);
    free(merged);
    free(wanted);
    return done;
}

struct target {
    char path[PATH_MAX];
    char **program;
};

/* Returns only if the program can't be executed, with an exit status after a message. */
static int become(void *arg) {
    struct target *target = arg;
    execv(target->path, target->program);
    if (errno == ENOEXEC) {                 /* a script without "#!": execvp's rule */
        target->program[-1] = (char *)"sh"; /* there is one: at least "run" stands before the program */
        char *name = target->program[0];
        target->program[0] = target->path;
        execv("/bin/sh", target->program - 1);
        target->program[0] = name;
    }
    int status = errno == ENOENT || errno == ENOTDIR ? STATUS_NOT_FOUND : STATUS_CANNOT_RUN;
    tool_say("%s: can't be executed: %s", target->path, strerror(errno));
    return status;
}

int run_main(int argc, char **argv) {
    struct request request = {.record.depth = TRACE_DEPTH_MOST};
    int status = 0;
    if (!parse(argc, argv, &request, &status)) return status;

    static struct target target;
    char library[PATH_MAX];
    target.program = request.program;
    status = target_find(request.program[0], target.path);
    if (status) return status;
    if (!library_find(library, request.record.file != NULL)) return STATUS_TOOL;
    if (!set_preload(library) || !set_conf(&request)) return out_of_memory();
    if (request.stats)
        tool_say("%s runs on %s; processes that it starts inherit LD_PRELOAD=%s and SEEMALLOC_CONF=%s, and each prints its own statistics",
                 request.program[0], library, getenv("LD_PRELOAD"), getenv("SEEMALLOC_CONF"));
    if (request.record.file == NULL) return become(&target);
#ifdef SEEMALLOC_ZLIB
    return record_run(&request.record, become, &target, request.program);
#else
    tool_say("--record: this command was built without zlib, which recordings need");
    return STATUS_TOOL;
#endif
}
