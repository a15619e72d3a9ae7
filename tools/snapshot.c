/* snapshot.c: `seemalloc snapshot PID|CORE -o FILE`. SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "outside.h"
#include "reader/ledger.h"
#include "reader/snapshot.h"
#include "tool.h"

const char snapshot_help[] =
    "Usage: seemalloc snapshot PID|CORE -o FILE\n"
    "Write all that can be read of a process on seemalloc to FILE: its chunks, regions, arenas, caches, lists, blocks, pages in\n"
    "memory, counters, events and settings. What is in the blocks is left out, and so are the allocator's secrets. The other\n"
    "commands read the file in place of the process; FILE is replaced once all is written.\n"
    "\n"
    "Options:\n"
    "  -o, --output FILE    where to\n"
    "  -h, --help           show this text\n"
    "\n"
    "The status is 0, 1 if the process can't be read, its heap is corrupted or the file can't be written, 2 if the command line\n"
    "is wrong.\n";

static bool write_all(int fd, const uint8_t *data, size_t size) {
    while (size != 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        data += n;
        size -= (size_t)n;
    }
    return true;
}

/* Beside the file first, so that there is never a part of one. */
static bool write_file(const char *file, const struct snapshot_bytes *bytes) {
    char *beside = need_memory(NULL, strlen(file) + 16, 1);
    sprintf(beside, "%s.XXXXXX", file);
    int fd = mkostemp(beside, O_CLOEXEC); /* for its owner alone: where things are in a process is nobody else's business */
    bool good = fd >= 0 && write_all(fd, bytes->data, bytes->size);
    if (fd >= 0 && close(fd) != 0) good = false;
    good = good && rename(beside, file) == 0;
    if (!good) tool_say("can't write %s: %s", file, strerror(errno));
    if (!good && fd >= 0) unlink(beside);
    free(beside);
    return good;
}

int snapshot_main(int argc, char **argv) {
    static const struct option options[] = {{"output", required_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'}, {0}};
    const char *file = NULL;
    for (int option; (option = getopt_long(argc, argv, ":ho:", options, NULL)) != -1;) {
        switch (option) {
        case 'h': fputs(snapshot_help, stdout); return tool_finish(0);
        case 'o': file = optarg; break;
        case ':': return tool_usage("snapshot", "option '%s' needs a value", tool_bad_option(argv));
        default: return tool_usage("snapshot", "unknown option '%s'", tool_bad_option(argv));
        }
    }
    const char *subject = outside_subject("snapshot", argc, argv, optind);
    if (subject == NULL) return STATUS_USAGE;
    if (file == NULL || file[0] == '\0') return tool_usage("snapshot", "where to write is missing: -o FILE");
    static struct process process;
    struct ledger ledger;
    struct snapshot_bytes bytes = {0};
    struct fault fault = {0};
    bool good = process_open(&process, subject, false, &fault);
    if (good) {
        good = ledger_read(&ledger, &process, &fault);
        process_thaw(&process);
        if (good) ledger_sum(&ledger, &process);
        good = good && snapshot_pack(&bytes, &process, &ledger, &fault);
    }
    if (!good) {
        tool_say("%s", fault.text);
        process_close(&process);
        return 1;
    }
    int status = outside_warn(&process);
    process_close(&process);
    if (!write_file(file, &bytes)) status = 1;
    free(bytes.data);
    return tool_finish(status);
}
