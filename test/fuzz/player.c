/* player.c: see player.h. SPDX-License-Identifier: MIT */
#include "player.h"
#include "shadow.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MAILBOXES = 256 };

struct block {
    uint8_t *mem; /* NULL: none */
    size_t requested, usable;
    uint64_t pattern;
};

struct mailbox {
    unsigned state; /* 0 empty, 1 in change, 2 full; whoever brings it to 1 owns the block */
    struct block block;
};

/* A thread that plays the lane's operations when it is its turn. Actor 0 is whoever calls lane_play. */
struct actor {
    struct lane *lane;
    pthread_t thread;
    bool runs, ends;
    sem_t go, done;
};

struct lane {
    struct player *player;
    unsigned index;
    uint64_t random;
    uint64_t count; /* operations so far */
    size_t live_bytes;
    struct actor actors[PLAYER_ACTORS];
    unsigned turn;
    const struct op *op; /* that the actor is to play */
    struct block slots[PLAYER_SLOTS];
};

struct player {
    struct player_setup setup;
    struct subject_totals start;
    unsigned staged; /* calls of the system may fail */
    unsigned epoch;  /* changes with staged */
    pthread_mutex_t stage_lock;
    int perturb; /* with one lane only */
    struct mailbox mailboxes[MAILBOXES];
    struct lane lanes[];
};

static _Noreturn void fault(struct lane *lane, const char *format, ...) __attribute__((format(printf, 2, 3)));
static _Noreturn void fault(struct lane *lane, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (lane->op != NULL && length >= 0 && (size_t)length < sizeof text) {
        snprintf(text + length, sizeof text - (size_t)length, "; lane %u, operation %llu: %s", lane->index, (unsigned long long)lane->count,
                 op_text(lane->op));
    }
    lane->player->setup.fault(text);
    abort();
}

/* --- Patterns --- */

/* Which bytes of a block of that length carry the pattern: all of a small one; of a large one both ends and a line every so often. Calls `run`
 * for each stretch up to `limit`. Stretches begin at multiples of 8. */
typedef bool stretch_function(const struct block *block, size_t from, size_t to);

static bool for_stretches(const struct block *block, size_t limit, stretch_function *run) {
    size_t length = block->usable;
    if (limit > length) limit = length;
    if (length <= 65536) return run(block, 0, limit);
    size_t step = length <= (1 << 20) ? 4096 : 65536, tail = (length - 4096) & ~(size_t)7;
    if (!run(block, 0, limit < 4096 ? limit : 4096)) return false;
    for (size_t at = step; at < tail && at < limit; at += step) {
        size_t to = at + 64 < tail ? at + 64 : tail;
        if (!run(block, at, limit < to ? limit : to)) return false;
    }
    return tail >= limit || run(block, tail, limit);
}

static uint64_t pattern_word(const struct block *block, size_t at) { return block->pattern + (at >> 3) * 0x9e3779b97f4a7c15u; }

static bool stretch_fill(const struct block *block, size_t from, size_t to) {
    size_t at = from;
    for (; at + 8 <= to; at += 8) *(uint64_t *)(block->mem + at) = pattern_word(block, at);
    for (; at < to; at++) block->mem[at] = (uint8_t)(pattern_word(block, at & ~(size_t)7) >> 8 * (at & 7));
    return true;
}

static bool stretch_right(const struct block *block, size_t from, size_t to) {
    size_t at = from;
    for (; at + 8 <= to; at += 8) {
        if (*(uint64_t *)(block->mem + at) != pattern_word(block, at)) return false;
    }
    for (; at < to; at++) {
        if (block->mem[at] != (uint8_t)(pattern_word(block, at & ~(size_t)7) >> 8 * (at & 7))) return false;
    }
    return true;
}

static void fill(struct lane *lane, struct block *block) {
    block->pattern = op_random(&lane->random);
    for_stretches(block, block->usable, stretch_fill);
}

/* The first `limit` bytes, wherever they are now. */
static void check_contents(struct lane *lane, const struct block *block, size_t limit, const char *when) {
    if (for_stretches(block, limit, stretch_right)) return;
    size_t at = 0; /* look closer, for the message */
    while (at < limit && for_stretches(block, at + 1, stretch_right))
        at += at + 8 < limit && for_stretches(block, at + 8, stretch_right) ? 8 : 1;
    fault(lane, "contents lost %s: block %p of %zu (usable %zu), from byte %zu on", when, (void *)block->mem, block->requested,
          block->usable, at);
}

/* --- Blocks --- */

static bool may_fail(struct player *player) { return player->setup.limited || __atomic_load_n(&player->staged, __ATOMIC_ACQUIRE) != 0; }

struct attempt {
    unsigned epoch;
    bool staged;
};

static struct attempt attempt_begin(struct player *player) {
    struct attempt attempt = {__atomic_load_n(&player->epoch, __ATOMIC_ACQUIRE), may_fail(player)};
    errno = 0;
    return attempt;
}

/* A request failed: was there a reason? */
static void check_failure(struct lane *lane, struct attempt attempt, size_t size, const char *what) {
    int error = errno;
    struct player *player = lane->player;
    if (error != ENOMEM) fault(lane, "%s failed with errno %d, not ENOMEM", what, error);
    if (size >= (size_t)1 << 40) return;
    if (attempt.staged || may_fail(player) || __atomic_load_n(&player->epoch, __ATOMIC_ACQUIRE) != attempt.epoch) return;
    fault(lane, "%s of %zu bytes failed without need", what, size);
}

static void take_in(struct lane *lane, struct block *block, void *mem, size_t size, size_t alignment, const char *what) {
    if (size > PTRDIFF_MAX) fault(lane, "%s of %zu bytes, over PTRDIFF_MAX, did not fail", what, size);
    if ((uintptr_t)mem % (alignment < 16 ? 16 : alignment) != 0) fault(lane, "%s: %p is not aligned to %zu", what, mem, alignment);
    size_t usable = lane->player->setup.subject->usable(mem);
    if (usable < size) fault(lane, "%s: the usable size of %p is %zu, asked for were %zu", what, mem, usable, size);
    const void *overlap = shadow_mark(mem, usable);
    if (overlap != NULL) fault(lane, "%s: %p, usable %zu, overlaps with a live block at %p", what, mem, usable, overlap);
    *block = (struct block){.mem = mem, .requested = size, .usable = usable};
    lane->live_bytes += usable;
}

/* Out of the shadow, before the allocator may hand it out again. */
static void take_out(struct lane *lane, const struct block *block) {
    size_t usable = lane->player->setup.subject->usable(block->mem);
    if (usable != block->usable) fault(lane, "the usable size of %p went from %zu to %zu", (void *)block->mem, block->usable, usable);
    if (shadow_clear(block->mem, block->usable) != NULL) fault(lane, "the player's own books are wrong at %p", (void *)block->mem);
    lane->live_bytes -= block->usable;
}

static void block_free(struct lane *lane, struct block *block) {
    if (block->mem == NULL) return;
    check_contents(lane, block, block->usable, "before free");
    take_out(lane, block);
    errno = 7777;
    lane->player->setup.subject->free(block->mem);
    if (errno != 7777) fault(lane, "free changed errno to %d", errno);
    block->mem = NULL;
}

static struct block *slot(struct lane *lane, unsigned index) { return &lane->slots[index % lane->player->setup.ops.slots]; }

/* An empty slot, and room for `size` more bytes: else the biggest blocks go. False if the size alone is over the limit but not impossible. */
static bool make_room(struct lane *lane, struct block *block, size_t size) {
    size_t limit = lane->player->setup.live_limit;
    block_free(lane, block);
    if (size >= (size_t)1 << 40) return true;
    if (size > limit) return false;
    for (unsigned i = 0; lane->live_bytes + size > limit && i < lane->player->setup.ops.slots; i++) {
        if (lane->slots[i].usable > 4096 || i > PLAYER_SLOTS / 2) block_free(lane, &lane->slots[i]);
    }
    return true;
}

static bool is_zero(const uint8_t *mem, size_t size) { return size == 0 || (mem[0] == 0 && memcmp(mem, mem + 1, size - 1) == 0); }

static void play_malloc(struct lane *lane, struct block *block, size_t size) {
    if (!make_room(lane, block, size)) return;
    int perturb = lane->player->setup.subject->perturbs && lane->player->setup.lanes == 1 && lane->player->setup.ops.threads == 1
                      ? lane->player->perturb
                      : 0;
    struct attempt attempt = attempt_begin(lane->player);
    uint8_t *mem = lane->player->setup.subject->malloc(size);
    if (mem == NULL) {
        check_failure(lane, attempt, size, "malloc");
        return;
    }
    take_in(lane, block, mem, size, 16, "malloc");
    if (perturb > 0 && size != 0 && (mem[0] != (uint8_t)~perturb || mem[size - 1] != (uint8_t)~perturb)) {
        fault(lane, "M_PERTURB is %d, but malloc's memory holds %d and %d", perturb, mem[0], mem[size - 1]);
    }
    fill(lane, block);
}

static void play_calloc(struct lane *lane, struct block *block, size_t size, size_t number) {
    size_t each = size / number + (size >= (size_t)1 << 62); /* product over SIZE_MAX now and then */
    size_t total;
    if (__builtin_mul_overflow(number, each, &total)) total = SIZE_MAX;
    if (!make_room(lane, block, total)) return;
    struct attempt attempt = attempt_begin(lane->player);
    uint8_t *mem = lane->player->setup.subject->calloc(number, each);
    if (mem == NULL) {
        check_failure(lane, attempt, total, "calloc");
        return;
    }
    take_in(lane, block, mem, total, 16, "calloc");
    if (!is_zero(mem, total)) fault(lane, "calloc: %p, %zu bytes, is not all zero", (void *)mem, total);
    fill(lane, block);
}

static void play_realloc(struct lane *lane, struct block *block, size_t size) {
    const struct subject *subject = lane->player->setup.subject;
    struct block old = *block;
    if (size > lane->player->setup.live_limit && size < (size_t)1 << 40) return;
    if (old.mem != NULL) {
        check_contents(lane, &old, old.usable, "before realloc");
        take_out(lane, &old);
    }
    struct attempt attempt = attempt_begin(lane->player);
    uint8_t *mem = subject->realloc(old.mem, size);
    if (mem == NULL) {
        if (old.mem != NULL && size == 0) { /* freed */
            block->mem = NULL;
            return;
        }
        check_failure(lane, attempt, size, "realloc");
        if (old.mem != NULL) { /* must be as it was */
            if (shadow_mark(old.mem, old.usable) != NULL) fault(lane, "realloc failed, but %p was handed out again", (void *)old.mem);
            if (subject->usable(old.mem) != old.usable) fault(lane, "realloc failed, but changed the size of %p", (void *)old.mem);
            lane->live_bytes += old.usable;
            check_contents(lane, block, block->usable, "in a realloc that failed");
        }
        return;
    }
    take_in(lane, block, mem, size, 16, "realloc");
    if (old.mem != NULL) {
        old.mem = mem;
        check_contents(lane, &old, old.usable < size ? old.usable : size, "in realloc");
    }
    fill(lane, block);
}

static void play_aligned(struct lane *lane, struct block *block, enum op_kind kind, size_t size, unsigned exponent) {
    const struct subject *subject = lane->player->setup.subject;
    size_t alignment = (size_t)1 << exponent % 64;
    size_t needed = size > SIZE_MAX - alignment ? SIZE_MAX : size + alignment;
    if (!make_room(lane, block, needed)) return;
    if (kind == OP_POSIX_MEMALIGN && alignment < sizeof(void *)) alignment = sizeof(void *);
    struct attempt attempt = attempt_begin(lane->player);
    void *mem = NULL;
    const char *what = kind == OP_MEMALIGN ? "memalign" : kind == OP_ALIGNED_ALLOC ? "aligned_alloc" : "posix_memalign";
    if (kind == OP_MEMALIGN) mem = subject->memalign(alignment, size);
    if (kind == OP_ALIGNED_ALLOC) mem = subject->aligned_alloc(alignment, size);
    if (kind == OP_POSIX_MEMALIGN) {
        int error = subject->posix_memalign(&mem, alignment, size);
        if ((error == 0) != (mem != NULL)) fault(lane, "posix_memalign returned %d and %p", error, mem);
        errno = error;
    }
    if (mem == NULL) {
        check_failure(lane, attempt, needed, what);
        return;
    }
    take_in(lane, block, mem, size, alignment, what);
    fill(lane, block);
}

static void play_bad_alignment(struct lane *lane, struct block *block, unsigned which, size_t size) {
    const struct subject *subject = lane->player->setup.subject;
    if (!make_room(lane, block, size %= 65536)) return;
    void *mem = NULL;
    errno = 0;
    switch (which % 3) {
    case 0:
        mem = subject->aligned_alloc(48, size);
        if (!lane->player->setup.subject->strict) break;
        if (mem != NULL || errno != EINVAL) fault(lane, "aligned_alloc(48) returned %p with errno %d", mem, errno);
        break;
    case 1: {
        int error = subject->posix_memalign(&mem, 4, size);
        if (mem != NULL || error != EINVAL) fault(lane, "posix_memalign(4) returned %d and %p", error, mem);
        return;
    }
    default: {
        struct attempt attempt = attempt_begin(lane->player);
        mem = subject->memalign(48, size);
        if (mem == NULL)
            check_failure(lane, attempt, size, "memalign(48)");
        else
            take_in(lane, block, mem, size, 64, "memalign(48)"), fill(lane, block);
        return;
    }
    }
    if (mem != NULL) take_in(lane, block, mem, size, 16, "aligned_alloc(48)"), fill(lane, block);
}

/* The i-th of n numbers 0 to n - 1 in one of four orders; n: none. */
static unsigned order(unsigned how, unsigned i, unsigned n, unsigned salt) {
    switch (how % 4) {
    case 0: return i;
    case 1: return n - 1 - i;
    case 2: return i % 2 == 0 ? i : n;
    default: return (unsigned)(((uint64_t)i * 7919 + salt) % n); /* a permutation unless 7919 divides n */
    }
}

static void play_many(struct lane *lane, const struct op *op) {
    unsigned n = op->extra < PLAYER_SLOTS ? op->extra : PLAYER_SLOTS;
    for (unsigned i = 0; i < n; i++) {
        if (op->kind == OP_MALLOC_MANY) {
            size_t size = op->arg % 3 == 0 ? op->size : op->arg % 3 == 1 ? op->size + 16 * i : op_random(&lane->random) % (op->size + 1);
            play_malloc(lane, slot(lane, op->slot + i), size);
        } else {
            unsigned at = order(op->arg, i, n, op->slot);
            if (at < n) block_free(lane, slot(lane, op->slot + at));
        }
        lane->count++;
    }
}

static void play_mail(struct lane *lane, const struct op *op) {
    struct mailbox *mailbox = &lane->player->mailboxes[op->extra % MAILBOXES];
    struct block *block = slot(lane, op->slot);
    unsigned from = op->kind == OP_GIVE ? 0 : 2;
    if ((op->kind == OP_GIVE) == (block->mem == NULL)) return;
    if (!__atomic_compare_exchange_n(&mailbox->state, &from, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) return;
    if (op->kind == OP_GIVE) {
        mailbox->block = *block;
        lane->live_bytes -= block->usable;
        block->mem = NULL;
    } else {
        *block = mailbox->block;
        lane->live_bytes += block->usable;
        mailbox->block.mem = NULL;
    }
    __atomic_store_n(&mailbox->state, op->kind == OP_GIVE ? 2 : 0, __ATOMIC_RELEASE);
}

static void play_mallopt(struct lane *lane, const struct op *op) {
    static const int parameters[] = {M_MXFAST, M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX, M_PERTURB, M_ARENA_MAX};
    int parameter = parameters[op->arg % 7], value = (int)op->size;
    int result = lane->player->setup.subject->mallopt(parameter, value);
    int expected = !(parameter == M_MXFAST && (unsigned)value > 160);
    if (result != expected) fault(lane, "mallopt(%d, %d) returned %d", parameter, value, result);
    if (parameter == M_PERTURB && lane->player->setup.lanes == 1) lane->player->perturb = value;
}

static void play_stage(struct lane *lane, const struct op *op) {
    struct player *player = lane->player;
    if (player->setup.stage == NULL) return;
    /* Raised before a call may fail; the epoch tells requests of other lanes that were under way when it was raised or lowered. */
    pthread_mutex_lock(&player->stage_lock);
    __atomic_store_n(&player->staged, 1, __ATOMIC_RELEASE);
    __atomic_add_fetch(&player->epoch, 1, __ATOMIC_ACQ_REL);
    bool staged = player->setup.stage(op);
    const char *wrong = player->setup.stage_check != NULL ? player->setup.stage_check() : NULL;
    __atomic_store_n(&player->staged, staged, __ATOMIC_RELEASE);
    __atomic_add_fetch(&player->epoch, 1, __ATOMIC_ACQ_REL);
    pthread_mutex_unlock(&player->stage_lock);
    if (wrong != NULL) fault(lane, "%s", wrong);
}

/* --- Operations --- */

static void play_one(struct lane *lane, const struct op *op) {
    struct block *block = slot(lane, op->slot);
    const struct subject *subject = lane->player->setup.subject;
    switch ((enum op_kind)op->kind) {
    case OP_MALLOC: play_malloc(lane, block, op->size); break;
    case OP_CALLOC: play_calloc(lane, block, op->size, op->arg != 0 ? op->arg : 1); break;
    case OP_REALLOC: play_realloc(lane, block, op->size); break;
    case OP_MEMALIGN:
    case OP_ALIGNED_ALLOC:
    case OP_POSIX_MEMALIGN: play_aligned(lane, block, (enum op_kind)op->kind, op->size, op->arg); break;
    case OP_BAD_ALIGNMENT: play_bad_alignment(lane, block, op->arg, op->size); break;
    case OP_FREE:
        if (block->mem != NULL)
            block_free(lane, block);
        else
            subject->free(NULL);
        break;
    case OP_USABLE:
        if (subject->usable(block->mem) != (block->mem != NULL ? block->usable : 0))
            fault(lane, "the usable size of %p changed", (void *)block->mem);
        break;
    case OP_FILL:
        if (block->mem != NULL) check_contents(lane, block, block->usable, "at rest"), fill(lane, block);
        break;
    case OP_MALLOC_MANY:
    case OP_FREE_MANY: play_many(lane, op); break;
    case OP_GIVE:
    case OP_TAKE: play_mail(lane, op); break;
    case OP_TRIM: subject->trim(op->size); break;
    case OP_MALLOPT: play_mallopt(lane, op); break;
    case OP_STATISTICS: subject->statistics(lane->player->setup.lanes == 1); break;
    case OP_STAGE_PLAN:
    case OP_STAGE_BREAK:
    case OP_STAGE_SPACE:
    case OP_STAGE_FOREIGN:
    case OP_STAGE_REMAP:
    case OP_CALM: play_stage(lane, op); break;
    case OP_SWITCH:
    case OP_EXIT:
    case OP_KINDS: break;
    }
}

static void *actor_run(void *arg) {
    struct actor *actor = arg;
    for (;;) {
        while (sem_wait(&actor->go) != 0) {}
        if (actor->ends) return NULL;
        play_one(actor->lane, actor->lane->op);
        sem_post(&actor->done);
    }
}

static void actor_end(struct actor *actor) {
    if (!actor->runs) return;
    actor->ends = true;
    sem_post(&actor->go);
    pthread_join(actor->thread, NULL);
    sem_destroy(&actor->go);
    sem_destroy(&actor->done);
    actor->runs = false;
}

static void actor_play(struct actor *actor) {
    if (!actor->runs) {
        sem_init(&actor->go, 0, 0);
        sem_init(&actor->done, 0, 0);
        actor->ends = false;
        if (pthread_create(&actor->thread, NULL, actor_run, actor) != 0) fault(actor->lane, "no thread to be had");
        actor->runs = true;
    }
    sem_post(&actor->go);
    while (sem_wait(&actor->done) != 0) {}
}

void lane_play(struct lane *lane, const struct op *op) {
    struct player *player = lane->player;
    if (player->setup.progress != NULL) player->setup.progress(lane->index, lane->count, op);
    lane->op = op;
    if (op->kind == OP_SWITCH)
        lane->turn = op->arg % PLAYER_ACTORS;
    else if (op->kind == OP_EXIT)
        actor_end(&lane->actors[op->arg % PLAYER_ACTORS]);
    else if (lane->turn == 0 || op->kind >= OP_STAGE_PLAN)
        play_one(lane, op);
    else
        actor_play(&lane->actors[lane->turn]);
    lane->count++;
    if (player->setup.check_every != 0 && lane->count % player->setup.check_every == 0 && player->setup.lanes == 1) player_check(player);
    lane->op = NULL;
}

/* --- The allocator's books against ours --- */

struct census {
    struct lane *lane;
    size_t count, bytes, bytes_in_use, mapped;
    const void *wrong;
};

static void census_visit(const void *mem, size_t size, bool mapped, void *arg) {
    struct census *census = arg;
    census->count++;
    census->mapped += mapped;
    census->bytes += size;
    census->bytes_in_use += mapped ? 0 : size;
    /* A block of ours begins here: its first word is live, the word before it is the header. */
    if ((!shadow_is_live(mem) || shadow_is_live((const char *)mem - 8)) && census->wrong == NULL) census->wrong = mem;
}

static void count_block(const struct block *block, size_t *count, size_t *bytes) {
    if (block->mem == NULL) return;
    ++*count;
    *bytes += block->usable;
}

void player_check(struct player *player) {
    const struct subject *subject = player->setup.subject;
    struct lane *lane = &player->lanes[0];
    const char *wrong = subject->check != NULL ? subject->check() : NULL;
    if (wrong != NULL) fault(lane, "check_heap: %s", wrong);
    wrong = player->setup.stage_check != NULL ? player->setup.stage_check() : NULL;
    if (wrong != NULL) fault(lane, "%s", wrong);

    size_t count = 0, bytes = 0;
    for (unsigned l = 0; l < player->setup.lanes; l++) {
        for (unsigned i = 0; i < player->setup.ops.slots; i++) count_block(&player->lanes[l].slots[i], &count, &bytes);
    }
    for (unsigned i = 0; i < MAILBOXES; i++) count_block(&player->mailboxes[i].block, &count, &bytes);

    struct subject_totals now = {0};
    bool totals = subject->totals != NULL && subject->totals(&now);
    if (totals) {
        size_t found = now.in_use_count + now.mapped_count - player->start.in_use_count - player->start.mapped_count;
        if (found != count) fault(lane, "%zu blocks are live, but the statistics count %zu", count, found);
        if (now.state_bytes != now.heap_bytes)
            fault(lane, "the states add up to %zu bytes, taken were %zu", now.state_bytes, now.heap_bytes);
    }
    struct census census = {.lane = lane};
    if (subject->walk != NULL && subject->walk(census_visit, &census)) {
        size_t found = census.count - player->start.in_use_count - player->start.mapped_count;
        if (found != count) fault(lane, "%zu blocks are live, but the walk finds %zu", count, found);
        /* A chunk in use has 8 bytes of header beyond what is usable, a mapped one 16. */
        size_t expected = bytes + 8 * (census.count - census.mapped) + 16 * census.mapped;
        if (totals && census.bytes_in_use != now.in_use_bytes) {
            fault(lane, "the walk finds %zu bytes in use, the statistics say %zu", census.bytes_in_use, now.in_use_bytes);
        }
        if (player->start.in_use_count + player->start.mapped_count == 0 && census.bytes != expected) {
            fault(lane, "live blocks make %zu bytes with headers, the walk finds %zu", expected, census.bytes);
        }
        if (player->start.in_use_count == 0 && census.wrong != NULL)
            fault(lane, "the walk finds a block at %p, which is none", census.wrong);
    }
}

void player_finish(struct player *player) {
    const struct subject *subject = player->setup.subject;
    struct lane *lane = &player->lanes[0];
    struct op calm = {.kind = OP_CALM};
    play_stage(lane, &calm);
    player_check(player);
    /* It must work again after whatever was staged. */
    for (unsigned i = 0; i < 64; i++) play_malloc(lane, slot(lane, i * 7), (size_t)1 << i % 20);
    for (unsigned l = 0; l < player->setup.lanes; l++) {
        struct lane *each = &player->lanes[l];
        bool backwards = op_random(&each->random) % 2 == 0;
        unsigned n = player->setup.ops.slots;
        for (unsigned i = 0; i < n; i++) block_free(each, &each->slots[backwards ? n - 1 - i : i]);
    }
    for (unsigned i = 0; i < MAILBOXES; i++) {
        lane->live_bytes += player->mailboxes[i].block.mem != NULL ? player->mailboxes[i].block.usable : 0;
        block_free(lane, &player->mailboxes[i].block);
        player->mailboxes[i].state = 0;
    }
    player_check(player);
    for (unsigned l = 0; l < player->setup.lanes; l++) {
        for (unsigned a = 0; a < PLAYER_ACTORS; a++) actor_end(&player->lanes[l].actors[a]);
    }
    subject->trim(0);
    player_check(player);
    struct subject_totals now;
    if (subject->totals != NULL && subject->totals(&now)) {
        if (now.in_use_bytes != player->start.in_use_bytes || now.mapped_bytes != player->start.mapped_bytes) {
            fault(lane, "all is freed, but %zu bytes are in use and %zu mapped; at the start %zu and %zu", now.in_use_bytes,
                  now.mapped_bytes, player->start.in_use_bytes, player->start.mapped_bytes);
        }
    }
}

struct player *player_new(const struct player_setup *setup) {
    struct player *player = shadow_pages(sizeof *player + setup->lanes * sizeof player->lanes[0]);
    player->setup = *setup;
    pthread_mutex_init(&player->stage_lock, NULL);
    uint64_t seed = setup->seed;
    for (unsigned l = 0; l < setup->lanes; l++) {
        struct lane *lane = &player->lanes[l];
        lane->player = player;
        lane->index = l;
        lane->random = op_random(&seed);
        for (unsigned a = 0; a < PLAYER_ACTORS; a++) lane->actors[a].lane = lane;
    }
    if (setup->subject->totals != NULL && !setup->subject->totals(&player->start)) fault(&player->lanes[0], "no statistics to be had");
    return player;
}

void player_delete(struct player *player) { munmap(player, sizeof *player + player->setup.lanes * sizeof player->lanes[0]); }

struct lane *player_lane(struct player *player, unsigned index) {
    return &player->lanes[index];
}

uint64_t player_operations(const struct player *player) {
    uint64_t sum = 0;
    for (unsigned l = 0; l < player->setup.lanes; l++) sum += player->lanes[l].count;
    return sum;
}
