/* outside.h: what the commands that look at a running process share. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_OUTSIDE_H
#define SEEMALLOC_TOOL_OUTSIDE_H

#include "json_writer.h"
#include "reader/process.h"

/* The number of a process. False after a message: then the status is STATUS_USAGE. */
bool outside_pid(const char *command, int argc, char **argv, int first, pid_t *pid);

/* PID [NUMBER] [--json], for commands that take no more. `second` says what the number is ("an address"), or is NULL; `is_bytes`: it may end in K, M
 * or G. Returns -1 if all is well, else the exit status after a message or the help. */
struct outside_arguments {
    pid_t pid;
    uint64_t number;
    bool as_json;
};
int outside_arguments(struct outside_arguments *arguments, const char *command, const char *help, const char *second, int argc,
                      char **argv);

/* An address (hexadecimal after 0x) or a number of bytes (which may end in K, M or G). False if the text is none. */
bool outside_number(const char *text, uint64_t *number);

/* Reads the process and lets it go on. False after a message: then the status is 1. */
bool outside_read(struct process *process, pid_t pid, bool is_live);

/* What is torn, corrupted or not known, in words on standard error; the status that follows: 1 for a heap that is corrupted, else 0. */
int outside_warn(const struct process *process);

/* {"process": …, "torn": […], "corrupted": …, "pages_known": …} to begin with; the braces stay open. */
void outside_json(struct json_writer *json, const struct process *process);

/* "process 12 (redis-server), seemalloc 0.1.0 from …" */
void outside_head(FILE *out, const struct process *process);

/* "0.1.0" */
void outside_version(char *text, size_t size, const struct heap *heap);

/* "main", "thread", "spare" or "abandoned" */
const char *outside_arena_kind(const struct heap_arena *arena);

/* The arena's bytes that are free, however they lie. */
uint64_t outside_free(const struct heap_arena *arena);

#endif
