/* report.h: the last words. SPDX-License-Identifier: MIT */
#ifndef OS_REPORT_H
#define OS_REPORT_H

#include "base/format.h"

/* Writes `line` as it is, then "seemalloc: " and the formatted explanation, to standard error with raw calls, and aborts. The first line is
 * glibc's message, which scripts and people look for; the second says what was found where, what was expected, and what to do. May be called
 * with a lock held: a handler of SIGABRT that allocates is sent elsewhere by lock_enter. */
_Noreturn void fatal(const char *line, const char *format, ...) PRINTF_LIKE(2, 3);

/* Writes "seemalloc: " and one formatted line to standard error. For settings that can't be obeyed. */
void complain(const char *format, ...) PRINTF_LIKE(1, 2);

#endif
