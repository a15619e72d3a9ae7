/* t04.c: T4. malloc hands out virtual memory only. The first touch of each page is a minor fault, after which the page is there, zeroed,
 * and the instruction has been started again; what is never touched never becomes physical; major faults read a disk.
 * SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "texts.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGES 1024

static void major_faults_read_a_disk(void) {
    char name[] = "/var/tmp/seemalloc-t04-XXXXXX";
    int fd = mkstemp(name);
    static char page[4096];
    if (fd < 0) {
        texts_say("no file could be made: the statement on major faults is not checked");
        return;
    }
    unlink(name);
    memset(page, 'd', sizeof page);
    for (int i = 0; i < 64; i++)
        if (write(fd, page, sizeof page) != sizeof page) break;
    fsync(fd);
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    volatile const char *file = mmap(NULL, 64 * sizeof page, PROT_READ, MAP_SHARED, fd, 0);
    unsigned char there[64];
    madvise((void *)(uintptr_t)file, 64 * sizeof page, MADV_RANDOM);
    if ((const void *)(uintptr_t)file == MAP_FAILED || mincore((void *)(uintptr_t)file, 64 * sizeof page, there) || (there[10] & 1)) {
        texts_say("this file system does not drop pages from memory: the statement on major faults is not checked");
    } else {
        uint64_t major = major_faults();
        CHECK_EQ("a byte of a file that is only on disk", file[10 * sizeof page], 'd');
        CHECK_IN("major faults for it", major_faults() - major, 1, 2);
        major = major_faults();
        CHECK_EQ("the same byte again", file[10 * sizeof page], 'd');
        CHECK_EQ("major faults now", major_faults() - major, 0);
    }
    close(fd);
}

int main(int argc, char **argv) {
    (void)argc;
    texts_begin(argv, "T4", NO_CACHE);
    put(get_filled(MIB(1))); /* the library's own books for mapped blocks exist from here on */
    put(get_filled(KIB(40)));
    resident_bytes();

    /* Virtual only. */
    size_t size = PAGES * page_size;
    size_t virtual0 = virtual_bytes(), resident0 = resident_bytes();
    uint64_t faults0 = minor_faults();
    char *block = get(size);
    uint64_t faults1 = minor_faults();
    size_t virtual1 = virtual_bytes(), resident1 = resident_bytes();
    REQUIRE("4 MiB were had", block);
    CHECK_IN("virtual memory grows by the block", virtual1 - virtual0, size, size + 2 * page_size);
    CHECK_IN("faults of malloc itself: the page of the header", faults1 - faults0, 0, 2);
    CHECK_IN("physical memory grows by that page at most", resident1 - resident0, 0, 2 * page_size);

    /* First touch of every second page. */
    uintptr_t first = round_up((uintptr_t)block, page_size); /* skips the page of the header */
    size_t pages = ((uintptr_t)block + size - first) / page_size;
    CHECK_EQ("pages of the block resident before the first touch", pages_resident(first, first + pages * page_size), 0);
    uint64_t major0 = major_faults();
    uint64_t before = minor_faults();
    for (size_t i = 0; i < pages; i += 2) ((volatile char *)first)[i * page_size + 17] = 1;
    uint64_t touched = minor_faults() - before;
    CHECK_EQ("minor faults when every second page is touched", touched, (pages + 1) / 2);
    CHECK_EQ("major faults then", major_faults() - major0, 0);
    CHECK_EQ("pages resident", pages_resident(first, first + pages * page_size), (pages + 1) / 2);
    texts_quiet = 1;
    for (size_t i = 0; i < pages; i++)
        CHECK_EQ("a page is resident exactly if it was touched", pages_resident(first + i * page_size, first + (i + 1) * page_size),
                 i % 2 == 0);
    texts_quiet = 0;
    size_t resident2 = resident_bytes();
    CHECK_EQ("physical growth is the touched pages, whole ones", (resident2 - resident1) / page_size, touched);
    CHECK_EQ("a multiple of the page size", (resident2 - resident1) % page_size, 0);

    /* A second touch costs nothing. */
    before = minor_faults();
    for (size_t i = 0; i < pages; i += 2) ((volatile char *)first)[i * page_size + 99] = 1;
    CHECK_EQ("minor faults of the second touch", minor_faults() - before, 0);

    /* Zeroed: all of a touched page but the bytes written, and all of the others. */
    texts_quiet = 1;
    for (size_t i = 0; i < pages; i++)
        for (size_t j = 0; j < page_size; j++)
            if (!(i % 2 == 0 && (j == 17 || j == 99)) && ((char *)first)[i * page_size + j] != 0)
                CHECK_EQ("a byte that nobody wrote", ((char *)first)[i * page_size + j], 0);
    texts_quiet = 0;
    CHECK("new pages are zeroed", filled((char *)first + page_size, page_size, 0));

    /* The instruction is started again: an addition on a page that is not there yet is done once, neither lost nor done twice. */
    char *other = get(size);
    REQUIRE("another block", other);
    first = round_up((uintptr_t)other, page_size);
    pages = ((uintptr_t)other + size - first) / page_size;
    before = minor_faults();
    size_t wrong = 0;
    for (size_t i = 0; i < pages; i++) {
        atomic_size_t *counter = (atomic_size_t *)(first + i * page_size);
        wrong += atomic_fetch_add(counter, i + 1) != 0;
        wrong += *counter != i + 1;
    }
    CHECK_EQ("minor faults of an addition on each page", minor_faults() - before, pages);
    CHECK_EQ("additions that were lost or done twice", wrong, 0);

    /* The heap on brk behaves the same, page by page. */
    put(get_filled(100));
    uintptr_t brk0 = brk_now();
    char *small[8];
    for (size_t i = 0; i < COUNT_OF(small); i++) small[i] = get(KIB(100));
    uintptr_t from = round_up((uintptr_t)small[7] + 16, page_size), to = ((uintptr_t)small[7] + KIB(100)) & ~(page_size - 1);
    CHECK("the heap has grown", brk_now() > brk0);
    CHECK_EQ("pages of a fresh block of the heap", pages_resident(from, to), 0);
    before = minor_faults();
    fill((void *)from, to - from, 1);
    CHECK_EQ("minor faults when it is written", minor_faults() - before, (to - from) / page_size);
    CHECK_EQ("its pages then", pages_resident(from, to), (to - from) / page_size);

    /* The address is checked first: where nothing is mapped there is no page to be had. */
    CHECK("the block can be read", is_readable((uintptr_t)other));
    put(other);
    CHECK("freed and unmapped, it can't", !is_readable((uintptr_t)other));

    major_faults_read_a_disk();
    return texts_end();
}
