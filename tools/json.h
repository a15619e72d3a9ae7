/* json.h: the few things that writing JSON takes. Addresses are strings of hexadecimal digits, because they exceed what JSON readers keep exactly.
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_JSON_H
#define SEEMALLOC_TOOL_JSON_H

#include <stdint.h>
#include <stdio.h>

/* A string in quotes. Bytes that are no UTF-8 become U+FFFD. `<` is escaped, so that the text can stand in an HTML script element. */
void json_string(FILE *out, const char *text);

/* "name": value, without a comma. */
void json_text(FILE *out, const char *name, const char *text);
void json_address(FILE *out, const char *name, uint64_t address);
void json_number(FILE *out, const char *name, uint64_t value);

#endif
