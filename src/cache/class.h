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
#define CLASS_SIZE_ABOVE(size_class)                                                                                                       \
    ((size_t)(16 + ((size_class)-CLASS_EXACT) % 16) << (6 + ((size_class)-CLASS_EXACT) / 16)) /* not exact */
#define CLASS_SIZE_MAX CLASS_SIZE_ABOVE(CLASS_COUNT - 1)

static inline size_t class_size(unsigned size_class) {
    return size_class <= CLASS_EXACT ? (size_t)size_class * 16 : CLASS_SIZE_ABOVE(size_class);
}

/* The class for a request of `bytes`, at most CLASS_EXACT_SIZE - CHUNK_OVERHEAD; the smallest chunk is of class 2. */
static ALWAYS_INLINE size_t class_of_small(size_t bytes) {
    size_t size_class = (bytes + CHUNK_OVERHEAD + CHUNK_ALIGN - 1) / CHUNK_ALIGN, least = 2;
    __asm__("" : "+r"(size_class), "+r"(least)); /* as it stands, gcc makes it compare and add with carry: three instructions less */
    return size_class + (size_class < least);
}

/* The class for a chunk of `size` bytes that was asked for, and the class that one of `size` bytes serves, both beyond the exact ones; at most
 * CLASS_SIZE_MAX. With `bit` = log2 of size, size >> (bit - 4) is 16 to 31: sixteen classes to the doubling. */
static ALWAYS_INLINE unsigned class_at_least(size_t size) {
    unsigned bit = top_bit(size - 1);
    return CLASS_EXACT + (bit - 10) * 16 + (unsigned)((size - 1) >> (bit - 4)) - 15;
}
static ALWAYS_INLINE unsigned class_at_most(size_t size) {
    unsigned bit = top_bit(size);
    return CLASS_EXACT + (bit - 10) * 16 + (unsigned)(size >> (bit - 4)) - 16;
}

/* The same for all sizes. */
static inline unsigned class_above(size_t size) { return size <= CLASS_EXACT_SIZE ? (unsigned)(size / 16) : class_at_least(size); }
static inline unsigned class_below(size_t size) { return size <= CLASS_EXACT_SIZE ? (unsigned)(size / 16) : class_at_most(size); }

#endif
