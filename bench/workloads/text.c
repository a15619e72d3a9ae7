/* text.c: the index of a text: words as strings of their own, in a hash table with lists of places that grow; now and then a document is removed again.
 * usage: text DOCUMENTS
 * SPDX-License-Identifier: MIT */
#include "workload.h"

enum { BUCKETS = 1 << 15, WORDS = 300 };

struct entry {
    struct entry *next;
    char *word;
    uint32_t *places;
    uint32_t count, room;
};

static struct entry *table[BUCKETS];
static uint64_t operations;

static uint32_t hash(const char *s) {
    uint32_t h = 2166136261u;
    while (*s) h = (h ^ (unsigned char)*s++) * 16777619u;
    return h ^ h >> 15;
}

static void add(const char *word, uint32_t place) {
    struct entry **bucket = &table[hash(word) % BUCKETS], *e = *bucket;
    while (e && strcmp(e->word, word)) e = e->next;
    if (!e) {
        e = must(calloc(1, sizeof *e));
        e->word = must(strdup(word));
        e->next = *bucket;
        *bucket = e;
        operations += 2;
    }
    if (e->count == e->room) {
        e->room = e->room ? e->room * 2 : 2;
        e->places = must(realloc(e->places, e->room * sizeof *e->places));
        operations++;
    }
    e->places[e->count++] = place;
}

static void forget(uint32_t document) {
    for (int b = 0; b < BUCKETS; b++)
        for (struct entry **at = &table[b]; *at;) {
            struct entry *e = *at;
            uint32_t kept = 0;
            for (uint32_t i = 0; i < e->count; i++)
                if (e->places[i] / WORDS != document) e->places[kept++] = e->places[i];
            e->count = kept;
            if (kept) {
                at = &e->next;
                continue;
            }
            *at = e->next;
            free(e->word);
            free(e->places);
            free(e);
        }
}

int main(int argc, char **argv) {
    uint32_t documents = (uint32_t)argument(argc, argv, 1, 500);
    uint64_t state = rng_seed(8), sum = 0;
    for (uint32_t d = 0; d < documents; d++) {
        char *text = must(malloc(WORDS * 24)), *end = text;
        for (int w = 0; w < WORDS; w++) {
            /* Frequent words are short, rare ones long. */
            uint32_t rank = rng_below(&state, 1 + rng_below(&state, 60000));
            end += sprintf(end, "%x%.*s ", rank * 2654435761u >> 8, (int)(rank % 14), "abcdefghijklmn");
        }
        char *save = NULL;
        uint32_t place = d * WORDS;
        for (char *word = strtok_r(text, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
            char *copy = must(strdup(word));
            add(copy, place++);
            free(copy);
        }
        free(text);
        operations += WORDS + 1;
        if (d % 100 == 99) forget(d - 50);
    }
    for (int b = 0; b < BUCKETS; b++)
        for (struct entry *e = table[b]; e;) {
            struct entry *next = e->next;
            sum += e->count + strlen(e->word);
            free(e->word);
            free(e->places);
            free(e);
            e = next;
        }
    return report("text", operations, sum);
}
