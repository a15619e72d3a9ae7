/* fault.c: see fault.h. SPDX-License-Identifier: MIT */
#include "reader/fault.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

bool fault_note(struct fault *fault, const char *format, ...) {
    if (fault == NULL || fault->text[0] != '\0') return false;
    va_list args;
    va_start(args, format);
    vsnprintf(fault->text, sizeof fault->text, format, args);
    va_end(args);
    return false;
}

void *need_memory(void *old, size_t count, size_t size) {
    void *memory = NULL;
    if (count < SIZE_MAX / 2 / size) memory = old != NULL ? realloc(old, count * size + 1) : calloc(count + 1, size);
    if (memory != NULL) return memory;
    fprintf(stderr, "seemalloc: no memory for %zu elements of %zu bytes\n", count, size);
    exit(1);
}

void *need_more(void *array, size_t count, size_t *room, size_t size) {
    if (count < *room) return array;
    *room = 2 * *room + 64;
    return need_memory(array, *room, size);
}
