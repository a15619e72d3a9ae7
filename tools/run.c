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

#include "settings.h"
#include "target.h"
#include "tool.h"

const char run_help[] =
    "Usage: seemalloc run [--stats] [--conf NAME:VALUE,...] [--] PROGRAM [ARGUMENT]...\n"
    "Run PROGRAM with seemalloc as its malloc. The command becomes the program: exit status, signals and process id are the program's.\n"
    "\n"
    "Options:\n"
    "  -s, --stats        print statistics to stderr when the program exits\n"
    "  -c, --conf LIST    settings, e.g. --conf tcache_max:0,trim_threshold:131072; may be given more than once. They are added to those\n"
    "                     of SEEMALLOC_CONF and take their place where the name is the same.\n"
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

/* False if that was all, or it was wrong: then *status is the exit status. */
static bool parse(int argc, char **argv, struct request *request, int *status) {
    static const struct option options[] = {
        {"stats", no_argument, NULL, 's'}, {"conf", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {0}};
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, "+:sc:h", options, NULL)) != -1;) {
        const char *fault = option == 'c' ? settings_fault(optarg) : NULL;
        if (option == 's') {
            request->stats = true;
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
    if (optind < argc) return true;
    *status = tool_usage("run", "the program is missing");
    return false;
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

int run_main(int argc, char **argv) {
    struct request request = {0};
    int status = 0;
    if (!parse(argc, argv, &request, &status)) return status;

    char path[PATH_MAX], library[PATH_MAX];
    status = target_find(request.program[0], path);
    if (status) return status;
    if (!library_find(library)) return STATUS_TOOL;
    if (!set_preload(library) || !set_conf(&request)) return out_of_memory();
    if (request.stats)
        tool_say("%s runs on %s; processes that it starts inherit LD_PRELOAD=%s and SEEMALLOC_CONF=%s, and each prints its own statistics",
                 request.program[0], library, getenv("LD_PRELOAD"), getenv("SEEMALLOC_CONF"));

    execv(path, request.program);
    if (errno == ENOEXEC) {                 /* a script without "#!": execvp's rule */
        request.program[-1] = (char *)"sh"; /* there is one: at least "run" stands before the program */
        char *name = request.program[0];
        request.program[0] = path;
        execv("/bin/sh", request.program - 1);
        request.program[0] = name;
    }
    status = errno == ENOENT || errno == ENOTDIR ? STATUS_NOT_FOUND : STATUS_CANNOT_RUN;
    tool_say("%s: can't be executed: %s", path, strerror(errno));
    return status;
}
