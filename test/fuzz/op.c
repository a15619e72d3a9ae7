/* op.c: streams of operations. The generator keeps a mood for some hundred operations: which operations are frequent, which sizes, how many
 * slots; so that heaps grow, shrink, fragment and heal, rather than hover at an average. SPDX-License-Identifier: MIT */
#include "op.h"

#include <stdio.h>

uint64_t op_random(uint64_t *state) {
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t below(uint64_t *random, uint64_t n) { return op_random(random) % n; }

/* 2^low to 2^high, each doubling as likely as the next. */
static uint64_t log_uniform(uint64_t *random, unsigned low, unsigned high) {
    unsigned bit = low + (unsigned)below(random, high - low);
    return ((uint64_t)1 << bit) + below(random, (uint64_t)1 << bit);
}

enum mix { TINY, SMALL, BORDER, POWER, MEDIUM, THRESHOLD, LARGE, VERY_LARGE, PAGES, FAVOURITE, IMPOSSIBLE, MIXES };

static uint64_t draw_size(uint64_t *random, enum mix mix, const uint64_t favourite[4]) {
    switch (mix) {
    case TINY: return below(random, 130);
    case SMALL: return below(random, 1100);
    case BORDER:
        return 16 * below(random, 80) + below(random, 19) - 1 + (below(random, 80) == 0 ? 128 * 1024 : 0); /* -1 is SIZE_MAX: refused */
    case POWER: return ((uint64_t)1 << below(random, below(random, 20) == 0 ? 23 : 17)) + below(random, 3) - 1;
    case MEDIUM: return log_uniform(random, 10, 17);
    case THRESHOLD: return 128 * 1024 - 4096 + below(random, 3) * 4096 + below(random, 64) - 32;
    case LARGE: return log_uniform(random, 17, 21);
    case VERY_LARGE: return log_uniform(random, 21, 26);
    case PAGES: return ((uint64_t)4096 << 2 * below(random, 3)) * (1 + below(random, 6)) + below(random, 65) - 40;
    case FAVOURITE: return favourite[below(random, 4)];
    case IMPOSSIBLE: break;
    default: break;
    }
    static const uint64_t edges[] = {SIZE_MAX, PTRDIFF_MAX, (uint64_t)1 << 47, (uint64_t)1 << 62, SIZE_MAX - 4096, SIZE_MAX / 2 + 1};
    return edges[below(random, 6)] - below(random, 40);
}

static void set(struct op_source *s, enum op_kind kind, unsigned weight) {
    s->weights += weight - s->weight[kind];
    s->weight[kind] = weight;
}

static void new_mood(struct op_source *s) {
    uint64_t *r = &s->random;
    s->mood_left = 50 + (unsigned)below(r, 1500);
    s->slots = 1 + (unsigned)below(r, below(r, 3) == 0 ? s->setup.slots : 64);
    for (int k = 0; k < OP_KINDS; k++) set(s, (enum op_kind)k, 0);
    unsigned tendency = (unsigned)below(r, 4); /* grow, shrink, hover, churn */
    set(s, OP_MALLOC, tendency == 1 ? 15 : 60);
    set(s, OP_FREE, tendency == 0 ? 10 : tendency == 1 ? 70 : 55);
    set(s, OP_CALLOC, (unsigned)below(r, 12));
    set(s, OP_REALLOC, (unsigned)below(r, below(r, 4) == 0 ? 60 : 14));
    set(s, OP_MEMALIGN, (unsigned)below(r, 6));
    set(s, OP_ALIGNED_ALLOC, (unsigned)below(r, 4));
    set(s, OP_POSIX_MEMALIGN, (unsigned)below(r, 4));
    set(s, OP_BAD_ALIGNMENT, (unsigned)below(r, 2));
    set(s, OP_USABLE, 2);
    set(s, OP_FILL, 2);
    set(s, OP_MALLOC_MANY, (unsigned)below(r, 2));
    set(s, OP_FREE_MANY, (unsigned)below(r, 3));
    set(s, OP_GIVE, (unsigned)below(r, s->setup.concurrent ? 20 : 4));
    set(s, OP_TAKE, (unsigned)below(r, s->setup.concurrent ? 20 : 4));
    set(s, OP_TRIM, below(r, 4) == 0 ? 1 : 0);
    set(s, OP_MALLOPT, below(r, 3) == 0 ? 1 : 0);
    set(s, OP_STATISTICS, below(r, 4) == 0 ? 1 : 0);
    if (s->setup.threads > 1) {
        set(s, OP_SWITCH, 1 + (unsigned)below(r, 20));
        set(s, OP_EXIT, below(r, 3) == 0 ? 1 : 0);
    }
    if (s->setup.stage) {
        set(s, OP_STAGE_REMAP, 1);
        if (!s->setup.concurrent) set(s, OP_STAGE_FOREIGN, below(r, 3) == 0 ? 2 : 0);
    }
    if (s->setup.inject) {
        set(s, OP_STAGE_PLAN, (unsigned)below(r, 8));
        set(s, OP_STAGE_BREAK, (unsigned)below(r, 3));
        set(s, OP_STAGE_SPACE, (unsigned)below(r, 2));
        set(s, OP_CALM, 4);
    }
    s->mix_weights = 0;
    for (int m = 0; m < MIXES; m++) s->mix_weight[m] = 0;
    for (int i = 0; i < 3; i++) s->mix_weight[below(r, PAGES + 2)] += 1 + (unsigned)below(r, 20);
    s->mix_weight[TINY] += 5;
    /* Dear to play: each page that is touched is a fault. */
    s->mix_weight[VERY_LARGE] = s->mix_weight[VERY_LARGE] > 10;
    s->mix_weight[LARGE] = (s->mix_weight[LARGE] + 3) / 4;
    s->mix_weight[IMPOSSIBLE] = below(r, 3) == 0;
    for (int m = 0; m < MIXES; m++) s->mix_weights += s->mix_weight[m];
    for (int i = 0; i < 4; i++) s->favourite[i] = draw_size(r, (enum mix)below(r, LARGE), NULL);
}

void op_source_init(struct op_source *s, struct op_setup setup, uint64_t seed) {
    *s = (struct op_source){.setup = setup, .random = seed};
    op_random(&s->random);
}

static uint64_t next_size(struct op_source *s) {
    unsigned pick = (unsigned)below(&s->random, s->mix_weights), mix = 0;
    while (pick >= s->mix_weight[mix]) pick -= s->mix_weight[mix++];
    return draw_size(&s->random, (enum mix)mix, s->favourite);
}

/* No M_PERTURB while others run: calloc may then meet two values of it, here as in glibc. */
static void fill_mallopt(struct op *op, uint64_t *r, bool concurrent) {
    op->arg = (uint8_t)below(r, 7);
    if (concurrent && op->arg == 5) op->arg = 6;
    switch (op->arg) {
    case 0: op->size = below(r, 3) == 0 ? 0 : below(r, 170); break;              /* M_MXFAST; up to 160 is allowed */
    case 1: op->size = below(r, 2) == 0 ? 128 * 1024 : below(r, 1 << 20); break; /* M_TRIM_THRESHOLD */
    case 2: op->size = below(r, 2) == 0 ? 0 : below(r, 1 << 20); break;          /* M_TOP_PAD */
    case 3: op->size = below(r, 2) == 0 ? 128 * 1024 : below(r, 4 << 20); break; /* M_MMAP_THRESHOLD */
    case 4: op->size = below(r, 2) == 0 ? 65536 : below(r, 20); break;           /* M_MMAP_MAX */
    case 5: op->size = below(r, 2) == 0 ? 0 : below(r, 256); break;              /* M_PERTURB */
    default: op->size = 1 + below(r, 8); break;                                  /* M_ARENA_MAX */
    }
}

/* Plans travel in `size`: next in bits 0-7, every in 8-19, per mille in 20-31. */
static void fill_plan(struct op *op, uint64_t *r) {
    op->arg = (uint8_t)below(r, 8); /* 7: all calls */
    op->extra = below(r, 2) == 0 ? 0 : (uint32_t)below(r, 20);
    switch (below(r, 3)) {
    case 0: op->size = 1 + below(r, below(r, 2) == 0 ? 3 : 200); break;
    case 1: op->size = (1 + below(r, 9)) << 8; break;
    default: op->size = (1 + below(r, 1000)) << 20; break;
    }
}

static struct op make(struct op_source *s, enum op_kind kind) {
    uint64_t *r = &s->random;
    struct op op = {.kind = (uint8_t)kind, .slot = (uint16_t)below(r, s->slots), .extra = (uint32_t)op_random(r)};
    switch (kind) {
    case OP_MALLOC:
    case OP_REALLOC: op.size = next_size(s); break;
    case OP_CALLOC:
        op.arg = (uint8_t)(below(r, 2) == 0 ? 1 : 1 + below(r, 64));
        op.size = next_size(s);
        break;
    case OP_MEMALIGN:
    case OP_ALIGNED_ALLOC:
    case OP_POSIX_MEMALIGN:
        op.arg = (uint8_t)(below(r, 3) != 0 ? below(r, 13) : below(r, 40) == 0 ? below(r, 64) : below(r, 22));
        op.size = next_size(s);
        break;
    case OP_BAD_ALIGNMENT:
        op.arg = (uint8_t)below(r, 3);
        op.size = below(r, 2000);
        break;
    case OP_MALLOC_MANY:
        op.arg = (uint8_t)below(r, 3);
        op.extra = 1 + (uint32_t)below(r, s->slots);
        do op.size = next_size(s);
        while (op.size > 70000);
        break;
    case OP_FREE_MANY:
        op.arg = (uint8_t)below(r, 4);
        op.extra = 1 + (uint32_t)below(r, s->slots);
        break;
    case OP_TRIM: op.size = below(r, 2) == 0 ? 0 : below(r, 1 << 20); break;
    case OP_MALLOPT: fill_mallopt(&op, r, s->setup.concurrent); break;
    case OP_SWITCH:
    case OP_EXIT: op.arg = (uint8_t)below(r, s->setup.threads); break;
    case OP_STAGE_PLAN: fill_plan(&op, r); break;
    case OP_STAGE_BREAK: op.size = below(r, 2) == 0 ? 0 : below(r, 1 << 20); break;
    case OP_STAGE_SPACE: op.size = below(r, 2) == 0 ? below(r, 1 << 18) : below(r, 1 << 27); break;
    case OP_STAGE_FOREIGN:
        op.arg = (uint8_t)below(r, 3);
        op.size = below(r, 2) == 0 ? 1 + below(r, 100) : 1 + below(r, 20000);
        break;
    case OP_STAGE_REMAP: op.arg = (uint8_t)below(r, 3); break;
    default: break;
    }
    return op;
}

struct op op_next(struct op_source *s) {
    if (s->mood_left-- == 0 || s->weights == 0) new_mood(s);
    unsigned pick = (unsigned)below(&s->random, s->weights), kind = 0;
    while (pick >= s->weight[kind]) pick -= s->weight[kind++];
    return make(s, (enum op_kind)kind);
}

/* --- From bytes --- */

struct reader {
    const uint8_t *data;
    size_t size, at;
};

static uint64_t get(struct reader *in, unsigned bytes) {
    uint64_t value = 0;
    for (unsigned i = 0; i < bytes; i++) value |= (uint64_t)(in->at < in->size ? in->data[in->at] : 0) << 8 * i, in->at++;
    return value;
}

static uint64_t get_size(struct reader *in) {
    uint64_t form = get(in, 1);
    switch (form >> 6) {
    case 0: return (form & 63) * 24;                                 /* 0 to 1512 */
    case 1: return (form & 63) << 8 | get(in, 1);                    /* to 16 K */
    case 2: return ((form & 63) << 16 | get(in, 2)) * 2;             /* to 8 M */
    default: return ((uint64_t)1 << (form & 63)) + get(in, 1) - 128; /* powers of two and around */
    }
}

size_t op_decode(const uint8_t *data, size_t size, struct op_setup setup, struct op *op) {
    if (size < 2) return 0;
    struct reader in = {data, size, 0};
    /* The plain operations have more codes, as they are what a stream mostly is. */
    static const uint8_t kinds[] = {
        OP_MALLOC,  OP_MALLOC,     OP_MALLOC,      OP_FREE,        OP_FREE,          OP_FREE,           OP_CALLOC,        OP_REALLOC,
        OP_REALLOC, OP_MEMALIGN,   OP_MALLOC_MANY, OP_FREE_MANY,   OP_ALIGNED_ALLOC, OP_POSIX_MEMALIGN, OP_BAD_ALIGNMENT, OP_USABLE,
        OP_FILL,    OP_GIVE,       OP_TAKE,        OP_TRIM,        OP_MALLOPT,       OP_STATISTICS,     OP_SWITCH,        OP_SWITCH,
        OP_EXIT,    OP_STAGE_PLAN, OP_STAGE_PLAN,  OP_STAGE_BREAK, OP_STAGE_SPACE,   OP_STAGE_FOREIGN,  OP_STAGE_REMAP,   OP_CALM};
    *op = (struct op){.kind = kinds[get(&in, 1) % sizeof kinds]};
    op->slot = (uint16_t)(get(&in, 1) % setup.slots);
    op->extra = op->slot * 2654435761u;
    switch (op->kind) {
    case OP_MALLOC:
    case OP_REALLOC: op->size = get_size(&in); break;
    case OP_CALLOC:
    case OP_MEMALIGN:
    case OP_ALIGNED_ALLOC:
    case OP_POSIX_MEMALIGN:
    case OP_BAD_ALIGNMENT:
        op->arg = (uint8_t)(get(&in, 1) % 64);
        op->size = get_size(&in);
        break;
    case OP_MALLOC_MANY:
    case OP_FREE_MANY:
        op->arg = (uint8_t)get(&in, 1);
        op->extra = 1 + (uint32_t)(get(&in, 1) % setup.slots);
        if (op->kind == OP_MALLOC_MANY) op->size = get_size(&in) % 70000;
        break;
    case OP_TRIM: op->size = get(&in, 1) << 12; break;
    case OP_MALLOPT: {
        uint64_t seed = get(&in, 2);
        fill_mallopt(op, &seed, setup.concurrent);
        break;
    }
    case OP_SWITCH:
    case OP_EXIT: op->arg = (uint8_t)(get(&in, 1) % setup.threads); break;
    case OP_STAGE_PLAN:
        op->arg = (uint8_t)(get(&in, 1) % 8);
        op->extra = (uint32_t)(get(&in, 1) % 32);
        op->size = get(&in, 1);
        op->size <<= (const unsigned[]){0, 8, 20}[get(&in, 1) % 3];
        break;
    case OP_STAGE_BREAK:
    case OP_STAGE_SPACE: op->size = get(&in, 1) << 10; break;
    case OP_STAGE_FOREIGN:
        op->arg = (uint8_t)(get(&in, 1) % 3);
        op->size = 1 + get(&in, 2);
        break;
    case OP_STAGE_REMAP: op->arg = (uint8_t)(get(&in, 1) % 3); break;
    default: break;
    }
    if (op->kind >= OP_STAGE_PLAN && !setup.inject) op->kind = OP_USABLE;
    if ((op->kind == OP_SWITCH || op->kind == OP_EXIT) && setup.threads == 1) op->kind = OP_FREE;
    return in.at;
}

const char *op_text(const struct op *op) {
    static const char *const names[OP_KINDS] = {
        "malloc", "calloc",      "realloc",     "memalign",    "aligned_alloc", "posix_memalign", "bad_alignment", "free",       "usable",
        "fill",   "malloc_many", "free_many",   "give",        "take",          "trim",           "mallopt",       "statistics", "switch",
        "exit",   "stage_plan",  "stage_break", "stage_space", "stage_foreign", "stage_remap",    "calm"};
    static __thread char text[160];
    snprintf(text, sizeof text, "%s(slot %u, size %llu = 0x%llx, arg %u, extra %u)", op->kind < OP_KINDS ? names[op->kind] : "?", op->slot,
             (unsigned long long)op->size, (unsigned long long)op->size, op->arg, op->extra);
    return text;
}
