/* secure.h: whether the kernel would run a file in secure-execution mode, in which the loader drops LD_PRELOAD.
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_SECURE_H
#define SEEMALLOC_TOOL_SECURE_H

#include <stdbool.h>
#include <stddef.h>

/* True if the executable open at `fd` (not a script: the kernel ignores their bits) would run so; `why` then says what causes it. */
bool secure_execution(int fd, char *why, size_t size);

#endif
