/* conf.c: reads the settings without libc's help: getenv may not work yet, and strtoul knows locales. SPDX-License-Identifier: MIT */
#include "conf/conf.h"

#include <string.h>

#include "base/probe.h"
#include "os/os.h"
#include "os/report.h"

const struct conf_row conf_rows[CONF_COUNT] = {
#define CONF_FIELDS(id, name, environment, parameter, low, high, standard, unit, sentence)                                                 \
    {name, environment, parameter, low, high, standard, unit, sentence},
    CONF_ROWS(CONF_FIELDS)
#undef CONF_FIELDS
};

size_t conf_values[CONF_COUNT];
uint8_t conf_sources[CONF_COUNT];

static bool same(const char *a, const char *b, size_t b_length) { return strlen(a) == b_length && memcmp(a, b, b_length) == 0; }

static char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c; }

static int row_named(const char *name, size_t length) {
    for (int id = 0; id < CONF_COUNT; id++) {
        if (same(conf_rows[id].name, name, length)) return id;
    }
    return -1;
}

static int row_named_upper(const char *name, size_t length) {
    for (int id = 0; id < CONF_COUNT; id++) {
        const char *row = conf_rows[id].name;
        if (strlen(row) != length) continue;
        size_t i = 0;
        while (i < length && upper(row[i]) == name[i]) i++;
        if (i == length) return id;
    }
    return -1;
}

/* Digits, decimal or 0x…, with an optional suffix K, M or G, or "-1" for the largest value. */
static bool parse(const char *s, size_t length, size_t *value) {
    if (length == 2 && s[0] == '-' && s[1] == '1') {
        *value = SIZE_MAX;
        return true;
    }
    size_t base = 10, i = 0, n = 0, digits = 0;
    if (length > 2 && s[0] == '0' && upper(s[1]) == 'X') base = 16, i = 2;
    for (; i < length; i++, digits++) {
        char c = upper(s[i]);
        size_t digit = c >= '0' && c <= '9' ? (size_t)(c - '0') : c >= 'A' && c <= 'F' ? (size_t)(c - 'A') + 10 : 99;
        if (digit >= base) break;
        if (__builtin_mul_overflow(n, base, &n) || __builtin_add_overflow(n, digit, &n)) return false;
    }
    if (digits == 0) return false;
    if (i + 1 == length) {
        char c = upper(s[i]);
        unsigned shift = c == 'K' ? 10 : c == 'M' ? 20 : c == 'G' ? 30 : 0;
        if (shift == 0 || n >> (64 - shift) != 0) return false;
        n <<= shift;
        i++;
    }
    *value = n;
    return i == length;
}

/* One of the words "a|b|c", or false; there are no words. */
static bool parse_word(const char *words, const char *s, size_t length, size_t *value) {
    for (size_t n = 0;; n++) {
        size_t here = strcspn(words, "|");
        if (here == length && memcmp(words, s, length) == 0) {
            *value = n;
            return true;
        }
        if (words[here] == '\0') return false;
        words += here + 1;
    }
}

static bool in_range(const struct conf_row *row, size_t value) { return value >= row->low && value <= row->high; }

static void assign(int id, size_t value, enum conf_source source) {
    store_relaxed(&conf_values[id], value);
    store_relaxed(&conf_sources[id], (uint8_t)source);
}

static void read_value(const char *origin, int id, const char *name, size_t name_length, const char *s, size_t length,
                       enum conf_source source) {
    char shown_name[64], shown[64];
    memcpy(shown_name, name, min_size(name_length, sizeof shown_name - 1));
    shown_name[min_size(name_length, sizeof shown_name - 1)] = '\0';
    memcpy(shown, s, min_size(length, sizeof shown - 1));
    shown[min_size(length, sizeof shown - 1)] = '\0';
    if (id < 0) {
        complain("%s: unknown setting \"%s\" ignored; `man seemalloc` lists the settings", origin, shown_name);
        return;
    }
    const struct conf_row *row = &conf_rows[id];
    size_t value;
    if (strchr(row->unit, '|') != NULL) {
        if (parse_word(row->unit, s, length, &value)) {
            assign(id, value, source);
        } else {
            complain("%s: %s: found \"%s\", expected one of %s; ignored", origin, shown_name, shown, row->unit);
        }
        return;
    }
    if (!parse(s, length, &value) || !in_range(row, value)) {
        complain("%s: %s: found \"%s\", expected a number of %s from %zu to %zu; ignored", origin, shown_name, shown, row->unit, row->low,
                 row->high);
        return;
    }
    assign(id, value, source);
}

/* name separator value, …; `prefix` names the part of another program's list that is ours. */
static COLD void read_list(const char *origin, const char *list, char item_end, char separator, const char *prefix,
                           enum conf_source source) {
    size_t prefix_length = strlen(prefix);
    while (*list != '\0') {
        size_t length = 0;
        while (list[length] != '\0' && list[length] != item_end) length++;
        size_t name = 0;
        while (name < length && list[name] != separator) name++;
        bool ours = name >= prefix_length && memcmp(list, prefix, prefix_length) == 0;
        if (ours && name < length) {
            const char *s = list + prefix_length;
            read_value(origin, row_named(s, name - prefix_length), s, name - prefix_length, list + name + 1, length - name - 1, source);
        } else if (length != 0 && prefix_length == 0) {
            complain("%s: found \"%s\", expected name%cvalue; ignored", origin, list, separator);
        }
        list += length;
        if (*list != '\0') list++;
    }
}

static const char *value_of(const char *entry, const char *name) {
    size_t length = strlen(name);
    return strncmp(entry, name, length) == 0 && entry[length] == '=' ? entry + length + 1 : NULL;
}

void conf_init(char **environment) {
    for (int id = 0; id < CONF_COUNT; id++) assign(id, conf_rows[id].standard, CONF_DEFAULT);
    if (environment == NULL) return;
    for (char **entry = environment; *entry != NULL; entry++) {
        for (int id = 0; id < CONF_COUNT; id++) {
            const char *name = conf_rows[id].environment;
            const char *value = name != NULL ? value_of(*entry, name) : NULL;
            if (value != NULL) read_value(name, id, name, strlen(name), value, strlen(value), CONF_ENVIRONMENT);
        }
    }
    for (char **entry = environment; *entry != NULL; entry++) {
        const char *value = value_of(*entry, "GLIBC_TUNABLES");
        if (value != NULL) read_list("GLIBC_TUNABLES", value, ':', '=', "glibc.malloc.", CONF_TUNABLES);
    }
    for (char **entry = environment; *entry != NULL; entry++) {
        if (strncmp(*entry, "SEEMALLOC_", 10) != 0) continue;
        const char *name = *entry + 10, *equals = strchr(name, '=');
        if (equals == NULL) continue;
        size_t length = (size_t)(equals - name);
        if (same("CONF", name, length) || same("LIBRARY", name, length)) continue;
        read_value("environment", row_named_upper(name, length), *entry, length + 10, equals + 1, strlen(equals + 1), CONF_OWN);
    }
    for (char **entry = environment; *entry != NULL; entry++) {
        const char *value = value_of(*entry, "SEEMALLOC_CONF");
        if (value != NULL) read_list("SEEMALLOC_CONF", value, ',', ':', "", CONF_OWN);
    }
}

COLD bool conf_set(int parameter, long value) {
    for (int id = 0; id < CONF_COUNT; id++) {
        if (conf_rows[id].parameter != parameter) continue;
        if (id == CONF_CHECK) return true; /* M_CHECK_ACTION has no effect in glibc either; our checks can't be switched off */
        if (id == CONF_PERTURB) value &= 0xff;
        size_t wanted = (size_t)value;
        if (id == CONF_TOP_PAD && wanted > conf_rows[id].high) return false;
        if (!in_range(&conf_rows[id], wanted)) return false;
        assign(id, wanted, CONF_MALLOPT);
        return true;
    }
    return true;
}

enum conf_thp conf_thp(void) {
    bool by_hugetlb = conf_get(CONF_HUGETLB) != 0 && load_relaxed(&conf_sources[CONF_THP]) == CONF_DEFAULT;
    return by_hugetlb ? THP_ALWAYS : (enum conf_thp)conf_get(CONF_THP);
}

bool conf_slides(void) {
    return (load_relaxed(&conf_sources[CONF_TRIM_THRESHOLD]) | load_relaxed(&conf_sources[CONF_TOP_PAD]) |
            load_relaxed(&conf_sources[CONF_MMAP_THRESHOLD]) | load_relaxed(&conf_sources[CONF_MMAP_MAX])) == CONF_DEFAULT;
}

void conf_slide(size_t chunk_size) {
    if (!conf_slides() || chunk_size > CONF_MMAP_THRESHOLD_MOST) return;
    bool moves = chunk_size > conf_get(CONF_MMAP_THRESHOLD);
    atomic_max(&conf_values[CONF_MMAP_THRESHOLD], chunk_size);
    atomic_max(&conf_values[CONF_TRIM_THRESHOLD], 2 * chunk_size);
    if (moves) PROBE2(memory_mallopt_free_dyn_thresholds, conf_get(CONF_MMAP_THRESHOLD), conf_get(CONF_TRIM_THRESHOLD));
}
