/* elf_facts.c: see elf_facts.h.
 * SPDX-License-Identifier: MIT */
#include "elf_facts.h"

#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined __x86_64__
const unsigned elf_own_machine = EM_X86_64;
#elif defined __aarch64__
const unsigned elf_own_machine = EM_AARCH64;
#elif defined __riscv
const unsigned elf_own_machine = EM_RISCV;
#elif defined __powerpc64__
const unsigned elf_own_machine = EM_PPC64;
#elif defined __s390x__
const unsigned elf_own_machine = EM_S390;
#elif defined __loongarch__
const unsigned elf_own_machine = EM_LOONGARCH;
#else
#error "name this machine's EM_ number here"
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { OWN_DATA = ELFDATA2LSB };
#else
enum { OWN_DATA = ELFDATA2MSB };
#endif

static bool read_at(int fd, void *buffer, size_t size, off_t offset) { return pread(fd, buffer, size, offset) == (ssize_t)size; }

const char *elf_machine_name(unsigned machine) {
    static const struct {
        unsigned machine;
        const char *name;
    } names[] = {
        {EM_386, "i386"},      {EM_X86_64, "x86-64"}, {EM_ARM, "ARM"},        {EM_AARCH64, "AArch64"}, {EM_RISCV, "RISC-V"},
        {EM_PPC, "PowerPC"},   {EM_PPC64, "POWER"},   {EM_S390, "s390"},      {EM_MIPS, "MIPS"},       {EM_SPARC, "SPARC"},
        {EM_SPARCV9, "SPARC"}, {EM_68K, "m68k"},      {EM_PARISC, "PA-RISC"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].machine == machine) return names[i].name;
    static char other[32];
    snprintf(other, sizeof other, "machine %u", machine);
    return other;
}

static bool read_interp(int fd, const Elf64_Ehdr *header, struct elf_facts *facts) {
    for (unsigned i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr segment;
        if (!read_at(fd, &segment, sizeof segment, (off_t)(header->e_phoff + (Elf64_Off)i * header->e_phentsize))) return false;
        if (segment.p_type != PT_INTERP) continue;
        if (segment.p_filesz < 2 || segment.p_filesz > sizeof facts->interp) return false;
        if (!read_at(fd, facts->interp, segment.p_filesz, (off_t)segment.p_offset) || facts->interp[segment.p_filesz - 1] != '\0')
            return false;
        facts->dynamic = true;
        return true;
    }
    return true;
}

void elf_read(int fd, struct elf_facts *facts) {
    Elf64_Ehdr header = {0};
    memset(facts, 0, sizeof *facts);
    ssize_t got = pread(fd, &header, sizeof header, 0);
    if (got < SELFMAG || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
        facts->verdict = ELF_NOT;
        return;
    }
    facts->bits = header.e_ident[EI_CLASS] == ELFCLASS32 ? 32 : 64;
    facts->machine = header.e_machine; /* at the same place in both classes */
    if (header.e_ident[EI_DATA] != OWN_DATA && got >= (ssize_t)sizeof(Elf32_Ehdr)) facts->machine = __builtin_bswap16(header.e_machine);
    facts->type = header.e_type;
    if (got < (ssize_t)sizeof(Elf32_Ehdr) || (facts->bits == 64 && got < (ssize_t)sizeof header))
        facts->verdict = ELF_DAMAGED;
    else if (facts->bits != 64 || header.e_ident[EI_DATA] != OWN_DATA || facts->machine != elf_own_machine)
        facts->verdict = ELF_FOREIGN;
    else if ((header.e_phnum && header.e_phentsize != sizeof(Elf64_Phdr)) || !read_interp(fd, &header, facts))
        facts->verdict = ELF_DAMAGED;
    else
        facts->verdict = ELF_OURS;
}
