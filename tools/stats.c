/* stats.c: `seemalloc stats PID`: the ledger of a running process. SPDX-License-Identifier: MIT */
#include <getopt.h>
#include <inttypes.h>
#include <string.h>

#include "outside.h"
#include "reader/ledger.h"
#include "tool.h"

const char stats_help[] =
    "Usage: seemalloc stats PID|CORE|SNAPSHOT [--json]\n"
    "Show where each resident byte of a process is that runs on seemalloc.\n"
    "\n"
    "The process is frozen for the moment of reading, at a time when no arena is being changed, and goes on as it was. Each byte\n"
    "of each page in memory that is ours is counted once: by the state of its chunk, or as\n"
    "  slack      free memory, in whole pages, that was never handed out or had gone back: the kernel brought it unasked\n"
    "  retained   mappings of freed blocks that wait for the next ones\n"
    "  metadata   the allocator's own books\n"
    "What is not ours is summed by kind. The total is compared with the kernel's own; the residual is what they differ by.\n"
    "Page faults, system calls by reason, settings other than the default, arenas and thread caches follow.\n"
    "\n"
    "Options:\n"
    "  -j, --json    the same as JSON, sizes in bytes\n"
    "  -h, --help    show this text\n"
    "\n"
    "The status is 0, 1 if the process can't be read or its heap is corrupted, 2 if the command line is wrong. What was\n"
    "changing at every try is marked as torn.\n";

/* --- JSON -------------------------------------------------------------------------------------------------------------------------------------- */

static void sum_state(const struct heap *heap, unsigned state, uint64_t *bytes, uint64_t *count) {
    *bytes = *count = 0;
    for (size_t i = 0; i < heap->arena_count; i++) {
        *bytes += heap->arenas[i].bytes[state];
        *count += heap->arenas[i].chunks[state];
    }
    for (size_t i = 0; i < heap->block_count && state == SEEMALLOC_MAPPED; i++, ++*count) *bytes += heap->blocks[i].length;
}

static void json_state(struct json_writer *json, const struct process *process, const struct ledger *ledger, unsigned state) {
    uint64_t bytes, count;
    sum_state(&process->heap, state, &bytes, &count);
    writer_open(json, heap_state_name(state), '{');
    writer_number(json, "bytes", bytes);
    writer_number(json, "count", count);
    if (ledger->pages_known) {
        writer_number(json, "resident", ledger->state[state]);
    } else {
        writer_null(json, "resident");
    }
    writer_close(json, '}');
}

static void json_ledger(struct json_writer *json, const struct process *process, const struct ledger *ledger) {
    writer_open(json, "states", '{');
    for (unsigned state = 0; state < HEAP_STATES; state++) json_state(json, process, ledger, state);
    writer_close(json, '}');
    writer_open(json, "resident", '{');
    if (ledger->pages_known) {
        writer_number(json, "slack", ledger->slack);
        writer_number(json, "retained", ledger->retained);
        writer_number(json, "metadata", ledger->metadata);
        writer_number(json, "ours", ledger->ours);
    }
    for (unsigned i = 0; i < LEDGER_OTHERS; i++) writer_number(json, ledger_other_name(i), ledger->other[i]);
    writer_number(json, "accounted", ledger_accounted(ledger));
    if (ledger->rss_known) writer_number(json, "rss", ledger->rss);
    if (ledger->rss_known && ledger->pages_known) {
        writer_signed(json, "residual", ledger_residual(ledger));
        writer_ratio(json, "residual_percent", ledger->rss != 0 ? 100.0 * (double)ledger_residual(ledger) / (double)ledger->rss : 0);
    }
    writer_close(json, '}');
}

static void json_arenas(struct json_writer *json, const struct process *process) {
    const struct heap *heap = &process->heap;
    writer_open(json, "arenas", '[');
    for (size_t i = 0; i < heap->arena_count; i++) {
        const struct heap_arena *arena = &heap->arenas[i];
        writer_open(json, NULL, '{');
        writer_number(json, "id", arena->id);
        writer_flag(json, "spare", arena->is_spare);
        writer_flag(json, "abandoned", arena->is_abandoned);
        writer_flag(json, "torn", arena->is_torn);
        writer_number(json, "threads", arena->threads);
        writer_number(json, "regions", arena->count);
        writer_number(json, "system_bytes", arena->system_bytes);
        writer_number(json, "system_peak", arena->system_peak);
        writer_open(json, "bytes", '{');
        for (unsigned state = 0; state < HEAP_STATES; state++) {
            if (arena->chunks[state] != 0) writer_number(json, heap_state_name(state), arena->bytes[state]);
        }
        writer_close(json, '}');
        writer_close(json, '}');
    }
    writer_close(json, ']');
    writer_open(json, "caches", '[');
    for (size_t i = 0; i < heap->cache_count; i++) {
        const struct heap_cache *cache = &heap->caches[i];
        if (cache->state == heap->descriptor.cache_free) continue;
        writer_open(json, NULL, '{');
        writer_address(json, "address", cache->address);
        writer_signed(json, "arena", cache->arena);
        writer_flag(json, "live", cache->state == heap->descriptor.cache_live);
        writer_flag(json, "torn", cache->is_torn);
        writer_number(json, "blocks", cache->blocks);
        writer_number(json, "limits_bytes", cache->reserved);
        writer_number(json, "budget_bytes", heap_cache_room(cache));
        writer_close(json, '}');
    }
    writer_close(json, ']');
}

static void print_json(const struct process *process, const struct ledger *ledger) {
    const struct heap *heap = &process->heap;
    struct json_writer json = {.out = stdout};
    outside_json(&json, process);
    json_ledger(&json, process, ledger);
    writer_number(&json, "metadata_mapped", heap->metadata_bytes);
    writer_number(&json, "heap_peak", heap->heap_peak);
    writer_number(&json, "in_use_peak", heap->in_use_peak);
    if (ledger->faults_known) {
        writer_number(&json, "minor_faults", ledger->minor_faults);
        writer_number(&json, "major_faults", ledger->major_faults);
    }
    writer_open(&json, "calls", '{');
    for (unsigned call = 0; call < SEEMALLOC_CALL_COUNT; call++) writer_number(&json, heap_call_name(call), heap->calls[call]);
    writer_number(&json, "refused", heap->failures);
    writer_close(&json, '}');
    writer_open(&json, "settings", '{');
    for (size_t i = 0; i < heap->setting_count; i++) writer_number(&json, heap->settings[i].name, heap->settings[i].value);
    writer_close(&json, '}');
    json_arenas(&json, process);
    writer_close(&json, '}');
}

/* --- text --------------------------------------------------------------------------------------------------------------------------------------- */

static void print_line(const struct ledger *ledger, const char *name, uint64_t bytes) {
    if (bytes == 0) return;
    printf("  %-20s%14" PRIu64, name, bytes);
    if (ledger->rss_known && ledger->rss != 0) printf("%8.2f %%", 100.0 * (double)bytes / (double)ledger->rss);
    putchar('\n');
}

static void print_ledger(const struct ledger *ledger) {
    puts("resident bytes");
    for (unsigned state = 0; state < HEAP_STATES && ledger->pages_known; state++)
        print_line(ledger, heap_state_name(state), ledger->state[state]);
    if (ledger->pages_known) {
        print_line(ledger, "slack", ledger->slack);
        print_line(ledger, "retained", ledger->retained);
        print_line(ledger, "metadata", ledger->metadata);
        puts("not ours");
    } else if (ledger_accounted(ledger) != 0) {
        puts("not ours, and ours with them");
    }
    for (unsigned i = 0; i < LEDGER_OTHERS; i++) print_line(ledger, ledger_other_name(i), ledger->other[i]);
    print_line(ledger, "total", ledger_accounted(ledger));
    if (!ledger->rss_known) {
        puts("  the kernel's own total is missing: smaps_rollup can't be read");
        return;
    }
    print_line(ledger, "RSS by the kernel", ledger->rss);
    if (!ledger->pages_known || ledger->rss == 0) return;
    printf("  %-20s%14" PRId64 "%8.2f %%\n", "residual", ledger_residual(ledger),
           100.0 * (double)ledger_residual(ledger) / (double)ledger->rss);
}

static void print_arenas(const struct heap *heap) {
    printf("%-12s%8s%14s%14s%14s%14s\n", "arena", "threads", "system", "in use", "free", "cached");
    for (size_t i = 0; i < heap->arena_count; i++) {
        const struct heap_arena *arena = &heap->arenas[i];
        if (arena->is_spare && arena->system_peak == 0) continue;
        uint64_t used = outside_in_use(arena);
        char name[32];
        snprintf(name, sizeof name, "%u%s%s%s", arena->id, arena->is_spare ? " spare" : "", arena->is_abandoned ? " lost" : "",
                 arena->is_torn ? " TORN" : "");
        printf("  %-10s%8u%14" PRIu64 "%14" PRIu64 "%14" PRIu64 "%14" PRIu64 "\n", name, arena->threads, arena->system_bytes, used,
               arena->system_bytes - used - arena->bytes[SEEMALLOC_CACHED], arena->bytes[SEEMALLOC_CACHED]);
    }
    uint64_t bytes = 0;
    for (size_t i = 0; i < heap->block_count; i++) bytes += heap->blocks[i].length;
    if (heap->block_count != 0) printf("  %zu mapped block%s%33" PRIu64 "\n", heap->block_count, heap->block_count == 1 ? " " : "s", bytes);
    size_t live = 0, blocks = 0;
    for (size_t i = 0; i < heap->cache_count; i++) {
        if (heap->caches[i].state == heap->descriptor.cache_free) continue;
        live++;
        blocks += heap->caches[i].blocks;
    }
    printf("thread caches: %zu, with %zu blocks\n", live, blocks);
}

/* Where nobody knows which of them are in memory. */
static void print_states(const struct heap *heap) {
    puts("bytes, in memory or not");
    for (unsigned state = 0; state < HEAP_STATES; state++) {
        uint64_t bytes, count;
        sum_state(heap, state, &bytes, &count);
        if (count != 0) printf("  %-20s%14" PRIu64 "\n", heap_state_name(state), bytes);
    }
}

static void print_text(const struct process *process, const struct ledger *ledger) {
    const struct heap *heap = &process->heap;
    outside_head(stdout, process);
    if (!ledger->pages_known) print_states(heap);
    if (process->kind != PROCESS_CORE) print_ledger(ledger);
    print_arenas(heap);
    puts("system calls");
    for (unsigned call = 0; call < SEEMALLOC_CALL_COUNT; call++) {
        if (heap->calls[call] != 0) printf("  %-20s%14" PRIu64 "\n", heap_call_name(call), heap->calls[call]);
    }
    printf("  %-20s%14" PRIu64 "\n", "refused", heap->failures);
    if (ledger->faults_known) printf("page faults: %" PRIu64 " minor, %" PRIu64 " major\n", ledger->minor_faults, ledger->major_faults);
    const char *head = "settings other than the default\n";
    for (size_t i = 0; i < heap->setting_count; i++) {
        const struct heap_setting *setting = &heap->settings[i];
        if (setting->value == setting->standard) continue;
        printf("%s  %-20s%14" PRIu64 " %s%s\n", head, setting->name, setting->value, setting->unit,
               setting->source == 0 ? " (it slid)" : "");
        head = "";
    }
}

int stats_main(int argc, char **argv) {
    static const struct option options[] = {{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'}, {0}};
    bool as_json = false;
    for (int option; (option = getopt_long(argc, argv, "hj", options, NULL)) != -1;) {
        if (option == 'h') {
            fputs(stats_help, stdout);
            return tool_finish(0);
        }
        if (option != 'j') return tool_usage("stats", "unknown option '%s'", tool_bad_option(argv));
        as_json = true;
    }
    const char *subject = outside_subject("stats", argc, argv, optind);
    if (subject == NULL) return STATUS_USAGE;
    static struct process process;
    struct ledger ledger;
    struct fault fault = {0};
    bool good = process_open(&process, subject, false, &fault);
    if (good && !ledger_read(&ledger, &process, &fault)) {
        process_close(&process);
        good = false;
    }
    if (!good) {
        tool_say("%s", fault.text);
        return 1;
    }
    process_thaw(&process);
    ledger_sum(&ledger, &process);
    int status = outside_warn(&process);
    if (as_json) {
        print_json(&process, &ledger);
    } else {
        print_text(&process, &ledger);
    }
    process_close(&process);
    return tool_finish(status);
}
