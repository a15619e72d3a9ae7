/* seemalloc_descriptor.h: where a reader outside the process finds the heap: struct seemalloc_descriptor, constant, in every library and static program.
 *
 * It is found by the exported symbol `seemalloc_descriptor`, or, also in stripped files and cores, by an ELF note: owner "seemalloc", type
 * SEEMALLOC_NOTE_TYPE, payload { uint32 version, uint32 zero, int64 distance }, where the descriptor lies `distance` bytes after the distance's own
 * place. All fields are 64 bits wide, in the byte order of the machine: addresses in the process, offsets and sizes in bytes, counts, masks, values.
 *
 * Version: the number changes whenever a field changes its place or its meaning; fields added at the end only change `size`. docs/descriptor.md says how
 * the fields are to be used. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_DESCRIPTOR_H
#define SEEMALLOC_DESCRIPTOR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SEEMALLOC_DESCRIPTOR_MAGIC UINT64_C(0x726373656d656573) /* "seemescr" */
#define SEEMALLOC_DESCRIPTOR_VERSION 3
#define SEEMALLOC_NOTE_OWNER "seemalloc"
#define SEEMALLOC_NOTE_TYPE 1

/* FIELD(name, what it is) */
#define SEEMALLOC_DESCRIPTOR_FIELDS(FIELD)                                                                                                 \
    FIELD(magic, "value: the bytes \"seemescr\"")                                                                                          \
    FIELD(version, "value: of this layout")                                                                                                \
    FIELD(size, "size: of the descriptor")                                                                                                 \
    FIELD(library_version, "value: major << 32, minor << 16, patch")                                                                       \
    FIELD(chunk_prev_size, "offset, 64 bits: size of the chunk before, valid if that is free")                                             \
    FIELD(chunk_head, "offset, 64 bits: size, flags and, above size_mask, the seal, which readers leave alone")                            \
    FIELD(chunk_fd, "offset: link in a free chunk, to the next in its bin")                                                                \
    FIELD(chunk_bk, "offset: link in a free chunk, to the one before")                                                                     \
    FIELD(chunk_clean_from, "offset: of a free chunk that is in a bin and has paged_least bytes: start of its part without pages")         \
    FIELD(chunk_clean_to, "offset: end of that part")                                                                                      \
    FIELD(chunk_links, "size: what of a free chunk must stay in memory")                                                                   \
    FIELD(chunk_header, "size: from a chunk to what malloc returned for it")                                                               \
    FIELD(chunk_align, "value: of chunks and their sizes")                                                                                 \
    FIELD(chunk_min, "size: of the smallest chunk")                                                                                        \
    FIELD(chunk_fence, "size: of a fencepost; no other chunk but top is so small")                                                         \
    FIELD(paged_least, "offset in an arena: a chunk of less holds no whole page beside its links")                                         \
    FIELD(size_mask, "mask: the size in a head")                                                                                           \
    FIELD(flag_p, "mask in a head: the chunk before is in use")                                                                            \
    FIELD(flag_m, "mask in a head: a mapped block; of a free chunk: all its whole pages went back")                                        \
    FIELD(flag_a, "mask in a head: not of the main arena")                                                                                 \
    FIELD(arena_main, "address: of the main arena")                                                                                        \
    FIELD(arena_table, "address: of pointers to arenas, by id")                                                                            \
    FIELD(arena_most, "count: pointers that the table can hold")                                                                           \
    FIELD(arena_count, "address, 32 bits: how many are set; 0: nothing was allocated yet")                                                 \
    FIELD(arena_size, "size: of an arena's struct")                                                                                        \
    FIELD(arena_lock, "offset, 64 bits: 0 free, lock_abandoned, else held: the arena is being changed")                                    \
    FIELD(lock_abandoned, "value: the arena was lost to a fork")                                                                           \
    FIELD(arena_id, "offset, 32 bits")                                                                                                     \
    FIELD(arena_is_spare, "offset, 8 bits: serves those who can't have their own")                                                         \
    FIELD(arena_threads, "offset, 32 bits: caches attached")                                                                               \
    FIELD(arena_top, "offset: address of the top chunk, or 0")                                                                             \
    FIELD(arena_top_end, "offset: end of the top chunk and of its region")                                                                 \
    FIELD(arena_top_region, "offset: address of its region")                                                                               \
    FIELD(arena_regions, "offset: address of the newest region")                                                                           \
    FIELD(arena_last_remainder, "offset: address of a chunk; the last remainder if that is in a bin")                                      \
    FIELD(arena_system_bytes, "offset, 64 bits: bytes of all regions, start to end")                                                       \
    FIELD(arena_system_peak, "offset, 64 bits: their highest sum")                                                                         \
    FIELD(arena_purging, "offset: address of the chunk whose pages go back just now, or 0")                                                \
    FIELD(arena_fast, "offset: of fast_bins fast bins, of chunk sizes 32, 48, …")                                                          \
    FIELD(fast_bins, "count")                                                                                                              \
    FIELD(fast_bin_size, "size: of a fast bin")                                                                                            \
    FIELD(fast_lane, "offset in a fast bin: of fast_lanes pointers to the first blocks of chains")                                         \
    FIELD(fast_lanes, "count")                                                                                                             \
    FIELD(arena_inbox, "offset: address of the first block of a chain that others sent home")                                              \
    FIELD(arena_inbox_rest, "offset: likewise, of a part already fetched")                                                                 \
    FIELD(arena_inbox_bytes, "offset, 64 bits: of both")                                                                                   \
    FIELD(link_secret, "address, 64 bits: a word of a chain's block, XOR this, is the next block; a secret of the process")                \
    FIELD(depot, "address: of depot_ways sets of depot_slots slots; number n of a set has blocks of chunks of n times chunk_align or a "   \
                 "little more")                                                                                                            \
    FIELD(depot_ways, "count")                                                                                                             \
    FIELD(depot_way_size, "size: of a set of slots")                                                                                       \
    FIELD(depot_slots, "count")                                                                                                            \
    FIELD(depot_slot_size, "size: of a slot")                                                                                              \
    FIELD(depot_owner, "offset in a slot, 64 bits: not 0 while it is being changed")                                                       \
    FIELD(depot_youngest, "offset in a slot: address of its first batch, or 0")                                                            \
    FIELD(batch_next, "offset in a batch: address of the next, older one, or 0")                                                           \
    FIELD(batch_count, "offset in a batch, 32 bits: blocks in it")                                                                         \
    FIELD(batch_blocks, "offset in a batch: of pointers to blocks, the youngest last")                                                     \
    FIELD(batch_most, "count: blocks that a batch can hold")                                                                               \
    FIELD(arena_bins, "offset: of bin_total pairs fd, bk; the pseudo-chunk of a bin lies chunk_fd bytes before its pair")                  \
    FIELD(bin_total, "count: bin 0 is not used")                                                                                           \
    FIELD(bin_size, "size: of a pair")                                                                                                     \
    FIELD(bin_unsorted, "value: number of the unsorted bin")                                                                               \
    FIELD(bin_first_small, "value: number of the first small bin")                                                                         \
    FIELD(bin_first_large, "value: number of the first large bin")                                                                         \
    FIELD(bin_last, "value: number of the last bin")                                                                                       \
    FIELD(arena_bin_map, "offset, bin_total bits: those of sorted bins that hold a chunk")                                                 \
    FIELD(arena_bin_bytes, "offset, 64 bits: of all chunks in bins")                                                                       \
    FIELD(arena_bin_count, "offset, 64 bits: of all chunks in bins")                                                                       \
    FIELD(region_size, "size: of a region's description")                                                                                  \
    FIELD(region_next, "offset: address of the arena's next older region")                                                                 \
    FIELD(region_start, "offset: address of its first chunk")                                                                              \
    FIELD(region_end, "offset: one past its last usable byte")                                                                             \
    FIELD(region_limit, "offset: one past its last reserved byte")                                                                         \
    FIELD(region_clean, "offset: nothing from here to the end was handed out since it came from the system")                               \
    FIELD(region_kind, "offset, 32 bits: enum seemalloc_region_kind")                                                                      \
    FIELD(region_free, "address: of a pointer to the first description that is not used")                                                  \
    FIELD(region_pool, "size: of a pool of descriptions")                                                                                  \
    FIELD(mapped_segments, "address: of pointers to segments of records of mapped blocks; 0: there is none yet")                           \
    FIELD(mapped_segment_most, "count")                                                                                                    \
    FIELD(mapped_first, "count: records of the first segment")                                                                             \
    FIELD(mapped_growth, "value: each segment has so many bits more")                                                                      \
    FIELD(mapped_overflow, "address: of some more records")                                                                                \
    FIELD(mapped_overflow_most, "count")                                                                                                   \
    FIELD(mapped_size, "size: of a record")                                                                                                \
    FIELD(mapped_chunk, "offset in a record: address of the chunk; up to mapped_claimed: there is none")                                   \
    FIELD(mapped_claimed, "value")                                                                                                         \
    FIELD(mapped_lead, "offset in a record, 64 bits: bytes of the mapping before the chunk")                                               \
    FIELD(mapped_length, "offset in a record, 64 bits: bytes of the mapping")                                                              \
    FIELD(retained, "address: of records of mappings kept for the next blocks")                                                            \
    FIELD(retained_most, "count")                                                                                                          \
    FIELD(retained_size, "size: of a record")                                                                                              \
    FIELD(retained_start, "offset in a record: address of the mapping; up to retained_claimed: there is none")                             \
    FIELD(retained_claimed, "value")                                                                                                       \
    FIELD(retained_length, "offset in a record, 64 bits: bytes of the mapping")                                                            \
    FIELD(cache_all, "address: of a pointer to the newest thread cache")                                                                   \
    FIELD(cache_size, "size: of a cache")                                                                                                  \
    FIELD(cache_next, "offset: address of the next older cache")                                                                           \
    FIELD(cache_state, "offset, 32 bits: cache_free, cache_live, cache_left, or of a thread that did not come along into a forked child")  \
    FIELD(cache_free, "value: nobody's, and empty")                                                                                        \
    FIELD(cache_live, "value: of a thread")                                                                                                \
    FIELD(cache_left, "value: its thread has ended, and the next one that begins takes it over as it is")                                  \
    FIELD(cache_arena, "offset: address of the thread's arena")                                                                            \
    FIELD(cache_torn, "offset, 32 bits: not 0 while magazines are moved")                                                                  \
    FIELD(cache_slow, "offset, 32 bits: not 0 while its thread is on a slow path")                                                         \
    FIELD(cache_transit_count, "offset, 32 bits: blocks between a magazine and an arena")                                                  \
    FIELD(cache_transit, "offset: of pointers to them")                                                                                    \
    FIELD(cache_transit_most, "count")                                                                                                     \
    FIELD(cache_magazine, "offset: of class_total magazines")                                                                              \
    FIELD(magazine_size, "size")                                                                                                           \
    FIELD(magazine_top, "offset in a magazine: one past its last pointer")                                                                 \
    FIELD(magazine_bottom, "offset in a magazine: of hits; which slots it has follows from where top points")                              \
    FIELD(magazine_limit, "offset in a magazine: of hits")                                                                                 \
    FIELD(class_total, "count: size classes; the first that is used is 2")                                                                 \
    FIELD(class_exact, "value: the last class whose size is 16 times its number")                                                          \
    FIELD(cache_narrow, "offset: class_total times narrow_most slots")                                                                     \
    FIELD(narrow_most, "count")                                                                                                            \
    FIELD(cache_wide, "offset: class_total times wide_most slots")                                                                         \
    FIELD(wide_most, "count")                                                                                                              \
    FIELD(cache_deep, "offset: class_exact + 1 times deep_most slots")                                                                     \
    FIELD(deep_most, "count")                                                                                                              \
    FIELD(cache_reserved, "offset, 64 bits: what the limits of all magazines add up to, in bytes")                                         \
    FIELD(cache_budget, "offset, 64 bits: what that may grow to")                                                                          \
    FIELD(fork_marker, "address: of a pointer to a page of our own, or 0")                                                                 \
    FIELD(heap_peak, "address, 64 bits: highest bytes of heaps and mapped blocks")                                                         \
    FIELD(in_use_peak, "address, 64 bits: highest bytes in use, as seen on slow paths")                                                    \
    FIELD(os_counters, "address: of the counters")                                                                                         \
    FIELD(os_counters_size, "size")                                                                                                        \
    FIELD(os_calls, "offset in the counters: of call_total times 64 bits, by enum seemalloc_call")                                         \
    FIELD(call_total, "count")                                                                                                             \
    FIELD(os_failures, "offset in the counters, 64 bits: calls that were refused")                                                         \
    FIELD(os_metadata_bytes, "offset in the counters, 64 bits: mapped for our own books")                                                  \
    FIELD(os_event_count, "offset in the counters, 64 bits: events so far")                                                                \
    FIELD(os_events, "offset in the counters: the ring; event n stands at n modulo event_most")                                            \
    FIELD(event_most, "count")                                                                                                             \
    FIELD(event_size, "size")                                                                                                              \
    FIELD(event_sequence, "offset in an event, 64 bits: n + 1 once the event n is whole, 0 while it is written")                           \
    FIELD(event_time, "offset in an event, 64 bits: nanoseconds, monotonic")                                                               \
    FIELD(event_address, "offset in an event")                                                                                             \
    FIELD(event_bytes, "offset in an event, 64 bits")                                                                                      \
    FIELD(event_call, "offset in an event, 32 bits: enum seemalloc_call")                                                                  \
    FIELD(conf_values, "address: of conf_total times 64 bits: settings in force")                                                          \
    FIELD(conf_sources, "address: of conf_total bytes: 0 default, 1 glibc's variable, 2 GLIBC_TUNABLES, 3 SEEMALLOC_*, 4 mallopt")         \
    FIELD(conf_rows, "address: of conf_total rows")                                                                                        \
    FIELD(conf_total, "count")                                                                                                             \
    FIELD(conf_row_size, "size")                                                                                                           \
    FIELD(conf_row_name, "offset in a row: address of the name")                                                                           \
    FIELD(conf_row_default, "offset in a row, 64 bits")                                                                                    \
    FIELD(conf_row_unit, "offset in a row: address of the unit")                                                                           \
    FIELD(state_total, "count: of enum seemalloc_state")                                                                                   \
    FIELD(arena_sweep_loose, "offset, 64 bits: blocks in no list that look like blocks in use, for they are just being merged")            \
    FIELD(fast_count, "offset in a fast bin, 32 bits: blocks; the last that came, number fast_count - 1, is the first of the lane with "   \
                      "that number modulo fast_lanes")                                                                                     \
    FIELD(cache_word, "offset: address of its thread's pointer to it, which lies at one distance from the thread pointer in all threads")  \
    FIELD(cache_watch, "offset, 32 bits: not 0 while limits of hits say nothing; then they are in cache_room")                             \
    FIELD(watch_drain, "value: of cache_watch: magazines don't grow, for the thread does nothing but free")                                \
    FIELD(cache_room, "offset: class_total times 16 bits: the magazines' limits in blocks while the cache is watched")                     \
    FIELD(cache_classes, "offset, 32 bits: classes below this are served")                                                                 \
    FIELD(cache_net, "offset: class_total times 64 bits, signed: blocks taken from arenas less those given back")                          \
    FIELD(cache_held, "offset, 64 bits, signed: the same in bytes of all classes")                                                         \
    FIELD(cache_ceiling, "offset, 64 bits, signed: as long as it holds no more than this, magazines grow without regard to what it holds") \
    FIELD(cache_swing, "offset, 64 bits: what the limits may add up to beyond cache_budget meanwhile")                                     \
    FIELD(region_pools,                                                                                                                    \
          "address: of a pointer to the newest pool, region_pool bytes of descriptions, whose region_next is that of an older one")        \
    FIELD(depot_pages, "address: of a pointer to the newest page of batches, whose first word leads to an older one")                      \
    FIELD(cache_reserved_small, "offset, 64 bits: cache_reserved of the exact classes alone")                                              \
    FIELD(cache_idle, "offset, 64 bits: what the limits of the other classes may add up to beyond cache_budget")

struct seemalloc_descriptor {
#define SEEMALLOC_DESCRIPTOR_FIELD(name, sentence) uint64_t name;
    SEEMALLOC_DESCRIPTOR_FIELDS(SEEMALLOC_DESCRIPTOR_FIELD)
#undef SEEMALLOC_DESCRIPTOR_FIELD
};

/* Constant; addresses are those of the process that it is read from. */
extern const struct seemalloc_descriptor seemalloc_descriptor;

/* The names of enum seemalloc_state and enum seemalloc_call in their order. */
#define SEEMALLOC_STATE_NAMES                                                                                                              \
    {                                                                                                                                      \
        "in use", "cached", "parked", "inbox", "fast", "unsorted", "small", "large", "last remainder", "purging", "top", "fencepost",      \
            "abandoned", "mapped",                                                                                                         \
    }
#define SEEMALLOC_CALL_NAMES                                                                                                               \
    {                                                                                                                                      \
        "brk grow", "brk trim", "mmap block", "mmap region", "mmap heap", "mmap metadata", "munmap block", "munmap heap", "munmap excess", \
            "mremap block", "mprotect grow", "madvise trim", "madvise purge", "madvise huge", "mremap move",                               \
    }

#ifdef __cplusplus
}
#endif

#endif
