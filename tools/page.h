/* page.h: what the pages with data in them share: the place of the data in a template, base64, and streams that compress what is printed to them.
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_PAGE_H
#define SEEMALLOC_TOOL_PAGE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The one place of the data in a template of `length` bytes, a comment, and what follows it. NULL if there is none, or two. */
const char *page_place(const char *page, size_t length, const char *comment, const char **rest);

/* Writes 4 characters for 3 bytes, without an end of the string; returns where they end. */
char *page_base64(char *to, const uint8_t *bytes, size_t length);

/* A stream whose content arrives compressed on `out`: as a gzip file, or as base64 of a zlib stream. fclose ends it and leaves `out` open; it and ferror of
 * `out` tell what failed. NULL with errno. */
enum page_stream { PAGE_GZIP, PAGE_BASE64 };
FILE *page_stream_open(FILE *out, enum page_stream kind);

#endif
