// Products of tokens and weights in registers, and the operations that follow: bias and activation.
//
// A tile is up to ROWS rows times PANEL outputs, and its sums stay in registers over all inputs. The weights of a panel stay in
// the first-level cache while all tokens pass. Weights (out, in) have the layout [out/PANEL][in/PAIR][PANEL][PAIR].
#pragma once

#include <array>
#include <utility>

#include "registers.h"
#include "team.h"

namespace {

#ifdef __AVX512F__
constexpr int64_t ROWS = 14;  // 28 of 32 registers hold sums
#else
constexpr int64_t ROWS = 6;  // 12 of 16
#endif

// Adds the products of a value (a pair in bfloat16), the same for all outputs, and of weights of LANES outputs.
inline V multiply_add(V sum, const Value* x, const Value* weight) {
#ifdef __AVX512BF16__
    int32_t pair;
    std::memcpy(&pair, x, 4);
    return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)_mm512_loadu_si512(weight));
#else
    return fma(all(*x), load(weight), sum);
#endif
}

// Where the inputs of a product lie: tokens in blocks, or shares of attention, which are transposed.
struct Tokens {
    static constexpr int64_t row = BLOCK, next = PAIR, weight = PANEL * PAIR;
};
struct Shares {
    static constexpr int64_t row = PAIR, next = PANEL * PAIR, weight = BLOCK * PAIR;
};

// sums (+)= x W' for NUM rows and PANEL outputs, over `blocks` blocks of `steps` inputs (pairs in bfloat16).
template <class Place, int NUM>
[[gnu::noinline]] void multiply(const Value* x, int64_t x_step, int64_t blocks, int64_t steps, const Value* weight, float* to,
                                int64_t to_step, bool go_on) {
    V sums[NUM][2];
#pragma GCC unroll 16
    for (int r = 0; r < NUM; r++)
#pragma GCC unroll 2
        for (int c = 0; c < 2; c++) sums[r][c] = go_on ? load(to + r * to_step + c * LANES) : all(0.0f);
    for (int64_t b = 0; b < blocks; b++, x += x_step) {
        const Value* at = x;
#pragma GCC unroll 2
        for (int64_t k = 0; k < steps; k++, at += Place::next, weight += Place::weight) {
#pragma GCC unroll 16
            for (int r = 0; r < NUM; r++)
#pragma GCC unroll 2
                for (int c = 0; c < 2; c++)
                    sums[r][c] = multiply_add(sums[r][c], at + r * Place::row, weight + c * LANES * PAIR);
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < NUM; r++)
#pragma GCC unroll 2
        for (int c = 0; c < 2; c++) store(to + r * to_step + c * LANES, sums[r][c]);
}

using Multiply = void (*)(const Value*, int64_t, int64_t, int64_t, const Value*, float*, int64_t, bool);

template <class Place, size_t... NUMS>
constexpr std::array<Multiply, sizeof...(NUMS)> of_every_size(std::index_sequence<NUMS...>) {
    return {multiply<Place, (int)NUMS + 1>...};
}

// The product of 1 to ROWS rows is at 0 to ROWS - 1.
template <class Place>
constexpr std::array<Multiply, ROWS> MULTIPLY = of_every_size<Place>(std::make_index_sequence<ROWS>());

// Cuts rows into as few tiles as possible, of nearly equal sizes.
inline int64_t rows_of_next_tile(int64_t left) {
    const int64_t tiles = (left + ROWS - 1) / ROWS;
    return (left + tiles - 1) / tiles;
}

// Fetches the next panel's weights into the second-level cache while this panel's are used.
struct Ahead {
    const char *next, *end;
    int64_t bytes;  // to fetch for each tile

    Ahead(const Value* weight, int64_t num, int64_t tiles)
        : next((const char*)weight), end(next + num * sizeof(Value)), bytes((end - next) / std::max<int64_t>(tiles, 1) + 64) {}
    void operator()() {
        const char* stop = std::min(end, next + bytes);
        for (; next < stop; next += 64) _mm_prefetch(next, _MM_HINT_T1);
    }
};

// Computes y = f(x W' + b) for the panels of a range.
template <class Function>
void linear(const Value* x, int64_t step, int64_t tokens, Linear by, int64_t in_blocks, Range panels, Value* y, Function f) {
    alignas(64) float tile[ROWS * BLOCK];
    const int64_t size = in_blocks * BLOCK * PANEL;
    // A row is stored whole, so a range of blocks is computed.
    constexpr int64_t HALVES = BLOCK / PANEL;
    for (int64_t n = panels.first; n < panels.stop; n++) {
        const Value* weight = by.weight + n * HALVES * size;
        Ahead ahead(weight + HALVES * size, n + 1 < panels.stop ? HALVES * size : 0, tokens / ROWS);
        for (int64_t t = 0, num; t < tokens; t += num) {
            num = rows_of_next_tile(tokens - t);
            for (int64_t half = 0; half < HALVES; half++)
                MULTIPLY<Tokens>[num - 1](x + t * BLOCK, step, in_blocks, BLOCK / PAIR, weight + half * size, tile + half * PANEL, BLOCK,
                                          false);
            ahead();
            for (int64_t r = 0; r < num; r++) {
                V parts[PARTS];
                for (int64_t j = 0; j < PARTS; j++)
                    parts[j] = f(load(tile + r * BLOCK + j * LANES) + load(by.bias + n * BLOCK + j * LANES));
                store_row(y + n * step + (t + r) * BLOCK, parts);
            }
        }
    }
}

// sums (+)= x W' for a range of blocks of outputs; sums have the layout of tokens. Panels are `weight_step` apart.
void products(const Value* x, int64_t step, int64_t tokens, const Value* weight, int64_t weight_step, int64_t in_blocks, Range blocks,
              float* sums, bool go_on) {
    constexpr int64_t HALVES = BLOCK / PANEL;
    for (int64_t n = blocks.first; n < blocks.stop; n++)
        for (int64_t half = 0; half < HALVES; half++) {
            const Value* panel = weight + (n * HALVES + half) * weight_step;
            Ahead ahead(panel + weight_step, n + 1 < blocks.stop || half + 1 < HALVES ? in_blocks * BLOCK * PANEL : 0, tokens / ROWS);
            for (int64_t t = 0, num; t < tokens; t += num) {
                num = rows_of_next_tile(tokens - t);
                MULTIPLY<Tokens>[num - 1](x + t * BLOCK, step, in_blocks, BLOCK / PAIR, panel, sums + n * step + t * BLOCK + half * PANEL,
                                          BLOCK, go_on);
                ahead();
            }
        }
}

}  // namespace
