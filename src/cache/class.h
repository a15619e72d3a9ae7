/* class.h: size classes of the thread cache: chunk sizes, exact to 1 KiB, then sixteen to a doubling.
 *
 *   class 2..64    16 · class           32, 48, … 1024
 *   class 65..     (16 + k%16) << (6 + k/16), k = class - 64     1088, 1152, … 2048, 2176, …
 *
 * A request takes the smallest class that holds it; a block goes into the largest class that it can serve. SPDX-License-Identifier: MIT */
#ifndef CACHE_CLASS_H
#define CACHE_CLASS_H

#include "heap/chunk.h"

#define CLASS_EXACT 64u /* the last exact class */
#define CLASS_EXACT_SIZE (16 * CLASS_EXACT)
#define CLASS_COUNT 178u /* the last one holds a request of 128 KiB */
#define CLASS_SIZE_MAX ((16 + (CLASS_COUNT - 1 - CLASS_EXACT) % 16) << (6 + (CLASS_COUNT - 1 - CLASS_EXACT) / 16))

static inline size_t class_size(unsigned size_class) {
    unsigned k = size_class - CLASS_EXACT;
    return size_class <= CLASS_EXACT ? (size_t)size_class * 16 : (size_t)(16 + k % 16) << (6 + k / 16);
}

/* The class for a request whose chunk has `size` bytes; size at most CLASS_SIZE_MAX. */
static ALWAYS_INLINE unsigned class_above(size_t size) {
    if (LIKELY(size <= CLASS_EXACT_SIZE)) return (unsigned)(size / 16);
    unsigned top = top_bit(size - 1);
    return CLASS_EXACT + (top - 10) * 16 + (unsigned)((size - 1) >> (top - 4)) - 15;
}

/* The class that a chunk of `size` bytes serves. */
static ALWAYS_INLINE unsigned class_below(size_t size) {
    if (LIKELY(size <= CLASS_EXACT_SIZE)) return (unsigned)(size / 16);
    unsigned top = top_bit(size);
    return CLASS_EXACT + (top - 10) * 16 + (unsigned)(size >> (top - 4)) - 16;
}

#endif
