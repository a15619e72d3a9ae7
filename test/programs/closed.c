/* closed.c: a program that closes stderr early, so that its number 2 belongs to a data file when the allocator wants to say something.
 *
 * usage: closed DATA PROOF. Writes the same lines to DATA (as descriptor 2) on every allocator, and to PROOF whose malloc it ran on.
 * SPDX-License-Identifier: MIT */
#include <fcntl.h>

#include "probe.h"

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    int proof = open(argv[2], O_WRONLY | O_CREAT | O_TRUNC, 0600);
    probe_report(proof);
    close(proof);
    close(2);
    if (open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0600) != 2) return 3;
    FILE *data = fdopen(2, "w");
    if (!data) return 4;
    for (int i = 0; i < 2000; i++) {
        char *p = malloc((size_t)i * 3 + 1);
        if (!p) return 5;
        memset(p, 'd', (size_t)i * 3 + 1);
        fprintf(data, "line %d %c\n", i, p[i]);
        free(p);
    }
    if (fclose(data)) return 6;
    puts("written");
    return 0;
}
