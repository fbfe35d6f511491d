// Layer norms, and the addition that comes before them.
#pragma once

#include "registers.h"
#include "team.h"

namespace {

// Layer norms of NUM tokens (Ba et al. 2016) that lie one after another, given the sums of their values. Several are computed
// at once, because the instructions of one wait for each other.
template <int NUM>
void normalize(const float* rows, const V (&total)[NUM], int64_t hidden, Norm norm, float eps, Value* x, int64_t step) {
    V mean[NUM], factor[NUM], squares[NUM][PARTS] = {};
    for (int t = 0; t < NUM; t++) mean[t] = all(add_up(total[t]) / (float)hidden);
    for (int64_t i = 0; i < hidden; i += BLOCK)
#pragma GCC unroll 2
        for (int t = 0; t < NUM; t++)
            for (int64_t j = 0; j < PARTS; j++) {
                const V apart = load(rows + t * hidden + i + LANES * j) - mean[t];
                squares[t][j] = fma(apart, apart, squares[t][j]);
            }
    for (int t = 0; t < NUM; t++) {
        for (int64_t j = 1; j < PARTS; j++) squares[t][0] += squares[t][j];
        const float variance = add_up(squares[t][0]) / (float)hidden;
        factor[t] = all(1.0f / std::sqrt(variance + eps) + 0.0f * variance);  // NaN if the variance is too large for float32
    }
    for (int64_t i = 0; i < hidden; i += BLOCK, x += step)
#pragma GCC unroll 2
        for (int t = 0; t < NUM; t++) {
            V parts[PARTS];
            for (int64_t j = 0; j < PARTS; j++) {
                const int64_t at = i + LANES * j;
                parts[j] = fma((load(rows + t * hidden + at) - mean[t]) * factor[t], load(norm.scale + at), load(norm.shift + at));
            }
            store_row(x + t * BLOCK, parts);
        }
}

// x = norm(sums + bias + x) for NUM tokens; `sums` has a block of their values each `sums_step` further.
template <int NUM>
inline void add_and_normalize(const float* sums, int64_t sums_step, const float* bias, int64_t hidden, Norm norm, float eps, Value* x,
                              int64_t step, float* rows) {
    V parts[NUM][PARTS] = {}, total[NUM];
    for (int64_t n = 0; n < hidden / BLOCK; n++, sums += sums_step)
#pragma GCC unroll 2
        for (int t = 0; t < NUM; t++)
            for (int64_t j = 0; j < PARTS; j++) {
                const int64_t at = n * BLOCK + LANES * j;
                const V sum = load(sums + t * BLOCK + LANES * j) + load(bias + at) + get(x + n * step + t * BLOCK + LANES * j);
                parts[t][j] += sum;
                store(rows + t * hidden + at, sum);
            }
    for (int t = 0; t < NUM; t++) {
        total[t] = parts[t][0];
        for (int64_t j = 1; j < PARTS; j++) total[t] += parts[t][j];
    }
    normalize(rows, total, hidden, norm, eps, x, step);
}

// The same for a range of tokens. `sums_of` gives the place of a token's sums, where those of an odd token follow those of the even one
// before it. `rows` is memory for two tokens.
template <class SumsOf>
void add_and_normalize(Range tokens, SumsOf sums_of, int64_t sums_step, const float* bias, int64_t hidden, Norm norm, float eps, Value* x,
                       int64_t step, float* rows) {
    for (int64_t t = tokens.first; t < tokens.stop;)
        if (t % 2 == 0 && t + 1 < tokens.stop) {
            add_and_normalize<2>(sums_of(t), sums_step, bias, hidden, norm, eps, x + t * BLOCK, step, rows);
            t += 2;
        } else {
            add_and_normalize<1>(sums_of(t), sums_step, bias, hidden, norm, eps, x + t * BLOCK, step, rows);
            t++;
        }
}

}  // namespace
