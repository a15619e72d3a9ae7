/* idle.c: a hundred threads that each allocated 1 MiB in blocks of 100 bytes, freed it, and do nothing any more.
 *
 * usage: idle [THREADS]. What an idle thread keeps in its cache after such a burst is at most 64 KiB, and what the heap keeps must be nearer to nothing than
 * to the 100 MiB that went through.
 * SPDX-License-Identifier: MIT */
#include "work.h"

enum { BLOCK = 100, BLOCKS = (1 << 20) / BLOCK, MOST = 400 };

static atomic_int done, stop;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

static void *run(void *arg) {
    struct block **blocks = arg;
    pthread_mutex_lock(&turn); /* one burst at a time: the peak of live bytes is that of one thread */
    for (int i = 0; i < BLOCKS; i++) blocks[i] = block_new(BLOCK, (unsigned)i);
    for (int i = 0; i < BLOCKS; i++) block_free(blocks[i]);
    pthread_mutex_unlock(&turn);
    atomic_fetch_add(&done, 1);
    while (!atomic_load(&stop)) work_pause(5000000);
    return NULL;
}

int main(int argc, char **argv) {
    int wanted = argc > 1 ? atoi(argv[1]) : 100;
    static struct block *blocks[BLOCKS];
    static pthread_t threads[MOST];
    if (wanted < 1 || wanted > MOST) return 2;
    int ours = probe_report(2);
    size_t before = resident_bytes();
    for (int i = 0; i < wanted; i++) threads[i] = work_thread(run, blocks);
    while (atomic_load(&done) < wanted) work_pause(1000000);
    size_t resident = resident_bytes() - before;
    struct seemalloc_stats stats = {0};
    int seen = probe_stats(&stats);
    printf("%d idle threads: live peak %.2f MiB, resident %.2f MiB, heap %.2f MiB, cached %.2f MiB in %zu blocks, parked %.2f MiB, inbox "
           "%.2f MiB, books %.2f MiB, "
           "%u arenas, %u caches\n",
           wanted, MIB(atomic_load(&live_peak)), MIB(resident), MIB(stats.heap_bytes), MIB(stats.bytes[SEEMALLOC_CACHED]),
           stats.count[SEEMALLOC_CACHED], MIB(stats.bytes[SEEMALLOC_PARKED]), MIB(stats.bytes[SEEMALLOC_INBOX]), MIB(stats.metadata_bytes),
           stats.arenas, stats.threads);
    fflush(stdout);
    if (ours) {
        work_check(seen, "no statistics");
        work_check(stats.threads >= (unsigned)wanted, "only %u caches are live", stats.threads);
        size_t share = 64 << 10;
        work_check(stats.bytes[SEEMALLOC_CACHED] <= (size_t)wanted * share + share, "idle threads keep more than 64 KiB each");
        work_check(stats.heap_bytes <= (size_t)stats.arenas * BLOCKS * (BLOCK + 12) * 5 / 4 + (size_t)wanted * share,
                   "the heap keeps more than each arena needed at once and the caches hold");
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < wanted; i++) pthread_join(threads[i], NULL);
    return 0;
}
