/* recorded.h: what the commands that read a recording share. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_RECORDED_H
#define SEEMALLOC_TOOL_RECORDED_H

#include <stdio.h>

#include "reader/calls.h"

/* The one argument that names a recording; NULL after a message: then the status is STATUS_USAGE. */
const char *recorded_file(const char *command, int argc, char **argv, int first);

/* Reads the recording and names its functions. False after a message: then the status is 1. */
bool recorded_open(struct profile *profile, struct calls *calls, const char *file);
void recorded_close(struct profile *profile, struct calls *calls);

/* What is missing in it, in words on standard error; the status that follows: 1 for a recording that was cut short, else 0. */
int recorded_warn(const struct profile *profile, const struct calls *calls);

/* Has `put` write to a file, which is replaced once all is there, or to standard output (NULL). The status: 0, or 1 after a message. `put` returns false
 * after noting a fault, or with errno. */
int recorded_write(const char *file, bool (*put)(FILE *out, const void *context, struct fault *fault), const void *context);

#endif
