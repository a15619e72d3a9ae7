/* conf.h: the settings: one row per setting; environment, GLIBC_TUNABLES, SEEMALLOC_CONF, mallopt, documentation and statistics all come
 * from that row. SPDX-License-Identifier: MIT */
#ifndef CONF_CONF_H
#define CONF_CONF_H

#include "base/base.h"

/* id, name, glibc environment name or NULL, mallopt parameter or CONF_NO_MALLOPT, minimum, maximum, default, unit (or the words for 0, 1, …, with bars
 * between them, which stand for numbers then), sentence */
enum conf_thp { THP_NEVER, THP_DEFAULT, THP_ALWAYS };
#define CONF_NO_MALLOPT 0x7fffffff
#define CONF_MMAP_THRESHOLD_MOST (MIB(32) + KIB(64)) /* how far the threshold slides by itself: a request of 32 MiB, in whole pages */
#define CONF_ROWS(ROW)                                                                                                                     \
    ROW(ARENA_MAX, "arena_max", "MALLOC_ARENA_MAX", -8, 0, 1024, 0, "arenas", "Most arenas; 0 = twice the usable CPUs, at most 64.")       \
    ROW(ARENA_TEST, "arena_test", "MALLOC_ARENA_TEST", -7, 1, 1024, 8, "arenas", "Accepted for glibc's sake; arena_max decides.")          \
    ROW(TOP_PAD, "top_pad", "MALLOC_TOP_PAD_", -2, 0, SIZE_MAX / 4, KIB(128), "bytes",                                                     \
        "Taken beyond need when the heap grows, and left "                                                                                 \
        "when it is trimmed.")                                                                                                             \
    ROW(MMAP_THRESHOLD, "mmap_threshold", "MALLOC_MMAP_THRESHOLD_", -3, 0, SIZE_MAX / 4, KIB(128), "bytes",                                \
        "Chunks from this size on that no free chunk fits get their own mapping; slides up unless set.")                                   \
    ROW(TRIM_THRESHOLD, "trim_threshold", "MALLOC_TRIM_THRESHOLD_", -1, 0, SIZE_MAX, KIB(128), "bytes",                                    \
        "Touched free memory at the top beyond this goes back to the system; -1 = never.")                                                 \
    ROW(MMAP_MAX, "mmap_max", "MALLOC_MMAP_MAX_", -4, 0, INT32_MAX, 65536, "blocks", "Most blocks in mappings of their own.")              \
    ROW(RETAIN_MAX, "retain_max", NULL, CONF_NO_MALLOPT, 0, SIZE_MAX, MIB(256), "bytes",                                                   \
        "Most of what was freed that is kept because the like of it was soon wanted again; 0 = nothing.")                                  \
    ROW(DECAY, "decay", NULL, CONF_NO_MALLOPT, 0, SIZE_MAX, 250, "ms",                                                                     \
        "Free memory that nobody needed for so long goes back to the system; 0 = at the next chance, -1 = never.")                         \
    ROW(BACKGROUND, "background", NULL, CONF_NO_MALLOPT, 0, 1, 0, "flag",                                                                  \
        "1: a thread of the library's gives memory back where no other thread comes by.")                                                  \
    ROW(LIMIT, "limit", NULL, CONF_NO_MALLOPT, 0, SIZE_MAX, 0, "bytes",                                                                    \
        "Most that is taken from the system: heaps but for pages that went back, blocks in mappings of their own, retained ones, own "     \
        "books with what they reserve; beyond it requests fail with ENOMEM. 0 = no limit.")                                                \
    ROW(PERTURB, "perturb", "MALLOC_PERTURB_", -6, 0, INT32_MAX, 0, "byte",                                                                \
        "Not 0: fill freed blocks with this byte and new ones with "                                                                       \
        "its complement.")                                                                                                                 \
    ROW(CHECK, "check", "MALLOC_CHECK_", -5, 0, 7, 0, "flag", "Not 0: verify the size given to sized deallocation.")                       \
    ROW(MXFAST, "mxfast", NULL, 1, 0, 160, 128, "bytes",                                                                                   \
        "Largest chunk (less 8) that goes to the fast bins where no cache takes it; 0 = none.")                                            \
    ROW(TCACHE_MAX, "tcache_max", NULL, CONF_NO_MALLOPT, 0, KIB(128), KIB(128), "bytes",                                                   \
        "Largest request that thread caches serve; "                                                                                       \
        "0 = no caches.")                                                                                                                  \
    ROW(TCACHE_COUNT, "tcache_count", NULL, CONF_NO_MALLOPT, 0, 256, 256, "blocks", "Most blocks in one magazine; 0 = no caches.")         \
    ROW(THP, "thp", NULL, CONF_NO_MALLOPT, 0, 2, THP_DEFAULT, "never|default|always",                                                      \
        "Huge pages for heaps and mapped blocks: advise against them, leave it to the system, or ask for them.")                           \
    ROW(HUGETLB, "hugetlb", NULL, CONF_NO_MALLOPT, 0, 1, 0, "flag", "1: thp is always, unless it is set.")                                 \
    ROW(NAMES, "names", NULL, CONF_NO_MALLOPT, 0, 1, 0, "flag",                                                                            \
        "1: mappings are named in /proc/PID/maps, as \"[anon:seemalloc: heap]\"; not for programs that filter system calls.")              \
    ROW(STATS, "stats", NULL, CONF_NO_MALLOPT, 0, 1, 0, "flag", "1: write statistics to standard error when the process exits.")

enum conf_id {
#define CONF_ID(id, name, environment, parameter, low, high, standard, unit, sentence) CONF_##id,
    CONF_ROWS(CONF_ID)
#undef CONF_ID
        CONF_COUNT
};

struct conf_row {
    const char *name;
    const char *environment;
    int parameter;
    size_t low, high, standard;
    const char *unit;
    const char *sentence;
};
extern const struct conf_row conf_rows[CONF_COUNT];

enum conf_source { CONF_DEFAULT, CONF_ENVIRONMENT, CONF_TUNABLES, CONF_OWN, CONF_MALLOPT };

/* Zero before conf_init, when no malloc has been served. Written with relaxed stores: by conf_init, conf_set, the sliding threshold, and seemalloc_set_limit. */
extern size_t conf_values[CONF_COUNT];
extern uint8_t conf_sources[CONF_COUNT];

static inline size_t conf_get(enum conf_id id) { return load_relaxed(&conf_values[id]); }

/* Sets the defaults, then what the environment says, in rising order: glibc's names, GLIBC_TUNABLES, SEEMALLOC_NAME, SEEMALLOC_CONF. Bad names
 * and values are reported on standard error and ignored. `environment` may be NULL. Once, before other threads exist. */
void conf_init(char **environment);

/* mallopt. False if the value is out of range; unknown parameters are true, as in glibc. */
bool conf_set(int parameter, long value);

/* What thp and hugetlb say together. */
enum conf_thp conf_thp(void);

/* The thresholds slide up until the user sets one of trim_threshold, top_pad, mmap_threshold, mmap_max. */
bool conf_slides(void);
void conf_slide(size_t chunk_size);

#endif
