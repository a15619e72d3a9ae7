// threads.cc: a threaded C++ program with exceptions and thread_local destructors, for the dynamic and the static library.
//
// Eight threads build containers, throw through frames that own memory, hand exception_ptr and shared_ptr to each other, and own
// thread_local objects whose destructors allocate while the thread ends. operator new is driven to failure: the new-handler has to be
// called until it gives up, then bad_alloc has to arrive. What is printed depends on the seeds only.
// SPDX-License-Identifier: MIT
#include <array>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "probe.h"

namespace {

std::atomic<uint64_t> late_sum{0};
std::atomic<int> late_count{0};

uint64_t mix(uint64_t &state) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

// Lives until its thread ends, and allocates even then.
struct Late {
    std::vector<std::string> notes;
    ~Late() {
        std::map<std::string, size_t> lengths;
        for (auto &note : notes) lengths[note + "/late"] += note.size();
        uint64_t sum = 0;
        for (auto &entry : lengths) sum += entry.first.size() * 31 + entry.second;
        late_sum += sum;
        late_count++;
    }
};

thread_local Late late;
thread_local std::unique_ptr<std::string> late_string = std::make_unique<std::string>(3000, 'x');

struct alignas(64) Line {
    std::array<char, 192> bytes;
};
struct alignas(4096) Page {
    std::array<char, 4096> bytes;
};

[[noreturn]] void sink(int depth, uint64_t seed) {
    std::string here(size_t(depth) * 40 + 20, char('a' + depth % 26));
    auto held = std::make_unique<std::vector<int>>(size_t(depth) * 10 + 1, depth);
    if (depth == 0) throw std::runtime_error("sank with seed " + std::to_string(seed) + " " + std::string(300, 's'));
    try {
        sink(depth - 1, seed);
    } catch (const std::logic_error &) {
        std::abort();
    } // a runtime_error passes and destroys here and held
}

std::mutex box_lock;
std::deque<std::shared_ptr<std::vector<std::string>>> box;
std::vector<std::exception_ptr> thrown;

uint64_t task(int number) {
    uint64_t state = uint64_t(number) * 7919 + 12345, sum = 0;
    std::unordered_map<std::string, std::vector<uint64_t>> table;
    for (int round = 0; round < 400; round++) {
        uint64_t r = mix(state);
        std::string key = "key " + std::to_string(r % 97) + std::string(r % 60, 'k');
        table[key].push_back(r);
        if (round % 50 == 49) table.erase(table.find(key));
        if (round % 10 == 0) late.notes.push_back(std::to_string(number) + ":" + key);
        if (round % 8 == 0) {
            try {
                sink(int(r % 30), r % 1000);
            } catch (const std::runtime_error &error) {
                sum += std::string(error.what()).size();
                std::lock_guard<std::mutex> guard(box_lock);
                if (thrown.size() < 64) thrown.push_back(std::current_exception());
            }
        }
        if (round % 4 == 0) {
            auto given = std::make_shared<std::vector<std::string>>();
            for (int i = 0; i < 20; i++) given->push_back(std::string(size_t((r >> i) % 500), 'g'));
            std::lock_guard<std::mutex> guard(box_lock);
            box.push_back(given);
            if (box.size() > 20) box.pop_front(); // the last owner is often another thread
        }
        auto line = std::make_unique<Line>();
        auto page = std::make_unique<Page>();
        if (reinterpret_cast<uintptr_t>(line.get()) % 64 || reinterpret_cast<uintptr_t>(page.get()) % 4096) std::abort();
        line->bytes.fill(1);
        page->bytes.fill(2);
    }
    for (auto &entry : table) {
        sum += entry.first.size();
        for (uint64_t value : entry.second) sum ^= value;
    }
    (void)late_string->size();
    return sum;
}

int handler_calls = 0;
void handler() {
    if (++handler_calls == 3) std::set_new_handler(nullptr);
}

} // namespace

int main() {
    probe_report(2);
    for (int wave = 0; wave < 3; wave++) {
        std::vector<std::thread> threads;
        std::array<uint64_t, 8> sums{};
        for (int i = 0; i < 8; i++) threads.emplace_back([i, wave, &sums] { sums[size_t(i)] = task(wave * 8 + i); });
        for (auto &thread : threads) thread.join();
        uint64_t total = 0;
        for (uint64_t sum : sums) total ^= sum;
        std::printf("wave %d: sum %016llx\n", wave, static_cast<unsigned long long>(total));
    }
    size_t lengths = 0;
    for (auto &pointer : thrown) {
        try {
            std::rethrow_exception(pointer);
        } catch (const std::exception &error) {
            lengths += std::string(error.what()).size() > 300;
        }
    }
    thrown.clear();
    std::printf("late destructors: %d, sum %llu; rethrown: %zu\n", late_count.load(), static_cast<unsigned long long>(late_sum.load()),
                lengths);

    volatile size_t huge = SIZE_MAX / 4;
    std::set_new_handler(handler);
    bool caught = false;
    try {
        char *volatile p = new char[huge];
        delete[] p;
    } catch (const std::bad_alloc &) {
        caught = true;
    }
    char *volatile none = new (std::nothrow) char[huge];
    Page *volatile pages = nullptr;
    bool caught_aligned = false;
    try {
        pages = static_cast<Page *>(operator new(huge, std::align_val_t(4096)));
    } catch (const std::bad_alloc &) {
        caught_aligned = true;
    }
    std::printf("new-handler called %d times, bad_alloc %d, nothrow %d, aligned %d\n", handler_calls, caught, none == nullptr,
                caught_aligned && pages == nullptr);
    return 0;
}
