/* test_conf.c: settings from every source, their order, their limits. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "conf/conf.h"
#include "fake.h"

#include <malloc.h>
#include <string.h>

static void read_environment(char **environment) {
    fake_set_echo(false);
    fake_clear_written();
    conf_init(environment);
}

static void defaults(void) {
    conf_init(NULL);
    CHECK_EQ(conf_get(CONF_MMAP_THRESHOLD), 131072);
    CHECK_EQ(conf_get(CONF_TRIM_THRESHOLD), 131072);
    CHECK_EQ(conf_get(CONF_MMAP_MAX), 65536);
    CHECK_EQ(conf_get(CONF_MXFAST), 128);
    CHECK_EQ(conf_get(CONF_PERTURB), 0);
    CHECK_EQ(conf_get(CONF_TCACHE_MAX), 131072);
    CHECK(conf_slides());
}

static void sources_in_order(void) {
    char *all[] = {(char *)"SEEMALLOC_CONF=top_pad:4", (char *)"SEEMALLOC_TOP_PAD=3", (char *)"GLIBC_TUNABLES=glibc.malloc.top_pad=2",
                   (char *)"MALLOC_TOP_PAD_=1", NULL};
    for (int skip = 0; skip < 4; skip++) { /* the order in the environment is that of precedence: without the first, the second holds */
        read_environment(all + skip);
        CHECK_EQ(conf_get(CONF_TOP_PAD), 4 - skip);
        CHECK_TEXT(fake_written(), "");
    }
    char *backwards[] = {all[3], all[2], all[1], all[0], NULL};
    read_environment(backwards);
    CHECK_EQ(conf_get(CONF_TOP_PAD), 4);
}

static void every_name(void) {
    char *environment[] = {
        (char *)"MALLOC_ARENA_MAX=3",
        (char *)"MALLOC_ARENA_TEST=5",
        (char *)"MALLOC_TOP_PAD_=4096",
        (char *)"MALLOC_MMAP_THRESHOLD_=65536",
        (char *)"MALLOC_TRIM_THRESHOLD_=8192",
        (char *)"MALLOC_MMAP_MAX_=7",
        (char *)"MALLOC_PERTURB_=165",
        (char *)"MALLOC_CHECK_=3",
        (char *)"GLIBC_TUNABLES=glibc.cpu.x=1:glibc.malloc.tcache_max=1000:glibc.malloc.tcache_count=9:glibc.malloc.mxfast=64",
        NULL};
    read_environment(environment);
    CHECK_TEXT(fake_written(), "");
    CHECK_EQ(conf_get(CONF_ARENA_MAX), 3);
    CHECK_EQ(conf_get(CONF_ARENA_TEST), 5);
    CHECK_EQ(conf_get(CONF_TOP_PAD), 4096);
    CHECK_EQ(conf_get(CONF_MMAP_THRESHOLD), 65536);
    CHECK_EQ(conf_get(CONF_TRIM_THRESHOLD), 8192);
    CHECK_EQ(conf_get(CONF_MMAP_MAX), 7);
    CHECK_EQ(conf_get(CONF_PERTURB), 165);
    CHECK_EQ(conf_get(CONF_CHECK), 3);
    CHECK_EQ(conf_get(CONF_TCACHE_MAX), 1000);
    CHECK_EQ(conf_get(CONF_TCACHE_COUNT), 9);
    CHECK_EQ(conf_get(CONF_MXFAST), 64);
}

static void numbers(void) {
    static const struct {
        const char *text;
        bool good;
        size_t value;
    } cases[] = {{"0", true, 0},
                 {"4096", true, 4096},
                 {"0x1000", true, 4096},
                 {"16K", true, 16384},
                 {"16k", true, 16384},
                 {"2M", true, 2097152},
                 {"1G", true, 1073741824},
                 {"-1", true, SIZE_MAX},
                 {"", false, 0},
                 {"K", false, 0},
                 {"12x", false, 0},
                 {"12KK", false, 0},
                 {"0x", false, 0},
                 {"-2", false, 0},
                 {" 12", false, 0},
                 {"99999999999999999999999", false, 0},
                 {"18446744073709551615", true, SIZE_MAX},
                 {"18446744073709551616", false, 0},
                 {"17179869184G", false, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char entry[128] = "SEEMALLOC_TRIM_THRESHOLD=";
        strcat(entry, cases[i].text);
        char *environment[] = {entry, NULL};
        read_environment(environment);
        if (cases[i].good) {
            CHECK_EQ(conf_get(CONF_TRIM_THRESHOLD), cases[i].value);
            CHECK_TEXT(fake_written(), "");
        } else {
            CHECK_EQ(conf_get(CONF_TRIM_THRESHOLD), 131072);
            CHECK(strstr(fake_written(), "trim_threshold") != NULL || strstr(fake_written(), "TRIM_THRESHOLD") != NULL);
        }
    }
}

static void words(void) {
    static const struct {
        const char *entry;
        enum conf_thp thp;
        bool good;
    } cases[] = {{"SEEMALLOC_THP=never", THP_NEVER, true},
                 {"SEEMALLOC_CONF=thp:always", THP_ALWAYS, true},
                 {"GLIBC_TUNABLES=glibc.malloc.hugetlb=1", THP_ALWAYS, true},
                 {"SEEMALLOC_CONF=hugetlb:1,thp:default", THP_DEFAULT, true},
                 {"SEEMALLOC_CONF=thp:never,hugetlb:1", THP_NEVER, true},
                 {"SEEMALLOC_CONF=thp:1", THP_DEFAULT, false},
                 {"SEEMALLOC_CONF=thp:nev", THP_DEFAULT, false},
                 {"SEEMALLOC_CONF=thp:never|", THP_DEFAULT, false},
                 {"SEEMALLOC_CONF=thp:never|default", THP_DEFAULT, false},
                 {"SEEMALLOC_CONF=thp:", THP_DEFAULT, false}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *environment[] = {(char *)(uintptr_t)cases[i].entry, NULL};
        read_environment(environment);
        CHECK_EQ(conf_thp(), cases[i].thp);
        CHECK_EQ(fake_written()[0] == '\0', cases[i].good);
        if (!cases[i].good) CHECK(strstr(fake_written(), "never|default|always") != NULL);
    }
}

static size_t lines(const char *text) {
    size_t n = 0;
    for (; *text != '\0'; text++) n += *text == '\n';
    return n;
}

static void bad_entries(void) {
    char *environment[] = {(char *)"SEEMALLOC_CONF=nonsense:1,top_pad:17,mxfast:161,arena_max,stats:1,mmap_threshold:1x",
                           (char *)"SEEMALLOC_NOTHING=1", (char *)"OTHER=x", NULL};
    read_environment(environment);
    CHECK_EQ(conf_get(CONF_TOP_PAD), 17); /* good ones between bad ones hold */
    CHECK_EQ(conf_get(CONF_STATS), 1);
    CHECK_EQ(conf_get(CONF_MXFAST), 128);
    CHECK_EQ(conf_get(CONF_MMAP_THRESHOLD), 131072);
    CHECK_EQ(lines(fake_written()), 5);
    CHECK(strncmp(fake_written(), "seemalloc: ", 11) == 0);
    CHECK(strstr(fake_written(), "\"nonsense\"") != NULL);
    CHECK(strstr(fake_written(), "\"161\"") != NULL);
}

/* Random bytes must not crash, and long names must not overrun. */
static void garbage(void) {
    uint64_t random = 3;
    static const char alphabet[] = "abtop_pad:,=0123456789xKMG-glibc.malloc.\x01\xff ";
    for (int i = 0; i < 20000; i++) {
        char entry[600] = "SEEMALLOC_CONF=";
        if (i % 3 == 1) strcpy(entry, "GLIBC_TUNABLES=");
        if (i % 3 == 2) strcpy(entry, "SEEMALLOC_");
        size_t at = strlen(entry), end = at + unit_random(&random) % (i % 10 == 0 ? 500 : 40);
        while (at < end) entry[at++] = alphabet[unit_random(&random) % (sizeof alphabet - 1)];
        entry[at] = '\0';
        char *environment[] = {entry, NULL};
        read_environment(environment);
        for (int id = 0; id < CONF_COUNT; id++) {
            CHECK(conf_get((enum conf_id)id) >= conf_rows[id].low && conf_get((enum conf_id)id) <= conf_rows[id].high);
        }
    }
}

static void by_mallopt(void) {
    conf_init(NULL);
    CHECK(conf_set(M_TOP_PAD, 12345));
    CHECK_EQ(conf_get(CONF_TOP_PAD), 12345);
    CHECK(!conf_slides());
    CHECK(conf_set(M_MXFAST, 160));
    CHECK(!conf_set(M_MXFAST, 161));
    CHECK(!conf_set(M_MXFAST, -1));
    CHECK_EQ(conf_get(CONF_MXFAST), 160);
    CHECK(conf_set(M_MMAP_THRESHOLD, 32 << 20));
    CHECK(conf_set(M_TRIM_THRESHOLD, -1));
    CHECK_EQ(conf_get(CONF_TRIM_THRESHOLD), SIZE_MAX);
    CHECK(conf_set(M_PERTURB, 0x1a5));
    CHECK_EQ(conf_get(CONF_PERTURB), 0xa5);
    CHECK(conf_set(M_ARENA_MAX, 2));
    CHECK_EQ(conf_get(CONF_ARENA_MAX), 2);
    CHECK(conf_set(M_CHECK_ACTION, 5));
    CHECK(conf_set(4711, 1)); /* unknown: as glibc */
}

static void sliding(void) {
    conf_init(NULL);
    conf_slide(200000);
    CHECK_EQ(conf_get(CONF_MMAP_THRESHOLD), 200000);
    CHECK_EQ(conf_get(CONF_TRIM_THRESHOLD), 400000);
    conf_slide(150000); /* never down */
    CHECK_EQ(conf_get(CONF_MMAP_THRESHOLD), 200000);
    conf_slide((size_t)33 << 20); /* beyond the most */
    CHECK_EQ(conf_get(CONF_MMAP_THRESHOLD), 200000);
    static const int stops[] = {M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_MMAP_MAX};
    for (size_t i = 0; i < 4; i++) {
        conf_init(NULL);
        CHECK(conf_set(stops[i], 65536));
        size_t before = conf_get(CONF_MMAP_THRESHOLD);
        conf_slide(1 << 20);
        CHECK_EQ(conf_get(CONF_MMAP_THRESHOLD), before);
    }
    conf_init(NULL);
    CHECK(conf_set(M_MXFAST, 64));
    conf_slide(1 << 20);
    CHECK_EQ(conf_get(CONF_MMAP_THRESHOLD), 1 << 20);
}

UNIT_MAIN({"defaults", defaults}, {"sources_in_order", sources_in_order}, {"every_name", every_name}, {"numbers", numbers},
          {"words", words}, {"bad_entries", bad_entries}, {"garbage", garbage}, {"by_mallopt", by_mallopt}, {"sliding", sliding})
