// Threads that compute the same tokens together: they share panels, heads and tokens, and wait for each other between the steps.
#pragma once

#include <immintrin.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace {

struct Range {
    int64_t first, stop;
};
// Returns a thread's share of `num` things.
inline Range share_of(int64_t num, int64_t part, int64_t parts) { return {num * part / parts, num * (part + 1) / parts}; }

struct Team {
    const int64_t size;
    std::atomic<int64_t> waiting{0}, round{0};

    explicit Team(int64_t num) : size(num) {}

    // Waits until all threads of the team are here.
    void meet() {
        if (size == 1) return;
        const int64_t now = round.load(std::memory_order_acquire);
        if (waiting.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
            waiting.store(0, std::memory_order_relaxed);
            round.store(now + 1, std::memory_order_release);
            return;
        }
        for (int64_t turn = 0; round.load(std::memory_order_acquire) == now; turn++)
            if (turn < 2000)
                _mm_pause();
            else if (turn < 2050)
                std::this_thread::yield();  // the other thread may wait for this core
            else
                std::this_thread::sleep_for(std::chrono::microseconds(50));  // or for another one, on a busy machine
    }
};

}  // namespace
