/* export.h: the formats of `seemalloc export`, one writer each. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_TOOL_EXPORT_H
#define SEEMALLOC_TOOL_EXPORT_H

#include "reader/calls.h"

struct export {
    struct profile *profile;
    struct calls *calls;
    enum calls_measure measure; /* as asked for; */
    bool is_chosen;             /* false: nothing was asked for */
    bool as_count;
};

/* False after noting what is wrong with the recording; what can't be written shows on `out`, or in errno where `fault` is empty. */
bool export_pprof(FILE *out, const struct export *export, struct fault *fault);
bool export_collapsed(FILE *out, const struct export *export, struct fault *fault);
bool export_trace(FILE *out, const struct export *export, struct fault *fault);
bool export_heaptrack(FILE *out, const struct export *export, struct fault *fault);

#endif
