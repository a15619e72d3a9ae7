/* keys.c: sets so many pthread keys that pthread_setspecific itself has to allocate (past 32 keys), and frees in their destructors.
 *
 * Some destructors set their key again, so that blocks are freed and allocated in every round of destruction, before and after
 * the allocator's own key was destroyed.
 * SPDX-License-Identifier: MIT */
#include <pthread.h>
#include <stdatomic.h>

#include "probe.h"

enum { KEYS = 300, THREADS = 40 };

static pthread_key_t keys[KEYS];
static atomic_int destroyed, again, wrong;

struct value {
    int key, rounds;
    char text[200];
};

static struct value *value_new(int key, int rounds) {
    struct value *v = malloc(sizeof *v);
    if (!v) abort();
    v->key = key;
    v->rounds = rounds;
    memset(v->text, key, sizeof v->text);
    return v;
}

static void destroy(void *arg) {
    struct value *v = arg;
    for (size_t i = 0; i < sizeof v->text; i++)
        if (v->text[i] != (char)v->key) {
            atomic_fetch_add(&wrong, 1);
            break;
        }
    if (v->rounds > 0) {
        if (pthread_setspecific(keys[v->key], value_new(v->key, v->rounds - 1))) abort();
        atomic_fetch_add(&again, 1);
    }
    free(v);
    atomic_fetch_add(&destroyed, 1);
}

static void *run(void *arg) {
    (void)arg;
    for (int k = KEYS - 1; k >= 0; k--) /* from the last, so that the first call already needs a block of libc's */
        if (pthread_setspecific(keys[k], value_new(k, k % 4))) abort();
    for (int k = 0; k < KEYS; k++) {
        struct value *v = pthread_getspecific(keys[k]);
        if (!v || v->key != k) atomic_fetch_add(&wrong, 1);
    }
    return NULL;
}

int main(void) {
    probe_report(2);
    for (int k = 0; k < KEYS; k++)
        if (pthread_key_create(&keys[k], destroy)) return 2;
    for (int wave = 0; wave < 5; wave++) {
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++)
            if (pthread_create(&threads[i], NULL, run, NULL)) return 2;
        for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    }
    printf("destroyed %d, set again %d, wrong %d\n", destroyed, again, wrong);
    return wrong != 0;
}
