/* format.c: a printf of the size that an allocator needs. SPDX-License-Identifier: MIT */
#include "base/format.h"

static void add_char(struct text *text, char c) {
    if (text->length + 1 >= text->size) {
        text->truncated = true;
        return;
    }
    text->data[text->length++] = c;
    text->data[text->length] = '\0';
}

static void add_padded(struct text *text, const char *s, size_t length, size_t width, bool left, char pad) {
    size_t gap = width > length ? width - length : 0;
    for (size_t i = 0; !left && i < gap; i++) add_char(text, pad);
    for (size_t i = 0; i < length; i++) add_char(text, s[i]);
    for (size_t i = 0; left && i < gap; i++) add_char(text, ' ');
}

static void add_number(struct text *text, uint64_t n, bool negative, unsigned base, bool address, size_t width, bool left, char pad) {
    char digits[32];
    size_t at = sizeof digits;
    do {
        digits[--at] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n != 0);
    if (address) {
        digits[--at] = 'x';
        digits[--at] = '0';
    }
    if (negative) digits[--at] = '-';
    add_padded(text, digits + at, sizeof digits - at, width, left, pad);
}

void text_add_va(struct text *text, const char *format, va_list args) {
    for (const char *f = format; *f != '\0'; f++) {
        if (*f != '%') {
            add_char(text, *f);
            continue;
        }
        f++;
        bool left = false;
        char pad = ' ';
        size_t width = 0;
        for (; *f == '-' || *f == '0'; f++) {
            if (*f == '-') left = true;
            if (*f == '0') pad = '0';
        }
        for (; *f >= '0' && *f <= '9'; f++) width = width * 10 + (size_t)(*f - '0');
        unsigned longs = 0;
        for (; *f == 'l' || *f == 'z'; f++) longs++;
        switch (*f) {
        case 's': {
            const char *s = va_arg(args, const char *);
            if (s == NULL) s = "(null)";
            add_padded(text, s, __builtin_strlen(s), width, left, ' ');
            break;
        }
        case 'c': {
            char c = (char)va_arg(args, int);
            add_padded(text, &c, 1, width, left, ' ');
            break;
        }
        case 'd': {
            int64_t n = longs ? va_arg(args, long) : va_arg(args, int);
            add_number(text, n < 0 ? -(uint64_t)n : (uint64_t)n, n < 0, 10, false, width, left, pad);
            break;
        }
        case 'u':
        case 'x': {
            uint64_t n = longs ? va_arg(args, unsigned long) : va_arg(args, unsigned);
            add_number(text, n, false, *f == 'u' ? 10 : 16, false, width, left, pad);
            break;
        }
        case 'p': add_number(text, (uintptr_t)va_arg(args, void *), false, 16, true, width, left, ' '); break;
        case '%': add_char(text, '%'); break;
        default: add_char(text, '?'); return; /* not understood: stop, the argument's type is unknown */
        }
    }
}

void text_add(struct text *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    text_add_va(text, format, args);
    va_end(args);
}
