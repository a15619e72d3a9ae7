/* report.c: see report.h. SPDX-License-Identifier: MIT */
#include "os/report.h"

#include "os/prim.h"

/* One write, so that what several threads say does not mix. */
static void say(const char *line, const char *format, va_list args) {
    char buffer[640];
    struct text text = text_of(buffer, sizeof buffer);
    text_add(&text, line != NULL ? "%s\nseemalloc: " : "%sseemalloc: ", line != NULL ? line : "");
    text_add_va(&text, format, args);
    text_add(&text, "\n");
    prim_write(PRIM_STDERR, text.data, text.length);
}

void fatal(const char *line, const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(line, format, args);
    va_end(args);
    prim_abort();
}

void complain(const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(NULL, format, args);
    va_end(args);
}
