# SPDX-License-Identifier: MIT
# Compiler flags, in one place: what every target gets, and what the engine gets besides.

set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS ON)
set(CMAKE_CXX_STANDARD 17)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
# NDEBUG is never set: a release differs from a debug build by SEEMALLOC_DEBUG alone, and tests may use assert.
# valgrind 3.19, which counts instructions for the tests, ends at clang 14's DWARF 5 of more than one object.
set(debug_info -g)
if(CMAKE_C_COMPILER_ID MATCHES Clang)
    set(debug_info -gdwarf-4)
endif()
foreach(lang C CXX)
    set(CMAKE_${lang}_FLAGS_RELEASE "-O2 ${debug_info}")
    set(CMAKE_${lang}_FLAGS_DEBUG "-O1 ${debug_info} -fno-omit-frame-pointer")
endforeach()

# The compiler must neither drop a malloc that nobody reads nor turn our own malloc + memset into calloc.
set(seemalloc_no_builtins -fno-builtin-malloc -fno-builtin-free -fno-builtin-calloc -fno-builtin-realloc)
set(seemalloc_c_warnings -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wvla)
set(seemalloc_cxx_warnings -Wall -Wextra -Wshadow -Wpointer-arith -Wvla -fsized-deallocation)

# The C library's Linux interfaces. With an empty value, so that a file may still say "#define _GNU_SOURCE"; after -U, so that a target may too.
set(seemalloc_gnu_source "SHELL:-U_GNU_SOURCE -D_GNU_SOURCE=")

if(SEEMALLOC_SANITIZE)
    add_compile_options(-fsanitize=${SEEMALLOC_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    add_link_options(-fsanitize=${SEEMALLOC_SANITIZE})
    if(SEEMALLOC_SANITIZE MATCHES "thread" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
        add_compile_options(-Wno-tsan) # it overlooks fences, and says so; what ours order are atomics, which it sees
    endif()
endif()

function(seemalloc_warnings target)
    target_compile_options(${target} PRIVATE "$<$<COMPILE_LANGUAGE:C>:${seemalloc_c_warnings}>"
                           "$<$<COMPILE_LANGUAGE:CXX>:${seemalloc_cxx_warnings}>")
    if(SEEMALLOC_WERROR)
        target_compile_options(${target} PRIVATE -Werror)
    endif()
endfunction()

# The engine, however it is linked. Initial-exec TLS: one word, reachable before libc has initialised.
function(seemalloc_engine_flags target)
    seemalloc_warnings(${target})
    target_compile_options(${target} PRIVATE -fPIC -fvisibility=hidden -fno-semantic-interposition -ftls-model=initial-exec
                           -fno-strict-aliasing ${seemalloc_no_builtins} ${seemalloc_gnu_source})
endfunction()

# The library as users get it.
function(seemalloc_library_flags target)
    seemalloc_engine_flags(${target})
    target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>
                               PRIVATE ${PROJECT_SOURCE_DIR}/src)
    if(SEEMALLOC_DEBUG)
        target_compile_definitions(${target} PRIVATE SEEMALLOC_DEBUG)
    endif()
endfunction()

# The engine under prefixed names (seemalloc_malloc …) with all checkers, as objects to link a test with. The rest of the arguments: sources.
function(seemalloc_engine_objects target)
    add_library(${target} OBJECT EXCLUDE_FROM_ALL ${ARGN})
    seemalloc_engine_flags(${target})
    target_compile_definitions(${target} PUBLIC SEEMALLOC_PREFIX SEEMALLOC_DEBUG)
    target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR}/include ${PROJECT_SOURCE_DIR}/src)
endfunction()
