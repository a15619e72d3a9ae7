/* refused.c: the system refuses to take memory back, and the program goes on. usage: refused lock | filter
 *   lock    all memory is locked, or where that is not allowed parts of the heap, and madvise fails for them
 *   filter  a seccomp filter answers madvise with EPERM
 * Several threads churn for a second; each block keeps its contents. SPDX-License-Identifier: MIT */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "pages.h"

enum { THREADS = 3, SLOTS = 400 };

static int lock_parts; /* blocks, one now and then */
static atomic_uint locked;

static void lock_memory(void) {
    struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
    if (setrlimit(RLIMIT_MEMLOCK, &all) == 0 && mlockall(MCL_CURRENT | MCL_FUTURE) == 0) return;
    lock_parts = 1;
}

static void forbid_madvise(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof filter / sizeof filter[0], filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0) return;
    printf("no filter can be set here (%s): skipped\n", strerror(errno));
    exit(77);
}

static void *churn(void *arg) {
    uint64_t random = (uintptr_t)arg;
    struct block slots[SLOTS] = {0};
    for (double end = pages_now() + 1; pages_now() < end;) {
        for (unsigned i = 0; i < 100; i++) {
            uint64_t choice = pages_random(&random);
            struct block *slot = &slots[choice % SLOTS];
            if (slot->mem != NULL) {
                if (slot->mem[0] != (char)slot->size || slot->mem[slot->size - 1] != (char)slot->size) return "contents changed";
                free(slot->mem);
            }
            slot->size = 1 + (choice >> 32) % (choice >> 20 & 15 ? 4000 : 300000);
            slot->mem = malloc(slot->size);
            if (slot->mem == NULL) return "no memory";
            memset(slot->mem, (char)slot->size, slot->size);
            if (lock_parts && slot->size > 20000 && (choice >> 40) % 8 == 0) locked += mlock(slot->mem, 4096) == 0; /* till it is full */
        }
    }
    for (unsigned i = 0; i < SLOTS; i++) free(slots[i].mem);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "lock") == 0) {
        lock_memory();
    } else if (argc > 1 && strcmp(argv[1], "filter") == 0) {
        forbid_madvise();
    } else {
        fprintf(stderr, "usage: refused lock | filter\n");
        return 2;
    }
    pthread_t threads[THREADS];
    int bad = 0;
    for (unsigned t = 0; t < THREADS; t++) {
        if (pthread_create(&threads[t], NULL, churn, (void *)(uintptr_t)(t + 1)) != 0) abort();
    }
    for (unsigned t = 0; t < THREADS; t++) {
        void *wrong;
        pthread_join(threads[t], &wrong);
        if (wrong != NULL) printf("FAILED: thread %u: %s\n", t, (const char *)wrong), bad = 1;
    }
    if (lock_parts && locked == 0) {
        printf("no memory can be locked here (%s): skipped\n", strerror(errno));
        return 77;
    }
    return bad;
}
