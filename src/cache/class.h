/* class.h: size classes of the thread cache: chunk sizes, exact to 1 KiB, then sixteen to a doubling.
 *
 *   class 2..64    16 · class           32, 48, … 1024
 *   class 65..     16 + ((16 + k%16) << (6 + k/16)), k = class - 65     1040, 1104, … 2064, 2192, …
 *
 * The 16 above a round number: a request of a power of two, which many are, takes a chunk of its size and the header, and that is a class.
 *
 * A request takes the smallest class that holds it; a block goes into the largest class that it can serve. SPDX-License-Identifier: MIT */
#ifndef CACHE_CLASS_H
#define CACHE_CLASS_H

#include "heap/chunk.h"

#define CLASS_EXACT 64u /* the last exact class */
#define CLASS_EXACT_SIZE (16 * CLASS_EXACT)
#define CLASS_COUNT 178u /* the last one holds a request of 128 KiB */
#define CLASS_SIZE_ABOVE(size_class)                                                                                                       \
    (16 + ((size_t)(16 + ((size_class)-CLASS_EXACT - 1) % 16) << (6 + ((size_class)-CLASS_EXACT - 1) / 16))) /* not exact */
#define CLASS_SIZE_MAX CLASS_SIZE_ABOVE(CLASS_COUNT - 1)

static inline size_t class_size(unsigned size_class) {
    return size_class <= CLASS_EXACT ? (size_t)size_class * 16 : CLASS_SIZE_ABOVE(size_class);
}

/* The class for a request of `bytes`, at most CLASS_EXACT_SIZE - CHUNK_OVERHEAD; the smallest chunk is of class 2. */
static ALWAYS_INLINE size_t class_of_small(size_t bytes) {
    size_t size_class = (bytes + CHUNK_OVERHEAD + CHUNK_ALIGN - 1) / CHUNK_ALIGN;
    enum { FITS = CHUNK_MIN - CHUNK_OVERHEAD - CHUNK_ALIGN }; /* as many bytes in the smallest chunk would be of class 1 */
#ifdef __x86_64__
    /* One more where bytes <= FITS: the carry. (In rdx, so that rax is free for the block.) */
    __asm__("cmp %2, %1\n\tadc $0, %0" : "+d"(size_class) : "r"(bytes), "i"(FITS + 1) : "cc");
    return size_class;
#else
    return size_class + (bytes <= FITS);
#endif
}

/* The number of a round number n among the sixteen to each doubling: n * 16 >> bit is 16 to 31. */
static ALWAYS_INLINE unsigned class_sixteenths(size_t n) {
    unsigned bit = top_bit(n);
    return bit * 16 + (unsigned)(n * 16 >> bit);
}
#define CLASS_FIRST_ABOVE (10 * 16 + 15 - CLASS_EXACT) /* of 1 KiB, less the number of its class */

/* The class for a chunk of `size` bytes that was asked for, and the class that one of `size` bytes serves, both beyond the exact ones; at most
 * CLASS_SIZE_MAX. */
static ALWAYS_INLINE unsigned class_at_least(size_t size) { return class_sixteenths(size - 17) + 1 - CLASS_FIRST_ABOVE; }
static ALWAYS_INLINE unsigned class_at_most(size_t size) { return class_sixteenths(size - 16) - CLASS_FIRST_ABOVE; }

/* Bits of the round number that a class is named after. */
static inline unsigned class_bits(unsigned size_class) {
    return top_bit(class_size(size_class) - (size_class <= CLASS_EXACT ? 1 : 17)) + 1;
}

/* The same for all sizes. */
static inline unsigned class_above(size_t size) { return size <= CLASS_EXACT_SIZE ? (unsigned)(size / 16) : class_at_least(size); }
static inline unsigned class_below(size_t size) { return size <= CLASS_EXACT_SIZE ? (unsigned)(size / 16) : class_at_most(size); }

#endif
