/* fuzz_reader.h: what fuzz_reader.c has for fuzz_recording.c, and back. SPDX-License-Identifier: MIT */
#ifndef FUZZ_READER_H
#define FUZZ_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A number below `sides`. */
uint64_t fuzz_dice(uint64_t sides);

/* Changes up to 8 bytes at `to`, of which `left` are there, to something odd, or to other 8 of the `size` bytes of `data`; how many. */
size_t fuzz_change(uint8_t *to, size_t left, const uint8_t *data, size_t size);

/* Runs a command; `words` end with NULL. Its status. */
int fuzz_run(int (*command)(int argc, char **argv), const char *const *words);

/* Whether these are the bytes of a recording. */
bool fuzz_is_recording(const uint8_t *data, size_t size);

/* Changes a recording, writes it to `fd`, and lets a command read it: whether it did. */
bool fuzz_recording_round(const uint8_t *data, size_t size, int fd);

#endif
