/* live_words.h: shared by live.c and freeze.c. SPDX-License-Identifier: MIT */
#ifndef SEEMALLOC_READER_LIVE_WORDS_H
#define SEEMALLOC_READER_LIVE_WORDS_H

#include "reader/live.h"

/* Notes why `what` was refused with `error`: no such process, or no permission, and what would help. Returns false. */
bool live_refused(struct live *live, const char *what, int error, struct fault *fault);

#endif
