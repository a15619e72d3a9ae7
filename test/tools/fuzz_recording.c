/* fuzz_recording.c: the part of fuzz_reader.c that spoils recordings: bytes of the file, or bytes of what is compressed in a block, with a good checksum; or
 * blocks are left out, doubled, or of another type; or the file is cut. SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "fuzz_reader.h"
#include "reader/fault.h"
#include "seemalloc_recording.h"
#include "tool.h"

enum { OUT_MOST = 64 << 20 };

struct out {
    uint8_t *data;
    size_t size;
};

bool fuzz_is_recording(const uint8_t *data, size_t size) {
    return size >= sizeof(struct seemalloc_recording_head) && memcmp(data, SEEMALLOC_RECORDING_MAGIC, 8) == 0;
}

static void put(struct out *out, const void *data, size_t size) {
    if (out->size + size > OUT_MOST) return;
    memcpy(out->data + out->size, data, size);
    out->size += size;
}

/* A block with its content changed. */
static void put_changed(struct out *out, const struct seemalloc_recording_block *block, const uint8_t *packed) {
    struct seemalloc_recording_block head = *block;
    uLongf raw = block->raw, size = compressBound(block->raw);
    uint8_t *body = need_memory(NULL, raw + 8, 1), *again = need_memory(NULL, size, 1);
    if (uncompress(body, &raw, packed, block->packed) != Z_OK) abort();
    for (uint64_t left = 1 + fuzz_dice(4); left != 0 && raw > 16; left--) {
        size_t at = fuzz_dice(raw);
        fuzz_change(body + at, raw - at, body, raw);
    }
    if (fuzz_dice(16) == 0) raw = fuzz_dice(raw + 1);
    if (fuzz_dice(16) == 0) head.type = (uint32_t)fuzz_dice(8);
    compress2(again, &size, body, raw, 1);
    head.raw = (uint32_t)raw;
    head.packed = (uint32_t)size;
    head.checksum = (uint32_t)adler32_z(1, body, raw);
    put(out, &head, sizeof head);
    put(out, again, size);
    free(body);
    free(again);
}

/* Each block as it is, or changed, or twice, or not at all; of a hundred one or two. */
static void put_blocks(struct out *out, const uint8_t *data, size_t size) {
    struct seemalloc_recording_head head;
    struct seemalloc_recording_block block;
    size_t count = 0;
    memcpy(&head, data, sizeof head);
    for (size_t at = head.head_bytes; at + sizeof block <= size; at += sizeof block + block.packed, count++)
        memcpy(&block, data + at, sizeof block);
    put(out, data, head.head_bytes);
    for (size_t at = head.head_bytes; at + sizeof block <= size; at += sizeof block + block.packed) {
        memcpy(&block, data + at, sizeof block);
        uint64_t how = fuzz_dice(count) < 2 ? fuzz_dice(8) : 8;
        if (how < 6) {
            put_changed(out, &block, data + at + sizeof block);
        } else if (how != 6) {
            put(out, data + at, sizeof block + block.packed);
        }
        if (how == 7) put(out, data + at, sizeof block + block.packed);
    }
}

bool fuzz_recording_round(const uint8_t *data, size_t size, int fd) {
    static const char *const formats[] = {"pprof", "collapsed", "trace", "heaptrack"};
    static struct out out;
    char name[64];
    if (out.data == NULL) out.data = need_memory(NULL, OUT_MOST, 1);
    out.size = 0;
    if (fuzz_dice(4) != 0) {
        put_blocks(&out, data, size);
    } else {
        put(&out, data, size);
        for (uint64_t left = 1 + fuzz_dice(3); left != 0; left--) {
            size_t at = fuzz_dice(fuzz_dice(2) == 0 ? sizeof(struct seemalloc_recording_head) : out.size);
            fuzz_change(out.data + at, out.size - at, data, size);
        }
    }
    if (fuzz_dice(16) == 0) out.size = fuzz_dice(out.size);
    if (ftruncate(fd, 0) != 0 || pwrite(fd, out.data, out.size, 0) != (ssize_t)out.size) abort();
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    int status;
    switch (fuzz_dice(3)) {
    case 0: status = fuzz_run(report_main, (const char *[]){"report", name, "--json", NULL}); break;
    case 1: status = fuzz_run(report_main, (const char *[]){"report", name, "-o", "/dev/null", NULL}); break;
    default: status = fuzz_run(export_main, (const char *[]){"export", name, "-f", formats[fuzz_dice(4)], "-o", "/dev/null", NULL}); break;
    }
    if (status != 0 && status != 1) abort();
    return status == 0;
}
