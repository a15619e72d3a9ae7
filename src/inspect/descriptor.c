/* descriptor.c: the constant that tells readers outside the process where everything is (include/seemalloc_descriptor.h, docs/descriptor.md), and the ELF
 * note that leads to it in stripped files and cores. Nothing here runs. SPDX-License-Identifier: MIT */
#include "seemalloc_descriptor.h"

#include "cache/cache.h"
#include "conf/conf.h"
#include "heap/mapped.h"
#include "heap/retain.h"
#include "os/os.h"

#define AT(object) ((uintptr_t)(object))
#define IN_ARENA(field) offsetof(struct arena, field)
#define IN_BINS(field) (offsetof(struct arena, bins) + offsetof(struct bins, field))
#define IN_CACHE(field) offsetof(struct cache, field)
#define IN_OS(field) offsetof(struct os_counters, field)

EXPORT const struct seemalloc_descriptor seemalloc_descriptor = {
    .magic = SEEMALLOC_DESCRIPTOR_MAGIC,
    .version = SEEMALLOC_DESCRIPTOR_VERSION,
    .size = sizeof(struct seemalloc_descriptor),
    .library_version = (uint64_t)SEEMALLOC_VERSION_MAJOR << 32 | SEEMALLOC_VERSION_MINOR << 16 | SEEMALLOC_VERSION_PATCH,

    .chunk_prev_size = offsetof(struct chunk, prev_size),
    .chunk_head = offsetof(struct chunk, head),
    .chunk_fd = offsetof(struct chunk, fd),
    .chunk_bk = offsetof(struct chunk, bk),
    .chunk_clean_from = offsetof(struct chunk, clean_from),
    .chunk_clean_to = offsetof(struct chunk, clean_to),
    .chunk_links = sizeof(struct chunk),
    .chunk_header = CHUNK_HEADER,
    .chunk_align = CHUNK_ALIGN,
    .chunk_min = CHUNK_MIN,
    .chunk_fence = CHUNK_FENCE,
    .paged_least = IN_BINS(paged_least),
    .size_mask = SIZE_MASK,
    .flag_p = FLAG_P,
    .flag_m = FLAG_M,
    .flag_a = FLAG_A,

    .arena_main = AT(&arena_main),
    .arena_table = AT(arena_table),
    .arena_most = ARENA_LIMIT,
    .arena_count = AT(&seal.arenas),
    .arena_size = sizeof(struct arena),
    .arena_lock = IN_ARENA(lock.word),
    .lock_abandoned = LOCK_ABANDONED,
    .arena_id = IN_ARENA(id),
    .arena_is_spare = IN_ARENA(is_spare),
    .arena_threads = IN_ARENA(threads),
    .arena_top = IN_ARENA(top),
    .arena_top_end = IN_ARENA(top_end),
    .arena_top_region = IN_ARENA(top_region),
    .arena_regions = IN_ARENA(regions),
    .arena_last_remainder = IN_ARENA(last_remainder),
    .arena_system_bytes = IN_ARENA(system_bytes),
    .arena_system_peak = IN_ARENA(system_peak),
    .arena_purging = IN_ARENA(purging),

    .arena_fast = IN_ARENA(fast),
    .fast_bins = FAST_BINS,
    .fast_bin_size = sizeof(struct fast_bin),
    .fast_lane = offsetof(struct fast_bin, lane),
    .fast_lanes = FAST_LANES,
    .arena_inbox = IN_ARENA(inbox),
    .arena_inbox_rest = IN_ARENA(inbox_rest),
    .arena_inbox_bytes = IN_ARENA(inbox_bytes),
    .link_secret = AT(&seal.link),
    .depot = AT(depot_ways),
    .depot_ways = DEPOT_WAYS,
    .depot_way_size = sizeof(struct depot_way),
    .depot_slots = DEPOT_SLOTS,
    .depot_slot_size = sizeof(struct depot_slot),
    .depot_owner = offsetof(struct depot_slot, owner),
    .depot_youngest = offsetof(struct depot_slot, youngest),
    .batch_next = offsetof(struct depot_batch, next),
    .batch_count = offsetof(struct depot_batch, count),
    .batch_blocks = offsetof(struct depot_batch, mem),
    .batch_most = DEPOT_BATCH,

    .arena_bins = IN_BINS(bin),
    .bin_total = BIN_COUNT,
    .bin_size = sizeof(struct bin_link),
    .bin_unsorted = BIN_UNSORTED,
    .bin_first_small = BIN_FIRST_SMALL,
    .bin_first_large = BIN_FIRST_LARGE,
    .bin_last = BIN_LAST,
    .arena_bin_map = IN_BINS(bitmap),
    .arena_bin_bytes = IN_BINS(bytes),
    .arena_bin_count = IN_BINS(count),

    .region_size = sizeof(struct region),
    .region_next = offsetof(struct region, next),
    .region_start = offsetof(struct region, start),
    .region_end = offsetof(struct region, end),
    .region_limit = offsetof(struct region, limit),
    .region_clean = offsetof(struct region, clean),
    .region_kind = offsetof(struct region, kind),
    .region_free = AT(&region_free),
    .region_pool = REGION_POOL,

    .mapped_segments = AT(mapped_segments),
    .mapped_segment_most = MAPPED_SEGMENTS,
    .mapped_first = MAPPED_FIRST,
    .mapped_growth = MAPPED_GROWTH,
    .mapped_overflow = AT(mapped_overflow),
    .mapped_overflow_most = MAPPED_OVERFLOW,
    .mapped_size = sizeof(struct mapped_record),
    .mapped_chunk = offsetof(struct mapped_record, chunk),
    .mapped_claimed = MAPPED_CLAIMED,
    .mapped_lead = offsetof(struct mapped_record, lead),
    .mapped_length = offsetof(struct mapped_record, length),

    .retained = AT(retain_slots),
    .retained_most = RETAIN_SLOTS,
    .retained_size = sizeof(struct retained),
    .retained_start = offsetof(struct retained, start),
    .retained_claimed = RETAIN_CLAIMED,
    .retained_length = offsetof(struct retained, length),

    .cache_all = AT(&cache_all),
    .cache_size = sizeof(struct cache),
    .cache_next = IN_CACHE(next),
    .cache_state = IN_CACHE(state),
    .cache_free = CACHE_FREE,
    .cache_live = CACHE_LIVE,
    .cache_left = CACHE_LEFT,
    .cache_arena = IN_CACHE(arena),
    .cache_torn = IN_CACHE(torn),
    .cache_slow = IN_CACHE(slow),
    .cache_transit_count = IN_CACHE(in_transit),
    .cache_transit = IN_CACHE(transit),
    .cache_transit_most = TRANSIT_MAX,
    .cache_magazine = IN_CACHE(magazine),
    .magazine_size = sizeof(struct magazine),
    .magazine_top = offsetof(struct magazine, top),
    .magazine_bottom = offsetof(struct magazine, bottom),
    .magazine_limit = offsetof(struct magazine, limit),
    .class_total = CLASS_COUNT,
    .class_exact = CLASS_EXACT,
    .cache_narrow = IN_CACHE(narrow),
    .narrow_most = NARROW_MAX,
    .cache_wide = IN_CACHE(wide),
    .wide_most = WIDE_MAX,
    .cache_deep = IN_CACHE(deep),
    .deep_most = DEEP_MAX,
    .cache_reserved = IN_CACHE(reserved),
    .cache_budget = IN_CACHE(budget),

    .fork_marker = AT(&lock_marker),
    .heap_peak = AT(&footprint_peak),
    .in_use_peak = AT(&cache_in_use_peak),

    .os_counters = AT(&os_counters),
    .os_counters_size = sizeof(struct os_counters),
    .os_calls = IN_OS(calls),
    .call_total = SEEMALLOC_CALL_COUNT,
    .os_failures = IN_OS(failures),
    .os_metadata_bytes = IN_OS(metadata_bytes),
    .os_event_count = IN_OS(event_count),
    .os_events = IN_OS(events),
    .event_most = OS_EVENTS,
    .event_size = sizeof(struct os_event),
    .event_sequence = offsetof(struct os_event, sequence),
    .event_time = offsetof(struct os_event, time),
    .event_address = offsetof(struct os_event, address),
    .event_bytes = offsetof(struct os_event, size),
    .event_call = offsetof(struct os_event, call),

    .conf_values = AT(conf_values),
    .conf_sources = AT(conf_sources),
    .conf_rows = AT(conf_rows),
    .conf_total = CONF_COUNT,
    .conf_row_size = sizeof(struct conf_row),
    .conf_row_name = offsetof(struct conf_row, name),
    .conf_row_default = offsetof(struct conf_row, standard),
    .conf_row_unit = offsetof(struct conf_row, unit),

    .state_total = SEEMALLOC_STATE_COUNT,

    .arena_sweep_loose = IN_ARENA(sweep.loose),
    .fast_count = offsetof(struct fast_bin, count),
    .cache_word = IN_CACHE(word),
    .cache_watch = IN_CACHE(watch),
    .watch_drain = WATCH_DRAIN,
    .cache_room = IN_CACHE(room),
    .cache_classes = IN_CACHE(classes),
    .cache_net = IN_CACHE(net),
    .cache_held = IN_CACHE(held),
    .cache_ceiling = IN_CACHE(ceiling),
    .cache_swing = IN_CACHE(swing),
    .region_pools = AT(&region_pools),
    .depot_pages = AT(&depot_pages),
    .cache_reserved_small = IN_CACHE(reserved_small),
    .cache_idle = IN_CACHE(idle),
};

/* A second, hidden name: the distance to it is known when the file is linked, whoever may interpose the first. */
extern const struct seemalloc_descriptor descriptor_here __attribute__((alias("seemalloc_descriptor"), visibility("hidden")));

#define TEXT_(x) #x
#define TEXT(x) TEXT_(x)
__asm__(".pushsection .note.seemalloc, \"a\", %note\n"
        "    .balign 4\n"
        "    .long 2f - 1f\n"
        "    .long 4f - 3f\n"
        "    .long " TEXT(SEEMALLOC_NOTE_TYPE) "\n"
                                               "1:  .asciz \"" SEEMALLOC_NOTE_OWNER "\"\n"
                                               "2:  .balign 4\n"
                                               "3:  .long " TEXT(SEEMALLOC_DESCRIPTOR_VERSION) "\n"
                                                                                               "    .long 0\n"
                                                                                               "    .quad descriptor_here - .\n"
                                                                                               "4:  .balign 4\n"
                                                                                               "    .popsection\n");
