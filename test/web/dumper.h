/* dumper.h: what the dumper exports. A program that may run without it declares them weak, or looks them up.
 * SPDX-License-Identifier: MIT */
#ifndef TEST_WEB_DUMPER_H
#define TEST_WEB_DUMPER_H

/* Writes the heap as it is now: the page to $HEAP_DUMP from the template $HEAP_TEMPLATE and, if it is set, a plain list of the chunks to $HEAP_LIST: of
 * all, or of every n-th with $HEAP_LIST_STEP = n. Exits with a message and status 2 if that fails. */
void heap_dump(void) __attribute__((weak));

/* Adds a sample to the time line. */
void heap_sample(void) __attribute__((weak));

/* The calling thread's cache shall be shown. The thread must live until heap_dump. */
void heap_show_cache(void) __attribute__((weak));

#endif
