/* plugin.c: the library that plugin_host.c loads; it allocates in its constructor and destructor and in thread-local memory that
 * ld.so allocates lazily.
 * SPDX-License-Identifier: MIT */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 2000 };

static char *blocks[BLOCKS];
static __thread char local[6000];

__attribute__((constructor)) static void begin(void) {
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc((size_t)(i % 777) + 8);
        if (!blocks[i]) abort();
        memset(blocks[i], i, (size_t)(i % 777) + 8);
    }
}

__attribute__((destructor)) static void end(void) {
    for (int i = 0; i < BLOCKS; i++) {
        for (int k = 0; k < i % 777 + 8; k++)
            if (blocks[i][k] != (char)i) abort();
        free(blocks[i]);
    }
    char *last = malloc(5000);
    if (!last) abort();
    memset(last, 1, 5000);
    free(last);
}

char *plugin_text(int number);
size_t plugin_eat(char *text);

/* The caller frees the text. */
char *plugin_text(int number) {
    memset(local, 'l', sizeof local - 1);
    char *text = NULL;
    if (asprintf(&text, "text %d with %zu local bytes", number, strlen(local)) < 0) return NULL;
    return text;
}

/* Frees a text of the caller's. */
size_t plugin_eat(char *text) {
    size_t n = strlen(text);
    free(text);
    return n;
}
