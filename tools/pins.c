/* pins.c: `seemalloc pins PID`: which blocks keep free memory from going back. SPDX-License-Identifier: MIT */
#include "reader/pins.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>

#include "outside.h"
#include "tool.h"

#define SHOWN 20

const char pins_help[] =
    "Usage: seemalloc pins PID|CORE|SNAPSHOT [-n N] [--json]\n"
    "Show the blocks of a process that keep free memory from going back to the system.\n"
    "\n"
    "For a block in use: were it alone freed, it would merge with the free memory beside it (what lies in thread caches counts as\n"
    "in use), and of that the whole pages could go back, or the whole heap of an arena if nothing else is in use there.\n"
    "  releases   bytes of pages in memory that would go back then and can't now\n"
    "  keeps      of these, bytes that are not the block's own: free memory that only this block holds\n"
    "Blocks that keep nothing are left out, and so are mapped blocks: they release themselves. Largest release first.\n"
    "Memory that two blocks hold together is in nobody's figure; so the sum is what single frees would bring.\n"
    "\n"
    "Options:\n"
    "  -n N          how many blocks to show (20)\n"
    "  -j, --json    the same as JSON, sizes in bytes\n"
    "  -h, --help    show this text\n"
    "\n"
    "The status is 0, 1 if the process can't be read or its heap is corrupted, 2 if the command line is wrong.\n";

static void print_json(const struct process *process, const struct pins *pins) {
    const struct heap *heap = &process->heap;
    struct json_writer json = {.out = stdout};
    outside_json(&json, process);
    writer_open(&json, "pins", '[');
    for (size_t i = 0; i < pins->shown; i++) {
        const struct heap_chunk *chunk = &heap->chunks[pins->largest[i].chunk];
        writer_open(&json, NULL, '{');
        writer_address(&json, "mem", chunk->address + heap->descriptor.chunk_header);
        writer_address(&json, "chunk", chunk->address);
        writer_number(&json, "size", chunk->size);
        writer_number(&json, "arena", heap->arenas[heap->regions[chunk->region].arena].id);
        writer_text(&json, "state", heap_state_name(chunk->state));
        writer_number(&json, "releases", pins->largest[i].releases);
        writer_number(&json, "keeps", pins->largest[i].keeps);
        writer_flag(&json, "whole_heap", pins->largest[i].is_heap);
        writer_close(&json, '}');
    }
    writer_close(&json, ']');
    writer_open(&json, "total", '{');
    writer_number(&json, "count", pins->count);
    writer_number(&json, "releases", pins->releases);
    writer_number(&json, "keeps", pins->keeps);
    writer_close(&json, '}');
    writer_close(&json, '}');
}

static void print_text(const struct process *process, const struct pins *pins) {
    const struct heap *heap = &process->heap;
    outside_head(stdout, process);
    if (pins->shown != 0) printf("%14s%14s  %-18s%12s%7s  %s\n", "releases", "keeps", "address", "size", "arena", "state");
    for (size_t i = 0; i < pins->shown; i++) {
        const struct heap_chunk *chunk = &heap->chunks[pins->largest[i].chunk];
        const struct heap_arena *arena = &heap->arenas[heap->regions[chunk->region].arena];
        printf("%14" PRIu64 "%14" PRIu64 "  0x%-16" PRIx64 "%12" PRIu64 "%7u  %s%s%s\n", pins->largest[i].releases, pins->largest[i].keeps,
               chunk->address + heap->descriptor.chunk_header, chunk->size, arena->id, heap_state_name(chunk->state),
               pins->largest[i].is_heap ? ", the last of its heap" : "", arena->is_torn ? ", TORN" : "");
    }
    if (pins->shown < pins->count) printf("%14s\n", "…");
    printf("%" PRIu64 " blocks pin %" PRIu64 " bytes of free memory; freed one at a time they release %" PRIu64 " bytes\n", pins->count,
           pins->keeps, pins->releases);
}

int pins_main(int argc, char **argv) {
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool as_json = false;
    uint64_t most = SHOWN;
    for (int option; (option = getopt_long(argc, argv, ":hjn:", options, NULL)) != -1;) {
        switch (option) {
        case 'h': fputs(pins_help, stdout); return tool_finish(0);
        case 'j': as_json = true; break;
        case 'n':
            if (!outside_count(optarg, &most)) return tool_usage("pins", "option '-n' needs a number, got '%s'", optarg);
            break;
        case ':': return tool_usage("pins", "option '%s' needs a value", tool_bad_option(argv));
        default: return tool_usage("pins", "unknown option '%s'", tool_bad_option(argv));
        }
    }
    const char *subject = outside_subject("pins", argc, argv, optind);
    if (subject == NULL) return STATUS_USAGE;
    static struct process process;
    if (!outside_read(&process, subject, false)) return 1;
    int status = outside_warn(&process);
    if (!process.heap.pages_known) {
        tool_say("pins can't be told: which pages are in memory is not known%s",
                 process.kind == PROCESS_CORE ? "; a core does not say it" : "");
        process_close(&process);
        return 1;
    }
    struct pins pins;
    pins_find(&pins, &process.heap, process.page_size, most);
    if (as_json) {
        print_json(&process, &pins);
    } else {
        print_text(&process, &pins);
    }
    pins_free(&pins);
    process_close(&process);
    return tool_finish(status);
}
