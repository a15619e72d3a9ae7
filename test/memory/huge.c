/* huge.c: what the setting thp says stands in the kernel's flags of all mappings that blocks lie in, and costs no mappings.
 * usage: huge never | default | always
 * SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pages.h"

enum { BLOCKS = 6000 };
static pthread_barrier_t barrier;

/* Heaps that grow in many steps, shrink and grow again, and blocks in mappings of their own, one of which grows. */
static void *work(void *arg) {
    void **blocks = pages_map(BLOCKS * sizeof *blocks);
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < BLOCKS; i++) blocks[i] = memset(malloc(1000 + i % 7 * 100), 1, 1000);
        for (unsigned i = BLOCKS; round < 2 && i > 0; i--) free(blocks[i - 1]);
    }
    char *mapped = malloc(40 << 20);
    mapped = realloc(mapped, 80 << 20);
    if (mapped == NULL || malloc(50 << 20) == NULL) abort();
    memset(mapped, 1, 80 << 20);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return arg;
}

struct range {
    uintptr_t start, end;
};
static struct range ranges[256];
static unsigned range_count;

static int note(const struct seemalloc_chunk *chunk, void *arg) {
    (void)arg;
    uintptr_t start = (uintptr_t)chunk->region->start, end = (uintptr_t)chunk->region->end;
    if (range_count != 0 && ranges[range_count - 1].start == start) return 0;
    if (range_count == 256) abort();
    ranges[range_count++] = (struct range){start, end};
    return 0;
}

int main(int argc, char **argv) {
    const char *thp = argc > 1 ? argv[1] : "default";
    pthread_barrier_init(&barrier, NULL, 3);
    size_t vmas_before = pages_vmas().found;
    pthread_t threads[2];
    for (unsigned t = 0; t < 2; t++) {
        if (pthread_create(&threads[t], NULL, work, NULL) != 0) abort();
    }
    for (unsigned i = 0; i < 20000; i++) memset(malloc(100 + i % 1000), 1, 100);
    pthread_barrier_wait(&barrier);
    struct vmas now = pages_vmas();
    size_t vmas = now.found - vmas_before, allowed = pages_vmas_allowed(now) + 2 * 3;
    pages_walk(note, NULL);
    FILE *smaps = fopen("/proc/self/smaps", "r");
    if (smaps == NULL) return 77;
    char line[512];
    uintptr_t start = 0, end = 0;
    size_t huge = 0, kib;
    bool bad = false, flags = false, ours = false;
    while (fgets(line, sizeof line, smaps) != NULL) {
        unsigned long from, to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
            start = from, end = to, ours = false;
            for (unsigned i = 0; i < range_count; i++) ours |= ranges[i].start < end && ranges[i].end > start;
        } else if (ours && sscanf(line, "AnonHugePages: %zu", &kib) == 1) {
            huge += kib;
        } else if (ours && strncmp(line, "VmFlags:", 8) == 0) {
            flags = true;
            bool never = strstr(line, " nh") != NULL, always = strstr(line, " hg") != NULL;
            if (never == (strcmp(thp, "never") == 0) && always == (strcmp(thp, "always") == 0)) continue;
            printf("FAILED: mapping %lx-%lx: %s", (unsigned long)start, (unsigned long)end, line);
            bad = true;
        }
    }
    fclose(smaps);
    printf("%s: %u regions and blocks, %zu KiB in huge pages; %zu mappings more, %zu allowed\n", thp, range_count, huge, vmas, allowed);
    if (access("/sys/kernel/mm/transparent_hugepage/enabled", R_OK) != 0 || !flags) {
        printf("no huge pages here: skipped\n");
        return 77;
    }
    bad |= vmas > allowed || range_count < 5 || (strcmp(thp, "never") == 0 && huge != 0);
    pthread_barrier_wait(&barrier);
    for (unsigned t = 0; t < 2; t++) pthread_join(threads[t], NULL);
    return bad;
}
