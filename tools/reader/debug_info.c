/* debug_info.c: see debug_info.h. Each file is opened by itself, as if it were loaded at the addresses that it was linked for. SPDX-License-Identifier: MIT */
#include "reader/debug_info.h"

#include <dwarf.h>
#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <gelf.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "reader/fault.h"

typedef void found_call(void *context, const char *function, const char *source, unsigned line, bool is_inlined);

struct function {
    GElf_Addr start, end;
    const char *name;
    int rank; /* of names for the same: global ones first */
};

struct unit {
    GElf_Addr start, end;
    Dwarf_Off die;
};

struct debug_file {
    Dwfl *session;
    Dwfl_Module *module;
    GElf_Addr bias;             /* of the file's segments */
    struct function *functions; /* of its table of symbols, by address; libdw itself looks through all of them each time */
    size_t function_count, function_room;
    GElf_Addr longest;
    struct unit *units; /* of a file without a table of them (.debug_aranges, which clang leaves out), by address */
    size_t unit_count, unit_room;
    bool has_units; /* they have been looked for */
};

static const Dwfl_Callbacks callbacks = {
    .find_elf = dwfl_build_id_find_elf, .find_debuginfo = dwfl_standard_find_debuginfo, .section_address = dwfl_offline_section_address};

static bool is_the_same(Dwfl_Module *module, const uint8_t *build_id, size_t bytes) {
    const unsigned char *bits;
    GElf_Addr where;
    int length = dwfl_module_build_id(module, &bits, &where);
    return bytes == 0 || (length >= 0 && (size_t)length == bytes && memcmp(bits, build_id, bytes) == 0);
}

/* --- the table of symbols ---------------------------------------------------------------------------------------------------------------------------- */

static int by_address(const void *left, const void *right) {
    const struct function *a = left, *b = right;
    if (a->start != b->start) return a->start < b->start ? -1 : 1;
    if (a->rank != b->rank) return a->rank < b->rank ? 1 : -1; /* the best comes last: it is found first */
    return strcmp(b->name, a->name);
}

static void list_functions(struct debug_file *file) {
    static const int ranks[] = {[STB_LOCAL] = 1, [STB_GLOBAL] = 3, [STB_WEAK] = 2};
    int count = dwfl_module_getsymtab(file->module);
    for (int i = 1; i < count; i++) {
        GElf_Sym symbol;
        GElf_Addr address;
        const char *name = dwfl_module_getsym_info(file->module, i, &symbol, &address, NULL, NULL, NULL);
        unsigned type = GELF_ST_TYPE(symbol.st_info), binding = GELF_ST_BIND(symbol.st_info);
        if (name == NULL || name[0] == '\0' || symbol.st_shndx == SHN_UNDEF || symbol.st_size == 0) continue;
        if (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE) continue;
        file->functions = need_more(file->functions, file->function_count, &file->function_room, sizeof *file->functions);
        file->functions[file->function_count++] =
            (struct function){address, address + symbol.st_size, name, binding < sizeof ranks / sizeof *ranks ? ranks[binding] : 0};
        if (symbol.st_size > file->longest) file->longest = symbol.st_size;
    }
    if (file->function_count != 0) qsort(file->functions, file->function_count, sizeof *file->functions, by_address);
}

/* How many of the rows, which begin with their start and are sorted by it, start up to the address. */
static size_t begun_by(const void *rows, size_t count, size_t row, GElf_Addr address) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        GElf_Addr start;
        memcpy(&start, (const char *)rows + middle * row, sizeof start);
        if (start <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static const char *function_at(const struct debug_file *file, GElf_Addr address) {
    size_t low = begun_by(file->functions, file->function_count, sizeof *file->functions, address);
    while (low-- > 0 && address - file->functions[low].start < file->longest) {
        if (address < file->functions[low].end) return file->functions[low].name;
    }
    return NULL;
}

struct debug_file *debug_file_open(const char *path, const uint8_t *build_id, size_t build_id_bytes, enum debug_verdict *verdict) {
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    *verdict = DEBUG_NO_FILE;
    if (fd < 0) return NULL;
    Dwfl *session = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? dwfl_begin(&callbacks) : NULL;
    if (session == NULL) {
        close(fd);
        return NULL;
    }
    struct debug_file *file = need_memory(NULL, 1, sizeof *file);
    file->session = session;
    file->module = dwfl_report_elf(session, path, path, fd, 0, true);
    if (file->module == NULL) close(fd); /* otherwise it is the session's */
    bool good = file->module != NULL && dwfl_report_end(session, NULL, NULL) == 0 && dwfl_module_getelf(file->module, &file->bias) != NULL;
    if (good && is_the_same(file->module, build_id, build_id_bytes)) {
        *verdict = DEBUG_GOOD;
        list_functions(file);
        return file;
    }
    if (good) *verdict = DEBUG_OTHER_FILE;
    debug_file_close(file);
    return NULL;
}

void debug_file_close(struct debug_file *file) {
    if (file == NULL) return;
    dwfl_end(file->session);
    free(file->functions);
    free(file->units);
    free(file);
}

/* --- one address ----------------------------------------------------------------------------------------------------------------------------------- */

static bool address_of(struct debug_file *file, uint64_t offset, GElf_Addr *address) {
    Elf *elf = dwfl_module_getelf(file->module, &file->bias);
    size_t count;
    if (elf == NULL || elf_getphdrnum(elf, &count) != 0) return false;
    for (size_t i = 0; i < count; i++) {
        GElf_Phdr segment;
        if (gelf_getphdr(elf, (int)i, &segment) == NULL || segment.p_type != PT_LOAD) continue;
        if (offset < segment.p_offset || offset - segment.p_offset >= segment.p_filesz) continue;
        *address = segment.p_vaddr + (offset - segment.p_offset) + file->bias;
        return true;
    }
    return false;
}

static const char *name_of(Dwarf_Die *function) {
    Dwarf_Attribute attribute;
    Dwarf_Attribute *found = dwarf_attr_integrate(function, DW_AT_linkage_name, &attribute);
    if (found == NULL) found = dwarf_attr_integrate(function, DW_AT_MIPS_linkage_name, &attribute);
    const char *name = found != NULL ? dwarf_formstring(found) : NULL;
    return name != NULL ? name : dwarf_diename(function);
}

/* Where an inlined function was called. */
static void call_site(Dwarf_Die *inlined, const char **source, unsigned *line) {
    Dwarf_Attribute attribute;
    Dwarf_Word value;
    Dwarf_Die unit;
    Dwarf_Files *files;
    size_t count;
    *source = NULL;
    *line = 0;
    if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_line, &attribute), &value) == 0) *line = (unsigned)value;
    if (dwarf_formudata(dwarf_attr(inlined, DW_AT_call_file, &attribute), &value) != 0) return;
    if (dwarf_diecu(inlined, &unit, NULL, NULL) == NULL || dwarf_getsrcfiles(&unit, &files, &count) != 0 || value >= count) return;
    *source = dwarf_filesrc(files, value, NULL, NULL);
}

static int by_start(const void *left, const void *right) {
    const struct unit *a = left, *b = right;
    return a->start == b->start ? 0 : a->start < b->start ? -1 : 1;
}

static void list_units(struct debug_file *file) {
    Dwarf_Addr bias;
    for (Dwarf_Die *die = NULL; (die = dwfl_module_nextcu(file->module, die, &bias)) != NULL;) {
        Dwarf_Addr base, start, end;
        for (ptrdiff_t at = 0; (at = dwarf_ranges(die, at, &base, &start, &end)) > 0;) {
            file->units = need_more(file->units, file->unit_count, &file->unit_room, sizeof *file->units);
            file->units[file->unit_count++] = (struct unit){start, end, dwarf_dieoffset(die)};
        }
    }
    if (file->unit_count != 0) qsort(file->units, file->unit_count, sizeof *file->units, by_start);
    file->has_units = true;
}

/* The compilation unit of an address, which becomes one of the file's debug information. False: there is none. */
static bool unit_at(struct debug_file *file, GElf_Addr *address, Dwarf_Die *unit) {
    Dwarf_Addr bias;
    Dwarf_Die *found = dwfl_module_addrdie(file->module, *address, &bias);
    Dwarf *information = dwfl_module_getdwarf(file->module, &bias);
    if (information == NULL) return false;
    *address -= bias;
    if (found != NULL) {
        *unit = *found;
        return true;
    }
    if (!file->has_units) list_units(file);
    size_t low = begun_by(file->units, file->unit_count, sizeof *file->units, *address);
    return low != 0 && *address < file->units[low - 1].end && dwarf_offdie(information, file->units[low - 1].die, unit) != NULL;
}

static void source_at(Dwarf_Die *unit, GElf_Addr address, const char **source, unsigned *source_line) {
    int line = 0;
    Dwarf_Line *at = dwarf_getsrc_die(unit, address);
    if (at == NULL) return;
    *source = dwarf_linesrc(at, NULL, NULL);
    if (dwarf_lineno(at, &line) == 0 && line > 0) *source_line = (unsigned)line;
}

static Dwarf_Die *scopes_at(Dwarf_Die *unit, GElf_Addr address, int *count) {
    Dwarf_Die *scopes = NULL, *whole = NULL;
    *count = dwarf_getscopes(unit, address, &scopes);
    if (*count > 0) *count = dwarf_getscopes_die(&scopes[0], &whole);
    free(scopes);
    return *count > 0 ? whole : NULL;
}

void debug_file_look(struct debug_file *file, uint64_t offset, void *context, found_call *found) {
    GElf_Addr address;
    if (!address_of(file, offset, &address)) return;
    const char *source = NULL, *function = NULL;
    unsigned source_line = 0;
    int count = 0;
    GElf_Addr in_unit = address;
    Dwarf_Die unit, *scopes = NULL;
    if (unit_at(file, &in_unit, &unit)) {
        source_at(&unit, in_unit, &source, &source_line);
        scopes = scopes_at(&unit, in_unit, &count);
    }
    for (int i = 0; i < count && function == NULL; i++) {
        int tag = dwarf_tag(&scopes[i]);
        if (tag == DW_TAG_inlined_subroutine) {
            found(context, name_of(&scopes[i]), source, source_line, true);
            call_site(&scopes[i], &source, &source_line);
        } else if (tag == DW_TAG_subprogram) {
            function = name_of(&scopes[i]);
        }
    }
    if (function == NULL) function = function_at(file, address);
    found(context, function, source, source_line, false);
    free(scopes);
}
