// new_delete.cc: the twenty operators: each form of new returns what each form of delete takes; failure runs the new-handler until it gives up
// and then throws bad_alloc, or returns nullptr in the nothrow forms; over-aligned types are aligned. Preloaded, linked, linked statically.
// SPDX-License-Identifier: MIT
extern "C" {
#include "check.h"
}
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <malloc.h>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <sys/resource.h>
#include <thread>
#include <vector>

// Volatile: the compiler knows what can't succeed and which functions match.
static volatile std::size_t huge = SIZE_MAX / 4, all_ones = SIZE_MAX;
static bool ours; // seemalloc, not the system's malloc
static const std::align_val_t align64{64}, align4096{4096};

static bool aligned(const void *p, std::size_t alignment) { return (reinterpret_cast<std::uintptr_t>(p) & (alignment - 1)) == 0; }

// The operators are called by name: a new-expression may be left out by the compiler.
static void test_plain() {
    for (std::size_t n : {0, 1, 16, 24, 100, 1000, 5000, 70000, 200000, 50 << 20}) {
        void *p[8] = {::operator new(n),
                      ::operator new[](n),
                      ::operator new(n, std::nothrow),
                      ::operator new[](n, std::nothrow),
                      ::operator new(n),
                      ::operator new[](n),
                      ::operator new(n),
                      ::operator new[](n)};
        for (int i = 0; i < 8; i++) {
            CHECK(p[i] && aligned(p[i], 16) && malloc_usable_size(p[i]) >= n);
            std::memset(p[i], i, n);
            for (int j = 0; j < i; j++) CHECK(p[i] != p[j]);
        }
        ::operator delete(p[0]);
        ::operator delete[](p[1]);
        ::operator delete(p[2], std::nothrow);
        ::operator delete[](p[3], std::nothrow);
        ::operator delete(p[4], n);
        ::operator delete[](p[5], n);
        ::operator delete(p[6]);
        ::operator delete[](p[7]);
    }
    ::operator delete(nullptr);
    ::operator delete[](nullptr);
    ::operator delete(nullptr, std::nothrow);
    ::operator delete[](nullptr, std::nothrow);
    ::operator delete (nullptr, std::size_t{10});
    ::operator delete[](nullptr, std::size_t{10});
    ::operator delete(nullptr, align64);
    ::operator delete[](nullptr, align64);
    ::operator delete (nullptr, std::size_t{10}, align64);
    ::operator delete[](nullptr, std::size_t{10}, align64);
    ::operator delete(nullptr, align64, std::nothrow);
    ::operator delete[](nullptr, align64, std::nothrow);
}

static void test_aligned() {
    for (std::size_t n : {0, 1, 24, 100, 1000, 5000, 70000, 200000, 50 << 20}) {
        for (std::size_t alignment = 1; alignment <= 65536; alignment *= 2) {
            std::align_val_t a{alignment};
            void *p[6] = {
                ::operator new(n, a), ::operator new[](n, a), ::operator new(n, a, std::nothrow), ::operator new[](n, a, std::nothrow),
                ::operator new(n, a), ::operator new[](n, a)};
            for (int i = 0; i < 6; i++) {
                CHECK(p[i] && aligned(p[i], alignment) && malloc_usable_size(p[i]) >= n);
                std::memset(p[i], i, n < 4096 ? n : 4096);
            }
            ::operator delete(p[0], a);
            ::operator delete[](p[1], a);
            ::operator delete(p[2], a, std::nothrow);
            ::operator delete[](p[3], a, std::nothrow);
            ::operator delete(p[4], n, a);
            ::operator delete[](p[5], n, a);
        }
    }
}

template <typename F> static bool throws(F f) {
    try {
        f();
    } catch (const std::bad_alloc &e) {
        return e.what() != nullptr;
    }
    return false;
}

static int handled;

static void give_up_at_third() {
    if (++handled == 3) std::set_new_handler(nullptr);
}

struct own_error : std::bad_alloc {};

[[noreturn]] static void throw_own() {
    handled++;
    throw own_error();
}

static void use(void *volatile p) { (void)p; }

static void test_failure() {
    std::set_new_handler(nullptr);
    CHECK(throws([] { use(::operator new(huge)); }));
    CHECK(throws([] { use(::operator new[](huge)); }));
    CHECK(throws([] { use(::operator new(huge, align64)); }));
    CHECK(throws([] { use(::operator new[](huge, align4096)); }));
    CHECK(throws([] { use(::operator new(all_ones)); }));
    CHECK(throws([] { use(::operator new[](all_ones - 15)); }));
    if (ours) CHECK(throws([] { use(::operator new(all_ones, align64)); })); // libstdc++'s own rounds it up to 0
    CHECK(::operator new(huge, std::nothrow) == nullptr);
    CHECK(::operator new[](huge, std::nothrow) == nullptr);
    CHECK(::operator new(huge, align64, std::nothrow) == nullptr);
    CHECK(::operator new[](huge, align64, std::nothrow) == nullptr);
    CHECK(::operator new(all_ones, std::nothrow) == nullptr);

    // The handler is called again and again while it is installed, in every form.
#define HANDLED(expression)                                                                                                                \
    do {                                                                                                                                   \
        handled = 0;                                                                                                                       \
        std::set_new_handler(give_up_at_third);                                                                                            \
        CHECK(throws([] { use(expression); }));                                                                                            \
        CHECK(handled == 3);                                                                                                               \
        CHECK(std::get_new_handler() == nullptr);                                                                                          \
    } while (0)
    HANDLED(::operator new(huge));
    HANDLED(::operator new[](huge));
    HANDLED(::operator new(huge, align64));
    HANDLED(::operator new[](huge, align64));
#define HANDLED_NOTHROW(expression)                                                                                                        \
    do {                                                                                                                                   \
        handled = 0;                                                                                                                       \
        std::set_new_handler(give_up_at_third);                                                                                            \
        CHECK((expression) == nullptr);                                                                                                    \
        CHECK(handled == 3);                                                                                                               \
    } while (0)
    HANDLED_NOTHROW(::operator new(huge, std::nothrow));
    HANDLED_NOTHROW(::operator new[](huge, std::nothrow));
    HANDLED_NOTHROW(::operator new(huge, align64, std::nothrow));
    HANDLED_NOTHROW(::operator new[](huge, align64, std::nothrow));

    // A handler that throws: its exception passes through new, and the nothrow forms turn it into nullptr.
    handled = 0;
    std::set_new_handler(throw_own);
    bool own = false;
    try {
        use(::operator new(huge));
    } catch (const own_error &) {
        own = true;
    } catch (...) {}
    CHECK(own && handled == 1);
    CHECK(::operator new(huge, std::nothrow) == nullptr);
    CHECK(::operator new[](huge, std::nothrow) == nullptr);
    CHECK(::operator new(huge, align64, std::nothrow) == nullptr);
    CHECK(::operator new[](huge, align64, std::nothrow) == nullptr);
    CHECK(handled == 5);
    std::set_new_handler(nullptr);

    // It works again after.
    void *p = ::operator new(100);
    CHECK(p != nullptr);
    ::operator delete(p);
}

// A handler that makes room lets the same new succeed.
static void *reserve;

static void release_reserve() {
    handled++;
    std::free(reserve);
    reserve = nullptr;
    std::set_new_handler(nullptr);
}

static void test_handler_makes_room() {
    const std::size_t size = std::size_t{200} << 20;
    reserve = std::malloc(size);
    CHECK(reserve != nullptr);
    // No more than what is there now, and a little.
    std::size_t pages = 0;
    if (FILE *f = std::fopen("/proc/self/statm", "r")) {
        CHECK(std::fscanf(f, "%zu", &pages) == 1);
        std::fclose(f);
    }
    rlimit old;
    getrlimit(RLIMIT_AS, &old);
    rlimit low{pages * 4096 + (std::size_t{20} << 20), old.rlim_max};
    CHECK(setrlimit(RLIMIT_AS, &low) == 0);
    handled = 0;
    std::set_new_handler(release_reserve);
    void *p = nullptr;
    CHECK(!throws([&] { p = ::operator new(size - (std::size_t{10} << 20)); }));
    CHECK(p != nullptr && handled == 1);
    ::operator delete(p);
    setrlimit(RLIMIT_AS, &old);
    std::set_new_handler(nullptr);
}

struct alignas(128) wide {
    char bytes[200];
    int value = 5;
};

struct alignas(4096) page {
    char bytes[4096];
};

static void test_expressions() {
    for (int i = 0; i < 100; i++) {
        std::unique_ptr<wide> w(new wide);
        CHECK(aligned(w.get(), 128) && w->value == 5);
        std::unique_ptr<wide[]> many(new wide[7]);
        CHECK(aligned(many.get(), 128) && many[6].value == 5);
        std::unique_ptr<page> p(new page);
        CHECK(aligned(p.get(), 4096));
        std::vector<wide> v(20);
        CHECK(aligned(v.data(), 128));
        std::map<std::string, std::string> m;
        for (int k = 0; k < 100; k++) m["a key that is too long for the string itself " + std::to_string(k)] = std::string(k, 'x');
        CHECK(m.size() == 100);
        auto *s = new std::string("a string that does not fit into the object itself");
        delete s;
    }
    // What new returned free takes, and the other way round: many programs mix them.
    void *volatile p = ::operator new(100);
    std::free(p);
    p = std::malloc(100);
    ::operator delete(p);
    p = ::operator new[](100, align64);
    std::free(p);
    p = ::operator new(100);
    p = std::realloc(p, 10000);
    CHECK(p != nullptr);
    ::operator delete (p, std::size_t{10000});
}

static void test_threads() {
    std::vector<std::thread> threads;
    std::vector<std::vector<std::string>> results(4);
    for (int t = 0; t < 4; t++)
        threads.emplace_back([t, &results] {
            for (int i = 0; i < 20000; i++) {
                results[t].push_back(std::string(i % 200, 'a' + t));
                if (i % 3 == 0) results[t].erase(results[t].begin() + i % results[t].size());
                if (results[t].size() > 500) results[t].clear();
                // Exceptions allocate, too.
                if (i % 100 == 0) CHECK(throws([] { throw std::bad_alloc(); }));
            }
        });
    for (auto &t : threads) t.join();
    for (int t = 0; t < 4; t++)
        for (auto &s : results[t]) CHECK(s.find_first_not_of(static_cast<char>('a' + t)) == std::string::npos);
}

// Allocation before main and after it.
static std::string early = std::string("built before main, ") + "and freed after it, when most of the library's surroundings are gone";

int main(int argc, char **argv) {
    ours = check_library(argc, argv);
    CHECK(early.size() > 40);
    test_plain();
    test_aligned();
    test_failure();
    test_handler_makes_room();
    test_expressions();
    test_threads();
    return check_result();
}
