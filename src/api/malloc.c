/* malloc.c: the entry points of C.
 *
 *   malloc ── class ── cache_pop ──hit──> return            free ── unseal ── key ── class ── cache_push ──hit──> return
 *                          └─miss─> cache_alloc                                                    └─miss─> cache_free
 *
 * A hit is a straight line without a lock; everything else is a tail call. SPDX-License-Identifier: MIT */
#include "api/names.h"

#include <errno.h>
#include <string.h>

#include "base/probe.h"
#include "cache/cache.h"
#include "conf/conf.h"
#include "heap/mapped.h"
#include "os/os.h"
#include "os/report.h"
#include "trace/trace.h"

#define SHRUNK_MOVES (KIB(16) + CHUNK_HEADER) /* chunks up to this size */

/* The one place where a failure becomes errno. */
static COLD void *no_memory(void) {
    errno = ENOMEM;
    return NULL;
}

static NOINLINE void *malloc_missed(size_t bytes) {
    if (UNLIKELY(bytes > PTRDIFF_MAX)) return no_memory();
    void *mem = cache_alloc(request_size(bytes));
    return LIKELY(mem != NULL) ? mem : no_memory();
}

static NOINLINE void *malloc_missed_recorded(size_t bytes) { return trace_allocated(malloc_missed(bytes), bytes); }

/* What the program asks for, as against what goes on inside: a recording has only that. */
static ALWAYS_INLINE void *allocate_for(bool is_program, size_t bytes) {
    void *mem;
    if (LIKELY(bytes <= CLASS_EXACT_SIZE - CHUNK_OVERHEAD)) {
        if (LIKELY(cache_pop(class_of_small(bytes), &mem))) return is_program ? trace_allocated(mem, bytes) : mem;
    } else if (LIKELY(bytes <= CLASS_SIZE_MAX - CHUNK_OVERHEAD)) {
        if (LIKELY(cache_pop(class_at_least(bytes + CHUNK_OVERHEAD), &mem))) return is_program ? trace_allocated(mem, bytes) : mem;
    }
    return TRACE_COMPILED && is_program ? malloc_missed_recorded(bytes) : malloc_missed(bytes);
}
static ALWAYS_INLINE void *allocate(size_t bytes) { return allocate_for(false, bytes); }
static ALWAYS_INLINE void *allocate_asked(size_t bytes) { return allocate_for(true, bytes); }

static ALWAYS_INLINE void release(void *mem) {
    if (UNLIKELY(mem == NULL)) return;
    const struct chunk *chunk = chunk_of(mem);
    uint64_t head = chunk_head(chunk);
    size_t size = head_size(head);
    if (LIKELY(tag_in_use(head_tag(head, chunk)) && !key_matches(mem))) {
        if (LIKELY(size <= CLASS_EXACT_SIZE)) { /* no magazine below CHUNK_MIN has room */
            if (LIKELY(cache_push((unsigned)(size / CHUNK_ALIGN), mem))) return;
        } else if (LIKELY(size <= CLASS_SIZE_MAX)) {
            if (LIKELY(cache_push(class_at_most(size), mem))) return;
        }
    }
    cache_free(mem);
}

static NOINLINE void release_recorded(void *mem) {
    trace_freeing(mem);
    release(mem);
}

static ALWAYS_INLINE void release_asked(void *mem) {
    if (trace_wants_free(mem)) {
        release_recorded(mem);
    } else {
        release(mem);
    }
}

void *api_allocate(size_t bytes) { return allocate_asked(bytes); }
void api_free(void *mem) { release_asked(mem); }

EXPORT void *malloc(size_t bytes) { return allocate_asked(bytes); }
EXPORT void free(void *mem) { release_asked(mem); }

/* In whole words where it pays: the compiler's choice. What is known to be zero is not touched. */
EXPORT void *calloc(size_t count, size_t bytes) {
    size_t total;
    if (UNLIKELY(__builtin_mul_overflow(count, bytes, &total) || total > PTRDIFF_MAX)) return no_memory();
    if (LIKELY(total <= CLASS_SIZE_MAX - CHUNK_OVERHEAD)) {
        void *mem = allocate_asked(total);
        return LIKELY(mem != NULL) ? memset(mem, 0, total) : NULL;
    }
    bool zeroed;
    void *mem = cache_alloc_large(request_size(total), CHUNK_ALIGN, &zeroed);
    if (UNLIKELY(mem == NULL)) return no_memory();
    trace_allocated(mem, total);
    return zeroed ? mem : memset(mem, 0, total);
}

/* The chunk of a block that the program still has, or the end. */
static const struct chunk *live_chunk(void *mem, const char *line) {
    const struct chunk *chunk = chunk_of(mem);
    uint64_t head = chunk_head(chunk);
    uint32_t tag = head_tag(head, chunk);
    bool good = ((uintptr_t)mem & (CHUNK_ALIGN - 1)) == 0 &&
                (tag == TAG_MAPPED ? (head & FLAG_M) != 0 : tag_in_use(tag) && head_size(head) >= CHUNK_MIN && !(head & FLAG_M));
    if (UNLIKELY(!good)) {
        fatal(line,
              "pointer %p: found header 0x%lx, expected the seal of a block in use; it did not come from malloc, was freed already, or its "
              "header was overwritten",
              mem, (unsigned long)head);
    }
    if (UNLIKELY(key_matches(mem))) cache_check_live(mem, line);
    return chunk;
}

static void *move(void *mem, size_t usable, size_t bytes) {
    void *copy = allocate(bytes);
    if (UNLIKELY(copy == NULL)) return NULL;
    memcpy(copy, mem, usable < bytes ? usable : bytes);
    release(mem);
    return copy;
}

/* A medium block that shrinks by much moves, for it is not to be cut where it stands (see SHRUNK_SHARE). */
static void *move_small(void *mem, size_t usable, size_t old_size, size_t size, size_t bytes) {
    if (size > SHRUNK_MOVES || size >= old_size - old_size / SHRUNK_SHARE_MEDIUM || old_size <= CLASS_EXACT_SIZE ||
        load_relaxed(&os_counters.limit) != 0)
        return NULL;
    int saved = errno;
    void *copy = move(mem, usable, bytes);
    errno = saved;
    return copy;
}

#ifdef SEEMALLOC_TRACE
static void *reallocate(void *mem, size_t bytes);

EXPORT void *realloc(void *mem, size_t bytes) {
    if (mem == NULL) return allocate_asked(bytes);
    if (UNLIKELY(bytes == 0)) {
        release_asked(mem);
        return NULL;
    }
    uint64_t since = trace_moving(mem);
    return trace_moved(since, mem, reallocate(mem, bytes), bytes);
}

#define REALLOC static void *reallocate
#else
#define REALLOC EXPORT void *realloc
#endif

REALLOC(void *mem, size_t bytes) {
    if (mem == NULL) return allocate(bytes);
    if (UNLIKELY(bytes == 0)) {
        release(mem);
        return NULL;
    }
    if (UNLIKELY(bytes > PTRDIFF_MAX)) return no_memory();
    uint64_t head = chunk_head(live_chunk(mem, "realloc(): invalid pointer"));
    size_t usable = head_usable(head), size = request_size(bytes);
    if (head & FLAG_M) {
        /* A mapping that would shrink below the threshold goes back into the heap; between sizes mremap moves page tables, not bytes. */
        if (size < conf_get(CONF_MMAP_THRESHOLD) && bytes < usable / 2) {
            void *copy = move(mem, usable, bytes);
            if (copy != NULL) return copy;
        }
        void *moved = mapped_realloc(mem, size);
        size_t growth = size > usable ? size - usable : 0;
        for (unsigned tries = 0; UNLIKELY(moved == NULL) && growth != 0 && cache_relieve(growth, &tries);) {
            PROBE2(memory_realloc_retry, size, mem);
            moved = mapped_realloc(mem, size);
        }
        return moved != NULL ? moved : move(mem, usable, bytes);
    }
    if (UNLIKELY(size >= CHUNK_MAX)) return no_memory();
    void *moved = move_small(mem, usable, head_size(head), size, bytes);
    if (moved != NULL) return moved;
    return cache_resize(mem, head_size(head), size) ? mem : move(mem, usable, bytes);
}

EXPORT void *reallocarray(void *mem, size_t count, size_t bytes) {
    size_t total;
    if (UNLIKELY(__builtin_mul_overflow(count, bytes, &total))) return no_memory();
    return realloc(mem, total);
}

void *api_allocate_aligned(size_t align, size_t bytes) {
    if (align <= CHUNK_ALIGN) return allocate_asked(bytes);
    if (UNLIKELY(bytes > PTRDIFF_MAX || align > PTRDIFF_MAX - bytes)) return no_memory();
    void *mem = cache_alloc_large(request_size(bytes), align, NULL);
    return LIKELY(mem != NULL) ? trace_allocated(mem, bytes) : no_memory();
}

/* C17 7.22.3.1: an alignment that is not supported fails; glibc says EINVAL. */
EXPORT void *aligned_alloc(size_t align, size_t bytes) {
    if (UNLIKELY(!is_power_of_two(align))) {
        errno = EINVAL;
        return NULL;
    }
    return api_allocate_aligned(align, bytes);
}

/* Rounds an odd alignment up, as glibc does; 2^63 would overflow. */
EXPORT void *memalign(size_t align, size_t bytes) {
    if (UNLIKELY(align > SIZE_MAX / 2 + 1)) {
        errno = EINVAL;
        return NULL;
    }
    if (align > CHUNK_ALIGN && !is_power_of_two(align)) align = (size_t)2 << top_bit(align);
    return api_allocate_aligned(align, bytes);
}

/* POSIX: returns the error and leaves errno alone. */
EXPORT int posix_memalign(void **mem, size_t align, size_t bytes) {
    if (!is_power_of_two(align) || align % sizeof(void *) != 0) return EINVAL;
    int saved = errno;
    void *found = api_allocate_aligned(align, bytes);
    errno = saved;
    if (found == NULL) return ENOMEM;
    *mem = found;
    return 0;
}

EXPORT void *valloc(size_t bytes) { return api_allocate_aligned(os_page_size(), bytes); }

EXPORT void *pvalloc(size_t bytes) {
    size_t page = os_page_size(), rounded;
    if (UNLIKELY(__builtin_add_overflow(bytes, page - 1, &rounded))) return no_memory();
    return api_allocate_aligned(page, align_down(rounded, page));
}

EXPORT size_t malloc_usable_size(void *mem) {
    if (mem == NULL) return 0;
    return head_usable(chunk_head(live_chunk(mem, "malloc_usable_size(): invalid pointer")));
}

/* The size is a hint; programs that pass a wrong one exist. It is verified only where the user asks for checks. */
void api_check_size(void *mem, size_t bytes) {
    if (LIKELY(conf_get(CONF_CHECK) == 0) || mem == NULL) return;
    size_t usable = head_usable(chunk_head(live_chunk(mem, "free(): invalid pointer")));
    if (bytes > usable) {
        fatal("free(): invalid size", "block at %p has %zu usable bytes, but the size given to free it is %zu", mem, usable, bytes);
    }
}

EXPORT void free_sized(void *mem, size_t bytes) {
    api_check_size(mem, bytes);
    release_asked(mem);
}

EXPORT void free_aligned_sized(void *mem, size_t align, size_t bytes) {
    (void)align;
    api_check_size(mem, bytes);
    release_asked(mem);
}

EXPORT void cfree(void *mem) { release_asked(mem); }

#ifndef SEEMALLOC_PREFIX
/* Other names of the same functions: a static program would else pull libc's malloc in beside ours, and old callers use them. */
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmissing-attributes" /* the C library's header gives the standard names some that don't matter here */
#endif
#define ALIAS(of) EXPORT __attribute__((alias(#of)))
ALIAS(malloc) void *__libc_malloc(size_t bytes);
ALIAS(free) void __libc_free(void *mem);
ALIAS(calloc) void *__libc_calloc(size_t count, size_t bytes);
ALIAS(realloc) void *__libc_realloc(void *mem, size_t bytes);
ALIAS(memalign) void *__libc_memalign(size_t align, size_t bytes);
ALIAS(valloc) void *__libc_valloc(size_t bytes);
ALIAS(pvalloc) void *__libc_pvalloc(size_t bytes);
ALIAS(posix_memalign) int __posix_memalign(void **mem, size_t align, size_t bytes);
#endif
