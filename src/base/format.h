/* format.h: text into a fixed buffer without stdio, which may allocate and lock. Truncates, never overruns. SPDX-License-Identifier: MIT */
#ifndef BASE_FORMAT_H
#define BASE_FORMAT_H

#include <stdarg.h>

#include "base/base.h"

struct text {
    char *data;
    size_t size; /* capacity, terminating NUL included */
    size_t length;
    bool truncated;
};

static inline struct text text_of(char *data, size_t size) {
    data[0] = '\0';
    return (struct text){.data = data, .size = size};
}

/* Appends; understands %s %d %u %x %c %p %zu %lu %llu %ld %%, field width with optional '-' or '0', and nothing else. Thread-safe. */
void text_add(struct text *text, const char *format, ...) PRINTF_LIKE(2, 3);
void text_add_va(struct text *text, const char *format, va_list args);

#endif
