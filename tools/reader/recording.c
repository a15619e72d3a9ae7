/* recording.c: see recording.h. SPDX-License-Identifier: MIT */
#include "reader/recording.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

enum { RAW_MOST = 16 << 20, HEAD_MOST = 16 << 20 };

static bool read_at(struct recording *recording, void *to, size_t size, uint64_t offset) {
    return fseeko(recording->file, (off_t)offset, SEEK_SET) == 0 && fread(to, 1, size, recording->file) == size;
}

static bool unreadable(const struct recording *recording, struct fault *fault) {
    if (ferror(recording->file)) return fault_note(fault, "can't read the recording: %s", strerror(errno));
    return fault_note(fault, "the recording became shorter while it was read");
}

/* --- the head ------------------------------------------------------------------------------------------------------------------------------------- */

static bool check_head(const struct seemalloc_recording_head *head, uint64_t length, struct fault *fault) {
    if (head->version != SEEMALLOC_RECORDING_VERSION) {
        return fault_note(fault, "it is a recording of version %u, this command reads version %d: use the command that wrote it",
                          head->version, SEEMALLOC_RECORDING_VERSION);
    }
    if (head->head_bytes < sizeof *head || head->head_bytes - sizeof *head < head->command_bytes || head->head_bytes > HEAD_MOST) {
        return fault_note(fault, "the recording is damaged: its head has %u bytes, %u of them a command line; %zu and that were expected",
                          head->head_bytes, head->command_bytes, sizeof *head);
    }
    if (head->head_bytes > length) {
        return fault_note(fault, "the recording is truncated: it has %" PRIu64 " bytes, its head alone has %u", length, head->head_bytes);
    }
    if (head->page_bytes < 1024 || (head->page_bytes & (head->page_bytes - 1)) != 0) {
        return fault_note(fault, "the recording is damaged: it says that a page has %u bytes", head->page_bytes);
    }
    if ((head->flags & SEEMALLOC_RECORDING_SAMPLED) != 0 && head->sample_mean == 0) {
        return fault_note(fault, "the recording is damaged: it is of samples, but none is taken every 0 bytes");
    }
    return true;
}

static bool read_head(struct recording *recording, const char *name, struct fault *fault) {
    struct seemalloc_recording_head *head = &recording->head;
    struct stat status;
    if (fstat(fileno(recording->file), &status) != 0) return fault_note(fault, "can't read %s: %s", name, strerror(errno));
    if (S_ISDIR(status.st_mode)) return fault_note(fault, "%s is a directory, a recording was expected", name);
    if (!S_ISREG(status.st_mode)) return fault_note(fault, "%s is no regular file: a recording is read more than once", name);
    recording->length = (uint64_t)status.st_size;
    size_t have = recording->length < sizeof *head ? (size_t)recording->length : sizeof *head;
    if (!read_at(recording, head, have, 0)) return unreadable(recording, fault);
    if (have < sizeof head->magic || memcmp(head->magic, SEEMALLOC_RECORDING_MAGIC, sizeof head->magic) != 0) {
        return fault_note(fault, "%s is no recording: it does not begin with \"seemrec\"; `seemalloc run --record FILE` writes one", name);
    }
    if (have < sizeof *head) {
        return fault_note(fault, "the recording is truncated: it has %" PRIu64 " bytes, its head alone has %zu", recording->length,
                          sizeof *head);
    }
    if (!check_head(head, recording->length, fault)) return false;
    recording->command = need_memory(NULL, head->command_bytes, 1);
    recording->command[head->command_bytes] = '\0';
    return read_at(recording, recording->command, head->command_bytes, sizeof *head) || unreadable(recording, fault);
}

bool recording_open(struct recording *recording, const char *name, struct fault *fault) {
    *recording = (struct recording){.file = fopen(name, "rbe")};
    if (recording->file == NULL) return fault_note(fault, "can't open %s: %s", name, strerror(errno));
    if (!read_head(recording, name, fault)) {
        recording_close(recording);
        return false;
    }
    recording_rewind(recording);
    return true;
}

void recording_close(struct recording *recording) {
    fclose(recording->file);
    free(recording->command);
    free(recording->raw);
    free(recording->packed);
    *recording = (struct recording){0};
}

void recording_rewind(struct recording *recording) {
    recording->at = recording->head.head_bytes;
    recording->blocks = 0;
    recording->ended = false;
    recording->rest = 0;
}

/* --- blocks --------------------------------------------------------------------------------------------------------------------------------------- */

static enum recording_step bad(const struct recording *recording, struct fault *fault, const char *what) {
    fault_note(fault, "the recording is damaged: block %" PRIu64 " at byte %" PRIu64 ": %s", recording->blocks + 1, recording->at, what);
    return RECORDING_BAD;
}

/* Whether records of variable length, each with a head of `fixed` bytes, fill the block. */
static bool fills(const struct recording *recording, size_t fixed, uint64_t (*more)(const uint8_t *record)) {
    for (uint64_t at = 0; at < recording->size;) {
        uint64_t left = recording->size - at;
        if (left < fixed) return false;
        uint64_t behind = more(recording->raw + at);
        if (behind > left - fixed) return false;
        at += fixed + behind;
    }
    return true;
}

static uint64_t stack_bytes(const uint8_t *record) {
    uint32_t head[2];
    memcpy(head, record, sizeof head);
    return (uint64_t)head[1] * sizeof(uint64_t);
}

static uint64_t module_bytes(const uint8_t *record) {
    struct seemalloc_recording_module module;
    memcpy(&module, record, sizeof module);
    return (uint64_t)module.path_bytes + module.build_id_bytes;
}

static bool has_whole_records(const struct recording *recording) {
    switch (recording->type) {
    case SEEMALLOC_RECORDING_END: return recording->size == sizeof(struct seemalloc_recording_end);
    case SEEMALLOC_RECORDING_EVENTS: return recording->size % sizeof(struct seemalloc_recording_event) == 0;
    case SEEMALLOC_RECORDING_STACK: return fills(recording, 2 * sizeof(uint32_t), stack_bytes);
    case SEEMALLOC_RECORDING_MODULE: return fills(recording, sizeof(struct seemalloc_recording_module), module_bytes);
    case SEEMALLOC_RECORDING_THREAD: return recording->size % sizeof(struct seemalloc_recording_thread) == 0;
    default: return recording->size % sizeof(struct seemalloc_recording_process) == 0;
    }
}

/* Unpacks a block whose bytes are in the file. */
static enum recording_step unpack(struct recording *recording, const struct seemalloc_recording_block *block, struct fault *fault) {
    if (recording->raw == NULL) {
        recording->raw = need_memory(NULL, RAW_MOST, 1);
        recording->packed = need_memory(NULL, compressBound(RAW_MOST), 1);
    }
    if (!read_at(recording, recording->packed, block->packed, recording->at + sizeof *block)) {
        unreadable(recording, fault);
        return RECORDING_BAD;
    }
    uLongf size = RAW_MOST;
    if (uncompress(recording->raw, &size, recording->packed, block->packed) != Z_OK) return bad(recording, fault, "zlib can't unpack it");
    if (size != block->raw) return bad(recording, fault, "it has another size than it says");
    if ((uint32_t)adler32_z(1, recording->raw, size) != block->checksum) return bad(recording, fault, "its checksum is wrong");
    recording->type = block->type;
    recording->size = block->raw;
    if (!has_whole_records(recording)) return bad(recording, fault, "its records don't fill it");
    return RECORDING_BLOCK;
}

enum recording_step recording_next(struct recording *recording, struct fault *fault) {
    for (;;) {
        struct seemalloc_recording_block block;
        uint64_t left = recording->length - recording->at;
        if (recording->ended && left != 0) return bad(recording, fault, "it stands behind the last one");
        if (recording->ended || left == 0) return RECORDING_OVER;
        if (left >= sizeof block && !read_at(recording, &block, sizeof block, recording->at)) {
            unreadable(recording, fault);
            return RECORDING_BAD;
        }
        if (left < sizeof block || block.packed > left - sizeof block) {
            recording->rest = left;
            return RECORDING_OVER;
        }
        bool known = block.type <= SEEMALLOC_RECORDING_PROCESS;
        if (known && (block.raw > RAW_MOST || block.packed > compressBound(RAW_MOST))) {
            return bad(recording, fault, "it has more than 16 MiB");
        }
        enum recording_step step = known ? unpack(recording, &block, fault) : RECORDING_OVER;
        if (step == RECORDING_BAD) return step;
        recording->at += sizeof block + block.packed;
        recording->blocks++;
        if (known && block.type == SEEMALLOC_RECORDING_END) {
            memcpy(&recording->end, recording->raw, sizeof recording->end);
            recording->ended = true;
        }
        if (known) return RECORDING_BLOCK;
    }
}
