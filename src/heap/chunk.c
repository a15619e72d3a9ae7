/* chunk.c: the secrets. SPDX-License-Identifier: MIT */
#include "heap/chunk.h"

#include "os/os.h"

struct seal_secrets seal __attribute__((aligned(CACHE_LINE)));

void seal_init(void) {
    seal.s1 = os_random() | 1; /* odd: multiplication loses no bit */
    seal.s2 = os_random() | 1;
    seal.key = os_random() | 1;               /* never 0, which is what a cleared key reads */
    seal.link = os_random() & ~(uint64_t)0xf; /* keeps the low bits, so that misaligned links show */
}
