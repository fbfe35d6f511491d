// Attention of whole sequences in registers, without masks and padding.
//
// Scores are computed transposed: keys are rows, queries are columns. So softmax adds up whole registers.
#pragma once

#include "model.h"
#include "register_products.h"

namespace {

// Memory of one thread for attention over up to `longest` tokens.
struct Attention {
    Buffer<Value> queries, values;  // [dims/PAIR][PANEL queries][PAIR]; [pairs of keys][BLOCK][PAIR] for each block of a head
    Buffer<float> scores;           // [keys][PANEL queries], then shares in their place: [keys/PAIR][PANEL][PAIR]

    Attention(int64_t longest, int64_t head)
        : queries(allocate<Value>(head * PANEL)),
          values(allocate<Value>(PAIR > 1 ? (longest + 1) * head : 1)),
          scores(allocate<float>((longest + 1) * PANEL)) {}
    bool is_there() const { return queries && values && scores; }
};

// Lays out up to PANEL queries as a panel of weights, so that keys are multiplied by them as tokens are by weights.
inline void transpose_queries(const Value* query, int64_t step, int64_t head_blocks, int64_t num, Value* to) {
    for (int64_t d = 0; d < head_blocks; d++, to += BLOCK * PANEL)
        for (int64_t q = 0; q < num; q++) {
            const Value* from = query + d * step + q * BLOCK;
            for (int64_t i = 0; i < BLOCK; i += PAIR) std::memcpy(to + i * PANEL + q * PAIR, from + i, sizeof(Value) * PAIR);
        }
}

// Turns the scores of `length` keys into shares, 2^(score - highest score of the query), and returns the sum of each query's shares.
inline void share(float* scores, int64_t length, V scale, V (&total)[2]) {
    V highest[2] = {load(scores), load(scores + LANES)};
    for (int64_t k = 1; k < length; k++)
        for (int64_t c = 0; c < 2; c++) highest[c] = most(highest[c], load(scores + k * PANEL + c * LANES));
    for (int64_t c = 0; c < 2; c++) total[c] = all(0.0f);
    const auto one = [&](int64_t k, int64_t c) {
        const V result = exp2((load(scores + k * PANEL + c * LANES) - highest[c]) * scale);
        total[c] += result;
        return result;
    };
#ifdef __AVX512BF16__
    for (int64_t k = 0; k < length; k += 2)
        for (int64_t c = 0; c < 2; c++) {
            const V first = one(k, c), second = k + 1 < length ? one(k + 1, c) : all(0.0f);
            // A pair of rows of shares takes half the room of the scores that it replaces.
            _mm512_storeu_si512((Value*)scores + k * PANEL + c * LANES * PAIR, pairs(first, second));
        }
#else
    for (int64_t k = 0; k < length; k++)
        for (int64_t c = 0; c < 2; c++) store(scores + k * PANEL + c * LANES, one(k, c));
#endif
}

// Interleaves the values of two keys at a time, in bfloat16; a missing last key counts as zeros.
inline void pair_values(const Value* value, int64_t length, Value* to) {
#ifdef __AVX512BF16__
    for (int64_t k = 0; k < length; k += 2, to += 2 * BLOCK)
        for (int64_t c = 0; c < 2; c++) {
            const V first = get(value + k * BLOCK + c * LANES);
            const V second = k + 1 < length ? get(value + (k + 1) * BLOCK + c * LANES) : all(0.0f);
            _mm512_storeu_si512(to + c * LANES * 2, pairs(first, second));
        }
#endif
}

// Computes the attention of one sequence (Vaswani et al. 2017, section 3.2.1) for a range of heads.
void attend(const Value* qkv, int64_t step, int64_t length, int64_t num_heads, int64_t head_blocks, Range heads, const Attention& on,
            Value* to) {
    const V scale = all(1.4426950408889634f / std::sqrt((float)(head_blocks * BLOCK)));
    const int64_t blocks = num_heads * head_blocks;
    float* scores = on.scores.get();
    alignas(64) float factors[PANEL], tile[ROWS * BLOCK];
    for (int64_t head = heads.first; head < heads.stop; head++) {
        const Value *queries = qkv + head * head_blocks * step, *keys = queries + blocks * step, *values = keys + blocks * step;
        int64_t values_step = step;
        if (PAIR > 1) {
            values_step = (length + 1) / 2 * 2 * BLOCK;
            for (int64_t d = 0; d < head_blocks; d++) pair_values(values + d * step, length, on.values.get() + d * values_step);
            values = on.values.get();
        }
        for (int64_t q = 0; q < length; q += PANEL) {
            const int64_t num = std::min(PANEL, length - q);
            transpose_queries(queries + q * BLOCK, step, head_blocks, num, on.queries.get());
            for (int64_t k = 0, some; k < length; k += some) {
                some = rows_of_next_tile(length - k);
                FOR_ROWS<Multiply<Tokens>>[some - 1](keys + k * BLOCK, step, head_blocks, BLOCK / PAIR, on.queries.get(),
                                                     scores + k * PANEL, PANEL, false);
            }
            V total[2];
            share(scores, length, scale, total);
            for (int64_t c = 0; c < 2; c++) store(factors + c * LANES, all(1.0f) / total[c]);
            for (int64_t d = 0; d < head_blocks; d++)
                for (int64_t r = 0, some; r < num; r += some) {
                    some = rows_of_next_tile(num - r);
                    for (int64_t i = 0; i < BLOCK; i += PANEL)
                        FOR_ROWS<Multiply<Shares>>[some - 1]((const Value*)scores + r * PAIR, 0, 1, (length + PAIR - 1) / PAIR,
                                                             values + d * values_step + i * PAIR, tile + i, BLOCK, false);
                    for (int64_t s = 0; s < some; s++) {
                        V parts[PARTS];
                        for (int64_t j = 0; j < PARTS; j++) parts[j] = load(tile + s * BLOCK + j * LANES) * all(factors[r + s]);
                        store_row(to + (head * head_blocks + d) * step + (q + r + s) * BLOCK, parts);
                    }
                }
        }
    }
}

}  // namespace
