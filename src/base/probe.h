/* probe.h: points that gdb, perf, SystemTap and bpftrace can stop at or count (USDT): provider seemalloc, names and arguments as glibc's (docs/probes.md).
 *
 * A point is one nop, and a note in the file that says where its arguments are. Slow paths only. Without <sys/sdt.h> (Debian package systemtap-sdt-dev),
 * which is a header and nothing more, there are none. SPDX-License-Identifier: MIT */
#ifndef BASE_PROBE_H
#define BASE_PROBE_H

#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#define PROBE1(name, a) STAP_PROBE1(seemalloc, name, a)
#define PROBE2(name, a, b) STAP_PROBE2(seemalloc, name, a, b)
#define PROBE3(name, a, b, c) STAP_PROBE3(seemalloc, name, a, b, c)
#else
#define PROBE1(name, a) ((void)(a))
#define PROBE2(name, a, b) ((void)(a), (void)(b))
#define PROBE3(name, a, b, c) ((void)(a), (void)(b), (void)(c))
#endif

#endif
