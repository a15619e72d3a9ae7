/* test_left.c: what a thread that ends leaves in its cache: the next one takes it over, and it goes home when nobody does. SPDX-License-Identifier: MIT */
#include "unit.h"

#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arena/arena.h"
#include "arena/depot.h"
#include "cache/cache.h"
#include "conf/conf.h"
#include "fake.h"
#include "os/os.h"

void *seemalloc_malloc(size_t size);
void seemalloc_free(void *mem);
int seemalloc_malloc_trim(size_t pad);
int seemalloc_mallopt(int param, int value);

enum { BLOCKS = 200, THREADS = 12 };
#define WINDOW 300000000u /* ns: longer than `decay` */

struct tally {
    size_t blocks, bytes;
};

static void count(void *arg, void *mem) {
    struct tally *tally = arg;
    tally->blocks++;
    tally->bytes += chunk_size(chunk_of(mem));
}

/* In all caches. */
static struct tally cached(void) {
    struct tally all = {0};
    cache_walk(count, &all);
    return all;
}

static void work(void *arg) {
    void *mem[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++) mem[i] = seemalloc_malloc(16 + i % 32 * 16);
    if (arg != NULL) *(void **)arg = mem[0];
    for (unsigned i = 0; i < BLOCKS; i++) seemalloc_free(mem[i]);
}

static void begin(void) {
    cache_init();
    unit_in_thread(work, NULL);
    CHECK(cached().blocks >= BLOCKS / 2);
}

static void work_and_count(void *arg) {
    work(NULL);
    *(uint32_t *)arg = cache_self->misses;
}

static void the_next_takes_over(void) {
    uint32_t first = 0, second = 0;
    cache_init();
    unit_in_thread(work_and_count, &first);
    struct tally before = cached();
    unit_in_thread(work_and_count, &second);
    CHECK(first > 30);
    CHECK(second <= 2); /* hits, but for the first call, which makes the cache the thread's */
    CHECK(cached().blocks >= before.blocks - before.blocks / 8);
    CHECK_HEAP();
}

static pthread_barrier_t barrier;

static void *work_and_wait(void *arg) {
    work(NULL);
    pthread_barrier_wait(&barrier);
    return arg;
}

static void together_they_leave_little(void) {
    pthread_t threads[THREADS];
    cache_init();
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++) CHECK_EQ(pthread_create(&threads[i], NULL, work_and_wait, NULL), 0);
    for (unsigned i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    CHECK(cached().bytes != 0);
    CHECK(cached().bytes <= CACHE_LEFT_ALL);
    CHECK_HEAP();
}

static void much(void *arg) {
    enum { MANY = 4000 };
    static void *mem[MANY];
    for (unsigned i = 0; i < MANY; i++) mem[i] = seemalloc_malloc(1000);
    for (unsigned i = 0; i < MANY; i++) seemalloc_free(mem[i]);
    *(size_t *)arg = cached().bytes;
}

static void much_goes_home(void) {
    size_t had = 0;
    cache_init();
    unit_in_thread(much, &had);
    CHECK(had > CACHE_LEFT_MOST);
    CHECK_EQ(cached().blocks, 0);
    CHECK_HEAP();
}

/* By the slow paths of a thread that goes on. */
static void nobody_takes_it(void) {
    uint64_t now = 1000000000u;
    fake_set_clock(now, 1000);
    begin();
    size_t before = cached().blocks;
    for (unsigned i = 0; i < 100; i++) seemalloc_free(seemalloc_malloc(KIB(200)));
    CHECK(cached().blocks >= before); /* its time is not over */
    fake_set_clock(now + WINDOW, 1000);
    for (unsigned i = 0; i < 100; i++) seemalloc_free(seemalloc_malloc(KIB(200)));
    CHECK_EQ(cached().blocks, 0);
    CHECK_HEAP();
}

static void trim_takes_it_home(void) {
    begin();
    seemalloc_malloc_trim(0);
    CHECK_EQ(cached().blocks, 0);
    CHECK_HEAP();
}

/* What was left under other settings is not for the next one. */
static void settings_change(void) {
    begin();
    CHECK_EQ(seemalloc_mallopt(M_TOP_PAD, 4096), 1);
    uint32_t misses = 0;
    unit_in_thread(work_and_count, &misses);
    CHECK(misses > 30);
    store_relaxed(&conf_values[CONF_DECAY], 0); /* nothing may lie about */
    unit_in_thread(work, NULL);
    CHECK_EQ(cached().blocks, 0);
    CHECK_HEAP();
}

static void free_again(void *arg) { seemalloc_free(arg); }

static void second_free_is_found(void) {
    void *mem = NULL;
    cache_init();
    unit_in_thread(work, &mem);
    CHECK_ABORTS(free_again, mem, "free(): double free detected in tcache 2");
}

static void forked_child(void) {
    begin();
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        cache_fork_child();
        for (unsigned i = 0; i < 100; i++) {
            void *mem[8];
            for (unsigned k = 0; k < 8; k++) mem[k] = seemalloc_malloc(KIB(200));
            for (unsigned k = 0; k < 8; k++) seemalloc_free(mem[k]);
        }
        size_t blocks = cached().blocks;
        unit_in_thread(work, NULL);
        unit_in_thread(work, NULL);
        CHECK_HEAP();
        _exit(blocks != 0);
    }
    int status = -1;
    waitpid(pid, &status, 0);
    CHECK_EQ(status, 0);
}

UNIT_MAIN({"the_next_takes_over", the_next_takes_over}, {"together_they_leave_little", together_they_leave_little},
          {"much_goes_home", much_goes_home}, {"nobody_takes_it", nobody_takes_it}, {"trim_takes_it_home", trim_takes_it_home},
          {"settings_change", settings_change}, {"second_free_is_found", second_free_is_found}, {"forked_child", forked_child})
