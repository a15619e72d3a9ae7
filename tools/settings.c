/* settings.c: see settings.h.
 * SPDX-License-Identifier: MIT */
#include "settings.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *settings_fault(const char *text) {
    static char fault[256];
    for (const char *item = text;;) {
        int length = (int)strcspn(item, ",");
        int name = (int)strspn(item, "abcdefghijklmnopqrstuvwxyz0123456789_");
        if (length == 0)
            snprintf(fault, sizeof fault, "an empty setting in '%.100s'; expected name:value,name:value", text);
        else if (name == 0 || item[name] != ':' || name + 1 == length)
            snprintf(fault, sizeof fault, "'%.*s' is no setting; expected name:value, e.g. tcache_max:0", length > 100 ? 100 : length,
                     item);
        else
            fault[0] = '\0';
        for (int i = name; i < length && !fault[0]; i++)
            if (!isgraph((unsigned char)item[i]) || (i > name && item[i] == ':'))
                snprintf(fault, sizeof fault, "the value in '%.*s' holds a blank or a second colon; expected name:value,name:value",
                         length > 100 ? 100 : length, item);
        if (fault[0]) return fault;
        if (item[length] == '\0') return NULL;
        item += length + 1;
    }
}

static bool names_setting(const char *settings, const char *name, size_t length) {
    for (const char *item = settings; item; item = strchr(item, ',')) {
        item += *item == ',';
        if (strcspn(item, ":,") == length && strncmp(item, name, length) == 0) return true;
        if (!*item) break;
    }
    return false;
}

char *settings_merge(const char *base, const char *more) {
    char *merged = malloc((base ? strlen(base) : 0) + strlen(more) + 2);
    if (!merged) return NULL;
    size_t used = 0;
    for (const char *item = base; item && *item;) {
        size_t length = strcspn(item, ",");
        if (length && !names_setting(more, item, strcspn(item, ":,"))) {
            memcpy(merged + used, item, length);
            used += length;
            merged[used++] = ',';
        }
        item += length + (item[length] == ',');
    }
    strcpy(merged + used, more);
    if (!*more && used) merged[used - 1] = '\0';
    return merged;
}
