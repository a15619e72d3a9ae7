/* json_writer.h: JSON, written piece by piece (the strings by json.h); commas and indentation are kept here. Sizes are numbers of bytes, addresses strings of
 * hexadecimal digits (they exceed what JSON readers keep exactly). SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_JSON_WRITER_H
#define SEEMALLOC_TOOL_JSON_WRITER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct json_writer {
    FILE *out;
    unsigned depth;
    unsigned rows; /* what stands deeper than in so many brackets stands on one line; 0: each value has its own */
    bool is_flat;  /* all stands on one line */
    bool begun;    /* something stands in the innermost brackets already */
};

/* `name` is NULL in an array and at the top. */
void writer_open(struct json_writer *json, const char *name, char bracket); /* '{' or '[' */
void writer_close(struct json_writer *json, char bracket);                  /* '}' or ']' */
void writer_text(struct json_writer *json, const char *name, const char *text);
void writer_number(struct json_writer *json, const char *name, uint64_t value);
void writer_signed(struct json_writer *json, const char *name, int64_t value);
void writer_ratio(struct json_writer *json, const char *name, double value);
void writer_flag(struct json_writer *json, const char *name, bool value);
void writer_address(struct json_writer *json, const char *name, uint64_t value);
void writer_null(struct json_writer *json, const char *name);

#endif
