/* recording.h: reads a recording (include/seemalloc_recording.h) block by block: only one block is in memory. All lengths, checksums and sizes are checked
 * here; what ids refer to, in replay.h. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_RECORDING_H
#define SEEMALLOC_READER_RECORDING_H

#include <stdint.h>
#include <stdio.h>

#include "reader/fault.h"
#include "seemalloc_recording.h"

struct recording {
    FILE *file;
    struct seemalloc_recording_head head;
    char *command;   /* its arguments, ended by 0 each; command_bytes of the head, and another 0 */
    uint64_t length; /* of the file */
    uint64_t at;     /* where the next block begins */
    uint64_t blocks; /* read so far */
    uint8_t *raw, *packed;
    uint32_t type, size; /* of the block in `raw` */
    bool ended;          /* the last block was there: */
    struct seemalloc_recording_end end;
    uint64_t rest; /* bytes behind the last complete block, where the file was cut within one */
};

enum recording_step { RECORDING_BLOCK, RECORDING_OVER, RECORDING_BAD };

/* Opens the file and checks its head. False after noting what is wrong; nothing is to be closed then. */
bool recording_open(struct recording *recording, const char *name, struct fault *fault);
void recording_close(struct recording *recording);

/* Back to the first block. */
void recording_rewind(struct recording *recording);

/* Reads the next block of a known type; its records are well-formed: enough bytes for each. RECORDING_OVER also where the file was cut short: `ended` tells. */
enum recording_step recording_next(struct recording *recording, struct fault *fault);

#endif
