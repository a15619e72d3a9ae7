/* outside.c: see outside.h. SPDX-License-Identifier: MIT */
#include "outside.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "tool.h"

bool outside_pid(const char *command, int argc, char **argv, int first, pid_t *pid) {
    char *end = NULL;
    errno = 0;
    if (first >= argc) {
        tool_usage(command, "the number of a process is missing");
        return false;
    }
    long number = strtol(argv[first], &end, 10);
    if (argv[first][0] < '0' || argv[first][0] > '9' || *end != '\0' || errno != 0 || number < 1 || number > INT_MAX) {
        tool_usage(command, "'%s' is no process; expected its number, as ps shows it", argv[first]);
        return false;
    }
    if (argc > first + 1) {
        tool_usage(command, "it takes one process, got '%s' too", argv[first + 1]);
        return false;
    }
    *pid = (pid_t)number;
    return true;
}

int outside_warn(const struct process *process) {
    const struct heap *heap = &process->heap;
    for (size_t i = 0; i < heap->arena_count; i++) {
        if (!heap->arenas[i].is_torn) continue;
        if (heap->is_live) {
            tool_say("arena %u is torn: it changed while it was read; its figures may not fit together", heap->arenas[i].id);
            continue;
        }
        if (heap->arenas[i].loose != 0) {
            tool_say("arena %u is torn: %" PRIu64 " free blocks that were just being merged count as in use", heap->arenas[i].id,
                     heap->arenas[i].loose);
            continue;
        }
        tool_say("arena %u is torn: at each of %u tries a thread was changing it; its figures may not fit together", heap->arenas[i].id,
                 process->tries);
    }
    for (size_t i = 0; i < heap->cache_count; i++) {
        if (!heap->caches[i].is_torn) continue;
        tool_say("the thread cache 0x%" PRIx64 " is torn: at each of %u tries its blocks were being moved; some count as in use",
                 heap->caches[i].address, process->tries);
    }
    if (!heap->pages_known) tool_say("which pages are in memory is not known: /proc/%d/pagemap can't be read", (int)process->live.pid);
    if (heap->fault.text[0] == '\0') return 0;
    tool_say("the heap is corrupted: %s", heap->fault.text);
    return 1;
}

static void version(char *text, size_t size, uint64_t number) {
    snprintf(text, size, "%u.%u.%u", (unsigned)(number >> 32), (unsigned)(number >> 16 & 0xffff), (unsigned)(number & 0xffff));
}

void outside_json(struct json_writer *json, const struct process *process) {
    const struct heap *heap = &process->heap;
    char text[40];
    writer_open(json, NULL, '{');
    writer_open(json, "process", '{');
    writer_number(json, "pid", (uint64_t)process->live.pid);
    writer_text(json, "command", process->live.command);
    writer_text(json, "library", process->library);
    version(text, sizeof text, heap->descriptor.library_version);
    writer_text(json, "library_version", text);
    writer_number(json, "descriptor_version", heap->descriptor.version);
    writer_number(json, "page_size", process->live.source.page_size);
    writer_text(json, "read", heap->is_live ? "live" : "frozen");
    writer_number(json, "frozen_ns", process->frozen);
    writer_number(json, "tries", process->tries);
    writer_close(json, '}');
    writer_open(json, "torn", '[');
    for (size_t i = 0; i < heap->arena_count; i++) {
        if (!heap->arenas[i].is_torn) continue;
        snprintf(text, sizeof text, "arena %u", heap->arenas[i].id);
        writer_text(json, NULL, text);
    }
    for (size_t i = 0; i < heap->cache_count; i++) {
        if (!heap->caches[i].is_torn) continue;
        snprintf(text, sizeof text, "cache 0x%" PRIx64, heap->caches[i].address);
        writer_text(json, NULL, text);
    }
    writer_close(json, ']');
    if (heap->fault.text[0] != '\0') {
        writer_text(json, "corrupted", heap->fault.text);
    } else {
        writer_null(json, "corrupted");
    }
    writer_flag(json, "pages_known", heap->pages_known);
}

void outside_head(FILE *out, const struct process *process) {
    char text[40];
    version(text, sizeof text, process->heap.descriptor.library_version);
    fprintf(out, "process %d (%s), seemalloc %s; ", (int)process->live.pid, process->live.command, text);
    if (process->heap.is_live) {
        fputs("read while it ran: cached blocks count as in use\n", out);
    } else {
        fprintf(out, "frozen for %.1f ms\n", (double)process->frozen / 1e6);
    }
    if (process->heap.is_torn) fputs("TORN: figures of what is marked so may not fit together\n", out);
    if (process->heap.fault.text[0] != '\0') fprintf(out, "CORRUPTED: %s\n", process->heap.fault.text);
}
