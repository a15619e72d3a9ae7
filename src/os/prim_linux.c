/* prim_linux.c: prim.h on Linux by raw system calls, so that interposers of mmap don't see our mappings, errno stays as it is, and no
 * cancellation point is met. The break alone moves through libc's sbrk: libc keeps its own idea of the break, and a raw brk would leave it
 * stale. SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "os/prim.h"

#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

#define THREAD_STACK KIB(64)
#define THREAD_STACK_MOST MIB(16)

/* Returns -errno on failure, as the kernel does. */
static long raw(long number, long a, long b, long c, long d, long e, long f) {
#if defined(__x86_64__)
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ __volatile__("syscall"
                         : "=a"(result)
                         : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                         : "rcx", "r11", "memory");
    return result;
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ __volatile__("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    return x0;
#else
    int saved = errno;
    long result = syscall(number, a, b, c, d, e, f);
    if (result == -1) result = -errno;
    errno = saved;
    return result;
#endif
}

static bool failed(long result) { return (unsigned long)result > -4096ul; }

size_t prim_page_size(void) {
    static size_t size;
    size_t known = load_relaxed(&size);
    if (known == 0) {
        known = getauxval(AT_PAGESZ);
        if (known == 0) known = 4096;
        store_relaxed(&size, known);
    }
    return known;
}

void *prim_sbrk(intptr_t delta) {
    int saved = errno;
    void *old = sbrk(delta);
    errno = saved;
    return old;
}

#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer forgets what it knows of an address when it sees it unmapped: it must see it. */
static long map_call(long number, long a, long b, long c, long d) {
    int saved = errno;
    long result = number == SYS_mmap ? (long)mmap((void *)a, (size_t)b, (int)c, (int)d, -1, 0) : munmap((void *)a, (size_t)b);
    if (result == -1) result = -errno;
    errno = saved;
    return result;
}
#else
static long map_call(long number, long a, long b, long c, long d) { return raw(number, a, b, c, d, -1, 0); }
#endif

void *prim_map(void *hint, size_t size, bool usable) {
    int protection = usable ? PROT_READ | PROT_WRITE : PROT_NONE;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | (usable ? 0 : MAP_NORESERVE);
    long at = map_call(SYS_mmap, (long)hint, (long)size, protection, flags);
    return failed(at) ? NULL : (void *)at;
}

bool prim_unmap(void *start, size_t size) { return !failed(map_call(SYS_munmap, (long)start, (long)size, 0, 0)); }

bool prim_make_usable(void *start, size_t size) {
    return !failed(raw(SYS_mprotect, (long)start, (long)size, PROT_READ | PROT_WRITE, 0, 0, 0));
}

/* A fresh mapping over the old one: gives memory and commit charge back in one call. */
bool prim_make_unusable(void *start, size_t size) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    return !failed(raw(SYS_mmap, (long)start, (long)size, PROT_NONE, flags, -1, 0));
}

bool prim_discard(void *start, size_t size) { return !failed(raw(SYS_madvise, (long)start, (long)size, MADV_DONTNEED, 0, 0, 0)); }

bool prim_renew(void *start, size_t size) {
    return !failed(raw(SYS_mmap, (long)start, (long)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
}

bool prim_wipe_on_fork(void *start, size_t size) { return !failed(raw(SYS_madvise, (long)start, (long)size, MADV_WIPEONFORK, 0, 0, 0)); }

bool prim_advise_huge(void *start, size_t size, bool wanted) {
    return !failed(raw(SYS_madvise, (long)start, (long)size, wanted ? MADV_HUGEPAGE : MADV_NOHUGEPAGE, 0, 0, 0));
}

/* Since Linux 5.17, if CONFIG_ANON_VMA_NAME is set; else EINVAL. */
bool prim_name(void *start, size_t size, const char *name) {
    return raw(SYS_prctl, PR_SET_VMA, PR_SET_VMA_ANON_NAME, (long)start, (long)size, (long)name, 0) != -EINVAL;
}

void *prim_remap(void *start, size_t old_size, size_t new_size) {
    long at = raw(SYS_mremap, (long)start, (long)old_size, (long)new_size, MREMAP_MAYMOVE, 0, 0);
    return failed(at) ? NULL : (void *)at;
}

/* Where memory is locked the place that the pages leave would not be any more: one page is given back first, which is refused there. And before Linux 6.17 the
 * target is unmapped before it turns out that the source is more than one mapping: so the source is asked to grow where it is. It can't, for the page behind it
 * is ours, but where it is more than one mapping the error is another. */
bool prim_move(void *from, void *to, size_t size) {
    long flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
    if (!prim_discard(from, prim_page_size())) return false;
    if (raw(SYS_mremap, (long)from, (long)size, (long)(size + prim_page_size()), 0, 0, 0) != -ENOMEM) return false;
    if (!failed(raw(SYS_mremap, (long)from, (long)size, (long)size, flags, (long)to, 0))) return true;
    long again = raw(SYS_mmap, (long)to, (long)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (failed(again) && again != -EEXIST)
        prim_abort(); /* the kernel has no memory for a description of the mapping that it has just dropped */
    return false;
}

void prim_wait(uint32_t *word, uint32_t expected, uint64_t nanoseconds) {
    struct timespec limit = {.tv_sec = (time_t)(nanoseconds / 1000000000u), .tv_nsec = (long)(nanoseconds % 1000000000u)};
    raw(SYS_futex, (long)word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, expected, nanoseconds != 0 ? (long)&limit : 0, 0, 0);
}

void prim_wake(uint32_t *word, unsigned count) { raw(SYS_futex, (long)word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, (long)count, 0, 0, 0); }

bool prim_environment(char ***environment) {
    *environment = getauxval(AT_SECURE) != 0 ? NULL : environ;
    return environ != NULL;
}

static pthread_key_t exit_key;

bool prim_thread_exit_hook(void (*exit)(void *value)) { return pthread_key_create(&exit_key, exit) == 0; }

void prim_thread_exit_arm(void *value) { pthread_setspecific(exit_key, value); }

static COLD void *thread_run(void *arg) {
    static const char name[] = "seemalloc";
    void (*function)(void) = (void (*)(void))(uintptr_t)arg;
    raw(SYS_prctl, PR_SET_NAME, (long)name, 0, 0, 0, 0);
    function();
    return NULL;
}

/* By libc, which needs to know of its threads: setuid tells all of them, by signals that pthread_sigmask never blocks. */
COLD bool prim_start_thread(void (*run)(void)) {
    int saved = errno;
    sigset_t all, before;
    pthread_attr_t attributes;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    int error = EINVAL;
    for (size_t stack = THREAD_STACK; error == EINVAL && stack <= THREAD_STACK_MOST;
         stack *= 4) { /* thread-local data of others lie on it as well */
        pthread_attr_setstacksize(&attributes, stack);
        error = pthread_create(&thread, &attributes, thread_run, (void *)(uintptr_t)run);
    }
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return error == 0;
}

/* PID (NAME) STATE and 16 numbers before that of the threads; NAME may hold anything. The state is the main thread's. */
COLD bool prim_is_last_thread(void) {
    char text[512];
    long length = prim_read_file("/proc/self/stat", text, sizeof text - 1);
    if (length <= 0) return false;
    text[length] = '\0';
    const char *at = strrchr(text, ')');
    if (at == NULL || strncmp(at, ") Z ", 4) != 0) return false;
    for (unsigned blanks = 0; blanks < 18 && *at != '\0'; at++) blanks += *at == ' ';
    return strncmp(at, "2 ", 2) == 0; /* the main thread is there until the process ends */
}

typedef int clock_function(clockid_t clock, struct timespec *now);

/* The kernel's own function in this process, or libc's. */
static NOINLINE clock_function *find_clock(void) {
    const char *image = (const char *)getauxval(AT_SYSINFO_EHDR);
    if (image == NULL) return clock_gettime;
    const ElfW(Ehdr) *head = (const ElfW(Ehdr) *)image;
    const ElfW(Phdr) *segment = (const ElfW(Phdr) *)(image + head->e_phoff);
    const ElfW(Dyn) *entry = NULL;
    const char *base = NULL; /* what addresses in it are relative to */
    for (unsigned i = 0; i < head->e_phnum; i++) {
        if (segment[i].p_type == PT_LOAD && base == NULL) base = image + segment[i].p_offset - segment[i].p_vaddr;
        if (segment[i].p_type == PT_DYNAMIC) entry = (const ElfW(Dyn) *)(image + segment[i].p_offset);
    }
    const char *names = NULL;
    const ElfW(Sym) *symbol = NULL;
    const uint32_t *hash = NULL; /* buckets and symbols are counted there */
    for (; base != NULL && entry != NULL && entry->d_tag != DT_NULL; entry++) {
        const char *at = base + entry->d_un.d_ptr;
        if (entry->d_tag == DT_STRTAB) names = at;
        if (entry->d_tag == DT_SYMTAB) symbol = (const ElfW(Sym) *)at;
        if (entry->d_tag == DT_HASH) hash = (const uint32_t *)at;
    }
    if (names == NULL || symbol == NULL || hash == NULL) return clock_gettime;
    for (uint32_t i = 0; i < hash[1]; i++) {
        const char *name = names + symbol[i].st_name;
        if (symbol[i].st_shndx == SHN_UNDEF) continue;
        if (strcmp(name, "__vdso_clock_gettime") == 0 || strcmp(name, "__kernel_clock_gettime") == 0) {
            return (clock_function *)(uintptr_t)(base + symbol[i].st_value);
        }
    }
    return clock_gettime;
}

/* Not by libc, if it can be helped: its function lies among others that small programs do not use, and a call brings 64 KiB of them into memory. */
uint64_t prim_clock(void) {
    static clock_function *function;
    clock_function *known = load_relaxed(&function);
    if (UNLIKELY(known == NULL)) store_relaxed(&function, known = find_clock());
    struct timespec now = {0};
    int saved = errno;
    known(CLOCK_MONOTONIC, &now);
    errno = saved;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The kernel's generator without waiting for it to be seeded; else the bytes that it put on our stack at exec, mixed with the clock. */
uint64_t prim_random(void) {
    uint64_t value = 0;
    if (raw(SYS_getrandom, (long)&value, sizeof value, 1 /* GRND_NONBLOCK */, 0, 0, 0) == (long)sizeof value) return value;
    static uint64_t state;
    const uint64_t *at_exec = (const uint64_t *)getauxval(AT_RANDOM);
    uint64_t z = load_relaxed(&state) + prim_clock() + (at_exec != NULL ? at_exec[0] ^ at_exec[1] : 0) + 0x9e3779b97f4a7c15u;
    store_relaxed(&state, z);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u; /* splitmix64's finaliser */
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

bool prim_is_main_thread(void) { return raw(SYS_gettid, 0, 0, 0, 0, 0, 0) == raw(SYS_getpid, 0, 0, 0, 0, 0, 0); }

unsigned prim_process_id(void) { return (unsigned)raw(SYS_getpid, 0, 0, 0, 0, 0, 0); }

unsigned prim_cpus(void) {
    uint64_t mask[128] = {0}; /* 8192 CPUs, the kernel's own limit on x86-64 */
    long bytes = raw(SYS_sched_getaffinity, 0, sizeof mask, (long)mask, 0, 0, 0);
    unsigned count = 0;
    for (long i = 0; i < bytes / (long)sizeof mask[0]; i++) count += (unsigned)__builtin_popcountll(mask[i]);
    return count != 0 ? count : 1;
}

/* libc reads it from the thread's rseq area, or asks the vDSO. */
unsigned prim_cpu(void) {
    int error = errno, cpu = sched_getcpu();
    errno = error;
    return cpu > 0 ? (unsigned)cpu : 0;
}

size_t prim_address_space_limit(void) {
    struct rlimit limit;
    if (failed(raw(SYS_prlimit64, 0, RLIMIT_AS, 0, (long)&limit, 0, 0))) return SIZE_MAX;
    return limit.rlim_cur == RLIM_INFINITY ? SIZE_MAX : limit.rlim_cur;
}

size_t prim_minor_faults(size_t *major) {
    struct rusage usage = {0};
    raw(SYS_getrusage, RUSAGE_SELF, (long)&usage, 0, 0, 0, 0);
    if (major != NULL) *major = (size_t)usage.ru_majflt;
    return (size_t)usage.ru_minflt;
}

size_t prim_peak_rss(void) {
    struct rusage usage = {0};
    raw(SYS_getrusage, RUSAGE_SELF, (long)&usage, 0, 0, 0, 0);
    return (size_t)usage.ru_maxrss * 1024;
}

int prim_open_file(const char *path) {
    long fd = raw(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
    return failed(fd) ? -1 : (int)fd;
}

long prim_read_at(int file, char *data, size_t size, uint64_t offset) {
    long n;
    do {
        n = raw(SYS_pread64, file, (long)data, (long)size, (long)offset, 0, 0);
    } while (n == -EINTR);
    return failed(n) ? -1 : n;
}

void prim_close_file(int file) {
    if (file >= 0) raw(SYS_close, file, 0, 0, 0, 0, 0);
}

long prim_read_file(const char *path, char *data, size_t size) {
    int file = prim_open_file(path);
    if (file < 0) return -1;
    size_t length = 0;
    for (long n; length < size && (n = prim_read_at(file, data + length, size - length, length)) > 0;) length += (size_t)n;
    prim_close_file(file);
    return (long)length;
}

COLD int prim_keep_stderr(void) {
    long fd = raw(SYS_fcntl, STDERR_FILENO, F_DUPFD_CLOEXEC, 200, 0, 0, 0); /* out of the way of programs that count their descriptors */
    return failed(fd) ? STDERR_FILENO : (int)fd;
}

COLD void prim_write(int fd, const char *data, size_t size) {
    while (size != 0) {
        long n = raw(SYS_write, fd, (long)data, (long)size, 0, 0, 0);
        if (n == -EINTR) continue;
        if (failed(n) || n == 0) return;
        data += n;
        size -= (size_t)n;
    }
}

void prim_abort(void) { abort(); }

#ifdef SEEMALLOC_TRACE

void *prim_map_shared(const char *path, size_t size) {
    long fd = raw(SYS_openat, AT_FDCWD, (long)path, O_RDWR | O_CLOEXEC, 0, 0, 0);
    if (failed(fd)) return NULL;
    long end = raw(SYS_lseek, fd, 0, SEEK_END, 0, 0, 0);
    long at = end == (long)size ? raw(SYS_mmap, 0, (long)size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0) : -EINVAL;
    prim_close_file((int)fd);
    if (failed(at)) return NULL;
    raw(SYS_madvise, at, (long)size, MADV_DONTDUMP, 0, 0, 0); /* it is of no use in a core file, and large */
    return (void *)at;
}

unsigned prim_thread_id(void) { return (unsigned)raw(SYS_gettid, 0, 0, 0, 0, 0, 0); }

void prim_thread_name(char name[16]) {
    name[0] = '\0';
    raw(SYS_prctl, PR_GET_NAME, (long)name, 0, 0, 0, 0);
}

static bool read_number(const char **at, char end, uint64_t *number) {
    *number = 0;
    for (;; (*at)++) {
        char c = **at;
        if (c == end) return true;
        unsigned digit = c >= '0' && c <= '9' ? (unsigned)(c - '0') : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10 : 16;
        if (digit == 16) return false;
        *number = *number << 4 | digit;
    }
}

/* By the lines of /proc/self/maps, "LOW-HIGH …\n" in rising order. The first thread's stack may grow down to the mapping before it. */
void prim_stack_bounds(uint64_t address, uint64_t *low, uint64_t *high) {
    char text[1024];
    uint64_t offset = 0, below = 0;
    bool first = prim_is_main_thread();
    int file = prim_open_file("/proc/self/maps");
    *low = *high = 0;
    for (long n; file >= 0 && (n = prim_read_at(file, text, sizeof text - 1, offset)) > 0;) {
        const char *at = text, *line;
        text[n] = '\0';
        for (; (line = strchr(at, '\n')) != NULL; at = line + 1) {
            uint64_t from, to;
            if (!read_number(&at, '-', &from) || !read_number((at++, &at), ' ', &to)) continue;
            if (address >= from && address < to) {
                *low = first ? below : from;
                *high = to;
                prim_close_file(file);
                return;
            }
            below = to;
        }
        if (at == text) break; /* a line longer than that */
        offset += (uint64_t)(at - text);
    }
    prim_close_file(file);
}

static pthread_key_t recording_exit_key;

bool prim_recording_exit_hook(void (*exit)(void *value)) { return pthread_key_create(&recording_exit_key, exit) == 0; }

void prim_recording_exit_arm(void *value) { pthread_setspecific(recording_exit_key, value); }

#endif
