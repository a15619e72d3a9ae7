/* cgroup.h: what the control groups of this process allow it, in either version of the kernel's interface and in mixtures of both. A group can't have more
 * than those above it, so the lowest limit on the way up counts. What is not there, or not understood, is no limit. SPDX-License-Identifier: MIT */
#ifndef OS_CGROUP_H
#define OS_CGROUP_H

#include "base/base.h"

/* Processors' worth of time, rounded up; UINT_MAX: no limit. Reads a few small files, with raw calls; not kept. Thread-safe. */
unsigned cgroup_cpus(void);

/* Bytes of memory, the soft limit where there is one; SIZE_MAX: no limit. Likewise. */
size_t cgroup_memory(void);

#endif
