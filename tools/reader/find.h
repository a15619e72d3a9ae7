/* find.h: the descriptor of a process: by the ELF note, so also in stripped files. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_FIND_H
#define SEEMALLOC_READER_FIND_H

#include "reader/source.h"
#include "seemalloc_descriptor.h"

/* Looks through the headers of all ELF files that are mapped. Of several libraries (linked and preloaded, say) it takes the one that did most. `where` is
 * the mapping's name, which lives as long as source->mappings. False: there is none, or of another version; the fault says which. */
bool find_descriptor(struct source *source, struct seemalloc_descriptor *descriptor, const char **where, struct fault *fault);

/* Whether what the numbers lead to lies within what is read at once; how far lists go is bounded where they are followed. */
bool descriptor_is_sane(const struct seemalloc_descriptor *descriptor);

#endif
