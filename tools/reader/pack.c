/* pack.c: see pack.h. SPDX-License-Identifier: MIT */
#include "reader/pack.h"

#include <stdlib.h>
#include <string.h>

static void need_room(struct pack *pack, size_t size) {
    if (pack->room - pack->size >= size) return;
    pack->room = 2 * pack->room + size + 4096;
    pack->data = need_memory(pack->data, pack->room, 1);
}

void pack_bytes(struct pack *pack, const void *data, size_t size) {
    need_room(pack, size);
    memcpy(pack->data + pack->size, data, size);
    pack->size += size;
}

void pack_number(struct pack *pack, uint64_t value) {
    need_room(pack, 10);
    for (; value >= 128; value >>= 7) pack->data[pack->size++] = (uint8_t)(value | 128);
    pack->data[pack->size++] = (uint8_t)value;
}

static uint64_t fold(uint64_t value) { return value << 1 ^ (0 - (value >> 63)); } /* small negative numbers are small */
static uint64_t unfold(uint64_t value) { return value >> 1 ^ (0 - (value & 1)); }

static uint64_t get(const uint8_t *row, const struct pack_column *column) {
    uint64_t value = 0;
    memcpy(&value, row + column->offset, column->width); /* little-endian, as all machines that cores are read on */
    unsigned unused = 64 - 8 * (unsigned)column->width;
    return column->kind == PACK_SIGNED && unused != 0 ? (uint64_t)((int64_t)(value << unused) >> unused) : value;
}

/* False if the struct has no room for the value. */
static bool put(uint8_t *row, const struct pack_column *column, uint64_t value) {
    if (column->kind == PACK_FLAG && value > 1) return false;
    memcpy(row + column->offset, &value, column->width);
    return get(row, column) == value;
}

static void pack_column(struct pack *pack, const struct pack_column *column, const uint8_t *row, size_t step, size_t count) {
    uint64_t before = 0;
    for (size_t i = 0; i < count; i++, row += step) {
        if (column->kind == PACK_TEXT) {
            const char *text = (const char *)row + column->offset;
            size_t length = strnlen(text, column->width - 1);
            pack_number(pack, length);
            pack_bytes(pack, text, length);
            continue;
        }
        uint64_t value = get(row, column);
        pack_number(pack, column->kind == PACK_SIGNED ? fold(value) : column->kind == PACK_STEP ? fold(value - before) : value);
        before = value;
    }
}

void pack_table(struct pack *pack, const struct pack_table *table, const void *rows, size_t count) {
    struct pack bytes = {0};
    pack_bytes(pack, table->name, sizeof table->name);
    pack_number(pack, count);
    pack_number(pack, table->column_count);
    for (size_t i = 0; i < table->column_count; i++) {
        bytes.size = 0;
        pack_column(&bytes, &table->columns[i], rows, table->row, count);
        pack_bytes(pack, table->columns[i].name, sizeof table->columns[i].name);
        pack_number(pack, bytes.size);
        if (bytes.size != 0) pack_bytes(pack, bytes.data, bytes.size);
    }
    free(bytes.data);
}

/* --- and back ------------------------------------------------------------------------------------------------------------------------------------ */

bool unpack_number(struct unpack *unpack, uint64_t *value) {
    *value = 0;
    for (unsigned shift = 0; shift < 64 && unpack->at < unpack->end; shift += 7) {
        uint8_t byte = *unpack->at++;
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) return shift < 63 || byte < 2;
    }
    return false;
}

static bool unpack_text(struct unpack *unpack, char *text, size_t width) {
    uint64_t length;
    if (!unpack_number(unpack, &length) || length >= width || length > (uint64_t)(unpack->end - unpack->at)) return false;
    if (memchr(unpack->at, '\0', length) != NULL) return false;
    memcpy(text, unpack->at, length);
    text[length] = '\0';
    unpack->at += length;
    return true;
}

static bool unpack_column(struct unpack *unpack, const struct pack_column *column, uint8_t *row, size_t step, size_t count) {
    uint64_t before = 0, value;
    for (size_t i = 0; i < count; i++, row += step) {
        if (column->kind == PACK_TEXT) {
            if (!unpack_text(unpack, (char *)row + column->offset, column->width)) return false;
            continue;
        }
        if (!unpack_number(unpack, &value)) return false;
        if (column->kind == PACK_SIGNED || column->kind == PACK_STEP) value = unfold(value);
        if (column->kind == PACK_STEP) value += before;
        if (!put(row, column, value)) return false;
        before = value;
    }
    return unpack->at == unpack->end;
}

static const struct pack_column *column_of(const struct pack_table *table, const char *name) {
    for (size_t i = 0; i < table->column_count; i++) {
        if (strncmp(table->columns[i].name, name, sizeof table->columns[i].name) == 0) return &table->columns[i];
    }
    return NULL;
}

static bool take(struct unpack *unpack, void *to, size_t size) {
    if ((size_t)(unpack->end - unpack->at) < size) return false;
    memcpy(to, unpack->at, size);
    unpack->at += size;
    return true;
}

static bool unpack_columns(struct unpack *unpack, const struct pack_table *table, void *rows, uint64_t count, uint64_t columns) {
    for (uint64_t i = 0; i < columns; i++) {
        char name[sizeof table->name];
        uint64_t size;
        if (!take(unpack, name, sizeof name) || !unpack_number(unpack, &size) || size > (uint64_t)(unpack->end - unpack->at)) return false;
        struct unpack bytes = {unpack->at, unpack->at + size};
        unpack->at += size;
        if (size < count) return false;
        const struct pack_column *column = column_of(table, name);
        if (column != NULL && !unpack_column(&bytes, column, rows, table->row, count)) return false;
    }
    return true;
}

bool unpack_table(struct unpack *unpack, const struct pack_table *table, void **rows, size_t *count, struct fault *fault) {
    char name[sizeof table->name];
    uint64_t number, columns;
    *rows = NULL;
    *count = 0;
    bool good = take(unpack, name, sizeof name) && memcmp(name, table->name, sizeof name) == 0 && unpack_number(unpack, &number) &&
                unpack_number(unpack, &columns) && number <= (uint64_t)(unpack->end - unpack->at) && (columns != 0 || number == 0);
    if (good) {
        *rows = need_memory(NULL, number, table->row);
        *count = number;
        good = unpack_columns(unpack, table, *rows, number, columns);
    }
    if (good) return true;
    free(*rows);
    *rows = NULL;
    *count = 0;
    return fault_note(fault, "its table \"%.*s\" is damaged", (int)sizeof table->name, table->name);
}
