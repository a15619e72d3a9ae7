/* pack.h: arrays of structs as compact bytes and back: docs/snapshot.md says how they look. A table is described by its columns, once for both ways.
 *
 * Unpacking trusts nothing: no number leads out of the bytes, and no more rows are made than there are bytes.
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_PACK_H
#define SEEMALLOC_READER_PACK_H

#include "reader/fault.h"

#include <stdint.h>

enum pack_kind {
    PACK_NUMBER, /* unsigned */
    PACK_FLAG,   /* a bool */
    PACK_SIGNED,
    PACK_STEP, /* the difference to the row before: for addresses and other numbers that are near each other */
    PACK_TEXT  /* an array of char that ends with '\0' */
};

struct pack_column {
    char name[16];
    size_t offset, width; /* in the struct */
    enum pack_kind kind;
};

#define PACK_COLUMN(type, member, how)                                                                                                     \
    { #member, offsetof(type, member), sizeof((type *)0)->member, how }

struct pack_table {
    char name[16];
    size_t row; /* size of the struct */
    const struct pack_column *columns;
    size_t column_count;
};

/* Bytes that grow. Free `data`. */
struct pack {
    uint8_t *data;
    size_t size, room;
};
void pack_number(struct pack *pack, uint64_t value);
void pack_bytes(struct pack *pack, const void *data, size_t size);
void pack_table(struct pack *pack, const struct pack_table *table, const void *rows, size_t count);

/* Bytes that are read, up to `end`. */
struct unpack {
    const uint8_t *at, *end;
};
bool unpack_number(struct unpack *unpack, uint64_t *value);

/* The next table, which must be this one: rows that the caller frees, zero where the bytes have no column of a name; columns that are not known are passed
 * over. False after noting what is wrong; *rows is NULL then. */
bool unpack_table(struct unpack *unpack, const struct pack_table *table, void **rows, size_t *count, struct fault *fault);

#endif
