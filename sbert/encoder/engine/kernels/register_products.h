// Products of tokens and weights in registers, and the operations that follow: bias and activation.
//
// A tile is up to ROWS rows times PANEL outputs, and its sums stay in registers over all inputs. The weights of a panel stay in
// the first-level cache while all tokens pass. Weights (out, in) have the layout [out/PANEL][in/PAIR][PANEL][PAIR].
#pragma once

#include <array>
#include <utility>

#include "registers.h"
#include "team.h"
#ifdef __AVX512VNNI__
#include "register_integers.h"
#endif

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
template <class Place>
struct Multiply {
    template <int NUM>
    [[gnu::noinline]] static void run(const Value* x, int64_t x_step, int64_t blocks, int64_t steps, const Value* weight, float* to,
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
};

// The function `run` of a kernel for 1 to ROWS rows, at 0 to ROWS - 1.
template <class Kernel, size_t... NUMS>
constexpr auto of_every_size(std::index_sequence<NUMS...>) {
    return std::array{&Kernel::template run<(int)NUMS + 1>...};
}
template <class Kernel>
constexpr auto FOR_ROWS = of_every_size<Kernel>(std::make_index_sequence<ROWS>());

// Cuts rows into as few tiles as possible, of nearly equal sizes.
inline int64_t rows_of_next_tile(int64_t left) {
    const int64_t tiles = (left + ROWS - 1) / ROWS;
    return (left + tiles - 1) / tiles;
}

#ifdef __AVX512VNNI__

template <class Kind>
inline void multiply_tile(const Rounded<Kind>& x, int64_t token, int64_t num, int64_t in_blocks, const typename Kind::Weight* weight,
                          const float* scales, float* to, bool go_on) {
    FOR_ROWS<MultiplyIntegers<Kind>>[num - 1](x.integers + token * BLOCK, x.step, in_blocks / GROUP_BLOCKS, x.scales_of(0, token),
                                              2 * x.tokens, weight, scales, to, BLOCK, go_on);
}

#else

constexpr int64_t GROUP_BLOCKS = 1;

// Inputs of a product as they are: values of tokens in blocks.
struct Unrounded {
    const Value* from;
    int64_t step;
};

inline void multiply_tile(const Unrounded& x, int64_t token, int64_t num, int64_t in_blocks, const Value* weight, const float*, float* to,
                          bool go_on) {
    FOR_ROWS<Multiply<Tokens>>[num - 1](x.from + token * BLOCK, x.step, in_blocks, BLOCK / PAIR, weight, to, BLOCK, go_on);
}

// Inputs that are not rounded need no memory of their own.
struct RoundedMemory {
    const int64_t step;

    RoundedMemory(int64_t, int64_t step, int64_t, bool) : step(step) {}
    bool is_there() const { return true; }
    Unrounded of(const Value* from) const { return {from, step}; }
};

inline void prepare(const RoundedMemory&, const Value*, Range, int64_t, bool) {}

#endif

// The part of a layer that computes the outputs from block `n` on.
template <class Weight>
LinearOf<Weight> outputs_from(const LinearOf<Weight>& by, int64_t n, int64_t in_blocks) {
    return {by.weight + n * in_blocks * BLOCK * BLOCK, by.bias + n * BLOCK,
            by.scales ? by.scales + n * (in_blocks / GROUP_BLOCKS) * 2 * PANEL : nullptr};
}
// The part of a layer that takes the inputs from block `i` on.
template <class Weight>
LinearOf<Weight> inputs_from(const LinearOf<Weight>& by, int64_t i) {
    return {by.weight + i * BLOCK * PANEL, by.bias, by.scales ? by.scales + i / GROUP_BLOCKS * 2 * PANEL : nullptr};
}

// Fetches the next panel's weights into the second-level cache while this panel's are used.
struct Ahead {
    const char *next, *end;
    int64_t bytes;  // to fetch for each tile

    template <class Weight>
    Ahead(const Weight* weight, int64_t num, int64_t tiles)
        : next((const char*)weight), end(next + num * sizeof(Weight)), bytes((end - next) / std::max<int64_t>(tiles, 1) + 64) {}
    void operator()() {
        const char* stop = std::min(end, next + bytes);
        for (; next < stop; next += 64) _mm_prefetch(next, _MM_HINT_T1);
    }
};

// Computes y = f(x W' + b) for a range of blocks of outputs.
template <class Inputs, class Weight, class Function>
void linear(const Inputs& x, int64_t step, int64_t tokens, const LinearOf<Weight>& by, int64_t in_blocks, Range blocks, Value* y,
            Function f) {
    alignas(64) float tile[ROWS * BLOCK];
    const int64_t size = in_blocks * BLOCK * PANEL;
    // A row is stored whole, so a block is computed at a time.
    constexpr int64_t HALVES = BLOCK / PANEL;
    for (int64_t n = blocks.first; n < blocks.stop; n++) {
        const LinearOf<Weight> part = outputs_from(by, n, in_blocks);
        Ahead ahead(part.weight + HALVES * size, n + 1 < blocks.stop ? HALVES * size : 0, tokens / ROWS);
        for (int64_t t = 0, num; t < tokens; t += num) {
            num = rows_of_next_tile(tokens - t);
            for (int64_t half = 0; half < HALVES; half++)
                multiply_tile(x, t, num, in_blocks, part.weight + half * size, part.scales, tile + half * PANEL, false);
            ahead();
            for (int64_t r = 0; r < num; r++) {
                V parts[PARTS];
                for (int64_t j = 0; j < PARTS; j++) parts[j] = f(load(tile + r * BLOCK + j * LANES) + load(part.bias + j * LANES));
                store_row(y + n * step + (t + r) * BLOCK, parts);
            }
        }
    }
}

// sums (+)= x W' for a range of blocks of outputs, whose weights are those of `all_blocks` blocks of inputs; sums have the layout of
// tokens.
template <class Inputs>
void products(const Inputs& x, int64_t step, int64_t tokens, const Linear& by, int64_t all_blocks, int64_t in_blocks, Range blocks,
              float* sums, bool go_on) {
    constexpr int64_t HALVES = BLOCK / PANEL;
    const int64_t size = all_blocks * BLOCK * PANEL;
    for (int64_t n = blocks.first; n < blocks.stop; n++) {
        const Linear part = outputs_from(by, n, all_blocks);
        for (int64_t half = 0; half < HALVES; half++) {
            const auto* panel = part.weight + half * size;
            Ahead ahead(panel + size, n + 1 < blocks.stop || half + 1 < HALVES ? in_blocks * BLOCK * PANEL : 0, tokens / ROWS);
            for (int64_t t = 0, num; t < tokens; t += num) {
                num = rows_of_next_tile(tokens - t);
                multiply_tile(x, t, num, in_blocks, panel, part.scales, sums + n * step + t * BLOCK + half * PANEL, go_on);
                ahead();
            }
        }
    }
}

}  // namespace
