/* settings.h: the text of SEEMALLOC_CONF: "name:value,name:value".
 * SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_SETTINGS_H
#define SEEMALLOC_TOOL_SETTINGS_H

/* NULL if `text` is "name:value,…" with names of [a-z0-9_] and values of printable characters; else what is wrong, in a static buffer.
 * Whether the library knows the names is the library's to say. */
const char *settings_fault(const char *text);

/* `base` with the settings of `more` in place of those of the same name; the caller frees it. NULL: no memory. `base` may be NULL. */
char *settings_merge(const char *base, const char *more);

#endif
