/* unit.h: the few words that the unit tests are written in. Every test runs in a process of its own, so each meets the allocator as it is when a
 * program starts, and a test that dies doesn't take the others with it. SPDX-License-Identifier: MIT */
#ifndef UNIT_UNIT_H
#define UNIT_UNIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct unit_test {
    const char *name;
    void (*run)(void);
};

/* Runs all, or those named on the command line. Returns the exit status. */
int unit_main(int argc, char **argv, const struct unit_test *tests, size_t count);
#define UNIT_MAIN(...)                                                                                                                     \
    int main(int argc, char **argv) {                                                                                                      \
        static const struct unit_test tests[] = {__VA_ARGS__};                                                                             \
        return unit_main(argc, argv, tests, sizeof tests / sizeof tests[0]);                                                               \
    }

_Noreturn void unit_fail(const char *file, int line, const char *format, ...) __attribute__((format(printf, 3, 4)));

#define CHECK(condition)                                                                                                                   \
    do {                                                                                                                                   \
        if (!(condition)) unit_fail(__FILE__, __LINE__, "%s", #condition);                                                                 \
    } while (0)

/* Integers and pointers: shows both. */
#define CHECK_EQ(found, expected)                                                                                                          \
    do {                                                                                                                                   \
        uint64_t found_ = (uint64_t)(found), expected_ = (uint64_t)(expected);                                                             \
        if (found_ != expected_)                                                                                                           \
            unit_fail(__FILE__, __LINE__, "%s: found %llu (0x%llx), expected %s = %llu (0x%llx)", #found, (unsigned long long)found_,      \
                      (unsigned long long)found_, #expected, (unsigned long long)expected_, (unsigned long long)expected_);                \
    } while (0)

#define CHECK_TEXT(found, expected) unit_check_text(__FILE__, __LINE__, #found, found, expected)
void unit_check_text(const char *file, int line, const char *what, const char *found, const char *expected);

/* All invariants of the heap and of the fake system. */
#define CHECK_HEAP() unit_check_heap(__FILE__, __LINE__)
void unit_check_heap(const char *file, int line);

/* Runs `run(arg)` in a child, which must abort with `line` as the first line on standard error and an explanation of ours as the second. */
#define CHECK_ABORTS(run, arg, expected) unit_check_aborts(__FILE__, __LINE__, run, arg, expected)
void unit_check_aborts(const char *file, int line, void (*run)(void *), void *arg, const char *expected);

/* Runs `run(arg)` in a thread and waits for its end. */
void unit_in_thread(void (*run)(void *), void *arg);

uint64_t unit_random(uint64_t *state);

#endif
