/* sections.h: included before every source of the engine in fuzz_bytes: its variables go into sections of their own, which can be put back as
 * they were, so that every input meets a fresh heap. SPDX-License-Identifier: MIT */
#ifndef FUZZ_SECTIONS_H
#define FUZZ_SECTIONS_H

#pragma clang section bss = "engine_bss" data = "engine_data"

#endif
