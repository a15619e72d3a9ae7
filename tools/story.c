/* story.c: `seemalloc story`: starts the player, collects its records, and has them drawn.
 *
 * The player is this executable again, with the library preloaded, the thread cache off (the texts do not know it and it would hide their points)
 * and the trim threshold set, which stops its sliding. Every setting of the environment is taken away from it, so that the story is always the same.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE /* environ */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "story.h"
#include "tool.h"

#define SETTINGS "tcache_max:0,trim_threshold:131072"

const char story_help[] =
    "Usage: seemalloc story [--svg FOLDER] [--json]\n"
    "Play nine pictures of a heap on the real allocator, in a process of its own, and draw what was read from it after each step:\n"
    "start; A = 30 K; B = 40 K; C = 200 K; D = 100 K; free C; free B; free D; trim. Each block is written to as a program would.\n"
    "\n"
    "Options:\n"
    "  -s, --svg FOLDER   write story-1.svg to story-9.svg and the sheet story.svg, with all nine, to FOLDER\n"
    "  -j, --json         print the figures in a form for programs instead of the text\n"
    "  -h, --help         show this text\n"
    "\n"
    "The thread cache is off and the trim threshold is 128 K (" SETTINGS "), as the texts on malloc know it.\n"
    "The text is drawn in UTF-8 and colours on a terminal that has them, in plain ASCII elsewhere; NO_COLOR is honoured.\n"
    "\n"
    "Environment: SEEMALLOC_LIBRARY, see 'seemalloc run --help'.\n"
    "Exit status: 0, or 1 if the story could not be played, 2 if the command line is wrong, 125 if the library was not found.\n";

static bool is_setting(const char *entry) {
    return strncmp(entry, "SEEMALLOC_", 10) == 0 || strncmp(entry, "MALLOC_", 7) == 0 || strncmp(entry, "GLIBC_TUNABLES=", 15) == 0 ||
           strncmp(entry, "LD_PRELOAD=", 11) == 0;
}

/* The player's environment: ours without settings, then the story's. Returns false for want of memory. */
static bool player_environment(const char *library) {
    size_t count = 0, kept = 0;
    while (environ[count]) count++;
    char **entries = calloc(count + 1, sizeof *entries);
    if (!entries) return false;
    for (size_t i = 0; i < count; i++)
        if (!is_setting(environ[i])) entries[kept++] = environ[i];
    environ = entries;
    /* All symbols at once: else a first call would write to the table of the linkage, a page fault that is not the heap's. */
    return setenv("LD_PRELOAD", library, 1) == 0 && setenv("SEEMALLOC_CONF", SETTINGS, 1) == 0 && setenv("LD_BIND_NOW", "1", 1) == 0;
}

static pid_t start_player(const char *library, int *from) {
    int ends[2];
    if (pipe(ends) != 0) return -1;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        if (dup2(ends[1], STDOUT_FILENO) < 0 || !player_environment(library)) _exit(STATUS_TOOL);
        if (ends[1] != STDOUT_FILENO) close(ends[1]);
        execv("/proc/self/exe", (char *[]){(char *)"seemalloc", (char *)TOOL_PLAYER, NULL});
        tool_say("can't start the player: %s", strerror(errno));
        _exit(STATUS_TOOL);
    }
    close(ends[1]);
    *from = ends[0];
    return pid;
}

static bool read_step(int fd, struct story_step *step) {
    size_t got = 0;
    while (got < sizeof *step) {
        ssize_t n = read(fd, (char *)step + got, sizeof *step - got);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        got += (size_t)n;
    }
    return step->magic == STORY_MAGIC && step->size == sizeof *step;
}

/* Whether figures of the library can be trusted: it lays out its structures as this command knows them. */
static bool same_version(const char *version) {
    char own[32];
    snprintf(own, sizeof own, "%d.%d.", SEEMALLOC_VERSION_MAJOR, SEEMALLOC_VERSION_MINOR);
    if (strncmp(version, own, strlen(own)) == 0) return true;
    tool_say("the library is version %s; expected %sx, as this command is. Install both from one build", version, own);
    return false;
}

static bool collect(const char *library, struct story_step *steps) {
    int from = -1, status = 0;
    unsigned got = 0;
    pid_t pid = start_player(library, &from);
    if (pid < 0) {
        tool_say("can't start the player: %s", strerror(errno));
        return false;
    }
    while (got < STORY_STEPS && read_step(from, &steps[got]) && !steps[got].fault[0]) got++;
    close(from);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (got == STORY_STEPS) return same_version(steps[0].version);
    if (steps[got].fault[0])
        tool_say("the story ended before picture %u: %s", got + 1, steps[got].fault);
    else if (WIFSIGNALED(status))
        tool_say("the story ended before picture %u: its process was killed by signal %d (%s)", got + 1, WTERMSIG(status),
                 strsignal(WTERMSIG(status)));
    else
        tool_say("the story ended before picture %u: its process exited with status %d", got + 1, WEXITSTATUS(status));
    return false;
}

int story_main(int argc, char **argv) {
    static const struct option options[] = {
        {"svg", required_argument, NULL, 's'}, {"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char *folder = NULL;
    bool json = false;
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, ":s:jh", options, NULL)) != -1;) {
        switch (option) {
        case 's': folder = optarg; break;
        case 'j': json = true; break;
        case 'h': fputs(story_help, stdout); return tool_finish(0);
        case ':': return tool_usage("story", "option '%s' needs a value", argv[optind - 1]);
        default: return tool_usage("story", "unknown option '%s'", tool_bad_option(argv));
        }
    }
    if (optind < argc) return tool_usage("story", "it takes no argument, got '%s'", argv[optind]);

    char library[PATH_MAX];
    if (!library_find(library, false)) return STATUS_TOOL;
    struct story story = {library, calloc(STORY_STEPS, sizeof *story.steps)};
    if (!story.steps) {
        tool_say("out of memory");
        return STATUS_TOOL;
    }
    int status = collect(library, story.steps) ? 0 : 1;
    if (status == 0 && json)
        story_json(stdout, &story);
    else if (status == 0)
        story_text(stdout, &story);
    if (status == 0 && folder) {
        status = story_svg(folder, &story) ? 0 : 1;
        if (status == 0 && !json)
            printf("\nWrote %s/story.svg with all nine pictures, and story-1.svg to story-%d.svg with one each.\n", folder, STORY_STEPS);
    }
    free(story.steps);
    return tool_finish(status);
}
