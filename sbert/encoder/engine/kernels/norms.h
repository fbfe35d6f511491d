// Layer norms, and the addition that comes before them.
#pragma once

#include "registers.h"

namespace {

// Layer norm of one token (Ba et al. 2016), given the sum of its values.
void normalize(const float* row, V total, int64_t hidden, Norm norm, float eps, Value* x, int64_t step) {
    const V mean = all(add_up(total) / (float)hidden);
    V squares[PARTS] = {};
    for (int64_t i = 0; i < hidden; i += BLOCK)
        for (int64_t j = 0; j < PARTS; j++) {
            const V apart = load(row + i + LANES * j) - mean;
            squares[j] = fma(apart, apart, squares[j]);
        }
    for (int64_t j = 1; j < PARTS; j++) squares[0] += squares[j];
    const V factor = all(1.0f / std::sqrt(add_up(squares[0]) / (float)hidden + eps));
    for (int64_t i = 0; i < hidden; i += BLOCK, x += step) {
        V parts[PARTS];
        for (int64_t j = 0; j < PARTS; j++) {
            const int64_t at = i + LANES * j;
            parts[j] = fma((load(row + at) - mean) * factor, load(norm.scale + at), load(norm.shift + at));
        }
        store_row(x, parts);
    }
}

// x = norm(sums + bias + x) for one token; `sums` has a block of its values each `sums_step` further.
inline void add_and_normalize(const float* sums, int64_t sums_step, const float* bias, int64_t hidden, Norm norm, float eps, Value* x,
                              int64_t step, float* row) {
    V total[PARTS] = {};
    for (int64_t n = 0; n < hidden / BLOCK; n++, sums += sums_step)
        for (int64_t j = 0; j < PARTS; j++) {
            const int64_t at = n * BLOCK + LANES * j;
            const V sum = load(sums + LANES * j) + load(bias + at) + get(x + n * step + LANES * j);
            total[j] += sum;
            store(row + at, sum);
        }
    for (int64_t j = 1; j < PARTS; j++) total[0] += total[j];
    normalize(row, total[0], hidden, norm, eps, x, step);
}

}  // namespace
