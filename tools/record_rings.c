/* record_rings.c: see record.h. Events of a thread come in order; over the threads they are merged by time, some while later, so that those that were
 * stamped but not yet in the ring have come. SPDX-License-Identifier: MIT */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "reader/clock.h"
#include "reader/fault.h"
#include "record.h"
#include "trace/shared.h"

#define PENDING_MOST ((size_t)4 << 20) /* events that wait here; beyond it the rings are left as they are */
#define WRITE_MOST 20000               /* events at a time */
#define THREADS_MOST UINT16_MAX

struct pending {
    uint64_t time, mem, bytes, usable;
    uint32_t stack;
    uint16_t thread;
    uint8_t kind; /* as in the file */
};

struct ring {
    uint64_t read, dropped;
    uint32_t thread, generation; /* index in threads + 1; 0: none yet */
    struct pending *event;       /* from `first`, `count` of them */
    size_t first, count, room;
    uint32_t *stack; /* by slot */
};

struct thread {
    struct seemalloc_recording_thread record;
    uint32_t serial;
};

struct record_rings {
    struct trace_shared *shared;
    const struct record_clock *clock;
    double mean;
    pid_t pid;
    void (*begin)(void *arg);
    void *arg;
    uint32_t generation;
    struct ring ring[TRACE_RINGS];
    uint32_t heap[TRACE_RINGS], heap_count; /* rings with pending events, the earliest first */
    size_t pending;
    struct thread *threads;
    uint32_t thread_count;
    uint64_t last; /* time of the last event written */
    struct record_totals totals;
};

uint64_t record_clock_now(const struct record_clock *clock) { return clock->use_counter ? trace_counter() : clock_of(CLOCK_MONOTONIC); }

uint64_t record_clock_ns(const struct record_clock *clock, uint64_t time) {
    if (time <= clock->begun) return 0;
    return clock->use_counter ? (uint64_t)((double)(time - clock->begun) * clock->ns_per_tick) : time - clock->begun;
}

struct record_rings *record_rings_new(struct trace_shared *shared, const struct record_clock *clock, uint64_t sample_mean, pid_t pid,
                                      void (*begin)(void *arg), void *arg) {
    struct record_rings *rings = need_memory(NULL, 1, sizeof *rings);
    memset(rings, 0, sizeof *rings);
    rings->shared = shared;
    rings->clock = clock;
    rings->mean = (double)sample_mean;
    rings->pid = pid;
    rings->begin = begin;
    rings->arg = arg;
    return rings;
}

/* --- threads ----------------------------------------------------------------------------------------------------------------------------------- */

static void write_thread(const struct thread *thread) {
    record_file_add(SEEMALLOC_RECORDING_THREAD, &(struct record_part){&thread->record, sizeof thread->record}, 1);
}

/* True: it has another name than so far. */
static bool rename_thread(struct thread *thread, const char *name) {
    if (name[0] == '\0' || strncmp(thread->record.name, name, sizeof thread->record.name - 1) == 0) return false;
    memset(thread->record.name, 0, sizeof thread->record.name);
    memcpy(thread->record.name, name, strnlen(name, sizeof thread->record.name - 1));
    return true;
}

static bool look_up_name(struct record_rings *rings, struct thread *thread) {
    char path[64], name[32] = "";
    snprintf(path, sizeof path, "/proc/%d/task/%u/comm", (int)rings->pid, (unsigned)thread->record.tid);
    FILE *comm = fopen(path, "re");
    if (comm == NULL) return false;
    if (fgets(name, sizeof name, comm) != NULL) name[strcspn(name, "\n")] = '\0';
    fclose(comm);
    return rename_thread(thread, name);
}

static uint32_t thread_of(struct record_rings *rings, uint32_t serial, uint32_t tid, const char *name) {
    for (uint32_t i = rings->thread_count; i-- > 0;) {
        if (rings->threads[i].serial == serial) return i + 1;
    }
    if (rings->thread_count == THREADS_MOST) return THREADS_MOST;
    rings->threads = need_memory(rings->threads, rings->thread_count + 1, sizeof *rings->threads);
    struct thread *thread = &rings->threads[rings->thread_count++];
    *thread = (struct thread){.record = {.id = rings->thread_count, .tid = tid}, .serial = serial};
    if (rings->thread_count == THREADS_MOST) rename_thread(thread, "others");
    if (rings->thread_count != THREADS_MOST) rename_thread(thread, name);
    write_thread(thread);
    return rings->thread_count;
}

void record_rings_names(struct record_rings *rings) {
    for (uint32_t i = 0; i < TRACE_RINGS; i++) {
        const struct ring *ring = &rings->ring[i];
        if (ring->thread == 0 || ring->thread == THREADS_MOST ||
            (__atomic_load_n(&rings->shared->ring[i].claim, __ATOMIC_RELAXED) & 1) == 0)
            continue;
        struct thread *thread = &rings->threads[ring->thread - 1];
        if (look_up_name(rings, thread)) write_thread(thread);
    }
}

/* --- what is in a ring --------------------------------------------------------------------------------------------------------------------------- */

static void push(struct record_rings *rings, struct ring *ring, const struct pending *event) {
    if (ring->first + ring->count == ring->room) {
        if (ring->first > ring->room / 2) {
            memmove(ring->event, ring->event + ring->first, ring->count * sizeof *ring->event);
            ring->first = 0;
        } else {
            ring->room = ring->room == 0 ? 1024 : 2 * ring->room;
            ring->event = need_memory(ring->event, ring->room, sizeof *ring->event);
        }
    }
    size_t at = ring->first + ring->count++;
    for (; at > ring->first && ring->event[at - 1].time > event->time; at--)
        ring->event[at] = ring->event[at - 1]; /* of a signal handler's within realloc */
    ring->event[at] = *event;
    rings->pending++;
}

/* Another program has begun in this process: what came of the one before is of no interest any more. */
static void begin_anew(struct record_rings *rings, uint32_t generation) {
    rings->generation = generation;
    for (uint32_t i = 0; i < TRACE_RINGS; i++) {
        struct ring *ring = &rings->ring[i];
        ring->first = ring->count = 0;
        ring->thread = 0;
    }
    rings->pending = rings->heap_count = rings->thread_count = 0;
    rings->totals = (struct record_totals){0};
    rings->begin(rings->arg);
}

static void take_stack(struct ring *ring, const struct trace_granule *granule, uint64_t at, uint32_t slot, uint32_t count) {
    uint64_t frame[TRACE_DEPTH_MOST];
    for (uint32_t i = 0; i < count; i++) frame[i] = granule[(at + 1 + i / 2) % TRACE_GRANULES].word[i % 2];
    if (ring->stack == NULL) {
        ring->stack = need_memory(NULL, TRACE_SLOTS, sizeof *ring->stack);
        memset(ring->stack, 0, TRACE_SLOTS * sizeof *ring->stack);
    }
    ring->stack[slot] = record_stacks_number(frame, count);
}

/* The record at granule `at`: how many granules it has; 0: it makes no sense. */
static uint64_t take(struct record_rings *rings, struct ring *ring, const struct trace_granule *granule, uint64_t at, uint64_t left) {
    const uint64_t *word = granule[at % TRACE_GRANULES].word, *more = granule[(at + 1) % TRACE_GRANULES].word;
    unsigned kind = word[1] & TRACE_KIND;
    if (kind == TRACE_STACK) {
        uint32_t slot = word[0] & 0xffff, count = (uint32_t)(word[0] >> 16);
        uint64_t size = 1 + ((uint64_t)count + 1) / 2;
        if (slot >= TRACE_SLOTS || count > TRACE_DEPTH_MOST || size > left) return 0;
        if (ring->thread != 0) take_stack(ring, granule, at, slot, count);
        return size;
    }
    unsigned plain = kind & ~(unsigned)TRACE_MOVED;
    if (kind != TRACE_THREAD && kind != TRACE_NAME && plain != TRACE_ALLOC && plain != TRACE_FREE) return 0;
    if (left < (kind == TRACE_THREAD ? 3u : plain == TRACE_FREE ? 1u : 2u)) return 0;
    if (kind == TRACE_THREAD) {
        uint32_t generation = (uint32_t)(more[0] >> 32);
        char name[17] = "";
        memcpy(name, granule[(at + 2) % TRACE_GRANULES].word, 16);
        if (generation > rings->generation) begin_anew(rings, generation);
        ring->thread = generation == rings->generation ? thread_of(rings, (uint32_t)more[0], (uint32_t)(word[1] >> 4), name) : 0;
        if (ring->stack != NULL) memset(ring->stack, 0, TRACE_SLOTS * sizeof *ring->stack);
        return 3;
    }
    if (ring->thread == 0) return plain == TRACE_FREE ? 1 : 2; /* of a program that is gone */
    if (kind == TRACE_NAME) {
        char name[16];
        memcpy(name, more, sizeof name);
        name[sizeof name - 1] = '\0';
        struct thread *thread = &rings->threads[ring->thread - 1];
        if (ring->thread != THREADS_MOST && rename_thread(thread, name)) write_thread(thread);
        return 2;
    }
    struct pending event = {.time = word[0], .mem = word[1] & ~(uint64_t)TRACE_KIND, .thread = (uint16_t)ring->thread};
    event.kind = (uint8_t)(plain == TRACE_ALLOC ? SEEMALLOC_RECORDING_ALLOC : SEEMALLOC_RECORDING_FREE);
    if (kind & TRACE_MOVED) event.kind |= SEEMALLOC_RECORDING_MOVED;
    if (plain == TRACE_ALLOC) {
        uint32_t slot = (uint32_t)(more[0] >> 48);
        event.bytes = more[0] & (((uint64_t)1 << 48) - 1);
        event.usable = more[1];
        event.stack = slot < TRACE_SLOTS && ring->stack != NULL ? ring->stack[slot] : 0;
    }
    push(rings, ring, &event);
    return plain == TRACE_ALLOC ? 2 : 1;
}

static bool drain_ring(struct record_rings *rings, uint32_t index) {
    struct ring *ring = &rings->ring[index];
    struct trace_ring *from = &rings->shared->ring[index];
    const struct trace_granule *granule = rings->shared->granule[index];
    uint64_t written = __atomic_load_n(&from->written, __ATOMIC_ACQUIRE), left = written - ring->read;
    if (left == 0) return false;
    while (left != 0 && left <= TRACE_GRANULES) {
        uint64_t size = take(rings, ring, granule, written - left, left);
        if (size == 0) break;
        left -= size;
    }
    if (left != 0) ring->dropped++; /* the program wrote into what is not its own */
    ring->read = written;
    __atomic_store_n(&from->read, written, __ATOMIC_RELEASE);
    return true;
}

bool record_rings_drain(struct record_rings *rings) {
    bool any = false;
    for (uint32_t i = 0; i < TRACE_RINGS && rings->pending < PENDING_MOST; i++) any |= drain_ring(rings, i);
    return any;
}

/* --- into order -------------------------------------------------------------------------------------------------------------------------------- */

static uint64_t time_of(const struct record_rings *rings, uint32_t ring) { return rings->ring[ring].event[rings->ring[ring].first].time; }

static void sift_down(struct record_rings *rings, uint32_t at) {
    uint32_t *heap = rings->heap, moved = heap[at];
    uint64_t time = time_of(rings, moved);
    for (uint32_t child; (child = 2 * at + 1) < rings->heap_count; at = child) {
        if (child + 1 < rings->heap_count && time_of(rings, heap[child + 1]) < time_of(rings, heap[child])) child++;
        if (time_of(rings, heap[child]) >= time) break;
        heap[at] = heap[child];
    }
    heap[at] = moved;
}

static void make_heap(struct record_rings *rings) {
    rings->heap_count = 0;
    for (uint32_t i = 0; i < TRACE_RINGS; i++) {
        if (rings->ring[i].count != 0) rings->heap[rings->heap_count++] = i;
    }
    for (uint32_t i = rings->heap_count / 2; i-- > 0;) sift_down(rings, i);
}

static void write_event(struct record_rings *rings, const struct pending *event) {
    if (event->time < rings->last) rings->totals.late++;
    if (event->time > rings->last) rings->last = event->time;
    rings->totals.events++;
    struct seemalloc_recording_event record = {.time = record_clock_ns(rings->clock, event->time),
                                               .mem = event->mem,
                                               .bytes = event->bytes,
                                               .usable = event->usable,
                                               .weight = event->bytes,
                                               .stack = event->stack,
                                               .thread = event->thread,
                                               .kind = event->kind};
    /* A block is met by one of the samples, which are `mean` bytes apart on average, with probability 1 - exp(-bytes / mean). */
    if (rings->mean != 0 && event->bytes != 0)
        record.weight = (uint64_t)llround((double)event->bytes / -expm1(-(double)event->bytes / rings->mean));
    record_file_add(SEEMALLOC_RECORDING_EVENTS, &(struct record_part){&record, sizeof record}, 1);
}

bool record_rings_write(struct record_rings *rings, uint64_t horizon) {
    if (rings->pending == 0) return false;
    make_heap(rings);
    for (unsigned n = 0; rings->heap_count != 0; n++) {
        struct ring *ring = &rings->ring[rings->heap[0]];
        if (ring->event[ring->first].time > horizon) return false;
        if (n == WRITE_MOST) return true;
        write_event(rings, &ring->event[ring->first++]);
        rings->pending--;
        if (--ring->count == 0) {
            ring->first = 0;
            rings->heap[0] = rings->heap[--rings->heap_count];
            if (rings->heap_count == 0) return false;
        }
        sift_down(rings, 0);
    }
    return false;
}

struct record_totals record_rings_totals(const struct record_rings *rings) {
    struct record_totals totals = rings->totals;
    totals.dropped += rings->shared->head.lost;
    for (uint32_t i = 0; i < TRACE_RINGS; i++)
        totals.dropped += rings->ring[i].dropped + __atomic_load_n(&rings->shared->ring[i].dropped, __ATOMIC_RELAXED);
    return totals;
}
