/* exponential.h: distances between the events of a Poisson process, without the mathematical library. SPDX-License-Identifier: MIT */
#ifndef TRACE_EXPONENTIAL_H
#define TRACE_EXPONENTIAL_H

#include "base/base.h"

/* xorshift64* by Marsaglia and Vigna; the state is not 0. */
static inline uint64_t random_next(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

/* -ln of n / 2^53, n from 1 to 2^53: n = m · 2^e with m from sqrt(1/2) to sqrt(2), ln m = 2 artanh((m - 1) / (m + 1)), of which eight terms are exact to 1e-13. */
static inline double minus_log(uint64_t n) {
    int exponent = (int)top_bit(n) - 53;
    double m = (double)n / (double)((uint64_t)1 << top_bit(n));
    if (m > 1.4142135623730951) m /= 2, exponent++;
    double s = (m - 1) / (m + 1), square = s * s, sum = 0;
    for (int k = 15; k > 0; k -= 2) sum = sum * square + 1.0 / k;
    return -(2 * s * sum + exponent * 0.6931471805599453);
}

/* A whole number N from 1 on with P(N > n) = exp(-n / mean): however many bytes of the distance are gone, the rest is distributed as the whole. */
static inline int64_t exponential(uint64_t *state, double mean) {
    double distance = minus_log((random_next(state) >> 11) + 1) * mean;
    int64_t whole = (int64_t)distance;
    return whole + 1;
}

#endif
