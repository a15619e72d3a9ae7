/* check.h: conditions that a test program states; a failure is printed and counted, and the program goes on.
 * SPDX-License-Identifier: MIT */
#ifndef CHECK_H
#define CHECK_H

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Printed without stdio's buffer: a check may run when there is no memory left. */
extern int check_failures;
void check_failed(const char *file, int line, const char *text);

#define CHECK(condition)                                                                                                                   \
    do {                                                                                                                                   \
        if (!(condition)) check_failed(__FILE__, __LINE__, #condition);                                                                    \
    } while (0)

/* Status for exit: the last line of main. */
int check_result(void);

/* Fails unless the program runs on seemalloc, or was told by --system (or CHECK_SYSTEM=1) that it does not. True if it does. */
int check_library(int argc, char **argv);

#endif
