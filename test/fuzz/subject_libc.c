/* subject_libc.c: the system's malloc, on which the player must find nothing. SPDX-License-Identifier: MIT */
#include "subject.h"

#include <malloc.h>
#include <stdlib.h>

static void statistics(bool alone) {
    (void)alone;
    (void)mallinfo2();
}

const struct subject subject_libc = {
    .name = "the system's malloc",
    .malloc = malloc,
    .calloc = calloc,
    .realloc = realloc,
    .memalign = memalign,
    .aligned_alloc = aligned_alloc,
    .posix_memalign = posix_memalign,
    .free = free,
    .usable = malloc_usable_size,
    .trim = malloc_trim,
    .mallopt = mallopt,
    .statistics = statistics,
};
