/* tool.h: what the files of the `seemalloc` command share: exit statuses, messages, and the entry of each subcommand.
 *
 * The command is a launcher and a reader; it never links the allocator. The library is found at run time (library.c), a running process through
 * its descriptor (reader/).
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_H
#define SEEMALLOC_TOOL_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* As nohup, env and timeout use them: 125 the launcher itself failed, 126 found but can't be run, 127 not found. */
enum { STATUS_USAGE = 2, STATUS_TOOL = 125, STATUS_CANNOT_RUN = 126, STATUS_NOT_FOUND = 127 };

/* The argument that turns this executable into the player of the story; it is not for users and so not in the help. */
#define TOOL_PLAYER "--story-player"

int run_main(int argc, char **argv);
int story_main(int argc, char **argv);
int stats_main(int argc, char **argv);
int pins_main(int argc, char **argv);
int map_main(int argc, char **argv);
int bins_main(int argc, char **argv);
int arenas_main(int argc, char **argv);
int threads_main(int argc, char **argv);
int chunk_main(int argc, char **argv);
int explain_main(int argc, char **argv);
int try_malloc_main(int argc, char **argv);
int snapshot_main(int argc, char **argv);
int diff_main(int argc, char **argv);
int leaks_main(int argc, char **argv);
int top_main(int argc, char **argv);
int report_main(int argc, char **argv);
int export_main(int argc, char **argv);
int story_player_main(void);

extern const char run_help[];
extern const char story_help[];
extern const char stats_help[];
extern const char pins_help[];
extern const char map_help[];
extern const char bins_help[];
extern const char arenas_help[];
extern const char threads_help[];
extern const char chunk_help[];
extern const char explain_help[];
extern const char try_malloc_help[];
extern const char snapshot_help[];
extern const char diff_help[];
extern const char leaks_help[];
extern const char top_help[];
extern const char report_help[];
extern const char export_help[];

/* Writes "seemalloc: …" and a newline to stderr. */
void tool_say(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Writes a message and where to read more to stderr; returns STATUS_USAGE. */
int tool_usage(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The option that getopt_long has just refused, as the user wrote it. */
const char *tool_bad_option(char **argv);

/* Flushes stdout. Returns `status`, or STATUS_TOOL after a message when output was lost. */
int tool_finish(int status);

/* Puts the absolute path of the preloadable library, or of its variant for recordings, into `path`. Says on stderr what is wrong if there is none, and
 * returns false. */
bool library_find(char path[PATH_MAX], bool is_recorded);

#endif
