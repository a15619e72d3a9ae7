/* names.h: the exported names. With SEEMALLOC_PREFIX the standard ones are left alone (sanitizers have their own malloc; tests compare with
 * libc's), and ours carry the prefix seemalloc_. SPDX-License-Identifier: MIT */
#ifndef API_NAMES_H
#define API_NAMES_H

#include "base/base.h"

#ifdef SEEMALLOC_PREFIX
#define malloc seemalloc_malloc
#define free seemalloc_free
#define calloc seemalloc_calloc
#define realloc seemalloc_realloc
#define reallocarray seemalloc_reallocarray
#define aligned_alloc seemalloc_aligned_alloc
#define memalign seemalloc_memalign
#define posix_memalign seemalloc_posix_memalign
#define valloc seemalloc_valloc
#define pvalloc seemalloc_pvalloc
#define malloc_usable_size seemalloc_malloc_usable_size
#define free_sized seemalloc_free_sized
#define free_aligned_sized seemalloc_free_aligned_sized
#define cfree seemalloc_cfree
#define mallopt seemalloc_mallopt
#define mallinfo seemalloc_mallinfo
#define mallinfo2 seemalloc_mallinfo2
#define malloc_info seemalloc_malloc_info
#define malloc_stats seemalloc_malloc_stats
#define malloc_trim seemalloc_malloc_trim
#endif

/* malloc's documentation is the C standard, POSIX and malloc(3); all are thread-safe. Requests over PTRDIFF_MAX fail. */
void *malloc(size_t bytes);
void free(void *mem);
void *calloc(size_t count, size_t bytes);
void *realloc(void *mem, size_t bytes);
void *reallocarray(void *mem, size_t count, size_t bytes);
void *aligned_alloc(size_t align, size_t bytes);
void *memalign(size_t align, size_t bytes);
int posix_memalign(void **mem, size_t align, size_t bytes);
void *valloc(size_t bytes);
void *pvalloc(size_t bytes);
size_t malloc_usable_size(void *mem);
void free_sized(void *mem, size_t bytes);
void free_aligned_sized(void *mem, size_t align, size_t bytes);
void cfree(void *mem);
int mallopt(int parameter, int value);
void malloc_stats(void);
int malloc_trim(size_t pad);

/* Within the api layer. */
void *api_allocate(size_t bytes);                       /* malloc's way; NULL without touching errno's funnel is impossible: sets ENOMEM */
void *api_allocate_aligned(size_t align, size_t bytes); /* align a power of two */
void api_free(void *mem);
void api_check_size(void *mem, size_t bytes); /* check:1: a sized free says no more than was asked for */

#endif
