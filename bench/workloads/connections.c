/* connections.c: a thread per connection: COUNT connections in all, AT_ONCE of them open. Each takes two buffers of 16 KiB and 100 to 400 objects (16 bytes to
 * 8 KiB, small ones more often), leaves eight of these to a table of KEPT, whose oldest entries are freed, and holds the others till it is closed, always the
 * oldest. At the end all are closed, and the main thread works lightly for QUIET milliseconds.
 * usage: connections COUNT AT_ONCE KEPT QUIET
 * SPDX-License-Identifier: MIT */
#include <semaphore.h>

#include "memory.h"

enum { MOST = 256, BUFFER = 16 << 10, OBJECTS_LEAST = 100, OBJECTS = 301, LEFT = 8 };

struct connection {
    pthread_t thread;
    sem_t served, closed;
    uint64_t seed, operations, sum;
    unsigned char *left[LEFT];
};

static void *serve(void *arg) {
    struct connection *connection = arg;
    uint64_t state = rng_seed(connection->seed), sum = 0;
    unsigned count = OBJECTS_LEAST + rng_below(&state, OBJECTS);
    unsigned char *in = memset(must(malloc(BUFFER)), 1, BUFFER), *out = memset(must(malloc(BUFFER)), 2, BUFFER);
    unsigned char **objects = must(malloc(count * sizeof *objects));
    for (unsigned i = 0; i < count; i++) {
        size_t size = rng_log_size(&state, 16, 8192);
        objects[i] = memset(must(malloc(size)), (int)(i & 255), size);
    }
    for (unsigned i = 0; i < LEFT; i++) {
        unsigned at = i * (count / LEFT);
        connection->left[i] = objects[at];
        objects[at] = NULL;
    }
    sem_post(&connection->served);
    sem_wait(&connection->closed);
    for (unsigned i = 0; i < count; i++) {
        if (objects[i]) sum += *objects[i];
        free(objects[i]);
    }
    free(objects);
    connection->sum = sum + *in + *out;
    connection->operations = count + 2;
    free(out);
    free(in);
    return NULL;
}

int main(int argc, char **argv) {
    static struct connection connections[MOST];
    long count = argument(argc, argv, 1, 8000), at_once = argument(argc, argv, 2, 64), kept = argument(argc, argv, 3, 4000);
    long quiet = argument(argc, argv, 4, 2000);
    if (at_once < 1 || at_once > MOST || count < at_once || kept < LEFT) return 2;
    kept -= kept % LEFT;
    unsigned char **table = must(calloc((size_t)kept, sizeof *table));
    uint64_t state = rng_seed(60), operations = 0, sum = 0;
    for (long i = 0; i < count + at_once; i++) {
        struct connection *connection = &connections[i % at_once];
        if (i >= at_once) {
            sem_post(&connection->closed);
            pthread_join(connection->thread, NULL);
            operations += connection->operations;
            sum += connection->sum;
        }
        if (i >= count) continue;
        connection->seed = 1000 + (uint64_t)i;
        sem_init(&connection->served, 0, 0);
        sem_init(&connection->closed, 0, 0);
        connection->thread = thread_start(serve, connection);
        sem_wait(&connection->served);
        for (long k = 0; k < LEFT; k++) {
            unsigned char **entry = &table[(i * LEFT + k) % kept];
            if (*entry) sum += **entry;
            free(*entry);
            *entry = connection->left[k];
        }
    }
    work_lightly(&state, quiet, &sum);
    look();
    for (long i = 0; i < kept; i++) free(table[i]);
    free(table);
    return report("connections", operations, sum);
}
