/* recorded.c: see recorded.h. SPDX-License-Identifier: MIT */
#include "recorded.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tool.h"

const char *recorded_file(const char *command, int argc, char **argv, int first) {
    if (first >= argc) {
        tool_usage(command, "the recording is missing: what `seemalloc run --record FILE` wrote");
        return NULL;
    }
    if (first + 1 < argc) {
        tool_usage(command, "it takes one recording, got '%s' too", argv[first + 1]);
        return NULL;
    }
    return argv[first];
}

bool recorded_open(struct profile *profile, struct calls *calls, const char *file) {
    struct fault fault = {0};
    if (!profile_open(profile, file, &fault)) {
        tool_say("%s", fault.text);
        return false;
    }
    calls_open(calls, profile);
    return true;
}

void recorded_close(struct profile *profile, struct calls *calls) {
    calls_close(calls);
    profile_close(profile);
}

int recorded_warn(const struct profile *profile, const struct calls *calls) {
    const struct replay *replay = &profile->replay;
    for (size_t i = 0; i < replay->module_count; i++) {
        bool is_first = calls->symbols.file_of[i] == i;
        if (calls->symbols.states[i] == SYMBOLS_OTHER_FILE && is_first) {
            tool_say("%s is another file than the one that ran (its build id differs): its functions have no names",
                     replay->modules[i].path);
        }
    }
    if (profile->ended && replay->recording.end.dropped != 0) {
        tool_say("%" PRIu64 " events found no room and are not in the recording: sums are too low, and live blocks may be wrong",
                 replay->recording.end.dropped);
    }
    if (profile->cut.text[0] == '\0') return 0;
    tool_say("%s", profile->cut.text);
    return 1;
}

/* Beside the file first, so that there is never a part of one. What is no regular file (/dev/stdout) is written as it is. */
static FILE *open_beside(const char *file, char **beside) {
    struct stat status;
    *beside = NULL;
    if (stat(file, &status) == 0 && !S_ISREG(status.st_mode)) return fopen(file, "we");
    char *name = need_memory(NULL, strlen(file) + 16, 1);
    sprintf(name, "%s.XXXXXX", file);
    int fd = mkostemp(name, O_CLOEXEC); /* for its owner alone, as recordings are */
    FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (out == NULL && fd >= 0) {
        close(fd);
        unlink(name);
    }
    if (out == NULL) {
        free(name);
        return NULL;
    }
    *beside = name;
    return out;
}

int recorded_write(const char *file, bool (*put)(FILE *out, const void *context, struct fault *fault), const void *context) {
    struct fault fault = {0};
    char *beside = NULL;
    FILE *out = file != NULL ? open_beside(file, &beside) : stdout;
    bool good = out != NULL && put(out, context, &fault) && fflush(out) == 0 && !ferror(out);
    int error = errno;
    if (out != NULL && out != stdout && fclose(out) != 0 && good) {
        good = false;
        error = errno;
    }
    if (good && beside != NULL && rename(beside, file) != 0) {
        good = false;
        error = errno;
    }
    if (!good && beside != NULL) unlink(beside);
    free(beside);
    if (good) return 0;
    if (fault.text[0] != '\0') {
        tool_say("%s", fault.text);
    } else {
        tool_say("can't write %s: %s", file != NULL ? file : "the output", strerror(error));
    }
    return 1;
}
