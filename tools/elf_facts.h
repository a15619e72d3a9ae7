/* elf_facts.h: the few facts of an ELF file that decide whether a preload can reach it. Reads, never maps; a damaged file is no danger.
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_ELF_FACTS_H
#define SEEMALLOC_TOOL_ELF_FACTS_H

#include <limits.h>
#include <stdbool.h>

enum elf_verdict {
    ELF_NOT,     /* no ELF magic */
    ELF_DAMAGED, /* the magic, but tables that lie outside the file */
    ELF_FOREIGN, /* another class, byte order or machine than this command's own; only `bits` and `machine` are filled */
    ELF_OURS,
};

struct elf_facts {
    enum elf_verdict verdict;
    int bits; /* 32 or 64 */
    unsigned machine;
    unsigned type;         /* ET_EXEC, ET_DYN, … */
    bool dynamic;          /* has a PT_INTERP */
    char interp[PATH_MAX]; /* its text */
};

void elf_read(int fd, struct elf_facts *facts);

/* A name for an ELF machine number: "x86-64", "ARM", …, or "machine 123" in a static buffer. */
const char *elf_machine_name(unsigned machine);

/* The machine that this command was built for. */
extern const unsigned elf_own_machine;

#endif
