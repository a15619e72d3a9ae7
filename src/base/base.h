/* base.h: the words that every layer uses: attributes, alignment, checked arithmetic, atomics with their order in the name.
 * Knows nothing of malloc. SPDX-License-Identifier: MIT */
#ifndef BASE_BASE_H
#define BASE_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define NOINLINE __attribute__((noinline))
#define ALWAYS_INLINE inline __attribute__((always_inline))
#define COLD __attribute__((cold, noinline))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define EXPORT __attribute__((visibility("default")))
#define CACHE_LINE 64
/* Large static data that mostly lie untouched: not between small ones that are not. */
#define APART __attribute__((section(".bss.apart")))

#define KIB(n) ((size_t)(n) << 10)
#define MIB(n) ((size_t)(n) << 20)

/* Powers of two only. */
static inline size_t align_up(size_t n, size_t to) { return (n + to - 1) & ~(to - 1); }
static inline size_t align_down(size_t n, size_t to) { return n & ~(to - 1); }
static inline bool is_power_of_two(size_t n) { return n != 0 && (n & (n - 1)) == 0; }
static inline size_t min_size(size_t a, size_t b) { return a < b ? a : b; }
static inline unsigned min_unsigned(unsigned a, unsigned b) { return a < b ? a : b; }
static inline unsigned max_unsigned(unsigned a, unsigned b) { return a > b ? a : b; }
static inline size_t max_size(size_t a, size_t b) { return a > b ? a : b; }

/* Index of the lowest set bit, and of the highest; n must not be 0. */
static inline unsigned low_bit(uint64_t n) { return (unsigned)__builtin_ctzll(n); }
static inline unsigned top_bit(uint64_t n) { return 63u ^ (unsigned)__builtin_clzll(n); } /* a subtraction gcc would keep */

/* Atomics. C11's _Atomic would force atomic accesses everywhere, also where a lock protects; these name the order at the place of use. */
#define load_relaxed(p) __atomic_load_n(p, __ATOMIC_RELAXED)
#define load_acquire(p) __atomic_load_n(p, __ATOMIC_ACQUIRE)
#define store_relaxed(p, v) __atomic_store_n(p, v, __ATOMIC_RELAXED)
#define store_release(p, v) __atomic_store_n(p, v, __ATOMIC_RELEASE)
#define add_relaxed(p, v) __atomic_fetch_add(p, v, __ATOMIC_RELAXED)
#define sub_relaxed(p, v) __atomic_fetch_sub(p, v, __ATOMIC_RELAXED)
#define exchange_acquire(p, v) __atomic_exchange_n(p, v, __ATOMIC_ACQUIRE)
#define exchange_acq_rel(p, v) __atomic_exchange_n(p, v, __ATOMIC_ACQ_REL)
/* For the two loads that every free makes of words that others may change: a compiler folds a plain load into the instruction that uses
 * it, an atomic one never. Aligned words, whose old and new values are both good. */
#ifdef __SANITIZE_THREAD__
#define load_hot(p) load_relaxed(p)
#else
#define load_hot(p) (*(p))
#endif
#define cas_acquire(p, old, v) __atomic_compare_exchange_n(p, old, v, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)
#define cas_acq_rel(p, old, v) __atomic_compare_exchange_n(p, old, v, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)
#define cas_release(p, old, v) __atomic_compare_exchange_n(p, old, v, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED)

/* Raises *max to value if it is higher. Monotonic; relaxed. */
static inline void atomic_max(size_t *max, size_t value) {
    size_t seen = load_relaxed(max);
    while (seen < value && !__atomic_compare_exchange_n(max, &seen, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

/* Asks for a cache line that will be written. Any address is good. */
static inline void prefetch(const void *at) { __builtin_prefetch(at, 1); }

static inline void cpu_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

#endif
