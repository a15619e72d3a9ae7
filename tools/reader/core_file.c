/* core_file.c: see core_file.h. Headers and notes by libelf; the memory is read with pread, so a core may be larger than ours.
 * SPDX-License-Identifier: MIT */
#include "reader/core_file.h"

#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/procfs.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <unistd.h>

#include "elf_facts.h"

#define NOTES_MOST (UINT64_C(1) << 28)
#define COMPARED 4096 /* bytes of a file's beginning, where its build id stands */

static bool read_all(int fd, void *to, size_t size, uint64_t offset) {
    char *out = to;
    while (size != 0) {
        ssize_t n = pread(fd, out, size, (off_t)offset);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        out += n;
        size -= (size_t)n;
        offset += (uint64_t)n;
    }
    return true;
}

/* --- memory ------------------------------------------------------------------------------------------------------------------------------------ */

static const struct core_segment *segment_at(const struct core *core, uint64_t address) {
    size_t low = 0, high = core->segment_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (core->segments[middle].end <= address) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < core->segment_count && core->segments[low].start <= address ? &core->segments[low] : NULL;
}

static const struct core_file *file_at(const struct core *core, uint64_t address) {
    for (size_t i = 0; i < core->file_count; i++) {
        if (address >= core->files[i].start && address < core->files[i].end) return &core->files[i];
    }
    return NULL;
}

/* Whether the file begins as the process saw it begin, as far as that was dumped. */
static bool is_same_file(const struct core *core, const char *name, int fd) {
    for (size_t i = 0; i < core->file_count; i++) {
        const struct core_segment *segment = segment_at(core, core->files[i].start);
        if (core->files[i].offset != 0 || strcmp(core->files[i].name, name) != 0 || segment == NULL || segment->dumped < COMPARED) continue;
        uint8_t then[COMPARED], now[COMPARED] = {0};
        if (pread(fd, now, sizeof now, 0) < 0 || !read_all(core->fd, then, sizeof then, segment->offset)) return false;
        return memcmp(then, now, sizeof now) == 0;
    }
    return true;
}

/* What nobody could write is still as the file on disk has it. */
static bool read_file(struct core *core, uint64_t address, void *to, size_t size, struct fault *fault) {
    const struct core_file *file = file_at(core, address);
    const struct source_mapping *mapping = source_mapping_at(&core->source, address);
    if (file == NULL || mapping == NULL || mapping->access[1] == 'w') {
        return fault_note(
            fault, "0x%" PRIx64 " is not in the core: it was left out when that was written (/proc/PID/coredump_filter says what is)",
            address);
    }
    if (core->opened != file->name) {
        if (core->opened_fd >= 0) close(core->opened_fd);
        core->opened = file->name;
        core->opened_fd = open(file->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (core->opened_fd >= 0 && !is_same_file(core, file->name, core->opened_fd)) {
            close(core->opened_fd);
            core->opened_fd = -1;
        }
    }
    if (core->opened_fd >= 0 && read_all(core->opened_fd, to, size, file->offset + (address - file->start))) return true;
    return fault_note(fault, "0x%" PRIx64 " is not in the core, and the file it was mapped from, %s, is gone or another by now", address,
                      file->name);
}

static bool read_memory(struct source *source, uint64_t address, void *to, size_t size, struct fault *fault) {
    struct core *core = (struct core *)source;
    char *out = to;
    while (size != 0) {
        const struct core_segment *segment = segment_at(core, address);
        if (segment == NULL) return fault_note(fault, "nothing is mapped at 0x%" PRIx64, address);
        uint64_t inside = address - segment->start, left = segment->end - address;
        bool dumped = inside < segment->dumped;
        if (dumped) left = segment->dumped - inside;
        const struct core_file *file = dumped ? NULL : file_at(core, address);
        if (file != NULL && file->end - address < left) left = file->end - address;
        size_t here = size < left ? size : (size_t)left;
        if (!dumped && segment->is_empty) {
            memset(out, 0, here);
        } else if (dumped ? !read_all(core->fd, out, here, segment->offset + inside) : !read_file(core, address, out, here, fault)) {
            return fault_note(fault, "can't read %zu bytes at 0x%" PRIx64 " of the core: %s", here, address, strerror(errno));
        }
        out += here;
        address += here;
        size -= here;
    }
    return true;
}

/* --- notes ------------------------------------------------------------------------------------------------------------------------------------- */

static void add_registers(struct core_thread *thread, const uint8_t *data, size_t size) {
    size_t aligned = (size + 7) / 8 * 8;
    thread->registers = need_memory(thread->registers, thread->size + aligned, 1);
    memset(thread->registers + thread->size, 0, aligned);
    memcpy(thread->registers + thread->size, data, size);
    thread->size += aligned;
}

static void add_thread(struct core *core, const uint8_t *data, size_t size) {
    struct elf_prstatus status;
    struct user_regs_struct registers;
    if (size < sizeof status || sizeof status.pr_reg < sizeof registers) return;
    memcpy(&status, data, sizeof status);
    memcpy(&registers, &status.pr_reg, sizeof registers);
    core->threads = need_memory(core->threads, core->thread_count + 1, sizeof *core->threads);
    struct core_thread *thread = &core->threads[core->thread_count++];
    *thread = (struct core_thread){.tid = status.pr_pid};
#if defined(__x86_64__)
    thread->stack_pointer = registers.rsp;
    thread->thread_pointer = registers.fs_base;
#elif defined(__aarch64__)
    thread->stack_pointer = registers.sp;
#endif
    add_registers(thread, (const uint8_t *)&registers, sizeof registers);
    if (core->pid == 0) core->pid = status.pr_pid;
}

static void note_process(struct core *core, const uint8_t *data, size_t size) {
    struct elf_prpsinfo info;
    if (size < sizeof info) return;
    memcpy(&info, data, sizeof info);
    if (info.pr_pid > 0) core->pid = info.pr_pid;
    memcpy(core->command, info.pr_fname, sizeof info.pr_fname);
    core->command[sizeof info.pr_fname] = '\0';
}

/* { count, page size, count * { start, end, offset in pages }, names } */
static void list_files(struct core *core, const uint8_t *data, size_t size) {
    uint64_t count, page, entry[3];
    if (core->files != NULL || size < 16) return;
    memcpy(&count, data, sizeof count);
    memcpy(&page, data + 8, sizeof page);
    if (count > (size - 16) / sizeof entry) return;
    size_t names = size - 16 - count * sizeof entry;
    core->file_names = need_memory(NULL, names + 1, 1);
    memcpy(core->file_names, data + size - names, names);
    core->files = need_memory(NULL, count, sizeof *core->files);
    const char *name = core->file_names, *end = core->file_names + names;
    for (uint64_t i = 0; i < count && name < end; i++) {
        memcpy(entry, data + 16 + i * sizeof entry, sizeof entry);
        core->files[core->file_count++] = (struct core_file){entry[0], entry[1], entry[2] * page, name};
        name += strlen(name) + 1;
    }
}

static void read_note(struct core *core, unsigned type, const char *owner, const uint8_t *data, size_t size) {
    bool linux_owner = strcmp(owner, "LINUX") == 0;
    if (strcmp(owner, "CORE") != 0 && !linux_owner) return;
    struct core_thread *thread = core->thread_count != 0 ? &core->threads[core->thread_count - 1] : NULL;
    switch (type) {
    case NT_PRSTATUS: add_thread(core, data, size); break;
    case NT_PRPSINFO: note_process(core, data, size); break;
    case NT_FILE: list_files(core, data, size); break;
    case NT_FPREGSET:
    case NT_X86_XSTATE:
        if (thread != NULL) add_registers(thread, data, size);
        break;
    case NT_ARM_TLS:
        if (thread != NULL && size >= 8) memcpy(&thread->thread_pointer, data, 8);
        break;
    default: break;
    }
}

static void read_notes(struct core *core, Elf *elf, const GElf_Phdr *head) {
    if (head->p_filesz > NOTES_MOST) return;
    Elf_Data *data = elf_getdata_rawchunk(elf, (int64_t)head->p_offset, head->p_filesz, ELF_T_NHDR);
    if (data == NULL) return;
    GElf_Nhdr note;
    size_t name, desc;
    for (size_t at = 0; at < data->d_size && (at = gelf_getnote(data, at, &note, &name, &desc)) > 0;) {
        const char *owner = (const char *)data->d_buf + name;
        if (note.n_namesz == 0 || owner[note.n_namesz - 1] != '\0') continue;
        read_note(core, note.n_type, owner, (const uint8_t *)data->d_buf + desc, note.n_descsz);
    }
}

/* --- segments ---------------------------------------------------------------------------------------------------------------------------------- */

static bool check_kind(const GElf_Ehdr *head, struct fault *fault) {
    if (head->e_ident[EI_CLASS] != ELFCLASS64 || head->e_machine != elf_own_machine) {
        return fault_note(fault, "it is of another machine: %s, %d bits", elf_machine_name(head->e_machine),
                          head->e_ident[EI_CLASS] == ELFCLASS64 ? 64 : 32);
    }
    if (head->e_type == ET_CORE) return true;
    return fault_note(fault, "it is an ELF file, but no core: a program or a library; expected what the kernel or gcore writes");
}

static int by_start(const void *a, const void *b) {
    const struct core_segment *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

static void add_mapping(struct core *core, struct core_segment segment, const char access[5]) {
    core->segments = need_memory(core->segments, core->segment_count + 1, sizeof segment);
    core->segments[core->segment_count++] = segment;
    struct source_mappings *mappings = &core->source.mappings;
    mappings->entry = need_memory(mappings->entry, mappings->count + 1, sizeof *mappings->entry);
    mappings->entry[mappings->count] = (struct source_mapping){.start = segment.start, .end = segment.end, .name = ""};
    memcpy(mappings->entry[mappings->count++].access, access, 5);
}

static bool add_segment(struct core *core, const GElf_Phdr *head, uint64_t length, struct fault *fault) {
    if (head->p_filesz > length || head->p_offset > length - head->p_filesz) {
        return fault_note(fault,
                          "the core is truncated: it has %" PRIu64 " bytes, but its memory at 0x%" PRIx64 " ends at byte %" PRIu64
                          "; was there room for it, and what does `ulimit -c` say?",
                          length, (uint64_t)head->p_vaddr, (uint64_t)(head->p_offset + head->p_filesz));
    }
    if (head->p_memsz == 0 || head->p_vaddr + head->p_memsz < head->p_vaddr) return true;
    uint64_t dumped = head->p_filesz < head->p_memsz ? head->p_filesz : head->p_memsz;
    char access[5] = {head->p_flags & PF_R ? 'r' : '-', head->p_flags & PF_W ? 'w' : '-', head->p_flags & PF_X ? 'x' : '-', 'p', '\0'};
    add_mapping(core, (struct core_segment){head->p_vaddr, head->p_vaddr + head->p_memsz, dumped, head->p_offset, false}, access);
    return true;
}

static int by_mapping(const void *a, const void *b) {
    const struct source_mapping *x = a, *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

/* Ends those that reach into the next one: they are searched by their ends. */
static void separate(struct core *core) {
    qsort(core->segments, core->segment_count, sizeof *core->segments, by_start);
    qsort(core->source.mappings.entry, core->source.mappings.count, sizeof *core->source.mappings.entry, by_mapping);
    for (size_t i = 1; i < core->segment_count; i++) {
        struct core_segment *before = &core->segments[i - 1];
        if (before->end <= core->segments[i].start) continue;
        before->end = core->source.mappings.entry[i - 1].end = core->segments[i].start;
        if (before->dumped > before->end - before->start) before->dumped = before->end - before->start;
    }
}

/* Adds mappings for what the first `known` segments leave of [at, end). */
static void fill_gaps(struct core *core, size_t known, uint64_t at, uint64_t end, bool is_empty, const char access[5]) {
    for (size_t i = 0; i < known && at < end; i++) {
        uint64_t start = core->segments[i].start, stop = core->segments[i].end;
        if (stop <= at || start >= end) continue;
        if (start > at) add_mapping(core, (struct core_segment){.start = at, .end = start, .is_empty = is_empty}, access);
        at = stop;
    }
    if (at < end) add_mapping(core, (struct core_segment){.start = at, .end = end, .is_empty = is_empty}, access);
}

/* Parts of files that were mapped and of which gcore wrote nothing, not even a segment: they could not be written. */
static void add_files(struct core *core) {
    size_t known = core->segment_count;
    for (size_t i = 0; i < core->file_count; i++) fill_gaps(core, known, core->files[i].start, core->files[i].end, false, "r--p");
}

/* Parts of a heap that no page was in: gcore leaves them out if their mapping has a name, as brk's has; the kernel writes segments without bytes. */
static void admit(struct source *source, uint64_t start, uint64_t end) {
    struct core *core = (struct core *)source;
    if (core_dumped_end(core, start) == start) return; /* left out as a whole */
    for (size_t i = 0; i < core->segment_count; i++) {
        struct core_segment *segment = &core->segments[i];
        if (segment->start >= start && segment->end <= end && segment->dumped == 0) segment->is_empty = true;
    }
    fill_gaps(core, core->segment_count, start, end, true, "rw-p");
    separate(core);
}

/* From NT_FILE; what it does not name is a file all the same if it begins as an ELF file does. */
static void name_mappings(struct core *core) {
    for (size_t i = 0; i < core->source.mappings.count; i++) {
        struct source_mapping *mapping = &core->source.mappings.entry[i];
        const struct core_file *file = file_at(core, mapping->start);
        char magic[SELFMAG];
        if (file != NULL) {
            mapping->name = file->name;
            mapping->offset = file->offset + (mapping->start - file->start);
            mapping->inode = 1;
        } else if (core->segments[i].dumped >= sizeof magic && read_all(core->fd, magic, sizeof magic, core->segments[i].offset) &&
                   memcmp(magic, ELFMAG, SELFMAG) == 0) {
            mapping->name = "a file without a name";
            mapping->inode = 1;
        }
    }
}

static bool read_headers(struct core *core, Elf *elf, uint64_t length, struct fault *fault) {
    GElf_Ehdr file;
    GElf_Phdr head;
    size_t count;
    if (elf == NULL || elf_kind(elf) != ELF_K_ELF || gelf_getehdr(elf, &file) == NULL) {
        return fault_note(fault, "its ELF header can't be read: it is truncated or damaged (%s)", elf_errmsg(-1));
    }
    if (!check_kind(&file, fault)) return false;
    if (elf_getphdrnum(elf, &count) != 0 || count == 0 || count > length / sizeof(Elf64_Phdr) || gelf_getphdr(elf, 0, &head) == NULL) {
        return fault_note(fault, "the core is truncated or damaged: its table of segments is not there");
    }
    for (size_t i = 0; i < count; i++) {
        if (gelf_getphdr(elf, (int)i, &head) == NULL) return fault_note(fault, "the core is damaged: its segment %zu can't be read", i);
        if (head.p_type == PT_NOTE) read_notes(core, elf, &head);
        if (head.p_type == PT_LOAD && !add_segment(core, &head, length, fault)) return false;
    }
    if (core->segment_count == 0) return fault_note(fault, "the core holds no memory");
    separate(core);
    add_files(core);
    separate(core);
    name_mappings(core);
    return true;
}

bool core_open(struct core *core, int fd, struct fault *fault) {
    struct stat status;
    *core = (struct core){.fd = fd, .opened_fd = -1};
    core->source.read = read_memory;
    core->source.admit = admit;
    core->source.page_size = (uint64_t)sysconf(_SC_PAGESIZE);
    elf_version(EV_CURRENT);
    Elf *elf = elf_begin(fd, ELF_C_READ, NULL);
    bool good = fstat(fd, &status) == 0 && read_headers(core, elf, (uint64_t)status.st_size, fault);
    elf_end(elf);
    if (!good) core_close(core);
    return good;
}

uint64_t core_dumped_end(const struct core *core, uint64_t address) {
    const struct core_segment *segment = segment_at(core, address);
    return segment != NULL && address - segment->start < segment->dumped ? segment->start + segment->dumped : address;
}

void core_close(struct core *core) {
    if (core->fd >= 0) close(core->fd);
    if (core->opened_fd >= 0) close(core->opened_fd);
    for (size_t i = 0; i < core->thread_count; i++) free(core->threads[i].registers);
    free(core->threads);
    free(core->segments);
    free(core->files);
    free(core->file_names);
    source_mappings_free(&core->source.mappings);
    *core = (struct core){.fd = -1, .opened_fd = -1};
}
