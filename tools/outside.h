/* outside.h: what the commands that look at a running process share. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_OUTSIDE_H
#define SEEMALLOC_TOOL_OUTSIDE_H

#include "json_writer.h"
#include "reader/process.h"

/* The number of a process. False after a message: then the status is STATUS_USAGE. */
bool outside_pid(const char *command, int argc, char **argv, int first, pid_t *pid);

/* What is torn, corrupted or not known, in words on standard error; the status that follows: 1 for a heap that is corrupted, else 0. */
int outside_warn(const struct process *process);

/* {"process": …, "torn": […], "corrupted": …, "pages_known": …} to begin with; the braces stay open. */
void outside_json(struct json_writer *json, const struct process *process);

/* "process 12 (redis-server), seemalloc 0.1.0 from …" */
void outside_head(FILE *out, const struct process *process);

#endif
