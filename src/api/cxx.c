/* cxx.c: C++'s operators new and delete, in C, by their mangled names (Itanium C++ ABI), so that no C++ library is needed.
 *
 * When there is no memory, the handler that std::get_new_handler returns is called until it helps, ends otherwise, or is absent; then the
 * throwing forms need bad_alloc. Both come from libstdc++ or libc++ if one is linked: through weak references, else through the library's
 * own operator new, which is the next of that name. [new.delete.single] in ISO C++. SPDX-License-Identifier: MIT */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>

#include "api/names.h"
#include "os/report.h"

#ifndef SEEMALLOC_PREFIX

typedef void new_handler(void);
extern new_handler *_ZSt15get_new_handlerv(void) __attribute__((weak));     /* std::get_new_handler() */
extern _Noreturn void _ZSt17__throw_bad_allocv(void) __attribute__((weak)); /* std::__throw_bad_alloc() */

static void *attempt(size_t bytes, size_t align) { return align == 0 ? api_allocate(bytes) : api_allocate_aligned(align, bytes); }

/* Looks a function of the C++ library up that was not there when we were linked. */
static void *library_function(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    return found != NULL ? found : dlsym(RTLD_DEFAULT, name);
}

static new_handler *current_handler(void) {
    if (_ZSt15get_new_handlerv != NULL) return _ZSt15get_new_handlerv();
    new_handler *(*get)(void) = (new_handler * (*)(void)) library_function("_ZSt15get_new_handlerv");
    return get != NULL ? get() : NULL;
}

static void throw_bad_alloc(size_t bytes) {
    if (_ZSt17__throw_bad_allocv != NULL) _ZSt17__throw_bad_allocv();
    void (*throw)(void) = (void (*)(void))library_function("_ZSt17__throw_bad_allocv");
    if (throw != NULL) throw();
    /* libc++ has no such function; its own operator new throws when its malloc, which is ours, fails again. */
    void *(*next_new)(size_t) = (void *(*)(size_t))dlsym(RTLD_NEXT, "_Znwm");
    if (next_new != NULL) next_new(bytes);
    fatal("terminate called after throwing an instance of 'std::bad_alloc'",
          "operator new found no memory for %zu bytes, and no C++ library to throw std::bad_alloc with", bytes);
}

/* The nothrow forms must swallow what a handler throws, which C can't: the library's own one does, calling our throwing one inside. */
static bool library_new_nothrow(size_t bytes, size_t align, void **mem) {
    static const char nothrow;
    void *(*plain)(size_t, const void *) = (void *(*)(size_t, const void *))dlsym(RTLD_NEXT, "_ZnwmRKSt9nothrow_t");
    void *(*aligned)(size_t, size_t, const void *) =
        (void *(*)(size_t, size_t, const void *))dlsym(RTLD_NEXT, "_ZnwmSt11align_val_tRKSt9nothrow_t");
    if (plain == NULL || aligned == NULL) return false;
    *mem = align == 0 ? plain(bytes, &nothrow) : aligned(bytes, align, &nothrow);
    return true;
}

static COLD void *new_failed(size_t bytes, size_t align, bool throws) {
    for (;;) {
        new_handler *handler = current_handler();
        void *found;
        if (handler == NULL) break;
        if (!throws && library_new_nothrow(bytes, align, &found)) return found;
        handler();
        void *mem = attempt(bytes, align);
        if (mem != NULL) return mem;
    }
    if (throws) throw_bad_alloc(bytes);
    return NULL;
}

static ALWAYS_INLINE void *new (size_t bytes, size_t align, bool throws) {
    void *mem = attempt(bytes, align);
    return LIKELY(mem != NULL) ? mem : new_failed(bytes, align, throws);
}

static ALWAYS_INLINE void delete_sized(void *mem, size_t bytes) {
    api_check_size(mem, bytes);
    api_free(mem);
}

/* nothrow_t and align_val_t arrive as a pointer and a size. */
#define NEW(name, align_parameter, align, nothrow_parameter, throws)                                                                       \
    EXPORT void *name(size_t bytes align_parameter nothrow_parameter);                                                                     \
    void *name(size_t bytes align_parameter nothrow_parameter) { return new (bytes, align, throws); }
#define NONE
#define ALIGN , size_t align
#define NOTHROW , const void *nothrow __attribute__((unused))
NEW(_Znwm, NONE, 0, NONE, true)
NEW(_Znam, NONE, 0, NONE, true)
NEW(_ZnwmSt11align_val_t, ALIGN, align, NONE, true)
NEW(_ZnamSt11align_val_t, ALIGN, align, NONE, true)
#ifndef SEEMALLOC_STATIC /* there the C++ library's own are linked in, which call the throwing ones above and catch */
NEW(_ZnwmRKSt9nothrow_t, NONE, 0, NOTHROW, false)
NEW(_ZnamRKSt9nothrow_t, NONE, 0, NOTHROW, false)
NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, ALIGN, align, NOTHROW, false)
NEW(_ZnamSt11align_val_tRKSt9nothrow_t, ALIGN, align, NOTHROW, false)
#endif

#define DELETE(name, parameters, ...)                                                                                                      \
    EXPORT void name parameters;                                                                                                           \
    void name parameters { __VA_ARGS__; }
DELETE(_ZdlPv, (void *mem), api_free(mem))
DELETE(_ZdaPv, (void *mem), api_free(mem))
DELETE(_ZdlPvRKSt9nothrow_t, (void *mem NOTHROW), api_free(mem))
DELETE(_ZdaPvRKSt9nothrow_t, (void *mem NOTHROW), api_free(mem))
DELETE(_ZdlPvSt11align_val_t, (void *mem, size_t align __attribute__((unused))), api_free(mem))
DELETE(_ZdaPvSt11align_val_t, (void *mem, size_t align __attribute__((unused))), api_free(mem))
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, (void *mem, size_t align __attribute__((unused)) NOTHROW), api_free(mem))
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, (void *mem, size_t align __attribute__((unused)) NOTHROW), api_free(mem))
DELETE(_ZdlPvm, (void *mem, size_t bytes), delete_sized(mem, bytes))
DELETE(_ZdaPvm, (void *mem, size_t bytes), delete_sized(mem, bytes))
DELETE(_ZdlPvmSt11align_val_t, (void *mem, size_t bytes, size_t align __attribute__((unused))), delete_sized(mem, bytes))
DELETE(_ZdaPvmSt11align_val_t, (void *mem, size_t bytes, size_t align __attribute__((unused))), delete_sized(mem, bytes))

#endif
