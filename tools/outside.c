/* outside.c: see outside.h. SPDX-License-Identifier: MIT */
#include "outside.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tool.h"

const char *outside_subject(const char *command, int argc, char **argv, int first) {
    if (first >= argc) {
        tool_usage(command, "the number of a process is missing, or the name of a core file or a snapshot");
        return NULL;
    }
    const char *name = argv[first];
    bool digits = name[0] != '\0' && name[strspn(name, "0123456789")] == '\0';
    errno = 0;
    long number = digits ? strtol(name, NULL, 10) : 0;
    if (digits ? errno != 0 || number < 1 || number > INT_MAX : access(name, F_OK) != 0) {
        tool_usage(command, "'%s' is no process; expected its number, as ps shows it, or a core file or a snapshot", name);
        return NULL;
    }
    if (argc > first + 1) {
        tool_usage(command, "it takes one process, got '%s' too", argv[first + 1]);
        return NULL;
    }
    return name;
}

bool outside_count(const char *text, uint64_t *count) {
    char *end = NULL;
    errno = 0;
    *count = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0;
}

bool outside_number(const char *text, uint64_t *number) {
    static const char units[] = "KMG";
    char *end = NULL;
    errno = 0;
    *number = strtoull(text, &end, strncmp(text, "0x", 2) == 0 ? 16 : 10);
    if (text[0] < '0' || text[0] > '9' || errno != 0) return false;
    const char *unit = *end != '\0' ? strchr(units, *end) : NULL;
    if (unit == NULL) return *end == '\0';
    unsigned shift = 10 * (unsigned)(unit - units + 1);
    if (end[1] != '\0' || *number > UINT64_MAX >> shift) return false;
    *number <<= shift;
    return true;
}

int outside_arguments(struct outside_arguments *arguments, const char *command, const char *help, const char *second, int argc,
                      char **argv) {
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    *arguments = (struct outside_arguments){0};
    for (int option; (option = getopt_long(argc, argv, "hj", options, NULL)) != -1;) {
        switch (option) {
        case 'h': fputs(help, stdout); return tool_finish(0);
        case 'j': arguments->as_json = true; break;
        default: return tool_usage(command, "unknown option '%s'", tool_bad_option(argv));
        }
    }
    if (second != NULL && argc > optind + 2)
        return tool_usage(command, "it takes a process and %s, got '%s' too", second, argv[optind + 2]);
    arguments->subject = outside_subject(command, second != NULL && argc > optind + 1 ? optind + 1 : argc, argv, optind);
    if (arguments->subject == NULL) return STATUS_USAGE;
    if (second == NULL) return -1;
    if (argc < optind + 2) return tool_usage(command, "%s is missing", second);
    if (outside_number(argv[optind + 1], &arguments->number)) return -1;
    return tool_usage(command, "'%s' is not %s", argv[optind + 1], second);
}

bool outside_read(struct process *process, const char *subject, bool is_live) {
    struct fault fault = {0};
    if (!process_open(process, subject, is_live, &fault)) {
        tool_say("%s", fault.text);
        return false;
    }
    process_thaw(process);
    return true;
}

const char *outside_arena_kind(const struct heap_arena *arena) {
    return arena->is_abandoned ? "abandoned" : arena->is_spare ? "spare" : arena->id == 0 ? "main" : "thread";
}

uint64_t outside_in_use(const struct heap_arena *arena) {
    return arena->bytes[SEEMALLOC_IN_USE] + arena->bytes[SEEMALLOC_FENCEPOST] + arena->bytes[SEEMALLOC_ABANDONED] +
           arena->bytes[HEAP_UNKNOWN];
}

uint64_t outside_free(const struct heap_arena *arena) {
    uint64_t sum = 0;
    for (unsigned state = SEEMALLOC_PARKED; state <= SEEMALLOC_TOP; state++) sum += arena->bytes[state];
    return sum;
}

/* What a reader says of a part that was being changed. */
static void say_torn(const struct process *process, const char *what, const char *changing, const char *so) {
    if (process->kind == PROCESS_CORE) {
        tool_say("%s is torn: when the core was written %s; %s", what, changing, so);
    } else {
        tool_say("%s is torn: at each of %u tries %s; %s", what, process->tries, changing, so);
    }
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
        char name[40];
        snprintf(name, sizeof name, "arena %u", heap->arenas[i].id);
        say_torn(process, name, "a thread was changing it", "its figures may not fit together");
    }
    for (size_t i = 0; i < heap->cache_count; i++) {
        if (!heap->caches[i].is_torn) continue;
        char name[40];
        snprintf(name, sizeof name, "the thread cache 0x%" PRIx64, heap->caches[i].address);
        say_torn(process, name, "its blocks were being moved", "some count as in use");
    }
    if (!heap->pages_known && process->kind == PROCESS_LIVE) {
        tool_say("which pages are in memory is not known: /proc/%d/pagemap can't be read", (int)process->live.pid);
    }
    if (heap->fault.text[0] == '\0') return 0;
    tool_say("the heap is corrupted: %s", heap->fault.text);
    return 1;
}

const char *outside_how(const struct process *process) {
    return process->kind == PROCESS_CORE       ? "core"
           : process->kind == PROCESS_SNAPSHOT ? "snapshot"
           : process->heap.is_live             ? "live"
                                               : "frozen";
}

void outside_version(char *text, size_t size, const struct heap *heap) {
    uint64_t number = heap->descriptor.library_version;
    snprintf(text, size, "%u.%u.%u", (unsigned)(number >> 32), (unsigned)(number >> 16 & 0xffff), (unsigned)(number & 0xffff));
}

void outside_facts(struct json_writer *json, const struct process *process) {
    const struct heap *heap = &process->heap;
    char text[40];
    writer_number(json, "pid", (uint64_t)process->live.pid);
    writer_text(json, "command", process->live.command);
    writer_text(json, "read", outside_how(process));
    if (process->file != NULL) writer_text(json, "file", process->file);
    writer_text(json, "library", process->library);
    outside_version(text, sizeof text, heap);
    writer_text(json, "library_version", text);
    writer_number(json, "descriptor_version", heap->descriptor.version);
    writer_number(json, "page_size", process->page_size);
    writer_number(json, "frozen_ns", process->frozen);
    writer_number(json, "tries", process->tries);
}

void outside_json(struct json_writer *json, const struct process *process) {
    const struct heap *heap = &process->heap;
    char text[40];
    writer_open(json, NULL, '{');
    writer_open(json, "process", '{');
    outside_facts(json, process);
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
    outside_version(text, sizeof text, &process->heap);
    if (process->file != NULL) fprintf(out, "%s: %s of ", process->file, outside_how(process));
    fprintf(out, "process %d (%s), seemalloc %s", (int)process->live.pid, process->live.command, text);
    fputs(process->kind == PROCESS_CORE ? "\n" : "; ", out);
    if (process->kind == PROCESS_CORE) {
        /* nothing was frozen */
    } else if (process->heap.is_live) {
        fputs("read while it ran: cached blocks count as in use\n", out);
    } else {
        fprintf(out, "frozen for %.1f ms\n", (double)process->frozen / 1e6);
    }
    if (process->heap.is_torn) fputs("TORN: figures of what is marked so may not fit together\n", out);
    if (process->heap.fault.text[0] != '\0') fprintf(out, "CORRUPTED: %s\n", process->heap.fault.text);
}

int outside_show(const char *command, const char *help, void (*print_json)(const struct process *process),
                 void (*print_text)(const struct process *process), int argc, char **argv) {
    struct outside_arguments arguments;
    static struct process process;
    int status = outside_arguments(&arguments, command, help, NULL, argc, argv);
    if (status >= 0) return status;
    if (!outside_read(&process, arguments.subject, false)) return 1;
    status = outside_warn(&process);
    (arguments.as_json ? print_json : print_text)(&process);
    process_close(&process);
    return tool_finish(status);
}
