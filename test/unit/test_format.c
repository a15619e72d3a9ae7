/* test_format.c: base/format against the C library's snprintf. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "base/format.h"

#include <stdio.h>
#include <string.h>

#define SAME(...)                                                                                                                          \
    do {                                                                                                                                   \
        char ours[256], theirs[256];                                                                                                       \
        struct text text = text_of(ours, sizeof ours);                                                                                     \
        text_add(&text, __VA_ARGS__);                                                                                                      \
        snprintf(theirs, sizeof theirs, __VA_ARGS__);                                                                                      \
        CHECK_TEXT(ours, theirs);                                                                                                          \
        CHECK_EQ(text.length, strlen(theirs));                                                                                             \
        CHECK(!text.truncated);                                                                                                            \
    } while (0)

static void conversions(void) {
    static const uint64_t numbers[] = {0,           1,
                                       9,           10,
                                       15,          16,
                                       255,         256,
                                       4096,        65535,
                                       0x7fffffff,  0x80000000u,
                                       0xffffffffu, (uint64_t)1 << 32,
                                       INT64_MAX,   (uint64_t)1 << 63,
                                       UINT64_MAX};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        uint64_t n = numbers[i];
        SAME("%d %u %x", (int)n, (unsigned)n, (unsigned)n);
        SAME("%lu %zu %llu %ld", (unsigned long)n, (size_t)n, (unsigned long long)n, (long)n);
        SAME("%lx %zx", (unsigned long)n, (size_t)n);
        SAME("[%5d] [%-5d] [%05u] [%20lu] [%-20lu] [%020lx]", (int)n, (int)n, (unsigned)n, (unsigned long)n, (unsigned long)n,
             (unsigned long)n);
    }
    SAME("%s|%s|%10s|%-10s|%2s", "", "abc", "abc", "abc", "abc");
    SAME("%c%c 100%% %d", 'x', '%', -1);
    SAME("%p", (void *)0x7fff12345678);
    SAME("no conversions, a lone\nline break");
}

static void truncation(void) {
    for (size_t size = 1; size < 12; size++) {
        char data[32];
        memset(data, '#', sizeof data);
        struct text text = text_of(data, size);
        text_add(&text, "%s", "0123456789");
        CHECK_EQ(text.truncated, size < 11);
        size_t length = size < 11 ? size - 1 : 10;
        CHECK_EQ(text.length, length);
        CHECK(memcmp(data, "0123456789", length) == 0 && data[length] == '\0');
        for (size_t i = size; i < sizeof data; i++) CHECK_EQ(data[i], '#');
        text_add(&text, "more"); /* nor later */
        CHECK(data[size] == '#');
    }
}

static void appending(void) {
    char data[64];
    struct text text = text_of(data, sizeof data);
    CHECK_TEXT(data, "");
    text_add(&text, "a%d", 1);
    text_add(&text, "b%d", 2);
    CHECK_TEXT(data, "a1b2");
}

UNIT_MAIN({"conversions", conversions}, {"truncation", truncation}, {"appending", appending})
