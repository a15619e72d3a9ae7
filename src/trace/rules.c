/* rules.c: see rules.h. The format of the tables: DWARF 5, section 6.4, and the Linux Standard Base, "Exception Frames". SPDX-License-Identifier: MIT */
#include "trace/rules.h"

#ifdef RULES_COMPILED

#include <string.h>

struct rule_entry rules[RULES];

/* libgcc's, of which this library has a copy. */
struct dwarf_eh_bases {
    void *text, *data, *function;
};
extern const void *_Unwind_Find_FDE(void *address, struct dwarf_eh_bases *bases);

#define REGISTER_RBP 6
#define REGISTER_RSP 7
#define REGISTER_RETURN 16
#define STATES 4
#define OFFSET_MOST (1u << 28)

/* Where a register was saved. */
enum saved { SAVED_SAME, SAVED_AT, SAVED_UNDEFINED, SAVED_OTHER };

struct row {
    unsigned cfa_register;
    int64_t cfa_offset;
    bool cfa_is_expression;
    enum saved rbp, ra;
    int64_t rbp_at, ra_at; /* from the CFA */
};

struct reader {
    const uint8_t *at, *end;
    int64_t code_align, data_align;
    bool failed;
};

static uint64_t read_fixed(struct reader *reader, unsigned bytes) {
    uint64_t value = 0;
    if ((size_t)(reader->end - reader->at) < bytes) {
        reader->failed = true;
        return 0;
    }
    memcpy(&value, reader->at, bytes);
    reader->at += bytes;
    return value;
}

static uint64_t read_leb(struct reader *reader, bool is_signed) {
    uint64_t value = 0;
    for (unsigned shift = 0; reader->at < reader->end && shift < 64; shift += 7) {
        uint8_t byte = *reader->at++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte & 0x80) continue;
        if (is_signed && (byte & 0x40) && shift + 7 < 64) value |= ~(uint64_t)0 << (shift + 7);
        return value;
    }
    reader->failed = true;
    return 0;
}
static uint64_t read_unsigned(struct reader *reader) { return read_leb(reader, false); }
static int64_t read_signed(struct reader *reader) { return (int64_t)read_leb(reader, true); }

static void save(struct row *row, uint64_t number, enum saved how, int64_t at) {
    if (number == REGISTER_RBP) row->rbp = how, row->rbp_at = at;
    if (number == REGISTER_RETURN) row->ra = how, row->ra_at = at;
}

static void restore(struct row *row, const struct row *first, uint64_t number) {
    if (number == REGISTER_RBP) row->rbp = first->rbp, row->rbp_at = first->rbp_at;
    if (number == REGISTER_RETURN) row->ra = first->ra, row->ra_at = first->ra_at;
}

static void skip_expression(struct reader *reader) {
    uint64_t length = read_unsigned(reader);
    if (length > (size_t)(reader->end - reader->at)) {
        reader->failed = true;
    } else {
        reader->at += length;
    }
}

/* Instructions with a register in the low bits of their code, or none. Returns how far the address advances. */
static uint64_t run_packed(struct reader *reader, struct row *row, const struct row *first, uint8_t code) {
    uint64_t low = code & 0x3f;
    if (code >> 6 == 1) return low * (uint64_t)reader->code_align;
    if (code >> 6 == 2) save(row, low, SAVED_AT, (int64_t)read_unsigned(reader) * reader->data_align);
    if (code >> 6 == 3) restore(row, first, low);
    return 0;
}

/* Those that say where a register is. */
static void run_register(struct reader *reader, struct row *row, const struct row *first, uint8_t code) {
    uint64_t number = read_unsigned(reader);
    switch (code) {
    case 0x05: save(row, number, SAVED_AT, (int64_t)read_unsigned(reader) * reader->data_align); break; /* offset_extended */
    case 0x06: restore(row, first, number); break;                                                      /* restore_extended */
    case 0x07: save(row, number, SAVED_UNDEFINED, 0); break;                                            /* undefined */
    case 0x08: save(row, number, SAVED_SAME, 0); break;                                                 /* same_value */
    case 0x09: save(row, number, SAVED_OTHER, (int64_t)read_unsigned(reader)); break;                   /* register */
    case 0x10:                                                                                          /* expression */
    case 0x16:                                                                                          /* val_expression */
        save(row, number, SAVED_OTHER, 0);
        skip_expression(reader);
        break;
    case 0x11: save(row, number, SAVED_AT, read_signed(reader) * reader->data_align); break; /* offset_extended_sf */
    case 0x14: save(row, number, SAVED_OTHER, (int64_t)read_unsigned(reader)); break;        /* val_offset */
    case 0x15: save(row, number, SAVED_OTHER, read_signed(reader)); break;                   /* val_offset_sf */
    default: reader->failed = true;
    }
}

/* Those that say where the CFA is. */
static void run_cfa(struct reader *reader, struct row *row, uint8_t code) {
    row->cfa_is_expression = code == 0x0f;
    if (code == 0x0c || code == 0x0d || code == 0x12) row->cfa_register = (unsigned)read_unsigned(reader);
    if (code == 0x0c || code == 0x0e) row->cfa_offset = (int64_t)read_unsigned(reader);
    if (code == 0x12 || code == 0x13) row->cfa_offset = read_signed(reader) * reader->data_align;
    if (code == 0x0f) skip_expression(reader);
}

/* Runs instructions until the address would be beyond `target`. `first`: the row that the function begins with. */
static void run_until(struct reader *reader, struct row *row, const struct row *first, uint64_t address, uint64_t target) {
    struct row states[STATES];
    unsigned depth = 0;
    while (reader->at < reader->end && !reader->failed) {
        uint8_t code = *reader->at++;
        uint64_t advance = 0;
        if (code >> 6 != 0) {
            advance = run_packed(reader, row, first, code);
        } else if (code == 0) {                    /* nop */
        } else if (code >= 0x02 && code <= 0x04) { /* advance_loc1, 2, 4 */
            advance = read_fixed(reader, 1u << (code - 2)) * (uint64_t)reader->code_align;
        } else if (code == 0x0a && depth < STATES) { /* remember_state */
            states[depth++] = *row;
        } else if (code == 0x0b && depth > 0) { /* restore_state */
            *row = states[--depth];
        } else if (code == 0x2e) { /* GNU_args_size */
            read_unsigned(reader);
        } else if (code >= 0x0c && code <= 0x13 && code != 0x10 && code != 0x11) {
            run_cfa(reader, row, code);
        } else {
            run_register(reader, row, first, code);
        }
        address += advance;
        if (address > target) return;
    }
}

/* Of the pointers that CIE and FDE hold only the size matters. */
static unsigned encoded_bytes(uint8_t encoding) {
    switch (encoding & 0x07) {
    case 0x00:
    case 0x04: return 8;
    case 0x02: return 2;
    case 0x03: return 4;
    default: return 0;
    }
}

struct cie {
    struct reader reader; /* its instructions */
    uint8_t encoding;     /* of addresses in the FDE */
    bool has_data, is_signal;
};

static bool read_cie(const uint8_t *at, struct cie *cie) {
    uint32_t length;
    memcpy(&length, at, sizeof length);
    struct reader *reader = &cie->reader;
    *cie = (struct cie){.reader = {.at = at + 8, .end = at + 4 + length}};
    if (length == 0 || length == UINT32_MAX) return false;
    uint8_t version = (uint8_t)read_fixed(reader, 1);
    const char *letters = (const char *)reader->at;
    reader->at += strlen(letters) + 1;
    if (reader->at > reader->end || (version != 1 && version != 3)) return false;
    reader->code_align = (int64_t)read_unsigned(reader);
    reader->data_align = read_signed(reader);
    uint64_t return_register = version == 1 ? read_fixed(reader, 1) : read_unsigned(reader);
    if (letters[0] != 'z' || return_register != REGISTER_RETURN) return false;
    uint64_t size = read_unsigned(reader);
    const uint8_t *instructions = reader->at + size;
    if (reader->failed || size > (size_t)(reader->end - reader->at)) return false;
    cie->has_data = true;
    for (letters++; *letters != '\0'; letters++) {
        if (*letters == 'R') {
            cie->encoding = (uint8_t)read_fixed(reader, 1);
        } else if (*letters == 'P') {
            uint8_t encoding = (uint8_t)read_fixed(reader, 1);
            if ((encoding & 0x70) == 0x50 || encoded_bytes(encoding) == 0) return false;
            read_fixed(reader, encoded_bytes(encoding));
        } else if (*letters == 'L') {
            read_fixed(reader, 1);
        } else if (*letters == 'S') {
            cie->is_signal = true;
        } else {
            return false;
        }
    }
    reader->at = instructions;
    return !reader->failed;
}

static unwind_rule rule_of_row(const struct row *row) {
    if (row->ra == SAVED_UNDEFINED) return UNWIND_END;
    bool by_stack = row->cfa_register == REGISTER_RSP;
    if (row->cfa_is_expression || (!by_stack && row->cfa_register != REGISTER_RBP) || row->cfa_offset < 8 ||
        row->cfa_offset >= OFFSET_MOST || row->ra != SAVED_AT || row->ra_at != -8)
        return UNWIND_OTHER;
    if (row->rbp != SAVED_SAME && (row->rbp != SAVED_AT || row->rbp_at >= 0 || row->rbp_at <= -(int64_t)OFFSET_MOST)) return UNWIND_OTHER;
    uint64_t saved = row->rbp == SAVED_AT ? (uint64_t)-row->rbp_at : 0;
    return (by_stack ? UNWIND_BY_STACK : UNWIND_BY_FRAME) | (uint64_t)row->cfa_offset << 3 | saved << 32;
}

static unwind_rule read_rule(uint64_t address) {
    struct dwarf_eh_bases bases;
    const uint8_t *fde = _Unwind_Find_FDE((void *)(uintptr_t)(address - 1), &bases);
    if (fde == NULL) return UNWIND_END; /* as the unwinder does: no tables, no callers */
    uint32_t length, back;
    memcpy(&length, fde, sizeof length);
    memcpy(&back, fde + 4, sizeof back);
    struct cie cie;
    if (length == UINT32_MAX || !read_cie(fde + 4 - back, &cie) || cie.is_signal) return UNWIND_OTHER;
    struct reader reader = {fde + 8, fde + 4 + length, cie.reader.code_align, cie.reader.data_align, false};
    unsigned bytes = encoded_bytes(cie.encoding);
    read_fixed(&reader, 2 * bytes); /* begin and length: the unwinder has read them */
    uint64_t size = read_unsigned(&reader);
    if (bytes == 0 || reader.failed || size > (size_t)(reader.end - reader.at)) return UNWIND_OTHER;
    reader.at += size;
    struct row row = {.cfa_register = REGISTER_RSP};
    run_until(&cie.reader, &row, &row, 0, 0);
    struct row first = row;
    run_until(&reader, &row, &first, (uint64_t)(uintptr_t)bases.function, address - 1);
    return cie.reader.failed || reader.failed ? UNWIND_OTHER : rule_of_row(&row);
}

NOINLINE unwind_rule rule_find(uint64_t address) {
    unwind_rule found = read_rule(address);
    struct rule_entry *entry = &rules[(address ^ address >> 14) % RULES];
    store_relaxed(&entry->rule, found);
    store_relaxed(&entry->check, address ^ found);
    return found;
}

#endif
