/* report.h: the two ways in which `seemalloc report` writes what a recording amounts to: as JSON (docs/json.md), and as the page of web/report.html with the
 * same JSON in it. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_REPORT_H
#define SEEMALLOC_TOOL_REPORT_H

#include "reader/calls.h"

struct report {
    const struct profile *profile;
    const struct calls *calls;
};

/* False with errno; what could not be written shows on `out` as well. */
bool report_json(FILE *out, const struct report *report);
bool report_page(FILE *out, const struct report *report);

#endif
