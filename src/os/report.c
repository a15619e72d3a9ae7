/* report.c: see report.h. SPDX-License-Identifier: MIT */
#include "os/report.h"

#include "os/prim.h"

void fatal(const char *line, const char *format, ...) {
    char buffer[640];
    struct text text = text_of(buffer, sizeof buffer);
    text_add(&text, "%s\nseemalloc: ", line);
    va_list args;
    va_start(args, format);
    text_add_va(&text, format, args);
    va_end(args);
    text_add(&text, "\n");
    prim_write(PRIM_STDERR, text.data, text.length);
    prim_abort();
}

void complain(const char *format, ...) {
    char buffer[640];
    struct text text = text_of(buffer, sizeof buffer);
    text_add(&text, "seemalloc: ");
    va_list args;
    va_start(args, format);
    text_add_va(&text, format, args);
    va_end(args);
    text_add(&text, "\n");
    prim_write(PRIM_STDERR, text.data, text.length);
}
