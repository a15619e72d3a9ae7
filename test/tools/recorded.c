/* recorded.c: what the tests of recordings record: recorded MODE [ARGUMENT]. Where a mode prints what it did, it prints it when it is done, so that
 * nothing else is between its two marks, two blocks of MARK bytes. SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <inttypes.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MARK 77777
#define NOINLINE static __attribute__((noinline))

static void *volatile sink;

static void mark(void) { free(sink = malloc(MARK)); }

/* --- sequence: one of each, told as "KIND ADDRESS BYTES USABLE" ------------------------------------------------------------------------------------ */

static struct {
    const char *kind;
    void *mem;
    size_t bytes, usable;
} done[64];
static size_t done_count;

static void *did(const char *kind, void *mem, size_t bytes) {
    if (mem == NULL) abort();
    done[done_count].kind = kind;
    done[done_count].mem = mem;
    done[done_count].bytes = bytes;
    done[done_count++].usable = kind[0] == 'a' ? malloc_usable_size(mem) : 0;
    return mem;
}
static void freed(const char *kind, void *mem) {
    done[done_count].kind = kind;
    done[done_count++].mem = mem;
}
static void *resized(void *mem, size_t bytes) {
    freed("fm", mem);
    return did("am", realloc(mem, bytes), bytes);
}

static int sequence(void) {
    void *(*new)(size_t) = (void *(*)(size_t))dlsym(RTLD_DEFAULT, "_Znwm");
    void *(*new_aligned)(size_t, size_t) = (void *(*)(size_t, size_t))dlsym(RTLD_DEFAULT, "_ZnwmSt11align_val_t");
    void (*delete)(void *) = (void (*)(void *))dlsym(RTLD_DEFAULT, "_ZdlPv");
    void (*delete_sized)(void *, size_t) = (void (*)(void *, size_t))dlsym(RTLD_DEFAULT, "_ZdlPvm");
    void *mem[16] = {0}, *out = NULL;
    mark();
    mem[0] = did("a", malloc(0), 0);
    mem[1] = did("a", malloc(1), 1);
    mem[2] = did("a", malloc(1000), 1000);
    mem[3] = did("a", malloc(300000), 300000);
    mem[4] = did("a", calloc(10, 33), 330);
    mem[5] = did("a", calloc(1, 500000), 500000);
    mem[6] = did("a", aligned_alloc(4096, 8192), 8192);
    mem[7] = did("a", memalign(64, 65), 65);
    if (posix_memalign(&out, 256, 257) != 0) abort();
    mem[8] = did("a", out, 257);
    mem[9] = did("a", valloc(10), 10);
    mem[10] = did("a", new (55), 55);
    mem[11] = did("a", new_aligned(66, 128), 66);
    mem[12] = did("a", realloc(NULL, 44), 44);
    mem[13] = did("a", reallocarray(NULL, 3, 15), 45);
    mem[1] = resized(mem[1], 2);                        /* in place */
    mem[2] = resized(mem[2], 100000);                   /* elsewhere */
    mem[3] = resized(mem[3], 3000000);                  /* a mapping grows */
    mem[3] = resized(mem[3], 20);                       /* and goes */
    if (realloc(mem[4], SIZE_MAX / 4) != NULL) abort(); /* fails: nothing happened */
    if (malloc(SIZE_MAX / 4) != NULL) abort();
    free(NULL);
    freed("f", mem[10]);
    delete (mem[10]);
    freed("f", mem[11]);
    delete_sized(mem[11], 66);
    freed("f", mem[12]);
    if (realloc(mem[12], 0) != NULL) abort();
    for (int i = 0; i < 14; i++) {
        if (i >= 10 && i <= 12) continue;
        freed("f", mem[i]);
        free(mem[i]);
    }
    mark();
    for (size_t i = 0; i < done_count; i++)
        printf("%s %" PRIuPTR " %zu %zu\n", done[i].kind, (uintptr_t)done[i].mem, done[i].bytes, done[i].usable);
    return 0;
}

/* --- threads: eight hand blocks to each other --------------------------------------------------------------------------------------------------------- */

enum { THREADS = 8, SLOTS = 64 };
static _Atomic(void *) slot[THREADS][SLOTS];
static long rounds;

static void *hand_over(void *arg) {
    unsigned self = (unsigned)(uintptr_t)arg, random = self + 1;
    char name[16];
    snprintf(name, sizeof name, "hands-%u", self);
    pthread_setname_np(pthread_self(), name);
    for (long i = 0; i < rounds; i++) {
        random = random * 1103515245 + 12345;
        void *mem = malloc(1 + random % 500);
        free(atomic_exchange(&slot[(random >> 8) % THREADS][(random >> 16) % SLOTS], mem));
    }
    return NULL;
}

static int threads(long count) {
    pthread_t thread[THREADS];
    rounds = count;
    for (uintptr_t i = 0; i < THREADS; i++) pthread_create(&thread[i], NULL, hand_over, (void *)i);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    for (int i = 0; i < THREADS * SLOTS; i++) free(slot[i / SLOTS][i % SLOTS]);
    return 0;
}

/* Threads that come and go, more than there are rings; each allocates one block of MARK bytes. */
static void *one_block(void *arg) {
    mark();
    return arg;
}
static int short_threads(long count) {
    pthread_t thread;
    for (long i = 0; i < count; i++) {
        if (pthread_create(&thread, NULL, one_block, NULL) != 0) abort();
        pthread_join(thread, NULL);
    }
    return 0;
}

/* More at a time than there are rings. */
static pthread_barrier_t barrier;
static void *wait_with_block(void *arg) {
    mark();
    pthread_barrier_wait(&barrier);
    return arg;
}
static int many_threads(long count) {
    pthread_t *thread = calloc((size_t)count, sizeof *thread);
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    pthread_barrier_init(&barrier, NULL, (unsigned)count);
    for (long i = 0; i < count; i++) {
        if (pthread_create(&thread[i], &small, wait_with_block, NULL) != 0) abort();
    }
    for (long i = 0; i < count; i++) pthread_join(thread[i], NULL);
    free(thread);
    return 0;
}

/* --- stacks ------------------------------------------------------------------------------------------------------------------------------------------- */

NOINLINE void *stack_inner(size_t bytes) {
    void *mem = malloc(bytes);
    sink = mem;
    return mem;
}
NOINLINE void stack_middle(size_t bytes, int depth) {
    volatile char room[64];
    room[0] = (char)depth;
    if (depth > 0) {
        stack_middle(bytes, depth - 1);
    } else {
        free(stack_inner(bytes));
    }
    room[1] = room[0];
}
NOINLINE void stack_outer(size_t bytes, int depth) {
    volatile char *room = __builtin_alloca(bytes % 1000 + 16); /* its frame is found by the frame pointer alone */
    room[0] = 1;
    stack_middle(bytes, depth);
    room[1] = 2;
}
NOINLINE int compare(const void *a, const void *b) { /* called back through the C library */
    stack_outer(5003, 0);
    return memcmp(a, b, 1);
}
static void in_handler(int number) { stack_outer(5004 + (size_t)(number - number), 1); }

static void *in_thread(void *arg) {
    stack_outer(5005, 2);
    return arg;
}

NOINLINE int stacks(void) {
    char two[] = "ba";
    pthread_t thread;
    for (int i = 0; i < 50; i++) stack_outer(5001, i % 5);
    stack_outer(5002, 100);
    qsort(two, 2, 1, compare);
    signal(SIGUSR1, in_handler);
    raise(SIGUSR1);
    pthread_create(&thread, NULL, in_thread, NULL);
    pthread_join(thread, NULL);
    return 0;
}

/* --- volume: of each size so many bytes; "BYTES COUNT USABLE" ------------------------------------------------------------------------------------------ */

static int volume(long total) {
    static const size_t sizes[] = {16, 100, 1000, 5000, 20000, 100000, 1000000};
    enum { SIZES = sizeof sizes / sizeof *sizes, LIVE = 7 };
    static void *live[SIZES][LIVE];
    static size_t counts[SIZES], usable[SIZES];
    mark();
    for (size_t s = 0; s < SIZES; s++) {
        for (; counts[s] * sizes[s] < (size_t)total; counts[s]++) {
            void **mem = &live[s][counts[s] % LIVE];
            if (counts[s] % 3 == 1 && *mem != NULL) {
                *mem = realloc(*mem, sizes[s]);
            } else {
                free(*mem);
                *mem = malloc(sizes[s]);
            }
            usable[s] += malloc_usable_size(*mem);
        }
        for (int i = 0; i < LIVE; i++) free(live[s][i]);
    }
    mark();
    for (size_t s = 0; s < SIZES; s++) printf("%zu %zu %zu\n", sizes[s], counts[s], usable[s]);
    return 0;
}

/* --- how a process can end, and others begin ------------------------------------------------------------------------------------------------------------ */

static int child(void) {
    mark();
    pid_t pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 1000; i++) free(sink = malloc(66666));
        _exit(0);
    }
    for (int i = 0; i < 1000; i++) free(sink = malloc(55555));
    waitpid(pid, NULL, 0);
    mark();
    return 0;
}

static void pairs(long count) {
    for (long i = 0; i < count; i++) free(sink = malloc((size_t)(i % 200)));
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    long number = argc > 2 ? atol(argv[2]) : 0;
    if (strcmp(mode, "sequence") == 0) return sequence();
    if (strcmp(mode, "threads") == 0) return threads(number);
    if (strcmp(mode, "short-threads") == 0) return short_threads(number);
    if (strcmp(mode, "many-threads") == 0) return many_threads(number);
    if (strcmp(mode, "stacks") == 0) return stacks();
    if (strcmp(mode, "volume") == 0) return volume(number);
    if (strcmp(mode, "fork") == 0) return child();
    mark();
    if (strcmp(mode, "pairs") == 0) {
        pairs(number);
        return 0;
    }
    if (strcmp(mode, "_exit") == 0) _exit(7);
    if (strcmp(mode, "abort") == 0) abort();
    if (strcmp(mode, "kill") == 0) kill(getpid(), SIGKILL);
    if (strcmp(mode, "return") == 0) return (int)number;
    if (strcmp(mode, "exec") == 0) execv(argv[0], (char *[]){argv[0], (char *)"return", (char *)"5", NULL});
    if (strcmp(mode, "spawn") == 0) return system("true") != 0;
    if (strcmp(mode, "wait") == 0) { /* for a signal: says that it is ready, then ends by it or, of SIGUSR1, with status 9 */
        sigset_t wanted;
        sigemptyset(&wanted);
        sigaddset(&wanted, SIGUSR1);
        sigprocmask(SIG_BLOCK, &wanted, NULL);
        puts("ready");
        fflush(stdout);
        int got;
        sigwait(&wanted, &got);
        return 9;
    }
    return 2;
}
