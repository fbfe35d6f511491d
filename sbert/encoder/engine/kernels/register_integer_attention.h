// Attention of whole sequences in integers, for processors with AVX512-VNNI, without masks and padding.
//
// Each dimension of a head has a scale and an offset over the sequence: value = scale * integer + offset. The offsets of keys need no
// product: they add the same to all scores of a query, which changes no share. The scales of keys are multiplied into queries.
// Scores are computed transposed: keys are rows, queries are columns.
//
// Values have 10 bits. Shares have 14 bits, relative to the highest share of a chunk of keys. So a key with less than 2^-15 of it counts
// as nothing, and all such keys of a chunk together are less than a hundredth of it, however long the sequence is.
#pragma once

#include "model.h"
#include "register_products.h"

namespace {

constexpr int64_t MOST_HEAD_BLOCKS = 2;
constexpr float LARGEST_QUERY = 127, LARGEST_VALUE = 511, SHARE_BITS = 14;
constexpr int64_t CHUNK = 256;  // keys whose products with shares add up to less than 2^31: 256 * 2^14 * 511

// Memory of one thread for attention over up to `longest` tokens.
struct Attention {
    Buffer<uint8_t> keys;     // [blocks of a head][keys][BLOCK]
    Buffer<int8_t> queries;   // [dims / AT_ONCE][PANEL queries][AT_ONCE]
    Buffer<int16_t> values;   // [blocks of a head][pairs of keys][BLOCK][2]
    Buffer<int32_t> scores;   // [keys][PANEL queries], then 16-bit shares in their place: [pairs of keys][PANEL queries][2]
    Buffer<int32_t> highest;  // [chunks][PANEL queries]: the highest score
    Buffer<float> parts;      // [chunks][PANEL queries]: the part of all attention that the chunk has, for each unit of its shares

    Attention(int64_t longest, int64_t head)
        : keys(allocate<uint8_t>(longest * head)),
          queries(allocate<int8_t>(head * PANEL)),
          values(allocate<int16_t>((longest + 1) * head)),
          scores(allocate<int32_t>(longest * PANEL)),
          highest(allocate<int32_t>(chunks_of(longest) * PANEL)),
          parts(allocate<float>(chunks_of(longest) * PANEL)) {}
    static int64_t chunks_of(int64_t length) { return (length + CHUNK - 1) / CHUNK; }
    bool is_there() const { return keys && queries && values && scores && highest && parts; }
};

// Rounds the dimensions of a block: integer = (value - lowest) / scale + first.
struct Rounding {
    V scale[PARTS], factor[PARTS], lowest[PARTS];
    float first;

    // Chooses scales so that the values of `length` tokens become integers from `first` to `last`.
    Rounding(const Value* from, int64_t length, float first, float last) : first(first) {
        V highest[PARTS], unusable[PARTS] = {};
        for (int64_t j = 0; j < PARTS; j++) lowest[j] = highest[j] = get(from + j * LANES);
        for (int64_t k = 0; k < length; k++)
            for (int64_t j = 0; j < PARTS; j++) {
                const V x = get(from + k * BLOCK + j * LANES);
                lowest[j] = least(lowest[j], x);
                highest[j] = most(highest[j], x);
                unusable[j] = fma(x, all(0.0f), unusable[j]);  // NaN when a value is not finite, else 0
            }
        const V steps = all(last - first);
        for (int64_t j = 0; j < PARTS; j++) {
            const V range = highest[j] - lowest[j];
            scale[j] = range / steps + unusable[j];
            factor[j] = _mm512_maskz_div_ps(_mm512_cmp_ps_mask(range, all(1e-30f), _CMP_GT_OQ), steps, range);
        }
    }
    __m512i round(V x, int64_t j) const { return _mm512_cvtps_epi32(fma(x - lowest[j], factor[j], all(first))); }
    V offset(int64_t j) const { return fma(all(-first), scale[j], lowest[j]); }
};

// Rounds a block of keys. Writes the scales of its dimensions.
inline void round_keys(const Value* key, int64_t length, uint8_t* to, float* scales) {
    const Rounding by(key, length, 0, LARGEST_INPUT);
    for (int64_t j = 0; j < PARTS; j++) store(scales + j * LANES, by.scale[j]);
    for (int64_t k = 0; k < length; k++)
        for (int64_t j = 0; j < PARTS; j++) {
            const int64_t at = k * BLOCK + j * LANES;
            _mm_store_si128((__m128i*)(to + at), _mm512_cvtusepi32_epi8(by.round(get(key + at), j)));
        }
}

// Rounds a block of values and interleaves those of two keys at a time; a missing last key counts as zeros. Writes the scales and the
// offsets of its dimensions.
inline void round_values(const Value* value, int64_t length, int16_t* to, float* scales, float* offsets) {
    const Rounding by(value, length, -LARGEST_VALUE, LARGEST_VALUE);
    for (int64_t j = 0; j < PARTS; j++) {
        store(scales + j * LANES, by.scale[j]);
        store(offsets + j * LANES, by.offset(j));
    }
    for (int64_t k = 0; k < length; k += 2, to += 2 * BLOCK)
        for (int64_t j = 0; j < PARTS; j++) {
            const Value* at = value + k * BLOCK + j * LANES;
            const __m512i first = by.round(get(at), j);
            const __m512i second = k + 1 < length ? by.round(get(at + BLOCK), j) : _mm512_setzero_si512();
            _mm512_store_si512(to + 2 * j * LANES, pairs(first, second));
        }
}

// Multiplies up to PANEL queries by the scales of keys, rounds each, and lays them out as a panel of weights. Writes the scale of each.
inline void round_queries(const Value* query, int64_t step, int64_t head_blocks, int64_t num, const float* key_scales, int8_t* to,
                          float* scales) {
    alignas(64) int8_t row[MOST_HEAD_BLOCKS * BLOCK];
    const int64_t parts = head_blocks * PARTS;
    for (int64_t q = 0; q < num; q++) {
        V x[MOST_HEAD_BLOCKS * PARTS];
        __m512i largest = _mm512_setzero_si512();
        for (int64_t i = 0; i < parts; i++) {
            x[i] = get(query + i / PARTS * step + q * BLOCK + i % PARTS * LANES) * load(key_scales + i * LANES);
            // Absolute values have the order of the integers that have the same bits, and NaN comes last.
            largest = _mm512_max_epi32(largest, _mm512_castps_si512(_mm512_abs_ps(x[i])));
        }
        const float size = _mm512_cvtss_f32(_mm512_castsi512_ps(_mm512_set1_epi32(_mm512_reduce_max_epi32(largest))));
        const V factor = all(size > 1e-30f ? LARGEST_QUERY / size : 0.0f);
        for (int64_t i = 0; i < parts; i++)
            _mm_store_si128((__m128i*)(row + i * LANES), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x[i] * factor)));
        for (int64_t i = 0; i < head_blocks * BLOCK; i += AT_ONCE<Bytes>)
            std::memcpy(to + i * PANEL + q * AT_ONCE<Bytes>, row + i, AT_ONCE<Bytes>);
        scales[q] = size / LARGEST_QUERY;
    }
}

// Computes the scores of NUM keys, and the highest score so far of each query.
struct MultiplyScores {
    template <int NUM>
    [[gnu::noinline]] static void run(const uint8_t* key, int64_t key_step, int64_t head_blocks, const int8_t* query, int32_t* scores,
                                      int32_t* highest) {
        __m512i products[NUM][2];
        clear<NUM>(products);
        for (int64_t d = 0; d < head_blocks; d++, key += key_step, query += BLOCK * PANEL)
            add_block<Bytes, NUM>(products, key, query);
#pragma GCC unroll 2
        for (int c = 0; c < 2; c++) {
            __m512i most = _mm512_load_si512(highest + c * LANES);
#pragma GCC unroll 16
            for (int r = 0; r < NUM; r++) {
                most = _mm512_max_epi32(most, products[r][c]);
                _mm512_store_si512(scores + r * PANEL + c * LANES, products[r][c]);
            }
            _mm512_store_si512(highest + c * LANES, most);
        }
    }
};

// Multiplies the shares of NUM queries by a block of values, for a chunk of keys. sums (+)= the products times the parts.
struct MultiplyValues {
    template <int NUM>
    [[gnu::noinline]] static void run(const int16_t* share, int64_t pairs, const int16_t* value, const float* parts, float* sums,
                                      bool go_on) {
        __m512i products[NUM][2];
        clear<NUM>(products);
        add_products<Words, NUM>(products, share, 2, PANEL * 2, pairs, value);
#pragma GCC unroll 16
        for (int r = 0; r < NUM; r++)
#pragma GCC unroll 2
            for (int c = 0; c < 2; c++) {
                float* at = sums + r * BLOCK + c * LANES;
                store(at, fma(_mm512_cvtepi32_ps(products[r][c]), all(parts[r]), go_on ? load(at) : all(0.0f)));
            }
    }
};

// Returns 2^x as an integer, with a relative error of at most 7.5e-05 before it is rounded.
inline __m512i exp2_integer(V x) {
    const V part = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x - floor(x)
    V sum = all(7.802452264e-02f);
    for (float coefficient : {2.260671554e-01f, 6.958335405e-01f, 9.999252186e-01f}) sum = fma(sum, part, all(coefficient));
    return _mm512_cvtps_epi32(times_power_of_2(sum, x));
}

// Turns the scores of a chunk of `length` keys into shares, 2^(SHARE_BITS + (score - highest score of the query) * scale), which lie
// in pairs of keys. Returns the sum of each query's shares.
inline void share(const int32_t* scores, int64_t length, const int32_t* highest, const V (&scale)[2], int16_t* to, V (&total)[2]) {
    __m512i sums[2] = {}, most[2];
    for (int64_t c = 0; c < 2; c++) most[c] = _mm512_load_si512(highest + c * LANES);
    const auto one = [&](int64_t k, int64_t c) {
        // Integers are subtracted, so that no rounding makes a share larger than 2^SHARE_BITS.
        const __m512i below = _mm512_sub_epi32(_mm512_load_si512(scores + k * PANEL + c * LANES), most[c]);
        const __m512i result = exp2_integer(fma(_mm512_cvtepi32_ps(below), scale[c], all(SHARE_BITS)));
        sums[c] = _mm512_add_epi32(sums[c], result);
        return result;
    };
    for (int64_t k = 0; k < length; k += 2)
        for (int64_t c = 0; c < 2; c++) {
            const __m512i first = one(k, c), second = k + 1 < length ? one(k + 1, c) : _mm512_setzero_si512();
            _mm512_store_si512(to + k * PANEL + c * 2 * LANES, pairs(first, second));
        }
    for (int64_t c = 0; c < 2; c++) total[c] = _mm512_cvtepi32_ps(sums[c]);
}

// Turns the scores of all chunks of `length` keys into shares, in the place of the scores: shares take half as much room, and are
// written behind what is read. Computes the parts of the chunks.
inline void share_chunks(int64_t length, const V (&scale)[2], const Attention& on) {
    const int64_t chunks = Attention::chunks_of(length);
    const int32_t* highest = on.highest.get();
    __m512i most[2] = {_mm512_load_si512(highest), _mm512_load_si512(highest + LANES)};
    for (int64_t i = 1; i < chunks; i++)
        for (int64_t c = 0; c < 2; c++) most[c] = _mm512_max_epi32(most[c], _mm512_load_si512(highest + i * PANEL + c * LANES));
    V total[2] = {all(0.0f), all(0.0f)};
    for (int64_t i = 0; i < chunks; i++, highest += PANEL) {
        const int64_t first = i * CHUNK;
        V of_chunk[2];
        share(on.scores.get() + first * PANEL, std::min(CHUNK, length - first), highest, scale, (int16_t*)on.scores.get() + first * PANEL,
              of_chunk);
        for (int64_t c = 0; c < 2; c++) {
            const __m512i below = _mm512_sub_epi32(_mm512_load_si512(highest + c * LANES), most[c]);
            const V part = exp2(_mm512_cvtepi32_ps(below) * scale[c]);
            total[c] = fma(of_chunk[c], part, total[c]);
            store(on.parts.get() + i * PANEL + c * LANES, part);
        }
    }
    for (int64_t c = 0; c < 2; c++) {
        const V factor = fma(scale[c], all(0.0f), all(1.0f)) / total[c];  // NaN if the scale is not finite
        for (int64_t i = 0; i < chunks; i++) {
            float* part = on.parts.get() + i * PANEL + c * LANES;
            store(part, load(part) * factor);
        }
    }
}

// Computes the attention of one sequence (Vaswani et al. 2017, section 3.2.1) for a range of heads.
void attend(const Value* qkv, int64_t step, int64_t length, int64_t num_heads, int64_t head_blocks, Range heads, const Attention& on,
            Value* to) {
    constexpr int64_t MOST_DIMS = MOST_HEAD_BLOCKS * BLOCK;
    const V log2_scale = all(1.4426950408889634f / std::sqrt((float)(head_blocks * BLOCK)));
    const int64_t blocks = num_heads * head_blocks, values_step = (length + 1) / 2 * 2 * BLOCK;
    const auto* shares = (const int16_t*)on.scores.get();
    alignas(64) float key_scales[MOST_DIMS], value_scales[MOST_DIMS], value_offsets[MOST_DIMS], query_scales[PANEL] = {};
    alignas(64) float sums[ROWS * BLOCK];
    for (int64_t head = heads.first; head < heads.stop; head++) {
        const Value *queries = qkv + head * head_blocks * step, *keys = queries + blocks * step, *values = keys + blocks * step;
        for (int64_t d = 0; d < head_blocks; d++) {
            const int64_t at = d * BLOCK;
            round_keys(keys + d * step, length, on.keys.get() + at * length, key_scales + at);
            round_values(values + d * step, length, on.values.get() + d * values_step, value_scales + at, value_offsets + at);
        }
        for (int64_t q = 0; q < length; q += PANEL) {
            const int64_t num = std::min(PANEL, length - q);
            round_queries(queries + q * BLOCK, step, head_blocks, num, key_scales, on.queries.get(), query_scales);
            for (int64_t first = 0, stop; first < length; first = stop) {
                int32_t* highest = on.highest.get() + first / CHUNK * PANEL;
                std::fill_n(highest, PANEL, INT32_MIN);
                stop = std::min(first + CHUNK, length);
                for (int64_t k = first, some; k < stop; k += some) {
                    some = rows_of_next_tile(stop - k);
                    FOR_ROWS<MultiplyScores>[some - 1](on.keys.get() + k * BLOCK, length * BLOCK, head_blocks, on.queries.get(),
                                                       on.scores.get() + k * PANEL, highest);
                }
            }
            share_chunks(length, {load(query_scales) * log2_scale, load(query_scales + LANES) * log2_scale}, on);
            for (int64_t d = 0; d < head_blocks; d++)
                for (int64_t r = 0, some; r < num; r += some) {
                    some = rows_of_next_tile(num - r);
                    for (int64_t k = 0; k < length; k += CHUNK)
                        FOR_ROWS<MultiplyValues>[some - 1](shares + k * PANEL + 2 * r, (std::min(CHUNK, length - k) + 1) / 2,
                                                           on.values.get() + d * values_step + k * BLOCK,
                                                           on.parts.get() + k / CHUNK * PANEL + r, sums, k > 0);
                    for (int64_t s = 0; s < some; s++) {
                        V parts[PARTS];
                        for (int64_t j = 0; j < PARTS; j++) {
                            const int64_t at = d * BLOCK + j * LANES;
                            parts[j] = fma(load(sums + s * BLOCK + j * LANES), load(value_scales + at), load(value_offsets + at));
                        }
                        store_row(to + (head * head_blocks + d) * step + (q + r + s) * BLOCK, parts);
                    }
                }
        }
    }
}

}  // namespace
