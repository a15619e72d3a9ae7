/* threads.c: `seemalloc threads PID`: the thread caches and what their magazines hold. SPDX-License-Identifier: MIT */
#include <inttypes.h>
#include <stdlib.h>

#include "outside.h"
#include "reader/rules.h"
#include "tool.h"

const char threads_help[] =
    "Usage: seemalloc threads PID|CORE|SNAPSHOT [--json]\n"
    "Show the thread caches of a running process: for each size class in use how many blocks its magazine holds and may hold.\n"
    "\n"
    "  state     live: a thread's; left: its thread has ended, the next one takes it over; orphan: of a thread that did not come along\n"
    "            when the process was forked\n"
    "  limits    what all magazines of the cache may hold now, in bytes; they grow with use, up to the budget\n"
    "            and beyond it only while the thread holds less than it lately had in use\n"
    "  class     chunk size of the blocks that a request takes from the magazine; what it holds may be a little larger\n"
    "Whose a cache is follows from where that thread's own variables lie; where that can't be told it says so.\n"
    "Pooled caches that nobody has are left out.\n"
    "\n"
    "Options:\n"
    "  -j, --json    the same as JSON, sizes in bytes\n"
    "  -h, --help    show this text\n"
    "\n"
    "The status is 0, 1 if the process can't be read or its heap is corrupted, 2 if the command line is wrong.\n";

static uint64_t cached_bytes(const struct heap *heap, const struct heap_cache *cache) {
    uint64_t sum = 0;
    for (size_t i = 0; i < heap->list_count; i++) {
        const struct heap_list *list = &heap->lists[i];
        if (list->kind >= HEAP_MAGAZINE && &heap->caches[list->owner] == cache) sum += list->bytes;
    }
    return sum;
}

static uint64_t magazine_bytes(const struct heap *heap, const struct heap_magazine *magazine) {
    return magazine->list != HEAP_NO_LIST ? heap->lists[magazine->list].bytes : 0;
}

static uint32_t arena_id(const struct heap *heap, const struct heap_cache *cache) { return heap->arenas[cache->arena].id; }

/* Threads of the process that have no cache. */
static bool has_cache(const struct heap *heap, int32_t tid) {
    for (size_t i = 0; i < heap->cache_count; i++) {
        if (heap->caches[i].thread == tid) return true;
    }
    return false;
}

/* --- JSON -------------------------------------------------------------------------------------------------------------------------------------- */

static void json_cache(struct json_writer *json, const struct heap *heap, const struct heap_cache *cache) {
    writer_open(json, NULL, '{');
    writer_address(json, "address", cache->address);
    writer_text(json, "state", heap_cache_state(heap, cache));
    if (cache->thread != 0) {
        writer_number(json, "thread", (uint64_t)cache->thread);
    } else {
        writer_null(json, "thread");
    }
    if (cache->arena >= 0) {
        writer_number(json, "arena", arena_id(heap, cache));
    } else {
        writer_null(json, "arena");
    }
    writer_flag(json, "torn", cache->is_torn);
    writer_number(json, "blocks", cache->blocks);
    writer_number(json, "bytes", cached_bytes(heap, cache));
    writer_number(json, "limits_bytes", cache->reserved);
    writer_number(json, "budget_bytes", heap_cache_room(cache));
    writer_open(json, "classes", '[');
    for (unsigned i = 0; i < heap->descriptor.class_total; i++) {
        const struct heap_magazine *magazine = &cache->magazines[i];
        if (magazine->blocks == 0 && magazine->limit == 0) continue;
        writer_open(json, NULL, '{');
        writer_number(json, "class", i);
        writer_number(json, "block_size", rules_class_size(i));
        writer_number(json, "blocks", magazine->blocks);
        writer_number(json, "bytes", magazine_bytes(heap, magazine));
        writer_number(json, "limit", magazine->limit);
        writer_close(json, '}');
    }
    writer_close(json, ']');
    writer_close(json, '}');
}

static void print_json(const struct process *process, const int32_t *without, size_t count) {
    const struct heap *heap = &process->heap;
    struct json_writer json = {.out = stdout, .rows = 4};
    outside_json(&json, process);
    writer_open(&json, "caches", '[');
    for (size_t i = 0; i < heap->cache_count; i++) {
        if (heap->caches[i].state != heap->descriptor.cache_free) json_cache(&json, heap, &heap->caches[i]);
    }
    writer_close(&json, ']');
    writer_open(&json, "without_cache", '[');
    for (size_t i = 0; i < count; i++) writer_number(&json, NULL, (uint64_t)without[i]);
    writer_close(&json, ']');
    writer_close(&json, '}');
}

/* --- text --------------------------------------------------------------------------------------------------------------------------------------- */

static void print_cache(const struct heap *heap, const struct heap_cache *cache) {
    char thread[48] = "of a thread that can't be told", arena[24] = "no arena";
    if (cache->thread != 0) snprintf(thread, sizeof thread, "of thread %d", cache->thread);
    if (cache->arena >= 0) snprintf(arena, sizeof arena, "arena %u", arena_id(heap, cache));
    printf("cache 0x%" PRIx64 " %s: %s, %s%s\n", cache->address, thread, heap_cache_state(heap, cache), arena,
           cache->is_torn ? ", TORN" : "");
    printf("  %zu blocks, %" PRIu64 " bytes; limits %" PRIu64 ", budget %" PRIu64 " bytes\n", cache->blocks, cached_bytes(heap, cache),
           cache->reserved, heap_cache_room(cache));
    printf("  %12s%12s%12s%16s\n", "class", "blocks", "limit", "bytes");
    for (unsigned i = 0; i < heap->descriptor.class_total; i++) {
        const struct heap_magazine *magazine = &cache->magazines[i];
        if (magazine->blocks == 0 && magazine->limit == 0) continue;
        printf("  %12" PRIu64 "%12u%12u%16" PRIu64 "\n", rules_class_size(i), magazine->blocks, magazine->limit,
               magazine_bytes(heap, magazine));
    }
}

static void print_text(const struct process *process, const int32_t *without, size_t count) {
    const struct heap *heap = &process->heap;
    outside_head(stdout, process);
    for (size_t i = 0; i < heap->cache_count; i++) {
        if (heap->caches[i].state != heap->descriptor.cache_free) print_cache(heap, &heap->caches[i]);
    }
    for (size_t i = 0; i < count; i++) printf("thread %d has no cache: it has not allocated yet, or caches are switched off\n", without[i]);
}

int threads_main(int argc, char **argv) {
    struct outside_arguments arguments;
    static struct process process;
    struct fault fault = {0};
    int status = outside_arguments(&arguments, "threads", threads_help, NULL, argc, argv);
    if (status >= 0) return status;
    if (!process_open(&process, arguments.subject, false, &fault)) {
        tool_say("%s", fault.text);
        return 1;
    }
    int32_t *without = need_memory(NULL, process.live.thread_count, sizeof *without);
    size_t count = 0;
    for (size_t i = 0; i < process.live.thread_count; i++) {
        if (!has_cache(&process.heap, process.live.threads[i].tid)) without[count++] = process.live.threads[i].tid;
    }
    process_thaw(&process);
    status = outside_warn(&process);
    if (arguments.as_json) {
        print_json(&process, without, count);
    } else {
        print_text(&process, without, count);
    }
    free(without);
    process_close(&process);
    return tool_finish(status);
}
