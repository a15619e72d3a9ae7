/* try_malloc.c: `seemalloc try-malloc PID N`: which way a request would go. SPDX-License-Identifier: MIT */
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>

#include "outside.h"
#include "reader/rules.h"
#include "reader/way.h"
#include "tool.h"

const char try_malloc_help[] =
    "Usage: seemalloc try-malloc PID|CORE|SNAPSHOT SIZE [--thread TID | --arena N | --all] [--json]\n"
    "Say which way malloc(SIZE) would go now in a running process: out of the thread's cache; from a parked batch; from a fast bin;\n"
    "from a small bin or the unsorted bin, where one fits exactly; cut from the last remainder, from the chunk that fits best, or\n"
    "from the top; after the heap has grown; or into a mapping of its own. Nothing is changed: the search goes through a copy of\n"
    "the arena's lists, step by step as the library does it, with all that is merged and sorted on the way.\n"
    "\n"
    "SIZE is in bytes and may end in K, M or G. What it finds holds as long as nothing else happens in the process before; where\n"
    "more than the heap decides, it says what.\n"
    "\n"
    "Options:\n"
    "  -t, --thread TID  a request by this thread (the main thread)\n"
    "  -a, --arena N     a request by a thread without a cache that takes from arena N\n"
    "  -A, --all         by each thread that has a cache\n"
    "  -j, --json        the same as JSON, sizes in bytes\n"
    "  -h, --help        show this text\n"
    "\n"
    "The status is 0, 1 if the process can't be read, its heap is corrupted, or it has no such thread or arena, 2 if the command\n"
    "line is wrong.\n";

struct options {
    const char *subject;
    uint64_t bytes, thread, arena;
    bool by_thread, by_arena, all, as_json;
};

/* --- JSON -------------------------------------------------------------------------------------------------------------------------------------- */

static void json_way(struct json_writer *json, const struct way *way, const struct heap_cache *cache) {
    writer_open(json, NULL, '{');
    if (cache != NULL && cache->thread != 0) {
        writer_number(json, "thread", (uint64_t)cache->thread);
    } else {
        writer_null(json, "thread");
    }
    writer_text(json, "way", way_name(way->kind));
    writer_number(json, "size", way->size);
    if (way->is_batch || way->kind == WAY_MAGAZINE) {
        writer_number(json, "class", rules_class_size(way->size_class));
        writer_number(json, "cached", way->cached);
    }
    if (way->is_batch) writer_number(json, "batch", way->batch);
    if (way->arena != NULL) {
        writer_number(json, "arena", way->arena->id);
        writer_flag(json, "lent", way->is_lent);
    }
    if (way->mem != 0) {
        writer_address(json, "mem", way->mem);
        writer_number(json, "chunk_size", way->chunk_size);
    }
    if (way->blocks != 0) writer_number(json, "blocks", way->blocks);
    writer_number(json, "rest", way->rest);
    writer_number(json, "merged", way->merged);
    writer_number(json, "system_bytes", way->bytes);
    if (way->doubt != NULL) {
        writer_text(json, "doubt", way->doubt);
    } else {
        writer_null(json, "doubt");
    }
    writer_close(json, '}');
}

/* --- text --------------------------------------------------------------------------------------------------------------------------------------- */

static void put_rest(const struct way *way) {
    if (way->is_batch && way->blocks > 1) printf(", %u blocks at once", way->blocks);
    if (way->rest != 0) printf(", which leaves %" PRIu64 " bytes free", way->rest);
}

static void put_place(const struct way *way) {
    uint64_t size = way->chunk_size;
    switch (way->kind) {
    case WAY_MAGAZINE:
        printf("from its cache: the magazine for chunks of %" PRIu64 " bytes has %u", rules_class_size(way->size_class), way->cached);
        break;
    case WAY_PARKED: printf("from a parked batch, %u block%s at once", way->blocks, way->blocks == 1 ? "" : "s"); break;
    case WAY_FAST: printf("from the fast bin for chunks of %" PRIu64 " bytes", size); break;
    case WAY_SMALL: printf("from small bin %u, which fits exactly", rules_bin(size)); break;
    case WAY_UNSORTED: printf("from the unsorted bin: a chunk of %" PRIu64 " bytes, which fits exactly", size); break;
    case WAY_REMAINDER: printf("cut from the last remainder, %" PRIu64 " bytes", size); break;
    case WAY_BEST_FIT:
        printf(way->rest == 0 && way->blocks == 1 ? "the chunk that fits best, of %" PRIu64 " bytes (bin %u)"
                                                  : "cut from the chunk that fits best, of %" PRIu64 " bytes (bin %u)",
               size, rules_bin(size));
        break;
    case WAY_TOP: printf("cut from the top, %" PRIu64 " bytes", size); break;
    case WAY_GROW: printf("cut from the top, after that has grown: the system is asked for %" PRIu64 " bytes more", way->bytes); break;
    case WAY_NEW_REGION: printf("cut from a new region: the system is asked for at least %" PRIu64 " bytes", way->bytes); break;
    case WAY_MAP: printf("a mapping of its own, %" PRIu64 " bytes", way->bytes); break;
    case WAY_RETAINED: printf("a mapping of its own, %" PRIu64 " bytes, that was kept when another block was freed", way->bytes); break;
    case WAY_NONE: printf("nowhere: malloc returns NULL, no process can have so much"); break;
    }
    if (way->kind >= WAY_REMAINDER && way->kind <= WAY_TOP) put_rest(way);
}

static void print_way(const struct way *way, const struct heap_cache *cache, const struct heap *heap) {
    if (cache == NULL) {
        printf("a thread without a cache: ");
    } else if (cache->thread != 0) {
        printf("thread %d: ", cache->thread);
    } else {
        printf("the thread of cache 0x%" PRIx64 ": ", cache->address);
    }
    put_place(way);
    putchar('\n');
    if (way->is_batch) {
        printf("  its magazine for chunks of %" PRIu64 " bytes is empty and asks the arena for %u\n", way->size, way->batch);
    } else if (cache != NULL && way->kind != WAY_MAGAZINE && way->kind != WAY_NONE) {
        puts("  its cache does not serve that size now");
    }
    if (way->merged != 0) printf("  %" PRIu64 " bytes that lie free unmerged are merged on the way\n", way->merged);
    if (way->arena != NULL) printf("  arena %u%s\n", way->arena->id, way->is_lent ? ", which has much free and lends it" : "");
    if (way->mem != 0) printf("  malloc returns 0x%" PRIx64 "\n", way->mem);
    if (way->kind == WAY_MAP) printf("  the threshold is %" PRIu64 " bytes now\n", heap_setting(heap, "mmap_threshold"));
    if (way->doubt != NULL) printf("  it may come otherwise: %s\n", way->doubt);
}

/* --- which threads ------------------------------------------------------------------------------------------------------------------------------ */

static bool is_wanted(const struct options *options, const struct heap *heap, const struct heap_cache *cache, pid_t pid) {
    if (cache->state != heap->descriptor.cache_live || cache->arena < 0) return false;
    return options->all || (options->by_thread ? (uint64_t)cache->thread == options->thread : cache->thread == pid);
}

static size_t find_arena(const struct heap *heap, uint64_t id) {
    size_t i = 0;
    while (i < heap->arena_count && heap->arenas[i].id != id) i++;
    return i;
}

static void put(struct json_writer *json, const struct process *process, const struct options *options, const struct heap_cache *cache,
                size_t arena) {
    struct way way;
    way_find(&way, &process->heap, process->page_size, cache, arena, options->bytes);
    if (json != NULL) {
        json_way(json, &way, cache);
    } else {
        print_way(&way, cache, &process->heap);
    }
}

/* All that are wanted; without one the main thread has no cache, and takes from the main arena. */
static void put_all(struct json_writer *json, const struct process *process, const struct options *options) {
    const struct heap *heap = &process->heap;
    size_t shown = 0;
    for (size_t i = 0; i < heap->cache_count && !options->by_arena; i++) {
        if (!is_wanted(options, heap, &heap->caches[i], process->live.pid)) continue;
        put(json, process, options, &heap->caches[i], 0);
        shown++;
    }
    if (shown == 0 && heap->arena_count != 0) put(json, process, options, NULL, options->by_arena ? find_arena(heap, options->arena) : 0);
}

/* Whether the thread or the arena that was named exists. */
static bool exists(const struct options *options, const struct process *process) {
    const struct heap *heap = &process->heap;
    if (options->by_arena) {
        if (find_arena(heap, options->arena) < heap->arena_count) return true;
        tool_say("there is no arena %" PRIu64 "; 'seemalloc arenas %s' lists them", options->arena, options->subject);
        return false;
    }
    for (size_t i = 0; options->by_thread && i < heap->cache_count; i++) {
        if (is_wanted(options, heap, &heap->caches[i], process->live.pid)) return true;
    }
    if (!options->by_thread) return true;
    tool_say("no thread %" PRIu64 " is known to have a cache; 'seemalloc threads %s' lists them", options->thread, options->subject);
    return false;
}

static int read_options(struct options *options, int argc, char **argv) {
    static const struct option names[] = {{"thread", required_argument, NULL, 't'}, {"arena", required_argument, NULL, 'a'},
                                          {"all", no_argument, NULL, 'A'},          {"json", no_argument, NULL, 'j'},
                                          {"help", no_argument, NULL, 'h'},         {0}};
    *options = (struct options){0};
    for (int option; (option = getopt_long(argc, argv, ":hjAt:a:", names, NULL)) != -1;) {
        switch (option) {
        case 'h': fputs(try_malloc_help, stdout); return tool_finish(0);
        case 'j': options->as_json = true; break;
        case 'A': options->all = true; break;
        case 't':
            options->by_thread = outside_number(optarg, &options->thread);
            if (!options->by_thread || options->thread == 0) return tool_usage("try-malloc", "'%s' is no thread", optarg);
            break;
        case 'a':
            options->by_arena = outside_number(optarg, &options->arena);
            if (!options->by_arena) return tool_usage("try-malloc", "'%s' is no number of an arena", optarg);
            break;
        case ':': return tool_usage("try-malloc", "option '%s' needs a value", tool_bad_option(argv));
        default: return tool_usage("try-malloc", "unknown option '%s'", tool_bad_option(argv));
        }
    }
    if (options->by_thread + options->by_arena + options->all > 1) {
        return tool_usage("try-malloc", "--thread, --arena and --all exclude each other");
    }
    if (argc > optind + 2) return tool_usage("try-malloc", "it takes a process and a size, got '%s' too", argv[optind + 2]);
    options->subject = outside_subject("try-malloc", argc > optind + 1 ? optind + 1 : argc, argv, optind);
    if (options->subject == NULL) return STATUS_USAGE;
    if (argc < optind + 2) return tool_usage("try-malloc", "a size is missing");
    if (!outside_number(argv[optind + 1], &options->bytes))
        return tool_usage("try-malloc", "'%s' is not a size in bytes", argv[optind + 1]);
    return -1;
}

int try_malloc_main(int argc, char **argv) {
    struct options options;
    static struct process process;
    int status = read_options(&options, argc, argv);
    if (status >= 0) return status;
    if (!outside_read(&process, options.subject, false)) return 1;
    status = outside_warn(&process);
    if (!exists(&options, &process)) {
        process_close(&process);
        return 1;
    }
    if (options.as_json) {
        struct json_writer json = {.out = stdout};
        outside_json(&json, &process);
        writer_number(&json, "bytes", options.bytes);
        writer_open(&json, "ways", '[');
        put_all(&json, &process, &options);
        writer_close(&json, ']');
        writer_close(&json, '}');
    } else {
        outside_head(stdout, &process);
        if (options.bytes <= INT64_MAX) {
            printf("malloc(%" PRIu64 ") needs a chunk of %" PRIu64 " bytes\n", options.bytes, rules_request(options.bytes));
        }
        put_all(NULL, &process, &options);
    }
    process_close(&process);
    return tool_finish(status);
}
