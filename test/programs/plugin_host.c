/* plugin_host.c: loads and unloads a library a hundred times, from one thread and from several, and exchanges blocks with it.
 *
 * usage: plugin_host PLUGIN. libz is loaded too where it exists, and compresses and restores a buffer.
 * SPDX-License-Identifier: MIT */
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

#include "probe.h"

static const char *plugin;
static atomic_ulong total;

static void *sym(void *lib, const char *name) {
    void *found = dlsym(lib, name);
    if (!found) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    return found;
}

static void *use(void *arg) {
    int times = (int)(long)arg;
    for (int i = 0; i < times; i++) {
        void *lib = dlopen(plugin, RTLD_NOW | RTLD_LOCAL);
        if (!lib) {
            fprintf(stderr, "%s\n", dlerror());
            exit(1);
        }
        char *(*text)(int);
        size_t (*eat)(char *);
        void *found = sym(lib, "plugin_text");
        memcpy(&text, &found, sizeof text);
        found = sym(lib, "plugin_eat");
        memcpy(&eat, &found, sizeof eat);
        char *made = text(i);
        if (!made) exit(1);
        atomic_fetch_add(&total, strlen(made));
        free(made);
        char *given = malloc(1000);
        if (!given) exit(1);
        memset(given, 'g', 999);
        given[999] = 0;
        atomic_fetch_add(&total, eat(given));
        dlclose(lib);
        if (dlopen("no-such-library.so", RTLD_NOW)) exit(1);
        if (!dlerror()) exit(1);
    }
    return NULL;
}

/* Compresses and restores a megabyte with libz, if there is one. */
static void zip(void) {
    void *lib = dlopen("libz.so.1", RTLD_NOW);
    if (!lib) {
        printf("libz: none\n");
        return;
    }
    enum { SIZE = 1 << 20 };
    int (*compress)(unsigned char *, unsigned long *, const unsigned char *, unsigned long);
    int (*uncompress)(unsigned char *, unsigned long *, const unsigned char *, unsigned long);
    void *found = sym(lib, "compress");
    memcpy(&compress, &found, sizeof compress);
    found = sym(lib, "uncompress");
    memcpy(&uncompress, &found, sizeof uncompress);
    unsigned char *plain = malloc(SIZE), *packed = malloc(SIZE * 2), *again = malloc(SIZE);
    if (!plain || !packed || !again) exit(1);
    for (unsigned i = 0; i < SIZE; i++) plain[i] = (unsigned char)((i * i) >> 7);
    unsigned long packed_size = SIZE * 2, again_size = SIZE;
    if (compress(packed, &packed_size, plain, SIZE)) exit(1);
    if (uncompress(again, &again_size, packed, packed_size)) exit(1);
    printf("libz: %lu bytes packed, restored %s\n", packed_size, again_size == SIZE && !memcmp(plain, again, SIZE) ? "right" : "wrong");
    free(plain);
    free(packed);
    free(again);
    dlclose(lib);
}

int main(int argc, char **argv) {
    probe_report(2);
    if (argc < 2) return 2;
    plugin = argv[1];
    use((void *)100L);
    printf("alone: %lu bytes of text\n", atomic_exchange(&total, 0));
    pthread_t threads[6];
    for (int i = 0; i < 6; i++)
        if (pthread_create(&threads[i], NULL, use, (void *)50L)) return 2;
    for (int i = 0; i < 6; i++) pthread_join(threads[i], NULL);
    printf("six threads: %lu bytes of text\n", atomic_load(&total));
    zip();
    return 0;
}
