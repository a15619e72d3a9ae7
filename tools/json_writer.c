/* json_writer.c: see json_writer.h. SPDX-License-Identifier: MIT */
#include "json_writer.h"

#include <inttypes.h>

#include "json.h"

/* Whether what comes next has a line of its own. */
static bool is_row(const struct json_writer *json) {
    return !json->is_flat && json->depth != 0 && (json->rows == 0 || json->depth <= json->rows);
}

static void new_line(const struct json_writer *json) { fprintf(json->out, "\n%*s", 2 * (int)json->depth, ""); }

static void begin(struct json_writer *json, const char *name) {
    if (json->begun) putc(',', json->out);
    if (is_row(json)) {
        new_line(json);
    } else if (json->begun) {
        putc(' ', json->out);
    }
    json->begun = true;
    if (name == NULL) return;
    json_string(json->out, name);
    fputs(": ", json->out);
}

void writer_open(struct json_writer *json, const char *name, char bracket) {
    begin(json, name);
    putc(bracket, json->out);
    json->depth++;
    json->begun = false;
}

void writer_close(struct json_writer *json, char bracket) {
    bool rows = json->begun && is_row(json);
    json->depth--;
    if (rows) new_line(json);
    putc(bracket, json->out);
    json->begun = true;
    if (json->depth == 0) putc('\n', json->out);
}

void writer_text(struct json_writer *json, const char *name, const char *text) {
    begin(json, name);
    json_string(json->out, text);
}

void writer_number(struct json_writer *json, const char *name, uint64_t value) {
    begin(json, name);
    fprintf(json->out, "%" PRIu64, value);
}

void writer_signed(struct json_writer *json, const char *name, int64_t value) {
    begin(json, name);
    fprintf(json->out, "%" PRId64, value);
}

void writer_ratio(struct json_writer *json, const char *name, double value) {
    begin(json, name);
    fprintf(json->out, "%.4f", value);
}

void writer_flag(struct json_writer *json, const char *name, bool value) {
    begin(json, name);
    fputs(value ? "true" : "false", json->out);
}

void writer_address(struct json_writer *json, const char *name, uint64_t value) {
    begin(json, name);
    fprintf(json->out, "\"0x%" PRIx64 "\"", value);
}

void writer_null(struct json_writer *json, const char *name) {
    begin(json, name);
    fputs("null", json->out);
}
