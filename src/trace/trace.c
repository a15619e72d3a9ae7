/* trace.c: the writing half of a recording: see trace.h and shared.h. SPDX-License-Identifier: MIT */
#include "trace/trace.h"

#ifdef SEEMALLOC_TRACE

#include <string.h>

#include "base/format.h"
#include "heap/chunk.h"
#include "os/os.h"
#include "trace/exponential.h"
#include "trace/samples.h"
#include "trace/shared.h"
#include "trace/stack.h"

#define RETRY 1024 /* events that are lost before a ring is looked for again */

/* What a forked child finds zero, in whole pages of whatever size. */
#if defined(__x86_64__)
#define PAGE_MOST KIB(4)
#else
#define PAGE_MOST KIB(64)
#endif
enum mode { MODE_OFF, MODE_ALL, MODE_SAMPLED };
uint8_t trace_filter[TRACE_FILTER_BYTES] __attribute__((aligned(PAGE_MOST)));
static union {
    uint32_t mode; /* enum mode */
    char page[PAGE_MOST];
} wiped __attribute__((aligned(PAGE_MOST)));

__thread int64_t trace_countdown __attribute__((tls_model("initial-exec"))) = -1;

static struct trace_shared *shared; /* once it is set, all that follows is constant */
static uint32_t generation, unwind, depth;
static bool use_counter;
static double mean;

enum beginning { BEGINNING_NOT, BEGINNING_RUNS, BEGINNING_DONE };
static uint32_t begun;

struct thread {
    struct trace_ring *ring;       /* NULL: none */
    struct trace_granule *granule; /* its granules */
    uint64_t written, read;        /* the latter as last seen */
    uint64_t random;
    struct trace_stacks *stacks;
    uint32_t serial, lost;
    bool inside; /* what is done for an event may allocate */
    bool ended;  /* a thread that has ended claims a ring for each late event alone */
    bool armed;
};
static __thread struct thread thread __attribute__((tls_model("initial-exec")));

static uint32_t threads_seen; /* whether the program has several threads matters */

static ALWAYS_INLINE uint64_t now(void) { return LIKELY(use_counter) ? trace_counter() : os_clock(); }

/* For a FREE: not before the block has come here. Another thread may have allocated it just now, and its ALLOC stands in another ring. */
static ALWAYS_INLINE uint64_t now_that_it_is_here(void) {
    if (load_relaxed(&threads_seen) > 1) trace_counter_fence();
    return now();
}

/* --- rings ------------------------------------------------------------------------------------------------------------------------------------- */

static ALWAYS_INLINE struct trace_granule *granule_at(const struct thread *self, uint64_t n) { return &self->granule[n % TRACE_GRANULES]; }

/* The thread's last record, its name, always finds room. */
#define NAME_GRANULES 2

static ALWAYS_INLINE bool has_room(struct thread *self, uint64_t granules) {
    if (LIKELY(self->written + granules + NAME_GRANULES - self->read <= TRACE_GRANULES)) return true;
    self->read = load_acquire(&self->ring->read);
    return self->written + granules + NAME_GRANULES - self->read <= TRACE_GRANULES;
}

static ALWAYS_INLINE void publish_granules(struct thread *self, uint64_t granules) {
    self->written += granules;
    store_release(&self->ring->written, self->written);
}

static void drop(struct thread *self) { store_relaxed(&self->ring->dropped, self->ring->dropped + 1); }

static ALWAYS_INLINE void fill_pair(const struct thread *self, uint64_t time, uint64_t what, uint64_t third, uint64_t fourth) {
    struct trace_granule *first = granule_at(self, self->written), *second = granule_at(self, self->written + 1);
    first->word[0] = time;
    first->word[1] = what;
    second->word[0] = third;
    second->word[1] = fourth;
}
static ALWAYS_INLINE void put_pair(struct thread *self, uint64_t time, uint64_t what, uint64_t third, uint64_t fourth) {
    fill_pair(self, time, what, third, fourth);
    publish_granules(self, 2);
}

struct name {
    uint64_t word[2];
};
static struct name own_name(void) {
    char text[16] = "";
    struct name name;
    prim_thread_name(text);
    memcpy(&name, text, sizeof name);
    return name;
}

/* A ring that nobody has, or that a thread had before the program was replaced by exec. */
static struct trace_ring *claim_ring(void) {
    uint64_t mine = (uint64_t)generation << 1 | 1;
    for (uint32_t i = 0; i < TRACE_RINGS; i++) {
        uint64_t seen = load_relaxed(&shared->ring[i].claim);
        if (seen != mine && cas_acquire(&shared->ring[i].claim, &seen, mine)) return &shared->ring[i];
    }
    return NULL;
}

static void release_ring(struct thread *self) {
    struct trace_ring *ring = self->ring;
    self->ring = NULL;
    store_release(&ring->claim, (uint64_t)generation << 1);
}

static bool take_ring(struct thread *self) {
    struct trace_ring *ring = claim_ring();
    if (ring == NULL) return false;
    self->granule = shared->granule[ring - shared->ring];
    self->written = load_relaxed(&ring->written);
    self->read = load_acquire(&ring->read);
    self->ring = ring;
    if (self->serial == 0) {
        self->serial = add_relaxed(&shared->head.serial, 1) + 1;
        add_relaxed(&threads_seen, 1);
    }
    if (has_room(self, 3)) {
        struct name name = own_name();
        struct trace_granule *third = granule_at(self, self->written + 2);
        third->word[0] = name.word[0];
        third->word[1] = name.word[1];
        fill_pair(self, now(), (uint64_t)prim_thread_id() << 4 | TRACE_THREAD, self->serial | (uint64_t)generation << 32, 0);
        publish_granules(self, 3);
        return true;
    }
    release_ring(self);
    return false;
}

static COLD bool begin_thread(struct thread *self) {
    if (!self->armed) {
        self->armed = true;
        prim_recording_exit_arm(self); /* may allocate */
    }
    if (self->lost % RETRY != 0 || !take_ring(self)) {
        self->lost++;
        add_relaxed(&shared->head.lost, 1);
        return false;
    }
    if (unwind != TRACE_UNWIND_NONE && self->stacks == NULL && !self->ended) self->stacks = stacks_new();
    return true;
}

static void thread_ends(void *value) {
    struct thread *self = value;
    if (load_relaxed(&wiped.mode) == MODE_OFF || self->inside) return;
    self->ended = true;
    if (self->ring == NULL) return;
    struct name name = own_name();
    put_pair(self, 0, TRACE_NAME, name.word[0], name.word[1]);
    release_ring(self);
    if (self->stacks != NULL) stacks_end(self->stacks);
    self->stacks = NULL;
}

/* --- events ------------------------------------------------------------------------------------------------------------------------------------ */

static void put_stack(struct thread *self, unsigned slot, const uint64_t *frame, unsigned count) {
    uint64_t *word = granule_at(self, self->written)->word;
    word[0] = slot | (uint64_t)count << 16;
    word[1] = TRACE_STACK;
    for (unsigned i = 0; i < count; i++) granule_at(self, self->written + 1 + i / 2)->word[i % 2] = frame[i];
    publish_granules(self, 1 + (count + 1) / 2);
}

/* The slot of the stack that this event comes from; 0: not known. */
static NOINLINE unsigned stack_slot(struct thread *self) {
    uint64_t frame[TRACE_DEPTH_MOST];
    unsigned count = stack_walk(self->stacks, frame, depth), slot;
    if (count == 0) return 0;
    if (stacks_find(self->stacks, frame, count, &slot)) return slot;
    if (!has_room(self, 1 + (count + 1) / 2 + 2)) return 0;
    put_stack(self, slot, frame, count);
    stacks_keep(self->stacks, slot);
    return slot;
}

/* False: the event is not recorded. What a signal handler allocates that interrupted us is dropped; what we allocate ourselves is none. */
static ALWAYS_INLINE bool enter(struct thread *self) {
    if (UNLIKELY(self->inside)) {
        if (self->ring != NULL) drop(self);
        return false;
    }
    self->inside = true;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (LIKELY(self->ring != NULL) || begin_thread(self)) return true;
    self->inside = false;
    return false;
}

static ALWAYS_INLINE void leave(struct thread *self) {
    if (UNLIKELY(self->ended)) release_ring(self);
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    self->inside = false;
}

static ALWAYS_INLINE bool put_alloc(struct thread *self, const void *mem, size_t bytes, bool moved) {
    uint64_t slot = self->stacks != NULL ? stack_slot(self) : 0;
    bool good = has_room(self, 2);
    if (LIKELY(good)) {
        put_pair(self, now(), (uintptr_t)mem | TRACE_ALLOC | (moved ? TRACE_MOVED : 0), bytes | slot << 48,
                 head_usable(chunk_head(chunk_of(mem))));
    } else {
        drop(self);
    }
    return good;
}

static ALWAYS_INLINE void put_free(struct thread *self, uint64_t time, const void *mem, bool moved) {
    if (LIKELY(has_room(self, 1))) {
        struct trace_granule *granule = granule_at(self, self->written);
        granule->word[0] = time;
        granule->word[1] = (uintptr_t)mem | TRACE_FREE | (moved ? TRACE_MOVED : 0);
        publish_granules(self, 1);
    } else {
        drop(self);
    }
}

/* --- sampling ---------------------------------------------------------------------------------------------------------------------------------- */

static int64_t next_distance(struct thread *self) {
    if (self->random == 0) self->random = prim_random() | 1;
    return exponential(&self->random, mean) - 1; /* so many bytes and one more make it negative */
}

static bool remember(const void *mem) {
    if (!samples_add(mem)) return false;
    uint8_t *byte = &trace_filter[(uint32_t)(uintptr_t)mem >> TRACE_FILTER_SHIFT];
    uint8_t seen = load_relaxed(byte);
    while (seen != UINT8_MAX && !cas_release(byte, &seen, (uint8_t)(seen + 1))) {}
    return true;
}

static bool forget(const void *mem) {
    if (!samples_remove(mem)) return false;
    uint8_t *byte = &trace_filter[(uint32_t)(uintptr_t)mem >> TRACE_FILTER_SHIFT];
    uint8_t seen = load_relaxed(byte);
    while (seen != UINT8_MAX && !cas_release(byte, &seen, (uint8_t)(seen - 1))) {} /* what was full once stays so */
    return true;
}

/* The countdown is used up by this block: it is sampled. What came first in a thread has yet to draw. */
static COLD void sampled(struct thread *self, const void *mem, size_t bytes, bool moved) {
    if (self->random == 0) {
        trace_countdown = next_distance(self) - (int64_t)bytes;
        if (trace_countdown >= 0) return;
    }
    trace_countdown = next_distance(self);
    if (mem == NULL || !enter(self)) return;
    if (!remember(mem)) {
        drop(self);
    } else if (!put_alloc(self, mem, bytes, moved)) {
        forget(mem);
    }
    leave(self);
}

/* --- the hooks --------------------------------------------------------------------------------------------------------------------------------- */

void *trace_allocated_slow(void *mem, size_t bytes, bool moved) {
    struct thread *self = &thread;
    uint32_t mode = load_relaxed(&wiped.mode);
    if (LIKELY(mode == MODE_ALL)) {
        trace_countdown = -1;
        if (mem != NULL && enter(self)) {
            put_alloc(self, mem, bytes, moved);
            leave(self);
        }
    } else if (mode == MODE_SAMPLED) {
        sampled(self, mem, bytes, moved);
    } else if (load_acquire(&begun) == BEGINNING_DONE) {
        trace_countdown = INT64_MAX;
    } else {
        trace_countdown = -1;
        if (self->inside) return mem;
        trace_begin();
        if (load_relaxed(&wiped.mode) != MODE_OFF) return trace_allocated_slow(mem, bytes, moved);
    }
    return mem;
}

void trace_freeing(const void *mem) {
    struct thread *self = &thread;
    uint32_t mode = load_relaxed(&wiped.mode);
    if (mem == NULL || mode == MODE_OFF || (mode == MODE_SAMPLED && !forget(mem))) return;
    if (!enter(self)) return;
    put_free(self, now_that_it_is_here(), mem, false);
    leave(self);
}

uint64_t trace_moving(const void *mem) {
    if (!trace_wants_free(mem)) return 0;
    uint32_t mode = load_relaxed(&wiped.mode);
    return mode == MODE_ALL || (mode == MODE_SAMPLED && forget(mem)) ? now_that_it_is_here() : 0;
}

void *trace_moved(uint64_t since, const void *mem, void *moved, size_t bytes) {
    struct thread *self = &thread;
    if (since != 0 && moved == NULL) {
        if (load_relaxed(&wiped.mode) == MODE_SAMPLED) remember(mem); /* it is still there */
    } else if (since != 0 && enter(self)) {
        put_free(self, since, mem, true);
        leave(self);
    }
    if (moved == NULL) return NULL;
    if (LIKELY((trace_countdown -= (int64_t)bytes) >= 0)) return moved;
    return trace_allocated_slow(moved, bytes, true);
}

/* --- begin and end ----------------------------------------------------------------------------------------------------------------------------- */

static bool read_hexadecimal(const char **text, char end, uint64_t *number) {
    *number = 0;
    for (unsigned digits = 0; digits < 16; digits++) {
        char c = *(*text)++;
        unsigned digit = c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 16;
        if (digit == 16) return digits != 0 && c == end;
        *number = *number << 4 | digit;
    }
    return *(*text)++ == end;
}

static const char *named(char **environment) {
    size_t length = sizeof TRACE_ENVIRONMENT - 1;
    for (char **entry = environment; entry != NULL && *entry != NULL; entry++) {
        if (strncmp(*entry, TRACE_ENVIRONMENT, length) == 0 && (*entry)[length] == '=') return *entry + length + 1;
    }
    return NULL;
}

/* What the command shares, through its own open file: nothing has to be left open in this program for it to be found again after exec. */
static struct trace_shared *find_shared(const char *name) {
    uint64_t pid, fd, id;
    if (name == NULL || !read_hexadecimal(&name, '/', &pid) || !read_hexadecimal(&name, '/', &fd) || !read_hexadecimal(&name, '\0', &id))
        return NULL;
    char path[64];
    struct text text = text_of(path, sizeof path);
    text_add(&text, "/proc/%u/fd/%u", (unsigned)pid, (unsigned)fd);
    struct trace_shared *found = prim_map_shared(path, sizeof *found);
    if (found == NULL) return NULL;
    if (found->head.id == id && found->head.version == TRACE_VERSION) return found;
    prim_unmap(found, sizeof *found);
    return NULL;
}

/* A process that the program begun. It is not recorded, but counted once, whether it was forked, executes a program, or both. */
static void count_child(struct trace_head *head) {
    uint32_t pid = prim_process_id();
    for (unsigned i = 0; i < TRACE_CHILDREN; i++) {
        if (load_relaxed(&head->children[i]) == pid) return;
    }
    store_relaxed(&head->children[add_relaxed(&head->child, 1) % TRACE_CHILDREN], pid);
    add_relaxed(&head->forked, 1);
}

static void note_maps(unsigned which) {
    long length = prim_read_file("/proc/self/maps", shared->head.maps[which], TRACE_MAPS);
    if (length > 0) store_release(&shared->head.maps_length[which], (uint32_t)length);
}

static bool wipe_on_fork(void) { return prim_wipe_on_fork(&wiped, sizeof wiped) && prim_wipe_on_fork(trace_filter, sizeof trace_filter); }

static COLD void begin(char **environment) {
    struct trace_shared *found = find_shared(named(environment));
    if (found == NULL) return;
    if (found->head.pid != prim_process_id()) {
        count_child(&found->head);
    } else if (wipe_on_fork() && prim_recording_exit_hook(thread_ends)) {
        shared = found;
        store_relaxed(&found->head.maps_length[0], 0);
        store_relaxed(&found->head.maps_length[1], 0);
        note_maps(0);
        long length = prim_read_file("/proc/self/cmdline", found->head.command, TRACE_COMMAND);
        found->head.command_length = length > 0 ? (uint32_t)length : 0;
        mean = (double)found->head.sample_mean;
        use_counter = found->head.use_counter != 0;
        depth = min_unsigned(found->head.depth, TRACE_DEPTH_MOST);
        unwind = found->head.unwind;
        if (unwind != TRACE_UNWIND_NONE) stacks_begin(unwind == TRACE_UNWIND_POINTERS);
        generation = add_relaxed(&found->head.generation, 1) + 1;
        bool sampling = found->head.sample_mean != 0;
        if (!sampling) memset(trace_filter, 1, sizeof trace_filter);
        store_release(&wiped.mode, sampling ? MODE_SAMPLED : MODE_ALL);
        return;
    }
    prim_unmap(found, sizeof *found);
}

/* ld.so allocates before libc knows the environment. */
void trace_begin(void) {
    char **environment;
    uint32_t state = BEGINNING_NOT;
    if (!prim_environment(&environment) || !cas_acq_rel(&begun, &state, BEGINNING_RUNS)) return;
    thread.inside = true;
    begin(environment);
    thread.inside = false;
    store_release(&begun, BEGINNING_DONE);
}

void trace_end(void) {
    if (load_relaxed(&wiped.mode) != MODE_OFF) note_maps(1);
}

void trace_fork_child(void) {
    if (shared == NULL) return;
    count_child(&shared->head);
    prim_unmap(shared, sizeof *shared);
    shared = NULL;
}

#endif
