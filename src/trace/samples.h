/* samples.h: the addresses of live blocks that were sampled: a hash table of lines of eight, of which an address has two. Any thread may add, look and
 * remove without a lock: an address is added by the thread that got the block, and removed by the one that frees it. SPDX-License-Identifier: MIT */
#ifndef TRACE_SAMPLES_H
#define TRACE_SAMPLES_H

#include "base/base.h"

#define SAMPLES_LINES 32768u
#define SAMPLES_LINE 8u

bool samples_add(const void *mem);    /* false: no room */
bool samples_remove(const void *mem); /* false: it is not there */

#endif
