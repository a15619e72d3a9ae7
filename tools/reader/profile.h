/* profile.h: what a recording amounts to: sums by stack and by thread, the peak, the course of time. Memory is needed for what is live, for stacks, and for a
 * fixed number of moments, not for events.
 *
 * Of samples, all sums are estimates: each block counts as often, and with as many bytes, as its weight says. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_PROFILE_H
#define SEEMALLOC_READER_PROFILE_H

#include "reader/replay.h"

/* Sizes asked for, four buckets to a doubling from 16 on; less than that is bucket 0. */
#define PROFILE_BUCKETS 244
uint64_t profile_bucket_from(unsigned bucket);

struct profile_amount {
    uint64_t parts; /* allocations, in parts of REPLAY_ONE */
    uint64_t bytes; /* as asked for */
};

struct profile_size {
    uint32_t bucket;
    struct profile_amount amount;
};

struct profile_sums {
    struct profile_amount total, live, peak, temporary, gone;
    uint64_t usable;            /* bytes of total, as malloc_usable_size says */
    uint64_t smallest, largest; /* bytes asked for at once */
    double lifetime;            /* of those that are gone, added up: nanoseconds times parts */
    struct profile_size *sizes; /* of total */
    unsigned size_count, size_room;
};

/* A span of time, all as long as each other. */
struct profile_moment {
    uint64_t live_most, live; /* bytes: the most in it, and at its end */
    uint64_t born, gone;      /* parts */
    uint64_t bytes;           /* of those born */
    bool seen;                /* something happened in it */
};

#define PROFILE_MOMENTS 2048

struct profile {
    struct replay replay;
    struct replay_counts counts;
    bool ended;                                 /* the last block was there: `end` of the recording counts */
    struct fault cut;                           /* why the recording is not all of what happened; empty: it is */
    struct profile_sums all, *stacks, *threads; /* by index and id, as in `replay` */
    size_t stack_room, thread_room;
    uint64_t moved;                 /* parts: reallocs among `all` */
    uint64_t peak_event, peak_time; /* after so many events, nanoseconds */
    uint64_t end;                   /* nanoseconds: the latest that is known */
    uint64_t width;                 /* of a moment, nanoseconds */
    size_t moment_count;
    struct profile_moment moments[PROFILE_MOMENTS];
    uint64_t process_step, process_seen; /* one of so many is kept */
    size_t process_count;
    struct seemalloc_recording_process processes[PROFILE_MOMENTS];
};

/* Reads the recording, twice. False after noting what is wrong; nothing is to be closed then. */
bool profile_open(struct profile *profile, const char *name, struct fault *fault);
void profile_close(struct profile *profile);

bool profile_has_stacks(const struct profile *profile);
bool profile_is_sampled(const struct profile *profile);

/* Adds sums of other blocks. */
void profile_add(struct profile_sums *to, const struct profile_sums *from);

/* Parts as a number of allocations, rounded. */
uint64_t profile_count(uint64_t parts);

#endif
