/* debug_info.h: function, file and line of an address in an ELF file, by libdw. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_DEBUG_INFO_H
#define SEEMALLOC_READER_DEBUG_INFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct debug_file;

enum debug_verdict { DEBUG_GOOD, DEBUG_NO_FILE, DEBUG_OTHER_FILE };

/* Opens a file; `build_id` of what ran, 0 bytes: not known. NULL with the reason. */
struct debug_file *debug_file_open(const char *path, const uint8_t *build_id, size_t build_id_bytes, enum debug_verdict *verdict);
void debug_file_close(struct debug_file *file);

/* Calls `found` for each frame of what lies at `offset` of the file, innermost first; function NULL: not known. `mangled` as the linker knows it. */
void debug_file_look(struct debug_file *file, uint64_t offset, void *context,
                     void (*found)(void *context, const char *function, const char *source, unsigned line, bool is_inlined));

#endif
