/* outside.h: what the commands that look at a process share. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_OUTSIDE_H
#define SEEMALLOC_TOOL_OUTSIDE_H

#include "json_writer.h"
#include "reader/process.h"

/* The one argument that names a process, a core or a snapshot, for process_open. NULL after a message: then the status is STATUS_USAGE. */
const char *outside_subject(const char *command, int argc, char **argv, int first);

/* A number of things, in decimal digits. False if the text is none. */
bool outside_count(const char *text, uint64_t *count);

/* How it was read: "frozen", "live", "core" or "snapshot". */
const char *outside_how(const struct process *process);

/* PID [NUMBER] [--json], for commands that take no more. `second` says what the number is ("an address"), or is NULL; `is_bytes`: it may end in K, M
 * or G. Returns -1 if all is well, else the exit status after a message or the help. */
struct outside_arguments {
    const char *subject; /* for process_open */
    uint64_t number;
    bool as_json;
};
int outside_arguments(struct outside_arguments *arguments, const char *command, const char *help, const char *second, int argc,
                      char **argv);

/* An address (hexadecimal after 0x) or a number of bytes (which may end in K, M or G). False if the text is none. */
bool outside_number(const char *text, uint64_t *number);

/* Reads what `subject` names and lets a process go on. False after a message: then the status is 1. */
bool outside_read(struct process *process, const char *subject, bool is_live);

/* The whole of a command with no arguments but these: reads the process and prints it in one way or the other. Its exit status. */
int outside_show(const char *command, const char *help, void (*print_json)(const struct process *process),
                 void (*print_text)(const struct process *process), int argc, char **argv);

/* What is torn, corrupted or not known, in words on standard error; the status that follows: 1 for a heap that is corrupted, else 0. */
int outside_warn(const struct process *process);

/* {"process": …, "torn": […], "corrupted": …, "pages_known": …} to begin with; the braces stay open. */
void outside_json(struct json_writer *json, const struct process *process);

/* The members of that "process" alone. */
void outside_facts(struct json_writer *json, const struct process *process);

/* "process 12 (redis-server), seemalloc 0.1.0 from …" */
void outside_head(FILE *out, const struct process *process);

/* "0.1.0" */
void outside_version(char *text, size_t size, const struct heap *heap);

/* "main", "thread", "spare" or "abandoned" */
const char *outside_arena_kind(const struct heap_arena *arena);

/* The arena's bytes that the program has: with headers, fenceposts, what was lost to a fork and what can't be told. */
uint64_t outside_in_use(const struct heap_arena *arena);

/* The arena's bytes that are free, however they lie. */
uint64_t outside_free(const struct heap_arena *arena);

#endif
