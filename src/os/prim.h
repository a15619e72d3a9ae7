/* prim.h: the contract with the operating system: everything that seemalloc asks of it, and nothing else.
 *
 * prim_linux.c implements it with raw system calls; test/fake/ implements it again, with other page sizes and failures on demand. No
 * function here allocates, locks, or changes errno. Sizes are bytes; addresses and sizes of mappings are multiples of the page size.
 * Only os.c calls these; the rest of the allocator calls os.h, which counts. SPDX-License-Identifier: MIT */
#ifndef OS_PRIM_H
#define OS_PRIM_H

#include "base/base.h"

/* The page size in bytes: a power of two from 4 KiB to 64 KiB. Constant during the life of the process. */
size_t prim_page_size(void);

/* Moves the program break by `delta` bytes as sbrk does and returns the old break, or (void *)-1. Not thread-safe: the main arena's lock
 * guards our own calls; foreign callers can't be guarded against. */
void *prim_sbrk(intptr_t delta);

/* A new private anonymous zeroed mapping, readable and writable, or (usable = false) reserved without access and without commit charge.
 * `hint` may be NULL. NULL if it can't be had. */
void *prim_map(void *hint, size_t size, bool usable);

/* Each returns false if the system refuses; then nothing has changed. */
bool prim_unmap(void *start, size_t size);
bool prim_make_usable(void *start, size_t size);
bool prim_make_unusable(void *start, size_t size);            /* contents are gone, the reservation stays */
bool prim_discard(void *start, size_t size);                  /* contents read as zero afterwards, access stays */
bool prim_renew(void *start, size_t size);                    /* likewise, by a fresh mapping over the old one */
bool prim_wipe_on_fork(void *start, size_t size);             /* zero-filled in a forked child */
bool prim_advise_huge(void *start, size_t size, bool wanted); /* asks for huge pages, or not to have any */

/* What an anonymous mapping, or part of one, is called in /proc/PID/maps. The name is static. False: the system has no names. A fresh mapping has none, and neighbours of different names are two for the kernel. */
bool prim_name(void *start, size_t size, const char *name);

/* Grows or shrinks a mapping, moving it if it must. NULL if refused; the old mapping is then as it was. */
void *prim_remap(void *start, size_t old_size, size_t new_size);

/* The pages of [from, from + size) become those of [to, to + size), whose own are gone; where they were reads as zero. What they hold is nobody's: the first page
 * may come empty. Both are usable, and so is the page behind the former. False: the system does not do it there, or memory is locked there; what either holds
 * may have become zero. */
bool prim_move(void *from, void *to, size_t size);

/* Sleeps while *word == expected, at most `nanoseconds` (0: without limit). May wake early. */
void prim_wait(uint32_t *word, uint32_t expected, uint64_t nanoseconds);
void prim_wake(uint32_t *word, unsigned count);

/* False while the C library does not know the environment yet. *environment is NULL if it must not be trusted (a program with raised rights). */
bool prim_environment(char ***environment);

/* Calls `exit(value)` when a thread that armed with a value other than NULL ends, as a pthread key's destructor. Arming may allocate. */
bool prim_thread_exit_hook(void (*exit)(void *value));
void prim_thread_exit_arm(void *value);

/* A detached thread with a small stack and all signals blocked, which runs `run` and ends. False if it can't be had. Allocates; keeps errno. */
bool prim_start_thread(void (*run)(void));
bool prim_is_last_thread(void); /* all others have ended, which the main thread does by pthread_exit; false where /proc can't be read */

uint64_t prim_clock(void);      /* monotonic nanoseconds */
uint64_t prim_random(void);     /* unpredictable to an attacker where the kernel can provide it */
bool prim_is_main_thread(void); /* the thread whose id is the process id */
unsigned prim_process_id(void);
unsigned prim_cpus(void);                                              /* CPUs that this process may run on by affinity; at least 1 */
unsigned prim_cpu(void);                                               /* that this thread runs on now; a hint */
size_t prim_address_space_limit(void);                                 /* soft RLIMIT_AS in bytes; SIZE_MAX if unlimited */
size_t prim_minor_faults(size_t *major);                               /* of this process so far */
size_t prim_peak_rss(void);                                            /* bytes */
long prim_read_file(const char *path, char *data, size_t size);        /* bytes read from the start of a small file, or -1 */
int prim_open_file(const char *path);                                  /* for reading; -1: it can't be */
long prim_read_at(int file, char *data, size_t size, uint64_t offset); /* bytes, 0 at the end, -1 on errors */
void prim_close_file(int file);                                        /* -1 is ignored */
#define PRIM_STDERR 2
void prim_write(int fd, const char *data, size_t size); /* gives up on errors */
int prim_keep_stderr(
    void); /* another descriptor for standard error, closed at exec, that survives the program's closing of 2; 2 if refused */
_Noreturn void prim_abort(void);

#ifdef SEEMALLOC_TRACE                                /* for recordings */
void *prim_map_shared(const char *path, size_t size); /* a file that is there, of that size; NULL: it can't be */
unsigned prim_thread_id(void);
void prim_thread_name(char name[16]); /* ended by 0 */
/* The mapping that `address` lies in, of a stack that grows with what is left for it; both 0: not known. */
void prim_stack_bounds(uint64_t address, uint64_t *low, uint64_t *high);
/* As the two above for a thread's exit; another key. */
bool prim_recording_exit_hook(void (*exit)(void *value));
void prim_recording_exit_arm(void *value);
#endif

#endif
