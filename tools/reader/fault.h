/* fault.h: what went wrong, in words for the user. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_FAULT_H
#define SEEMALLOC_READER_FAULT_H

#include <stdbool.h>
#include <stddef.h>

struct fault {
    char text[512]; /* empty: nothing */
};

/* Notes the first fault; later ones follow from it. Returns false, so that a function can end with it. `fault` may be NULL. */
bool fault_note(struct fault *fault, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* calloc and realloc for arrays, that end the command with a message where there is no memory: nothing sensible can follow. */
void *need_memory(void *old, size_t count, size_t size);

/* Room for one element more than `count` in an array that grows; *room is what there is, 0 of a NULL array. */
void *need_more(void *array, size_t count, size_t *room, size_t size);

#endif
