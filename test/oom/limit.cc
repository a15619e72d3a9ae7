// limit.cc: a program under the setting limit:64M, which it runs into in every way: it goes on, its resident memory stays below, a callback can free something
// first, and what was freed can be had again. SPDX-License-Identifier: MIT
extern "C" {
#include "../abi/check.h"
#include "seemalloc.h"
}
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <initializer_list>
#include <malloc.h>
#include <new>
#include <pthread.h>
#include <unistd.h>

static const std::size_t MiB = 1 << 20, LIMIT = 64 * MiB, MARGIN = 2 * MiB; // stacks, and what the library itself has
static std::size_t start;
static void (*on_limit)(int (*)(std::size_t, void *), void *);
static void (*set_limit)(std::size_t);
static int (*get_stats)(seemalloc_stats *);

// Without stdio, which allocates.
static std::size_t resident() {
    char text[128] = {};
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (file < 0 || read(file, text, sizeof text - 1) <= 0) std::exit(3);
    close(file);
    char *second = std::strchr(text, ' ');
    return std::strtoul(second, nullptr, 10) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

static void check_resident() {
    std::size_t now = resident();
    if (now > start + LIMIT + MARGIN) dprintf(1, "resident: %zu KiB, at the start %zu\n", now >> 10, start >> 10);
    CHECK(now <= start + LIMIT + MARGIN);
}

struct block {
    block *next;
    std::size_t size;
};

template <class F> static std::size_t take_all(block *&list, std::size_t size, F allocate) {
    std::size_t n = 0;
    for (;; n++) {
        errno = 0;
        void *mem = allocate(size);
        if (mem == nullptr) break;
        std::memset(mem, 1, size);
        list = new (mem) block{list, size};
        if (n * size > 2 * LIMIT) break;
    }
    CHECK(n * size <= LIMIT);
    check_resident();
    return n * size;
}

static void free_all(block *&list) {
    while (list != nullptr) {
        block *next = list->next;
        std::free(list);
        list = next;
    }
}

// Volatile: the compiler must not know what they do.
static void *(*volatile v_malloc)(std::size_t) = std::malloc;
static void *(*volatile v_calloc)(std::size_t, std::size_t) = std::calloc;
static void *(*volatile v_realloc)(void *, std::size_t) = std::realloc;
static void *(*volatile v_aligned_alloc)(std::size_t, std::size_t) = aligned_alloc;

static void *checked(void *mem) {
    if (mem == nullptr) CHECK(errno == ENOMEM);
    return mem;
}

static void test_each() {
    for (std::size_t size : {std::size_t{200}, std::size_t{5000}, std::size_t{70000}, MiB, 10 * MiB}) {
        block *list = nullptr;
        auto by_malloc = [](std::size_t n) { return checked(v_malloc(n)); };
        std::size_t first = take_all(list, size, by_malloc);
        CHECK(first >= 48 * MiB || size > 5 * MiB);
        free_all(list);
        CHECK(take_all(list, size, [](std::size_t n) { return checked(v_calloc(1, n)); }) + first / 8 >= first);
        free_all(list);
        take_all(list, size, [](std::size_t n) { return checked(v_aligned_alloc(4096, n)); });
        free_all(list);
        CHECK(take_all(list, size, [](std::size_t n) { return checked(v_realloc(nullptr, n)); }) + first / 8 >= first);
        free_all(list);
        take_all(list, size, [](std::size_t n) -> void * {
            try {
                return ::operator new(n);
            } catch (const std::bad_alloc &) {
                return nullptr;
            }
        });
        free_all(list);
        take_all(list, size, [](std::size_t n) { return ::operator new(n, std::nothrow); });
        free_all(list);
        void *most = v_malloc(56 * MiB);
        CHECK(most != nullptr);
        std::free(most);
    }
}

static void grow(std::size_t size, std::size_t step) {
    char *mem = static_cast<char *>(v_malloc(size));
    CHECK(mem != nullptr);
    std::memset(mem, 7, size);
    for (;;) {
        std::memset(mem + size - step, 7, step);
        void *more = v_realloc(mem, size + step);
        if (more == nullptr) break;
        mem = static_cast<char *>(more);
        size += step;
    }
    CHECK(errno == ENOMEM);
    CHECK(size >= 24 * MiB && size <= LIMIT); // at worst it must be copied
    check_resident();
    std::size_t right = 0;
    while (right < size && mem[right] == 7) right++;
    CHECK(right == size);
    std::free(mem);
}

static block *cache;
static int calls;

static int shed(std::size_t needed, void *) {
    calls++;
    std::size_t freed = 0;
    while (cache != nullptr && freed < needed) {
        freed += cache->size;
        block *next = cache->next;
        std::free(cache);
        cache = next;
    }
    return freed != 0;
}

static void test_callback() {
    take_all(cache, 100000, v_malloc);
    CHECK(v_malloc(MiB) == nullptr);
    on_limit(shed, nullptr);
    calls = 0;
    void *mem = v_malloc(30 * MiB);
    CHECK(mem != nullptr && calls >= 1);
    std::memset(mem, 1, 30 * MiB);
    check_resident();
    calls = 0;
    mem = v_realloc(mem, 36 * MiB);
    CHECK(mem != nullptr && calls >= 1);
    calls = 0;
    CHECK(v_malloc(60 * MiB) == nullptr && calls >= 1); // all is freed, and not enough
    CHECK(cache == nullptr);
    std::free(mem);
    on_limit(nullptr, nullptr);
}

static std::atomic<long> refusals;

static void *churn(void *arg) {
    std::uint64_t random = reinterpret_cast<std::uintptr_t>(arg);
    static const unsigned SLOTS = 2000;
    static thread_local char *slots[SLOTS];
    static thread_local std::size_t sizes[SLOTS];
    for (unsigned i = 0; i < 60000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        std::uint64_t choice = random >> 20;
        unsigned slot = static_cast<unsigned>(choice % SLOTS);
        if (slots[slot] != nullptr) CHECK(slots[slot][sizes[slot] - 1] == static_cast<char>(sizes[slot]));
        std::free(slots[slot]);
        sizes[slot] = 1 + (choice >> 16) % (choice % 16 != 0 ? 3000 : choice % 256 != 0 ? 200000 : 3000000);
        slots[slot] = static_cast<char *>(v_malloc(sizes[slot]));
        if (slots[slot] == nullptr) {
            refusals++;
            // What a program does that can't have more: it drops something.
            for (unsigned k = 0; k < 20; k++) {
                unsigned other = (slot + 1 + k) % SLOTS;
                std::free(slots[other]);
                slots[other] = nullptr;
            }
        } else {
            std::memset(slots[slot], static_cast<char>(sizes[slot]), sizes[slot]);
        }
        if (i % 4096 == 0) check_resident();
    }
    for (char *&mem : slots) {
        std::free(mem);
        mem = nullptr;
    }
    return nullptr;
}

static void test_threads() {
    pthread_t threads[4];
    for (std::uintptr_t i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], nullptr, churn, reinterpret_cast<void *>(i + 1)) == 0);
    for (pthread_t thread : threads) pthread_join(thread, nullptr);
    CHECK(refusals > 0);
    void *most = v_malloc(50 * MiB);
    CHECK(most != nullptr);
    std::free(most);
}

int main(int argc, char **argv) {
    if (!check_library(argc, argv)) return 77;
    on_limit = reinterpret_cast<decltype(on_limit)>(dlsym(RTLD_DEFAULT, "seemalloc_on_limit"));
    set_limit = reinterpret_cast<decltype(set_limit)>(dlsym(RTLD_DEFAULT, "seemalloc_set_limit"));
    get_stats = reinterpret_cast<decltype(get_stats)>(dlsym(RTLD_DEFAULT, "seemalloc_get_stats"));
    if (!on_limit || !set_limit || !get_stats) return 3;
    start = resident();
    test_each();
    grow(100000, 50000);
    grow(8 * MiB, MiB);
    test_callback();
    test_threads();
    seemalloc_stats stats = {};
    CHECK(get_stats(&stats) == 0 && stats.taken_bytes <= LIMIT);
    set_limit(0);
    void *more = v_malloc(100 * MiB);
    CHECK(more != nullptr);
    std::free(more);
    return check_result();
}
