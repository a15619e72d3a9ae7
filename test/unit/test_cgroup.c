/* test_cgroup.c: limits of control groups, from files as kernels write them. SPDX-License-Identifier: MIT */
#include "unit.h"

#include "arena/arena.h"
#include "cache/cache.h"
#include "conf/conf.h"
#include "fake.h"
#include "heap/mapped.h"
#include "heap/retain.h"
#include "os/cgroup.h"
#include "os/os.h"

#include <limits.h>
#include <string.h>

void *seemalloc_malloc(size_t size);
void seemalloc_free(void *mem);

#define GROUPS "/proc/self/cgroup"
#define ROOT "/sys/fs/cgroup"

static void no_groups(void) {
    CHECK_EQ(cgroup_cpus(), UINT_MAX);
    CHECK_EQ(cgroup_memory(), SIZE_MAX);
}

/* Of the groups on the way up the lowest counts; "max" is no limit. */
static void version_2(void) {
    fake_set_file(GROUPS, "0::/a.slice/b.service\n");
    fake_set_file(ROOT "/a.slice/b.service/cpu.max", "max 100000\n");
    CHECK_EQ(cgroup_cpus(), UINT_MAX);
    fake_set_file(ROOT "/a.slice/cpu.max", "250000 100000\n");
    CHECK_EQ(cgroup_cpus(), 3);
    fake_set_file(ROOT "/cpu.max", "400000 100000\n");
    CHECK_EQ(cgroup_cpus(), 3);
    fake_set_file(ROOT "/a.slice/b.service/memory.max", "max\n");
    CHECK_EQ(cgroup_memory(), SIZE_MAX);
    fake_set_file(ROOT "/a.slice/b.service/memory.high", "900000000\n");
    CHECK_EQ(cgroup_memory(), 900000000);
    fake_set_file(ROOT "/a.slice/memory.max", "800000000\n");
    CHECK_EQ(cgroup_memory(), 800000000);
}

/* A container sees its own group at the top, whether the path says so or is the host's. */
static void container(void) {
    fake_set_file(ROOT "/cpu.max", "50000 100000\n");
    fake_set_file(ROOT "/memory.max", "268435456\n");
    CHECK_EQ(cgroup_cpus(), UINT_MAX); /* without the list of groups nothing is believed */
    fake_set_file(GROUPS, "0::/\n");
    CHECK_EQ(cgroup_cpus(), 1);
    CHECK_EQ(cgroup_memory(), MIB(256));
}

static void container_with_path_of_host(void) {
    fake_set_file(GROUPS, "12:pids:/docker/4711\n4:cpu,cpuacct:/docker/4711\n3:memory:/docker/4711\n1:name=systemd:/docker/4711\n");
    fake_set_file(ROOT "/cpu/cpu.cfs_quota_us", "150000\n");
    fake_set_file(ROOT "/cpu/cpu.cfs_period_us", "100000\n");
    fake_set_file(ROOT "/memory/memory.limit_in_bytes", "104857600\n");
    CHECK_EQ(cgroup_cpus(), 2);
    CHECK_EQ(cgroup_memory(), MIB(100));
}

static void version_1_without_limits(void) {
    fake_set_file(GROUPS, "4:cpuacct:/x\n3:memory:/x\n2:cpu:/x\n0::/\n");
    fake_set_file(ROOT "/cpu/x/cpu.cfs_quota_us", "-1\n");
    fake_set_file(ROOT "/cpu/x/cpu.cfs_period_us", "100000\n");
    fake_set_file(ROOT "/memory/x/memory.limit_in_bytes", "9223372036854771712\n");
    CHECK_EQ(cgroup_cpus(), UINT_MAX);
    CHECK_EQ(cgroup_memory(), SIZE_MAX);
    fake_set_file(ROOT "/unified/cpu.max", "100000 100000\n");
    CHECK_EQ(cgroup_cpus(), 1);
}

/* Nothing that stands in such files does harm. */
static void nonsense(void) {
    static char path[3000], zero[] = "100000 0\n";
    memset(path, 'x', sizeof path - 1);
    memcpy(path, "0::/", 4);
    static const char *const lists[] = {"", "\n\n", "::", "0:", "0::", "0::relative", "999", "0::/\n0::/a\n:::::\n", path};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        fake_restart();
        fake_set_file(GROUPS, lists[i]);
        CHECK_EQ(cgroup_cpus(), UINT_MAX);
        CHECK_EQ(cgroup_memory(), SIZE_MAX);
    }
    static const char *const values[] = {"", "max", " 5 5", "-5 5", "5", "5 ", "5 x", zero};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        fake_restart();
        fake_set_file(GROUPS, "0::/\n");
        fake_set_file(ROOT "/cpu.max", values[i]);
        CHECK_EQ(cgroup_cpus(), UINT_MAX);
    }
    fake_restart();
    fake_set_file(GROUPS, "0::/\n");
    fake_set_file(ROOT "/cpu.max", "99999999999999999999999 1\n");
    CHECK_EQ(cgroup_cpus(), UINT_MAX);
}

/* A process that may use two processors of sixteen makes arenas for two. */
static void arenas_by_quota(void) {
    fake_set_cpus(16);
    fake_set_file(GROUPS, "0::/\n");
    fake_set_file(ROOT "/cpu.max", "200000 100000\n");
    cache_init();
    CHECK_EQ(arena_limit(), 4);
}

/* Near its limit a process keeps little for later. */
static void little_is_kept_near_the_limit(void) {
    fake_set_file(GROUPS, "0::/\n");
    fake_set_file(ROOT "/memory.max", "209715200\n"); /* 200 MiB */
    cache_init();
    bool zeroed;
    CHECK_EQ(footprint_spare(), SIZE_MAX); /* nobody has looked */
    void *mem = mapped_alloc(MIB(100), CHUNK_ALIGN, &zeroed);
    CHECK(footprint_spare() <= MIB(25));
    void *more = mapped_alloc(MIB(100), CHUNK_ALIGN, &zeroed);
    CHECK_EQ(footprint_spare(), 0);
    seemalloc_free(more);
    more = mapped_alloc(MIB(90), CHUNK_ALIGN, &zeroed);
    seemalloc_free(more); /* was wanted again, and what was used at the highest allows it: but not all */
    CHECK(retained_bytes <= MIB(25));
    seemalloc_free(mem);
    conf_slide(CONF_MMAP_THRESHOLD_MOST);
    void *block[5];
    for (int i = 0; i < 5; i++) memset(block[i] = seemalloc_malloc(MIB(30)), 1, 1);
    for (int i = 5; i-- > 0;) seemalloc_free(block[i]);
    CHECK(arena_touched_top(&arena_main) <= MIB(45)); /* a threshold of 64 MiB would be all that is left */
    CHECK_HEAP();
}

UNIT_MAIN({"no_groups", no_groups}, {"version_2", version_2}, {"container", container},
          {"container_with_path_of_host", container_with_path_of_host}, {"version_1_without_limits", version_1_without_limits},
          {"nonsense", nonsense}, {"arenas_by_quota", arenas_by_quota}, {"little_is_kept_near_the_limit", little_is_kept_near_the_limit})
