/* semantics.c: what the C functions promise (ABI.md, "Semantics"): sizes that can't be, alignment, errno, usable size, zeroing, and that
 * nothing is lost where two of them meet. The same program is preloaded, linked, and linked statically.
 * SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "check.h"
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* C23's and the obsolete ones: not declared by every libc; absent from glibc 2.36. */
void free_sized(void *p, size_t size) __attribute__((weak));
void free_aligned_sized(void *p, size_t alignment, size_t size) __attribute__((weak));
void cfree(void *p) __attribute__((weak));
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t m);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);
void *__libc_memalign(size_t a, size_t n);
void *__libc_valloc(size_t n) __attribute__((weak));
void *__libc_pvalloc(size_t n) __attribute__((weak));

/* Through pointers that the compiler can't see through: it knows these functions too well. */
static void *(*volatile v_malloc)(size_t) = malloc;
static void *(*volatile v_calloc)(size_t, size_t) = calloc;
static void *(*volatile v_realloc)(void *, size_t) = realloc;
static void *(*volatile v_reallocarray)(void *, size_t, size_t) = reallocarray;
static void *(*volatile v_memalign)(size_t, size_t) = memalign;
static void *(*volatile v_aligned_alloc)(size_t, size_t) = aligned_alloc;
static int (*volatile v_posix_memalign)(void **, size_t, size_t) = posix_memalign;
static void *(*volatile v_valloc)(size_t) = valloc;
static void *(*volatile v_pvalloc)(size_t) = pvalloc;
static void (*volatile v_free)(void *) = free;

static bool ours; /* seemalloc, not the system's malloc */

static bool aligned(const void *p, size_t alignment) { return ((uintptr_t)p & (alignment - 1)) == 0; }

static bool all(const unsigned char *p, size_t n, unsigned char value) {
    for (size_t i = 0; i < n; i++)
        if (p[i] != value) return false;
    return true;
}

/* Every byte that the block reports as usable can be written. */
static void touch(void *p, size_t request, unsigned char value) {
    size_t usable = malloc_usable_size(p);
    CHECK(usable >= request);
    memset(p, value, usable);
}

static void test_zero(void) {
    void *p[100];
    for (int i = 0; i < 100; i++) {
        p[i] = v_malloc(0);
        CHECK(p[i] != NULL);
        CHECK(aligned(p[i], 16));
        touch(p[i], 0, (unsigned char)i);
        for (int j = 0; j < i; j++) CHECK(p[i] != p[j]);
    }
    for (int i = 0; i < 100; i++) {
        CHECK(all(p[i], malloc_usable_size(p[i]), (unsigned char)i));
        v_free(p[i]);
    }
    void *q = v_calloc(0, 0), *r = v_calloc(0, 10), *s = v_calloc(10, 0), *t = v_realloc(NULL, 0);
    CHECK(q && r && s && t && q != r && r != s && s != t);
    v_free(q);
    v_free(r);
    v_free(s);
    CHECK(v_realloc(t, 0) == NULL);
    v_free(NULL);
    CHECK(malloc_usable_size(NULL) == 0);
    void *m;
    CHECK(v_posix_memalign(&m, 64, 0) == 0 && m && aligned(m, 64));
    v_free(m);
    m = v_memalign(64, 0);
    CHECK(m && aligned(m, 64));
    v_free(m);
}

static size_t in_use(void) { return (size_t)mallinfo2().uordblks + mallinfo2().hblkhd; }

/* realloc(p, 0) frees: done often enough, it would show. */
static void test_realloc_zero(void) {
    void *warm = v_malloc(100000);
    CHECK(v_realloc(warm, 0) == NULL);
    size_t before = in_use();
    for (int i = 0; i < 20000; i++) {
        void *p = v_malloc(100000);
        CHECK(p != NULL);
        CHECK(v_realloc(p, 0) == NULL);
    }
    for (int i = 0; i < 50; i++) {
        void *p = v_malloc((size_t)40 << 20);
        CHECK(p != NULL);
        CHECK(v_realloc(p, 0) == NULL);
        p = v_malloc(1000);
        CHECK(v_reallocarray(p, 0, 10) == NULL);
        p = v_malloc(1000);
        CHECK(v_reallocarray(p, 10, 0) == NULL);
    }
    CHECK(in_use() <= before + (1 << 20));
}

#define FAILS(expression)                                                                                                                  \
    do {                                                                                                                                   \
        errno = 0;                                                                                                                         \
        CHECK((expression) == NULL);                                                                                                       \
        CHECK(errno == ENOMEM);                                                                                                            \
    } while (0)

static void test_impossible_sizes(void) {
    static const size_t sizes[] = {(size_t)PTRDIFF_MAX + 1, (size_t)PTRDIFF_MAX + 17, SIZE_MAX / 2 + 100, SIZE_MAX - 4096, SIZE_MAX - 64,
                                   SIZE_MAX - 32, SIZE_MAX - 16, SIZE_MAX - 15, SIZE_MAX - 8, SIZE_MAX - 7, SIZE_MAX - 1, SIZE_MAX,
                                   /* below the limit, yet more than an address space holds */
                                   PTRDIFF_MAX, PTRDIFF_MAX - 8, PTRDIFF_MAX - 4095, PTRDIFF_MAX - 4096, (size_t)1 << 62, (size_t)1 << 50};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i];
        FAILS(v_malloc(n));
        FAILS(v_calloc(1, n));
        FAILS(v_calloc(n, 1));
        FAILS(v_realloc(NULL, n));
        FAILS(v_reallocarray(NULL, 1, n));
        FAILS(v_memalign(8, n));
        FAILS(v_memalign(64, n));
        FAILS(v_memalign(8192, n));
        FAILS(v_aligned_alloc(64, n & ~(size_t)63));
        FAILS(v_valloc(n));
        FAILS(v_pvalloc(n));
        void *p = (void *)1;
        errno = 0;
        CHECK(v_posix_memalign(&p, 64, n) == ENOMEM);
        CHECK(p == (void *)1);
        static const size_t old[] = {0, 24, 1000, 20000, 500000, (size_t)40 << 20};
        for (size_t j = 0; j < sizeof old / sizeof *old; j++) {
            unsigned char *q = v_malloc(old[j]);
            CHECK(q != NULL);
            size_t usable = malloc_usable_size(q);
            memset(q, 0x5a, usable);
            FAILS(v_realloc(q, n));
            CHECK(malloc_usable_size(q) == usable);
            CHECK(all(q, usable, 0x5a));
            v_free(q);
        }
    }
    /* Products that overflow. */
    FAILS(v_calloc(SIZE_MAX, 2));
    FAILS(v_calloc(2, SIZE_MAX));
    FAILS(v_calloc((size_t)1 << 32, (size_t)1 << 32));
    FAILS(v_calloc(((size_t)1 << 32) + 1, ((size_t)1 << 32) - 1));
    FAILS(v_calloc(SIZE_MAX / 3 + 1, 3));
    FAILS(v_calloc((size_t)1 << 33, (size_t)1 << 31));
    FAILS(v_reallocarray(NULL, SIZE_MAX, 2));
    FAILS(v_reallocarray(NULL, (size_t)1 << 32, (size_t)1 << 32));
    FAILS(v_reallocarray(NULL, SIZE_MAX / 3 + 1, 3));
    unsigned char *p = v_malloc(100);
    memset(p, 7, 100);
    FAILS(v_reallocarray(p, (size_t)1 << 32, ((size_t)1 << 32) + 1));
    CHECK(all(p, 100, 7));
    v_free(p);
}

static const size_t some_sizes[] = {1,      8,      16,     23,     24,      25,      40,      100,    119,    120,
                                    121,    200,    1000,   1015,   1016,    1017,    1024,    1032,   2000,   4000,
                                    4096,   8000,   16384,  30000,  65536,   100000,  131000,  131047, 131048, 131049,
                                    131072, 140000, 200000, 500000, 1 << 20, 3000000, 40 << 20};
enum { SOME = sizeof some_sizes / sizeof *some_sizes };

static void test_alignment(void) {
    for (int round = 0; round < 3; round++) {
        void *p[SOME][3];
        for (int i = 0; i < SOME; i++) {
            size_t n = some_sizes[i];
            p[i][0] = v_malloc(n);
            p[i][1] = v_calloc(1, n);
            p[i][2] = v_realloc(v_malloc(n / 2), n);
            for (int k = 0; k < 3; k++) {
                CHECK(p[i][k] && aligned(p[i][k], 16));
                if (k == 1) CHECK(all(p[i][k], n, 0));
                touch(p[i][k], n, (unsigned char)(i * 3 + k));
            }
        }
        for (int i = 0; i < SOME; i++) {
            for (int k = 0; k < 3; k++) {
                CHECK(all(p[i][k], malloc_usable_size(p[i][k]), (unsigned char)(i * 3 + k)));
                v_free(p[i][k]);
            }
        }
    }
}

/* calloc is zero even where the memory was used before, in all of its usable bytes that were asked for. */
static void test_calloc_dirty(void) {
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < SOME; i++) {
            size_t n = some_sizes[i];
            void *p[4];
            for (int k = 0; k < 4; k++) {
                p[k] = v_malloc(n);
                touch(p[k], n, 0xee);
            }
            for (int k = 0; k < 4; k++) v_free(p[k]);
            for (int k = 0; k < 4; k++) {
                p[k] = v_calloc(n % 2 ? 1 : 2, n % 2 ? n : n / 2);
                CHECK(p[k] && all(p[k], n, 0));
            }
            for (int k = 0; k < 4; k++) v_free(p[k]);
        }
    }
}

static unsigned char pattern(size_t k) { return (unsigned char)(k * 7 + k / 251); }

/* The bytes of a block that are looked at: all of a small one, the ends and one in each page of a large one. */
static size_t next_byte(size_t k, size_t n) { return k < 9000 || n - k <= 9000 ? k + 1 : k + 4093 < n - 9000 ? k + 4093 : n - 9000; }

/* All slack is writable, and realloc keeps it when it grows; what remains is kept when it shrinks. */
static void test_realloc_contents(void) {
    for (int i = 0; i < SOME; i++) {
        for (int j = 0; j < SOME; j++) {
            size_t n = some_sizes[i], m = some_sizes[j];
            unsigned char *p = v_malloc(n);
            size_t usable = malloc_usable_size(p);
            for (size_t k = 0; k < usable; k = next_byte(k, usable)) p[k] = pattern(k);
            void *pin = v_malloc(24);
            unsigned char *q = v_realloc(p, m);
            CHECK(q && aligned(q, 16));
            size_t now = malloc_usable_size(q);
            CHECK(now >= m);
            size_t keep = m < usable ? m : usable;
            bool kept = true;
            for (size_t k = 0; k < usable; k = next_byte(k, usable)) kept = kept && (k >= keep || q[k] == pattern(k));
            CHECK(kept);
            for (size_t k = 0; k < now; k = next_byte(k, now)) q[k] = 0x33;
            v_free(pin);
            v_free(q);
        }
    }
    /* Step by step, as a vector or a reader of lines grows. */
    unsigned char *p = NULL;
    size_t n = 0;
    while (n < (8 << 20)) {
        size_t more = n + n / 3 + 13;
        p = v_realloc(p, more);
        CHECK(p != NULL);
        if (!p) return;
        memset(p + n, (int)(more & 0xff), more - n);
        n = more;
    }
    while (n > 20) {
        size_t less = n * 2 / 3;
        p = v_realloc(p, less);
        CHECK(p && malloc_usable_size(p) >= less);
        n = less;
    }
    CHECK(p[0] == 13 && p[12] == 13);
    v_free(p);
}

static void test_aligned_functions(void) {
    for (size_t alignment = 1; alignment <= (4 << 20); alignment *= 2) {
        for (int i = 0; i < SOME; i += 3) {
            size_t n = some_sizes[i];
            void *p[5] = {0};
            p[0] = v_memalign(alignment, n);
            p[1] = v_aligned_alloc(alignment, n);
            if (alignment >= sizeof(void *)) CHECK(v_posix_memalign(&p[2], alignment, n) == 0);
            p[3] = v_memalign(alignment, n);
            for (int k = 0; k < 4; k++) {
                if (k == 2 && alignment < sizeof(void *)) continue;
                CHECK(p[k] && aligned(p[k], alignment) && aligned(p[k], 16));
                if (p[k]) touch(p[k], n, (unsigned char)(k + 1));
            }
            if (p[3]) {
                p[3] = v_realloc(p[3], 2 * n);
                CHECK(p[3] && all(p[3], n, 4));
            }
            if (p[1]) {
                p[1] = v_realloc(p[1], n / 2 + 1);
                CHECK(p[1] && all(p[1], n / 2 + 1, 2));
            }
            for (int k = 0; k < 4; k++) v_free(p[k]);
        }
    }
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (int i = 0; i < SOME; i++) {
        size_t n = some_sizes[i];
        void *p = v_valloc(n), *q = v_pvalloc(n);
        CHECK(p && aligned(p, page));
        CHECK(q && aligned(q, page));
        touch(p, n, 1);
        touch(q, (n + page - 1) / page * page, 2);
        v_free(p);
        v_free(q);
    }
    void *p = v_pvalloc(0);
    CHECK(p && aligned(p, page));
    v_free(p);

    /* Bad alignments: posix_memalign and aligned_alloc refuse, memalign rounds up. */
    void *m = (void *)3;
    static const size_t bad[] = {0, 1, 2, 4, 3, 12, 24, 63, 65, 100, 4097};
    errno = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(v_posix_memalign(&m, bad[i], 100) == EINVAL);
        CHECK(m == (void *)3);
    }
    CHECK(errno == 0);
    static const size_t not_powers[] = {3, 12, 24, 63, 65, 100, 4097, 0x5000000000000001, SIZE_MAX};
    for (size_t i = 0; ours && i < sizeof not_powers / sizeof *not_powers; i++) {
        errno = 0;
        CHECK(v_aligned_alloc(not_powers[i], 100) == NULL);
        CHECK(errno == EINVAL);
    }
    if (ours) { /* glibc 2.36 takes 0 */
        errno = 0;
        CHECK(v_aligned_alloc(0, 100) == NULL);
        CHECK(errno == EINVAL);
    }
    static const size_t rounded[][2] = {{0, 16}, {3, 16}, {17, 32}, {24, 32}, {33, 64}, {100, 128}, {4097, 8192}, {65537, 131072}};
    for (size_t i = 0; i < sizeof rounded / sizeof *rounded; i++) {
        void *q[8];
        for (int k = 0; k < 8; k++) {
            q[k] = v_memalign(rounded[i][0], 100);
            CHECK(q[k] && aligned(q[k], rounded[i][1]));
        }
        for (int k = 0; k < 8; k++) v_free(q[k]);
    }
    /* Alignments that no address space holds. */
    for (int shift = 48; shift < 64; shift++) {
        for (size_t n = 1; n < 200000; n = n * 50 + 1) {
            errno = 0;
            CHECK(v_memalign((size_t)1 << shift, n) == NULL);
            CHECK(errno == ENOMEM || errno == EINVAL);
            CHECK(v_posix_memalign(&m, (size_t)1 << shift, n) == ENOMEM || shift == 63);
            CHECK(m == (void *)3);
        }
    }
    errno = 0;
    CHECK(v_memalign(((size_t)1 << 63) + 1, 8) == NULL);
    CHECK(errno == EINVAL || errno == ENOMEM);
    CHECK(v_memalign(SIZE_MAX, 8) == NULL);
    CHECK(v_memalign((size_t)1 << 62, SIZE_MAX / 2) == NULL);
    CHECK(v_memalign((size_t)1 << 62, (size_t)1 << 62) == NULL);
}

static void test_free_variants(void) {
    for (int i = 0; ours && i < SOME; i++) {
        size_t n = some_sizes[i];
        CHECK(free_sized && free_aligned_sized);
        free_sized(v_malloc(n), n);
        free_sized(v_calloc(1, n), n);
        free_sized(v_realloc(v_malloc(8), n), n);
        free_aligned_sized(v_aligned_alloc(64, n), 64, n);
        free_aligned_sized(v_aligned_alloc(4096, n), 4096, n);
        /* The size is a hint: a wrong one is survived by default. */
        free_sized(v_malloc(n), n + 100000);
        free_aligned_sized(v_aligned_alloc(256, n), 16, 1);
    }
    if (ours) {
        free_sized(NULL, 10);
        free_aligned_sized(NULL, 64, 10);
    }
    if (cfree) {
        cfree(v_malloc(100));
        cfree(NULL);
    }
    CHECK(cfree || !ours);
}

/* The aliases are the same allocator: what one returns another takes. */
static void test_aliases(void) {
    for (int i = 0; i < SOME; i++) {
        size_t n = some_sizes[i];
        void *p = __libc_malloc(n), *q = __libc_calloc(1, n), *r = __libc_memalign(256, n);
        CHECK(p && q && r && all(q, n, 0) && aligned(r, 256));
        p = v_realloc(p, n + 1000);
        q = __libc_realloc(q, n + 1000);
        CHECK(p && q && malloc_usable_size(p) >= n + 1000);
        v_free(q);
        __libc_free(p);
        __libc_free(r);
        if (__libc_valloc && __libc_pvalloc) {
            v_free(__libc_valloc(n));
            v_free(__libc_pvalloc(n));
        }
        __libc_free(v_malloc(n));
    }
}

static void test_errno(void) {
    for (int i = 0; i < SOME; i++) {
        void *p = v_malloc(some_sizes[i]), *q = v_memalign(4096, some_sizes[i]);
        errno = 1234;
        v_free(p);
        CHECK(errno == 1234);
        v_free(q);
        CHECK(errno == 1234);
    }
    errno = 1234;
    v_free(NULL);
    CHECK(errno == 1234);
    /* Also where free calls the system: unmapping, trimming, emptying a heap. */
    void *big[20];
    for (int i = 0; i < 20; i++) big[i] = v_malloc((size_t)(i + 1) << 20);
    for (int i = 19; i >= 0; i--) {
        v_free(big[i]);
        CHECK(errno == 1234);
    }
    enum { N = 20000 };
    static void *small[N];
    for (int i = 0; i < N; i++) small[i] = v_malloc(500);
    errno = 1234;
    for (int i = N - 1; i >= 0; i--) v_free(small[i]);
    CHECK(errno == 1234);
    malloc_trim(0);
}

/* malloc leaves errno alone where it succeeds, though its system calls may have failed on the way. */
static void test_errno_on_success(void) {
    errno = 77;
    void *p = v_malloc(100), *q = v_malloc((size_t)50 << 20);
    CHECK(p && q && errno == 77);
    v_free(p);
    v_free(q);
}

static void *thread_body(void *arg) {
    unsigned seed = (unsigned)(uintptr_t)arg;
    void *p[200] = {0};
    for (int i = 0; i < 40000; i++) {
        seed = seed * 1103515245 + 12345;
        int k = (int)(seed >> 16) % 200;
        v_free(p[k]);
        size_t n = (seed >> 8) % 3000;
        p[k] = i % 3 ? v_malloc(n) : i % 2 ? v_calloc(1, n) : v_memalign(64, n);
        CHECK(p[k] && aligned(p[k], 16));
        memset(p[k], k, n);
    }
    for (int k = 0; k < 200; k++) {
        p[k] = v_realloc(p[k], 5000);
        CHECK(p[k] != NULL);
    }
    return memcpy(v_malloc(sizeof p), p, sizeof p);
}

/* Blocks freed by another thread than their own. */
static void test_threads(void) {
    pthread_t t[4];
    for (int i = 0; i < 4; i++) CHECK(pthread_create(&t[i], NULL, thread_body, (void *)(uintptr_t)(i + 1)) == 0);
    for (int i = 0; i < 4; i++) {
        void **p;
        CHECK(pthread_join(t[i], (void **)&p) == 0);
        for (int k = 0; k < 200; k++) v_free(p[k]);
        v_free(p);
    }
}

/* strdup, getline, asprintf: libc's own callers use the same heap. */
static void test_libc_callers(void) {
    for (int i = 0; i < 100; i++) {
        char *s = strdup("what libc allocates");
        s = v_realloc(s, 1000);
        CHECK(s && strcmp(s, "what libc allocates") == 0);
        char *t = NULL;
        CHECK(asprintf(&t, "%s and %d", s, i) > 0);
        CHECK(malloc_usable_size(t) > strlen(t));
        v_free(t);
        v_free(s);
        FILE *f = tmpfile();
        if (!f) continue;
        fputs("a line of some length that getline must allocate for\n", f);
        rewind(f);
        char *line = NULL;
        size_t room = 0;
        CHECK(getline(&line, &room, f) > 10);
        fclose(f);
        v_free(line);
    }
}

static void test_trim(void) {
    enum { N = 2000 };
    static void *p[N];
    for (int i = 0; i < N; i++) {
        p[i] = v_malloc(20000);
        memset(p[i], 1, 20000);
    }
    for (int i = 0; i < N; i++) v_free(p[i]);
    int trimmed = malloc_trim(0);
    CHECK(trimmed == 0 || trimmed == 1);
    trimmed = malloc_trim(SIZE_MAX / 2);
    CHECK(trimmed == 0 || trimmed == 1);
    void *q = v_malloc(20000);
    touch(q, 20000, 2);
    v_free(q);
}

int main(int argc, char **argv) {
    ours = check_library(argc, argv);
    test_zero();
    test_realloc_zero();
    test_impossible_sizes();
    test_alignment();
    test_calloc_dirty();
    test_realloc_contents();
    test_aligned_functions();
    test_free_variants();
    test_aliases();
    test_errno();
    test_errno_on_success();
    test_threads();
    test_libc_callers();
    test_trim();
    return check_result();
}
