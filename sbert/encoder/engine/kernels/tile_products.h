// Products of tokens and weights in tiles, and the operations that follow: bias and activation.
#pragma once

#include "team.h"
#include "tiles.h"

namespace {

// Multiplies 32 (or 16) tokens by 32 outputs over `steps` blocks of inputs. `between` is other work, done after each step.
// Callers pass all tokens by the same weights, so the weights stay in the first-level cache and the tokens do not.
template <bool BOTH, class Between>
inline void multiply(const bf16* x, int64_t x_step, const bf16* weight, int64_t steps, float* sums, bool go_on, Between between) {
    if (go_on) {
        LOAD_TILE(0, sums, 128);
        LOAD_TILE(1, sums + 16, 128);
        if (BOTH) {
            LOAD_TILE(2, sums + 512, 128);
            LOAD_TILE(3, sums + 528, 128);
        }
    } else {
        _tile_zero(0);
        _tile_zero(1);
        if (BOTH) {
            _tile_zero(2);
            _tile_zero(3);
        }
    }
    for (int64_t k = 0; k < steps; k++, x += x_step, weight += 2 * TILE_VALUES) {
        LOAD_TILE(6, weight, 64);
        STREAM_TILE(4, x, 64);
        _tile_dpbf16ps(0, 4, 6);
        LOAD_TILE(7, weight + TILE_VALUES, 64);
        _tile_dpbf16ps(1, 4, 7);
        if (BOTH) {
            STREAM_TILE(5, x + TILE_VALUES, 64);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        between();
    }
    _tile_stored(0, sums, 128);
    _tile_stored(1, sums + 16, 128);
    if (BOTH) {
        _tile_stored(2, sums + 512, 128);
        _tile_stored(3, sums + 528, 128);
    }
}

template <class Between>
inline void multiply(bool both, const bf16* x, int64_t x_step, const bf16* weight, int64_t steps, float* sums, bool go_on,
                     Between between) {
    both ? multiply<true>(x, x_step, weight, steps, sums, go_on, between)
         : multiply<false>(x, x_step, weight, steps, sums, go_on, between);
}

// Prefetches the weights of the next block of outputs while those of this block are used.
struct Ahead {
    const char *next, *end;
    int64_t bytes;  // to fetch in each step

    Ahead(const bf16* weight, int64_t steps, int64_t num_tiles)
        : next((const char*)weight), end(next + steps * 4 * TILE_VALUES), bytes((2048 / ((num_tiles + 1) / 2) + 63) / 64 * 64) {}
    void operator()() {
        const char* stop = std::min(end, next + bytes);
        for (; next < stop; next += 64) _mm_prefetch(next, _MM_HINT_T1);
    }
};

// Finishes a square of sums while the next square is multiplied: adds the bias, applies the function, rounds.
template <class Function>
struct Unfinished {
    const float *sums = nullptr, *bias = nullptr;
    bf16* to = nullptr;
    int64_t rows = 0;

    void finish(int64_t some, Function f) {
        if (some > rows) some = rows;
        rows -= some;
        for (; some > 0; some--, sums += 32, to += BLOCK)
            store_row(to, {f(_mm512_add_ps(_mm512_load_ps(sums), _mm512_loadu_ps(bias))),
                           f(_mm512_add_ps(_mm512_load_ps(sums + 16), _mm512_loadu_ps(bias + 16)))});
    }
};

// Computes y = f(x W' + b) for a range of blocks of outputs.
template <class Function>
void linear(const bf16* x, int64_t step, int64_t num_tiles, Linear by, int64_t in_blocks, Range blocks, bf16* y, Function f) {
    alignas(64) float squares[2][SUMS];
    const int64_t some = (32 + in_blocks - 1) / in_blocks, panel = in_blocks * 2 * TILE_VALUES;
    Unfinished<Function> last;
    int turn = 0;
    for (int64_t n = blocks.first; n < blocks.stop; n++) {
        const bf16* weight = by.weight + n * panel;
        Ahead ahead(weight + panel, n + 1 < blocks.stop ? in_blocks : 0, num_tiles);
        for (int64_t m = 0; m < num_tiles; m += 2, turn ^= 1) {
            const bool both = m + 1 < num_tiles;
            multiply(both, x + m * TILE_VALUES, step, weight, in_blocks, squares[turn], false, [&] {
                ahead();
                last.finish(some, f);
            });
            last.finish(32, f);
            last = {squares[turn], by.bias + n * BLOCK, y + n * step + m * TILE_VALUES, both ? 32 : 16};
        }
    }
    last.finish(32, f);
}

// sums (+)= x W' for a range of `num_blocks` blocks of outputs, squares in the order [pair of tiles][block of outputs].
void products(const bf16* x, int64_t step, int64_t num_tiles, const bf16* weight, int64_t weight_step, int64_t in_blocks,
              Range blocks, int64_t num_blocks, float* sums, bool go_on) {
    for (int64_t n = blocks.first; n < blocks.stop; n++) {
        const bf16* panel = weight + n * weight_step;
        Ahead ahead(panel + weight_step, n + 1 < blocks.stop ? in_blocks : 0, num_tiles);
        for (int64_t m = 0; m < num_tiles; m += 2) {
            float* square = sums + (m / 2 * num_blocks + n) * SUMS;
            const bool has_next = go_on && m + 2 < num_tiles;  // whose 64 lines are fetched ahead too
            const int64_t lines = has_next ? (64 + in_blocks - 1) / in_blocks : 0;
            const float* next = has_next ? square + num_blocks * SUMS : nullptr;
            multiply(m + 1 < num_tiles, x + m * TILE_VALUES, step, panel, in_blocks, square, go_on, [&] {
                ahead();
                for (int64_t i = 0; i < lines; i++, next += 16) _mm_prefetch(next, _MM_HINT_T0);
            });
        }
    }
}

}  // namespace
