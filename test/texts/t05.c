/* t05.c: T5. RLIMIT_DATA and RLIMIT_AS, soft and hard, are obeyed: ENOMEM, nothing lost, and the program goes on when memory is there again.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <errno.h>
#include <sys/resource.h>
#include <unistd.h>

#define ROOM MIB(8)
#define BLOCK KIB(100)
#define CONF NO_CACHE ",retain_max:0" /* what a freed block leaves mapped for the next one would be room beyond the limit */
static char *blocks[4096];

static size_t take_all(size_t size) {
    size_t n = 0;
    for (;;) {
        errno = 0;
        char *block = get(size);
        if (!block) return n;
        REQUIRE("the limit ends it", n < COUNT_OF(blocks));
        fill(block, size, (int)(n % 251));
        blocks[n++] = block;
    }
}

static size_t spoilt(size_t n, size_t size) {
    size_t bad = 0;
    for (size_t i = 0; i < n; i++) bad += blocks[i] && !filled(blocks[i], size, (int)(i % 251));
    return bad;
}

static void release_all(size_t n) {
    for (size_t i = 0; i < n; i++) {
        put(blocks[i]);
        blocks[i] = NULL;
    }
}

static void check_ledger(void) {
    struct seemalloc_stats stats = stats_now();
    size_t sum = 0;
    for (int state = 0; state < SEEMALLOC_STATE_COUNT; state++)
        if (state != SEEMALLOC_MAPPED) sum += stats.bytes[state];
    CHECK_EQ("the states' bytes add up to what was taken from the system", sum, stats.heap_bytes);
}

static void must_fail(size_t size) {
    errno = 0;
    void *block = get(size);
    CHECK_PTR("a request beyond the limit", block, NULL);
    CHECK_EQ("errno", errno, ENOMEM);
    errno = 0;
    CHECK_PTR("calloc beyond the limit", calloc(size / 16, 16), NULL);
    CHECK_EQ("errno", errno, ENOMEM);
    errno = 0;
    CHECK_PTR("aligned_alloc beyond the limit", aligned_alloc(4096, size), NULL);
    CHECK_EQ("errno", errno, ENOMEM);
}

static struct rlimit limit_to(int resource, const char *field, int hard) {
    struct rlimit old, now;
    REQUIRE("the limit can be read", getrlimit(resource, &old) == 0);
    now = old;
    now.rlim_cur = status_bytes(field) + ROOM;
    if (hard) now.rlim_max = now.rlim_cur;
    REQUIRE("the limit can be set", setrlimit(resource, &now) == 0);
    return old;
}

static void soft(int resource, const char *field) {
    put(get_filled(MIB(1)));
    put(get_filled(BLOCK));
    look();
    size_t in_use0 = bytes_in(SEEMALLOC_IN_USE), mapped0 = bytes_in(SEEMALLOC_MAPPED);
    struct rlimit old = limit_to(resource, field, 0);

    /* Out of memory in the heap. */
    uint64_t failures = stats_now().failures;
    size_t n = take_all(BLOCK);
    CHECK_EQ("errno of the request that failed", errno, ENOMEM);
    CHECK_IN("blocks of 100 KiB within 8 MiB", n, 60, ROOM / BLOCK + 4);
    CHECK("the system's refusals are counted", stats_now().failures > failures);
    must_fail(MIB(64));
    CHECK_EQ("blocks that were spoilt", spoilt(n, BLOCK), 0);
    look();
    CHECK_EQ("blocks in use as walked", bytes_in(SEEMALLOC_IN_USE) + bytes_in(SEEMALLOC_MAPPED) - in_use0 - mapped0 >= n * BLOCK, 1);
    check_ledger();

    errno = 0;
    CHECK_PTR("realloc beyond the limit", resize(blocks[0], MIB(64)), NULL);
    CHECK_EQ("errno", errno, ENOMEM);
    CHECK("leaves the block as it was", filled(blocks[0], BLOCK, 0));

    /* Some of it is freed: it can be had again, under the same limit. */
    size_t freed = 0, again = 0;
    for (size_t i = 0; i < n; i += 2, freed++) {
        put(blocks[i]);
        blocks[i] = NULL;
    }
    for (size_t i = 0; i < n; i += 2) {
        blocks[i] = get(BLOCK);
        if (!blocks[i]) break;
        fill(blocks[i], BLOCK, (int)(i % 251));
        again++;
    }
    CHECK_EQ("blocks that could be had again", again, freed);
    CHECK_EQ("blocks that were spoilt", spoilt(n, BLOCK), 0);

    /* The limit is lifted: the program goes on. */
    REQUIRE("the soft limit can be lifted", setrlimit(resource, &old) == 0);
    char *more = get_filled(KIB(100));
    char *large = get_filled(MIB(64));
    CHECK("a block from the heap", more != NULL);
    CHECK("a large block", large != NULL);
    put(large);
    put(more);
    release_all(n);

    /* The same with large blocks. */
    old = limit_to(resource, field, 0);
    n = take_all(MIB(1));
    CHECK_EQ("errno of the request that failed", errno, ENOMEM);
    CHECK_IN("blocks of 1 MiB within 8 MiB", n, 5, ROOM / MIB(1) + 2);
    must_fail(MIB(64));
    CHECK_EQ("blocks that were spoilt", spoilt(n, MIB(1)), 0);
    put(blocks[n - 1]);
    blocks[n - 1] = get(MIB(1));
    CHECK("one freed, one had again", blocks[n - 1] != NULL);
    REQUIRE("the soft limit can be lifted", setrlimit(resource, &old) == 0);
    put(get_filled(MIB(64)));
    release_all(n);

    look();
    check_ledger();
    CHECK_EQ("nothing lost: bytes in use as at the start", bytes_in(SEEMALLOC_IN_USE), in_use0);
    CHECK_EQ("nothing lost: bytes mapped as at the start", bytes_in(SEEMALLOC_MAPPED), mapped0);
}

static void hard(int resource, const char *field) {
    put(get_filled(MIB(1)));
    limit_to(resource, field, 1);
    if (geteuid() == 0 && setresuid(65534, 65534, 65534))
        texts_say("still root: the hard limit could be raised");
    else {
        struct rlimit more;
        getrlimit(resource, &more);
        more.rlim_cur = more.rlim_max = more.rlim_max + MIB(64);
        errno = 0;
        CHECK("a hard limit can't be raised", setrlimit(resource, &more) != 0);
        CHECK_EQ("errno", errno, EPERM);
    }
    size_t n = take_all(BLOCK);
    CHECK_EQ("errno of the request that failed", errno, ENOMEM);
    CHECK_IN("blocks within the hard limit", n, 60, ROOM / BLOCK + 4);
    must_fail(MIB(64));
    CHECK_EQ("blocks that were spoilt", spoilt(n, BLOCK), 0);
    for (int round = 0; round < 3; round++) {
        release_all(n);
        size_t m = take_all(BLOCK);
        CHECK_EQ("as many again after all were freed", m, n);
        CHECK_EQ("errno", errno, ENOMEM);
    }
    release_all(n);
    look();
    check_ledger();
    CHECK_EQ("nothing is in use at the end", views_in(SEEMALLOC_IN_USE) + views_in(SEEMALLOC_MAPPED), 0);
}

int main(int argc, char **argv) {
    (void)argc;
    const char *part = texts_begin(argv, "T5", CONF);
    if (!strcmp(part, "soft AS"))
        soft(RLIMIT_AS, "VmSize:");
    else if (!strcmp(part, "soft DATA"))
        soft(RLIMIT_DATA, "VmData:");
    else if (!strcmp(part, "hard AS"))
        hard(RLIMIT_AS, "VmSize:");
    else if (!strcmp(part, "hard DATA"))
        hard(RLIMIT_DATA, "VmData:");
    else {
        const char *const set[] = {"SEEMALLOC_CONF=" CONF, NULL};
        texts_again("soft AS", set);
        texts_again("soft DATA", set);
        texts_again("hard AS", set);
        texts_again("hard DATA", set);
    }
    return texts_end();
}
