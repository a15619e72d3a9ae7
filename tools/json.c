/* json.c: see json.h.
 * SPDX-License-Identifier: MIT */
#include "json.h"

/* The length of the UTF-8 sequence that begins here; 0 if none does. The forms that are longer than need be, and surrogates, are none. */
static int sequence_length(const unsigned char *text) {
    int length = text[0] < 0x80 ? 1 : text[0] < 0xc2 ? 0 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : text[0] < 0xf5 ? 4 : 0;
    for (int i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80) return 0;
    if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] >= 0xa0)) return 0;
    if ((text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] >= 0x90)) return 0;
    return length;
}

void json_string(FILE *out, const char *text) {
    putc('"', out);
    for (const unsigned char *at = (const unsigned char *)text; *at != '\0';) {
        int length = sequence_length(at);
        if (length == 0)
            fputs("\\ufffd", out);
        else if (*at == '"' || *at == '\\')
            fprintf(out, "\\%c", *at);
        else if (*at < 0x20 || *at == '<')
            fprintf(out, "\\u%04x", *at);
        else
            fwrite(at, 1, (size_t)length, out);
        at += length != 0 ? length : 1;
    }
    putc('"', out);
}

void json_text(FILE *out, const char *name, const char *text) {
    fprintf(out, "\"%s\": ", name);
    json_string(out, text);
}

void json_address(FILE *out, const char *name, uint64_t address) { fprintf(out, "\"%s\": \"0x%llx\"", name, (unsigned long long)address); }

void json_number(FILE *out, const char *name, uint64_t value) { fprintf(out, "\"%s\": %llu", name, (unsigned long long)value); }
