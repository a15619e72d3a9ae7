/* core_file.h: a core file as a source: memory as it was dumped, files on disk for what was not because nobody could write it, threads with their registers.
 *
 * What is in neither can't be read, and is never taken for zero, but for parts of a region of the heap that is there otherwise: those had no page. Which
 * pages were in memory a core does not say. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_CORE_FILE_H
#define SEEMALLOC_READER_CORE_FILE_H

#include <sys/types.h>

#include "reader/source.h"

struct core_segment {
    uint64_t start, end, dumped; /* [start, start + dumped) stands at `offset` */
    uint64_t offset;
    bool is_empty; /* what was not dumped is zero */
};

struct core_file { /* what a mapping was made from */
    uint64_t start, end, offset;
    const char *name;
};

struct core_thread {
    pid_t tid;
    uint64_t stack_pointer, thread_pointer; /* 0: not known */
    uint8_t *registers;                     /* all that the core has, one set behind the other */
    size_t size;
};

struct core {
    struct source source; /* first: a pointer to it is one to this */
    int fd;
    struct core_segment *segments; /* by address */
    struct core_file *files;
    struct core_thread *threads;
    size_t segment_count, file_count, thread_count;
    char *file_names;
    const char *opened; /* the file that `opened_fd` belongs to */
    int opened_fd;
    pid_t pid;
    char command[64];
};

/* Takes `fd` over. False after a message: no core, truncated, of another machine. Then nothing is open. */
bool core_open(struct core *core, int fd, struct fault *fault);
/* Where what was dumped from `address` on ends; `address` itself: nothing of it was. */
uint64_t core_dumped_end(const struct core *core, uint64_t address);

void core_close(struct core *core);

#endif
