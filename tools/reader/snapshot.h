/* snapshot.h: all that was read of a process, in a file: docs/snapshot.md. No contents of blocks and no secrets are in it.
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_SNAPSHOT_H
#define SEEMALLOC_READER_SNAPSHOT_H

#include "reader/process.h"

#define SNAPSHOT_MAGIC "seemsnap" /* 8 bytes, without an end */
#define SNAPSHOT_VERSION 1

/* The whole file as bytes; free data. `process` and `ledger` are complete: frozen no more, summed. */
struct snapshot_bytes {
    uint8_t *data;
    size_t size;
};
bool snapshot_pack(struct snapshot_bytes *bytes, const struct process *process, const struct ledger *ledger, struct fault *fault);

/* Fills in process: heap, ledger and what live has of a process at rest. Everything is checked. False after noting why; process_close is still due. */
bool snapshot_read(struct process *process, int fd, struct fault *fault);

/* The same from the bytes that are compressed in the file. */
bool snapshot_unpack(struct process *process, const uint8_t *data, size_t size, struct fault *fault);

#endif
