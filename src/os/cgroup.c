/* cgroup.c: see cgroup.h. Version 2: /sys/fs/cgroup/PATH/cpu.max; version 1: /sys/fs/cgroup/cpu/PATH/cpu.cfs_quota_us and so on. In a container PATH is often
 * one of the host, where nothing stands here; then the top of what is mounted is the container's own group. SPDX-License-Identifier: MIT */
#include "os/cgroup.h"

#include <limits.h>
#include <string.h>

#include "base/format.h"
#include "os/prim.h"

#define LIST_MAX 4096 /* of /proc/self/cgroup */
#define PATH_BYTES 512
#define VALUE_BYTES 64

static bool read_text(const char *path, char *data, size_t size) {
    long length = prim_read_file(path, data, size - 1);
    if (length <= 0) return false;
    data[length] = '\0';
    return true;
}

/* A number at *at, which moves behind it and behind the blank that follows. False: there is none, as in "max" and "-1". */
static bool number(const char **at, size_t *value) {
    const char *s = *at;
    size_t n = 0;
    for (; *s >= '0' && *s <= '9'; s++) {
        if (__builtin_mul_overflow(n, (size_t)10, &n) || __builtin_add_overflow(n, (size_t)(*s - '0'), &n)) n = SIZE_MAX;
    }
    if (s == *at) return false;
    *at = *s == ' ' ? s + 1 : s;
    *value = n;
    return true;
}

/* Whether a list "a,b,c" that ends at a colon has `name`; an empty one has "". */
static bool lists(const char *list, const char *name) {
    size_t length = strlen(name);
    for (;;) {
        size_t here = 0;
        while (list[here] != ',' && list[here] != ':' && list[here] != '\0') here++;
        if (here == length && memcmp(list, name, length) == 0) return true;
        if (list[here] != ',') return false;
        list += here + 1;
    }
}

/* The group's path in the hierarchy of `controller`, "" being version 2's, from lines ID:CONTROLLERS:PATH. Without the slash at its end. */
static bool group_of(const char *groups, const char *controller, char *path) {
    for (const char *line = groups; *line != '\0';) {
        size_t length = 0;
        while (line[length] != '\n' && line[length] != '\0') length++;
        const char *list = line, *end = line + length;
        while (list < end && *list != ':') list++;
        const char *from = list + 1;
        while (from < end && *from != ':') from++;
        if (from < end && lists(list + 1, controller)) {
            size_t bytes = (size_t)(end - from) - 1;
            if (bytes >= PATH_BYTES) return false;
            memcpy(path, from + 1, bytes);
            while (bytes != 0 && path[bytes - 1] == '/') bytes--;
            path[bytes] = '\0';
            return true;
        }
        line = *end == '\n' ? end + 1 : end;
    }
    return false;
}

static bool group_value(const char *mount, const char *path, const char *file, char *data) {
    char name[PATH_BYTES + 128];
    struct text text = text_of(name, sizeof name);
    text_add(&text, "/sys/fs/cgroup%s%s/%s", mount, path, file);
    return !text.truncated && read_text(name, data, VALUE_BYTES);
}

/* Where a controller's groups may be, and how to lower *limit to what one of them says. */
struct hierarchy {
    const char *controller, *mount;
    void (*look)(const char *mount, const char *path, size_t *limit);
};

/* Looks at this process's group and all above it, in each hierarchy. */
static size_t lowest(const struct hierarchy *hierarchies, size_t count) {
    char groups[LIST_MAX], path[PATH_BYTES];
    size_t limit = SIZE_MAX;
    if (!read_text("/proc/self/cgroup", groups, sizeof groups)) return limit;
    for (size_t i = 0; i < count; i++) {
        const struct hierarchy *here = &hierarchies[i];
        bool more = group_of(groups, here->controller, path);
        while (more) {
            here->look(here->mount, path, &limit);
            char *slash = strrchr(path, '/');
            more = slash != NULL;
            if (more) *slash = '\0';
        }
    }
    return limit;
}

static void lower(size_t *limit, size_t value) { *limit = min_size(*limit, value); }

static size_t shares(size_t quota, size_t period) { return period == 0 ? SIZE_MAX : quota / period + (quota % period != 0); }

static void cpu_v2(const char *mount, const char *path, size_t *limit) {
    char data[VALUE_BYTES];
    const char *at = data;
    size_t quota, period;
    if (group_value(mount, path, "cpu.max", data) && number(&at, &quota) && number(&at, &period)) lower(limit, shares(quota, period));
}

static void cpu_v1(const char *mount, const char *path, size_t *limit) {
    char quota_data[VALUE_BYTES], period_data[VALUE_BYTES];
    const char *at = quota_data, *period_at = period_data;
    size_t quota, period;
    if (group_value(mount, path, "cpu.cfs_quota_us", quota_data) && number(&at, &quota) &&
        group_value(mount, path, "cpu.cfs_period_us", period_data) && number(&period_at, &period)) {
        lower(limit, shares(quota, period));
    }
}

static void bytes_in(const char *mount, const char *path, const char *file, size_t *limit) {
    char data[VALUE_BYTES];
    const char *at = data;
    size_t bytes;
    if (group_value(mount, path, file, data) && number(&at, &bytes)) lower(limit, bytes);
}

static COLD void memory_v2(const char *mount, const char *path, size_t *limit) {
    bytes_in(mount, path, "memory.max", limit);
    bytes_in(mount, path, "memory.high", limit);
}

/* Without a limit it says PTRDIFF_MAX in whole pages. */
static COLD void memory_v1(const char *mount, const char *path, size_t *limit) {
    size_t bytes = SIZE_MAX;
    bytes_in(mount, path, "memory.limit_in_bytes", &bytes);
    bytes_in(mount, path, "memory.soft_limit_in_bytes", &bytes);
    if (bytes < (size_t)PTRDIFF_MAX / 2) lower(limit, bytes);
}

unsigned cgroup_cpus(void) {
    static const struct hierarchy cpu[] = {{"", "", cpu_v2}, {"", "/unified", cpu_v2}, {"cpu", "/cpu", cpu_v1}};
    size_t limit = lowest(cpu, sizeof cpu / sizeof cpu[0]);
    return limit < 1 ? 1 : (unsigned)min_size(limit, UINT_MAX);
}

COLD size_t cgroup_memory(void) {
    static const struct hierarchy memory[] = {{"", "", memory_v2}, {"", "/unified", memory_v2}, {"memory", "/memory", memory_v1}};
    return lowest(memory, sizeof memory / sizeof memory[0]);
}
