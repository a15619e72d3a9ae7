/* target.h: the program that `run` is to become: where it is, and whether a preload can reach it.
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_TARGET_H
#define SEEMALLOC_TOOL_TARGET_H

#include <limits.h>

/* Finds `name` as execvp does and checks it, and for a script its interpreters. Returns 0 with the path to execute in `path`, else, after a
 * message, the exit status that is customary for the fault. */
int target_find(const char *name, char path[PATH_MAX]);

#endif
