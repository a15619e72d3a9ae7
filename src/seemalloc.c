/* seemalloc.c: all sources as one object, for static linking and whole-program optimisation; or as two, SEEMALLOC_PART 1 and 2: what any program runs, and
 * the rest, which src/layout.ld keeps apart. Nothing else includes a .c file. SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#ifndef SEEMALLOC_PART
#define SEEMALLOC_PART 3
#endif

#if SEEMALLOC_PART & 1
#include "base/format.c"

#include "os/cgroup.c"
#include "os/lock.c"
#include "os/os.c"
#include "os/prim_linux.c"
#endif
#if SEEMALLOC_PART & 2
#include "os/report.c"
#endif

#if SEEMALLOC_PART & 1
#include "conf/conf.c"

#include "heap/bin.c"
#include "heap/chunk.c"
#include "heap/move.c"
#endif
#if SEEMALLOC_PART & 2
#include "heap/mapped.c"
#endif
#if SEEMALLOC_PART & 1
#include "heap/region.c"
#include "heap/retain.c"

#include "arena/alloc.c"
#include "arena/arena.c"
#include "arena/background.c"
#include "arena/depot.c"
#include "arena/free.c"
#include "arena/purge.c"
#include "arena/serve.c"
#include "arena/sweep.c"

#include "cache/cache.c"
#endif

#if SEEMALLOC_PART & 2
#include "inspect/check.c"
#include "inspect/descriptor.c"
#include "inspect/ledger.c"
#include "inspect/stats.c"
#include "inspect/walk.c"

#include "trace/rules.c"
#include "trace/samples.c"
#include "trace/stack.c"
#include "trace/trace.c"
#endif

#if SEEMALLOC_PART & 1
#include "api/cxx.c"
#include "api/malloc.c"
#include "api/process.c"
#endif
#if SEEMALLOC_PART & 2
#include "api/tune.c"
#endif
