/* record_modules.c: executable mappings and the build ids of their files: see record.h. SPDX-License-Identifier: MIT */
#include <elf.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "reader/fault.h"
#include "record.h"

#define BUILD_ID_MOST 64
#define NOTES_MOST 4096
#define HEADERS_MOST 64

struct module {
    uint64_t start, end, offset;
    char *path;
};

static struct module *modules; /* as they came: later ones count */
static size_t count;

/* The bytes of the note, as GNU ld writes it; 0: there is none, or the file is none that we know. */
static uint32_t build_id(const char *path, uint8_t id[BUILD_ID_MOST]) {
    Elf64_Ehdr head;
    Elf64_Phdr part[HEADERS_MOST];
    _Alignas(4) uint8_t notes[NOTES_MOST];
    uint32_t found = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return 0;
    bool good = pread(fd, &head, sizeof head, 0) == sizeof head && memcmp(head.e_ident, ELFMAG, SELFMAG) == 0 &&
                head.e_ident[EI_CLASS] == ELFCLASS64 && head.e_phentsize == sizeof part[0] && head.e_phnum <= HEADERS_MOST;
    size_t size = good ? head.e_phnum * sizeof part[0] : 0;
    good = good && pread(fd, part, size, (off_t)head.e_phoff) == (ssize_t)size;
    for (unsigned i = 0; good && found == 0 && i < head.e_phnum; i++) {
        if (part[i].p_type != PT_NOTE) continue;
        size_t wanted = part[i].p_filesz < sizeof notes ? part[i].p_filesz : sizeof notes;
        ssize_t length = pread(fd, notes, wanted, (off_t)part[i].p_offset);
        for (size_t at = 0; length > 0 && at + sizeof(Elf64_Nhdr) <= (size_t)length;) {
            Elf64_Nhdr note;
            memcpy(&note, notes + at, sizeof note);
            size_t name = at + sizeof note, data = name + (((size_t)note.n_namesz + 3) & ~(size_t)3);
            size_t next = data + (((size_t)note.n_descsz + 3) & ~(size_t)3);
            if (next > (size_t)length) break;
            if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(notes + name, "GNU", 4) == 0 &&
                note.n_descsz <= BUILD_ID_MOST) {
                found = note.n_descsz;
                memcpy(id, notes + data, found);
                break;
            }
            at = next;
        }
    }
    close(fd);
    return found;
}

static const struct module *module_at(uint64_t address) {
    for (size_t i = count; i-- > 0;) {
        if (address >= modules[i].start && address < modules[i].end) return &modules[i];
    }
    return NULL;
}

bool record_modules_cover(uint64_t address) { return module_at(address) != NULL; }

static void add(const struct module *new, pid_t pid, uint64_t time) {
    const struct module *known = module_at(new->start);
    if (known != NULL && known->start == new->start && known->end == new->end &&
        known->offset == new->offset &&strcmp(known->path, new->path) == 0)
        return;
    modules = need_memory(modules, count + 1, sizeof *modules);
    modules[count] = *new;
    modules[count].path = need_memory(NULL, strlen(new->path) + 1, 1);
    strcpy(modules[count++].path, new->path);
    char seen[PATH_MAX + 64];
    uint8_t id[BUILD_ID_MOST];
    uint32_t id_bytes = 0;
    if (new->path[0] == '/') {
        snprintf(seen, sizeof seen, "/proc/%d/root%s", (int)pid, new->path);
        id_bytes = build_id(seen, id);
        if (id_bytes == 0) id_bytes = build_id(new->path, id);
    }
    struct seemalloc_recording_module record = {new->start, new->end, new->offset, time, (uint32_t)strlen(new->path), id_bytes};
    struct record_part parts[] = {{&record, sizeof record}, {new->path, record.path_bytes}, {id, id_bytes}};
    record_file_add(SEEMALLOC_RECORDING_MODULE, parts, 3);
}

void record_modules_read(char *text, pid_t pid, uint64_t time) {
    for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) { /* a part of a line at the end is none */
        *end = '\0';
        struct module new;
        char access[5];
        int path = 0;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %" SCNx64 " %*s %*s %n", &new.start, &new.end, access, &new.offset, &path) != 4 ||
            path == 0 || access[2] != 'x' || (line[path] != '/' && strcmp(line + path, "[vdso]") != 0))
            continue;
        new.path = line + path;
        add(&new, pid, time);
    }
}

void record_modules_look(pid_t pid, uint64_t time) {
    char path[64], *text = NULL;
    size_t size = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "re");
    if (maps == NULL) return;
    if (getdelim(&text, &size, '\0', maps) > 0) record_modules_read(text, pid, time);
    free(text);
    fclose(maps);
}

void record_modules_forget(void) {
    while (count > 0) free(modules[--count].path);
}
