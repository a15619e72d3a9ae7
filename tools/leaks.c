/* leaks.c: `seemalloc leaks PID|CORE`. SPDX-License-Identifier: MIT */
#include <ctype.h>
#include <getopt.h>
#include <inttypes.h>
#include <string.h>

#include "outside.h"
#include "reader/leaks.h"
#include "tool.h"

#define SHOWN 20  /* sizes */
#define SAMPLES 3 /* of a size */

const char leaks_help[] =
    "Usage: seemalloc leaks PID|CORE [-n COUNT] [--no-contents] [--json]\n"
    "Show blocks in use that nothing leads to: no register, no stack, no data of the program or a library, no other anonymous\n"
    "memory, and no block that one of these leads to, has the address of any byte of them in an aligned word. That is cautious:\n"
    "a number that looks like an address keeps a block off the list, but an address kept in another form (packed, compressed,\n"
    "in a file) does not.\n"
    "\n"
    "Blocks are grouped by size; \"held\" are those that another leaked block leads to. The process is frozen until all is read.\n"
    "\n"
    "Options:\n"
    "  -n COUNT             show so many sizes at most (20)\n"
    "      --no-contents    addresses alone, not the first bytes of samples\n"
    "  -j, --json           the same as JSON, sizes in bytes, all of them\n"
    "  -h, --help           show this text\n"
    "\n"
    "The status is 0 whether there are leaks or not, 1 if the process can't be read or its heap is corrupted, 2 if the command\n"
    "line is wrong.\n";

struct group { /* leaks of one size stand together */
    size_t first, count, held;
};

static struct group next_group(const struct leaks *leaks, size_t first) {
    struct group group = {.first = first};
    while (first + group.count < leaks->count && leaks->leak[first + group.count].size == leaks->leak[first].size) {
        group.held += leaks->leak[first + group.count++].is_held;
    }
    return group;
}

/* "48 69 00 …" and "Hi.…"; "" if that was not read. */
static void words(const struct leak *leak, char hex[3 * LEAK_BEGIN + 1], char text[LEAK_BEGIN + 1]) {
    hex[0] = text[0] = '\0';
    for (unsigned i = 0; i < LEAK_BEGIN && leak->has_begin; i++) {
        sprintf(hex + 3 * i, "%02x%s", leak->begin[i], i + 1 < LEAK_BEGIN ? " " : "");
        text[i] = isascii(leak->begin[i]) && isprint(leak->begin[i]) ? (char)leak->begin[i] : '.';
        text[i + 1] = '\0';
    }
}

/* Those first that nothing holds: what they lead to went with them. */
static size_t sample(const struct leaks *leaks, const struct group *group, size_t out[SAMPLES]) {
    size_t n = 0;
    for (int held = 0; held < 2; held++) {
        for (size_t i = group->first; i < group->first + group->count && n < SAMPLES; i++) {
            if (leaks->leak[i].is_held == (held != 0)) out[n++] = i;
        }
    }
    return n;
}

static void read_samples(struct leaks *leaks, struct process *process) {
    for (size_t i = 0; i < leaks->count;) {
        struct group group = next_group(leaks, i);
        size_t index[SAMPLES], count = sample(leaks, &group, index);
        for (size_t k = 0; k < count; k++) leaks_sample(&leaks->leak[index[k]], process);
        i += group.count;
    }
}

/* --- JSON ------------------------------------------------------------------------------------------------------------------------------------- */

static void json_group(struct json_writer *json, const struct leaks *leaks, const struct group *group) {
    size_t index[SAMPLES], count = sample(leaks, group, index);
    writer_open(json, NULL, '{');
    writer_number(json, "size", leaks->leak[group->first].size);
    writer_number(json, "count", group->count);
    writer_number(json, "held", group->held);
    writer_number(json, "bytes", leaks->leak[group->first].size * group->count);
    writer_open(json, "samples", '[');
    for (size_t i = 0; i < count; i++) {
        const struct leak *leak = &leaks->leak[index[i]];
        char hex[3 * LEAK_BEGIN + 1], text[LEAK_BEGIN + 1];
        words(leak, hex, text);
        writer_open(json, NULL, '{');
        writer_address(json, "address", leak->address);
        writer_number(json, "arena", leak->arena);
        writer_flag(json, "mapped", leak->is_mapped);
        writer_flag(json, "held", leak->is_held);
        if (hex[0] != '\0') writer_text(json, "hex", hex);
        if (hex[0] != '\0') writer_text(json, "text", text);
        writer_close(json, '}');
    }
    writer_close(json, ']');
    writer_close(json, '}');
}

static void print_json(const struct leaks *leaks, const struct process *process) {
    struct json_writer json = {.out = stdout};
    outside_json(&json, process);
    writer_number(&json, "blocks", leaks->blocks);
    writer_number(&json, "leaked_blocks", leaks->count);
    writer_number(&json, "leaked_bytes", leaks->bytes);
    writer_number(&json, "root_bytes", leaks->root_bytes);
    writer_number(&json, "unread_bytes", leaks->unread);
    writer_open(&json, "sizes", '[');
    for (size_t i = 0; i < leaks->count;) {
        struct group group = next_group(leaks, i);
        json_group(&json, leaks, &group);
        i += group.count;
    }
    writer_close(&json, ']');
    writer_close(&json, '}');
}

/* --- text ------------------------------------------------------------------------------------------------------------------------------------- */

static void print_group(const struct leaks *leaks, const struct group *group) {
    size_t index[SAMPLES], count = sample(leaks, group, index);
    uint64_t size = leaks->leak[group->first].size;
    printf("%14" PRIu64 "%10zu%10zu%14" PRIu64 "\n", size, group->count, group->held, size * group->count);
    for (size_t i = 0; i < count; i++) {
        char hex[3 * LEAK_BEGIN + 1], text[LEAK_BEGIN + 1];
        words(&leaks->leak[index[i]], hex, text);
        printf("    0x%-14" PRIx64 "%s%s%s%s\n", leaks->leak[index[i]].address, hex, hex[0] != '\0' ? "  " : "", text,
               leaks->leak[index[i]].is_held ? "  held" : "");
    }
}

static void print_text(const struct leaks *leaks, const struct process *process, uint64_t most) {
    outside_head(stdout, process);
    if (leaks->count != 0) printf("%14s%10s%10s%14s\n", "size", "blocks", "held", "bytes");
    for (size_t i = 0; i < leaks->count && most != 0; most--) {
        struct group group = next_group(leaks, i);
        print_group(leaks, &group);
        i += group.count;
        if (most == 1 && i < leaks->count) printf("%14s\n", "…");
    }
    printf("%zu of %zu blocks in use, %" PRIu64 " bytes, are led to by nothing\n", leaks->count, leaks->blocks, leaks->bytes);
}

int leaks_main(int argc, char **argv) {
    enum { NO_CONTENTS = 256 };
    static const struct option options[] = {
        {"json", no_argument, NULL, 'j'}, {"no-contents", no_argument, NULL, NO_CONTENTS}, {"help", no_argument, NULL, 'h'}, {0}};
    bool as_json = false, contents = true;
    uint64_t most = SHOWN;
    for (int option; (option = getopt_long(argc, argv, ":hjn:", options, NULL)) != -1;) {
        switch (option) {
        case 'h': fputs(leaks_help, stdout); return tool_finish(0);
        case 'j': as_json = true; break;
        case NO_CONTENTS: contents = false; break;
        case 'n':
            if (!outside_count(optarg, &most)) return tool_usage("leaks", "option '-n' needs a number, got '%s'", optarg);
            break;
        case ':': return tool_usage("leaks", "option '%s' needs a value", tool_bad_option(argv));
        default: return tool_usage("leaks", "unknown option '%s'", tool_bad_option(argv));
        }
    }
    const char *subject = outside_subject("leaks", argc, argv, optind);
    if (subject == NULL) return STATUS_USAGE;
    static struct process process;
    struct leaks leaks;
    struct fault fault = {0};
    if (!process_open(&process, subject, false, &fault) || !leaks_find(&leaks, &process, &fault)) {
        tool_say("%s", fault.text);
        process_close(&process);
        return 1;
    }
    if (contents) read_samples(&leaks, &process);
    process_thaw(&process);
    int status = outside_warn(&process);
    if (as_json) {
        print_json(&leaks, &process);
    } else {
        print_text(&leaks, &process, most);
    }
    if (leaks.unread != 0) {
        tool_say("%" PRIu64 " bytes that may lead to blocks could not be read: blocks that only these lead to are shown as leaks",
                 leaks.unread);
    }
    leaks_free(&leaks);
    process_close(&process);
    return tool_finish(status);
}
