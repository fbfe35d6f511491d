// Inputs and products in integers, for processors with AVX512-VNNI.
//
// The values of a token are rotated and rounded in groups of 128: value = scale * integer + least. The rotation (a Hadamard matrix)
// spreads a few large values over the group, so that the step between two integers stays small. `rounding.py` rotates the
// weights the same way, so a product stays what it was. Products of integers are exact, so no order of sums changes a bit.
// Integers are bytes, but for the layer that makes the values of attention: there they are words of 12 bits.
#pragma once

#include "model.h"
#include "team.h"

namespace {

constexpr int64_t GROUP_BLOCKS = 4;                // blocks of a group
constexpr int64_t GROUP_PARTS = 2 * GROUP_BLOCKS;  // registers of a group

// Integers that one instruction multiplies and adds up for each output: four of 8 bits, or two of 16 bits. GCC 12 moves the sums to
// memory and back with _mm512_dpbusd_epi32, which takes three times as long.
struct Bytes {
    using Input = uint8_t;
    using Weight = int8_t;
    static void multiply_add(__m512i& sum, __m512i x, __m512i weight) { asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(weight)); }
};
struct Words {
    using Input = int16_t;
    using Weight = int16_t;
    static void multiply_add(__m512i& sum, __m512i x, __m512i weight) { asm("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(weight)); }
};
template <class Kind>
constexpr int64_t AT_ONCE = 4 / sizeof(typename Kind::Input);

constexpr float LARGEST_INPUT = 255, LARGEST_VALUE_INPUT = 4095;  // with 12 bits, a sum over a group has at most 31 bits

// Rounded inputs of a product: integers in blocks, as the values that they come from, and for each group and token its scale (that of
// bytes) and least value.
template <class Kind>
struct Rounded {
    const typename Kind::Input* integers;
    int64_t step, tokens;
    const float* scales;

    const float* scales_of(int64_t group, int64_t token) const { return scales + 2 * (group * tokens + token); }
};

// Memory for rounded inputs, in bytes and perhaps in words too.
struct RoundedMemory {
    const int64_t step, tokens;
    const Buffer<uint8_t> bytes;
    const Buffer<int16_t> words;
    const Buffer<float> scales;

    RoundedMemory(int64_t blocks, int64_t step, int64_t tokens, bool has_words)
        : step(step),
          tokens(tokens),
          bytes(allocate<uint8_t>(step * blocks)),
          words(allocate<int16_t>(has_words ? step * blocks : 1)),
          scales(allocate<float>(2 * tokens * blocks / GROUP_BLOCKS)) {}
    bool is_there() const { return bytes && words && scales; }
    // Returns the rounded inputs, whose values `prepare` was given before.
    Rounded<Bytes> of(const Value*) const { return {bytes.get(), step, tokens, scales.get()}; }
    Rounded<Words> in_words() const { return {words.get(), step, tokens, scales.get()}; }
};

// Adds to each value the one that lies APART places further, or subtracts it from the one APART places before.
template <int APART>
inline V add_and_subtract(V x) {
    V other;
    if (APART == 1) other = _mm512_permute_ps(x, 0xB1);
    if (APART == 2) other = _mm512_permute_ps(x, 0x4E);
    if (APART == 4) other = _mm512_shuffle_f32x4(x, x, 0xB1);
    constexpr uint16_t seconds[] = {0xAAAA, 0xCCCC, 0xF0F0};
    return fma(x, _mm512_mask_blend_ps(seconds[APART / 2], all(1.0f), all(-1.0f)), other);
}
// The same for the values of a register in memory that lie 8 apart: loads are cheaper than an exchange of halves.
inline V add_and_subtract_8(const float* x) {
    const V first = _mm512_castpd_ps(_mm512_broadcast_f64x4(_mm256_loadu_pd((const double*)x)));
    const V second = _mm512_castpd_ps(_mm512_broadcast_f64x4(_mm256_loadu_pd((const double*)(x + 8))));
    return fma(second, _mm512_mask_blend_ps(0xFF00, all(1.0f), all(-1.0f)), first);
}

// Loads a group, whose blocks lie `step` apart, and multiplies it by the Hadamard matrix of order 128 (Sylvester 1867), whose entries
// are 1 and -1.
inline void load_rotated(const float* from, int64_t step, V (&x)[GROUP_PARTS]) {
#pragma GCC unroll 8
    for (int i = 0; i < GROUP_PARTS; i++)
        x[i] = add_and_subtract<4>(add_and_subtract<2>(add_and_subtract<1>(add_and_subtract_8(from + i / 2 * step + i % 2 * LANES))));
#pragma GCC unroll 3
    for (int apart = 1; apart < GROUP_PARTS; apart *= 2)
#pragma GCC unroll 8
        for (int i = 0; i < GROUP_PARTS; i++)
            if (!(i & apart)) {
                const V sum = x[i] + x[i + apart];
                x[i + apart] = x[i] - x[i + apart];
                x[i] = sum;
            }
}

// Returns the lowest and the highest value of a group.
inline void find_range(const V (&x)[GROUP_PARTS], float& lowest, float& highest) {
    V low = least(least(least(x[0], x[1]), least(x[2], x[3])), least(least(x[4], x[5]), least(x[6], x[7])));
    V high = most(most(most(x[0], x[1]), most(x[2], x[3])), most(most(x[4], x[5]), most(x[6], x[7])));
    // Both are found at once: the lowest value, negated, in the first half of a register, and the highest in the second.
    low = -low;
    V both = most(_mm512_shuffle_f32x4(low, high, 0x44), _mm512_shuffle_f32x4(low, high, 0xEE));
    both = most(both, _mm512_shuffle_f32x4(both, both, 0xB1));
    both = most(both, _mm512_permute_ps(both, 0x4E));
    both = most(both, _mm512_permute_ps(both, 0xB1));
    lowest = -_mm512_cvtss_f32(both);
    highest = _mm_cvtss_f32(_mm512_extractf32x4_ps(both, 2));
}

// Interleaves two rows of integers of 16 bits: word 2n is integer n of the first row, word 2n + 1 integer n of the second.
inline __m512i pairs(__m512i first, __m512i second) { return _mm512_mask_blend_epi16(0xAAAAAAAA, first, _mm512_slli_epi32(second, 16)); }

// Stores the integers of two blocks as bytes.
inline void store_bytes(uint8_t* first, uint8_t* second, const __m512i (&x)[2 * PARTS]) {
    const __m512i mixed = _mm512_packus_epi16(_mm512_packus_epi32(x[0], x[1]), _mm512_packus_epi32(x[2], x[3]));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i bytes = _mm512_permutexvar_epi32(order, mixed);
    _mm256_store_si256((__m256i*)first, _mm512_castsi512_si256(bytes));
    _mm256_store_si256((__m256i*)second, _mm512_extracti64x4_epi64(bytes, 1));
}
// Stores the integers of a block as words.
inline void store_words(int16_t* to, __m512i first, __m512i second) {
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    _mm512_store_si512(to, _mm512_permutexvar_epi64(order, _mm512_packs_epi32(first, second)));
}

// Rounds the values of a range of tokens, to words too if they are the inputs of a layer of values.
void prepare(const RoundedMemory& to, const Value* from, Range tokens, int64_t blocks, bool to_words) {
    for (int64_t t = tokens.first; t < tokens.stop; t++)
        for (int64_t g = 0; g < blocks / GROUP_BLOCKS; g++) {
            const int64_t at = g * GROUP_BLOCKS * to.step + t * BLOCK;
            V x[GROUP_PARTS];
            load_rotated(from + at, to.step, x);
            float lowest, highest;
            find_range(x, lowest, highest);
            const float range = highest - lowest, factor = range > 1e-30f ? LARGEST_INPUT / range : 0;
            const auto round = [&](int i, float by) { return _mm512_cvtps_epi32(fma(x[i], all(by), all(-lowest * by))); };
#pragma GCC unroll 2
            for (int half = 0; half < 2; half++) {
                __m512i integers[2 * PARTS];
#pragma GCC unroll 4
                for (int i = 0; i < 2 * PARTS; i++) integers[i] = round(half * 2 * PARTS + i, factor);
                uint8_t* bytes = to.bytes.get() + at + 2 * half * to.step;
                store_bytes(bytes, bytes + to.step, integers);
            }
            if (to_words)
#pragma GCC unroll 4
                for (int b = 0; b < GROUP_BLOCKS; b++)
                    store_words(to.words.get() + at + b * to.step, round(2 * b, factor * (LARGEST_VALUE_INPUT / LARGEST_INPUT)),
                                round(2 * b + 1, factor * (LARGEST_VALUE_INPUT / LARGEST_INPUT)));
            float* scales = to.scales.get() + 2 * (g * to.tokens + t);
            scales[0] = range / LARGEST_INPUT;
            scales[1] = lowest;
        }
}

// Adds the products of NUM rows of inputs, which lie `row` apart, and PANEL weights. There are `steps` times as many inputs as one
// instruction takes, and they lie `next` apart.
template <class Kind, int NUM>
[[gnu::always_inline]] inline void add_products(__m512i (&sums)[NUM][2], const typename Kind::Input* x, int64_t row, int64_t next,
                                                int64_t steps, const typename Kind::Weight* weight) {
    constexpr int64_t REGISTER = LANES * AT_ONCE<Kind>;
#pragma GCC unroll 2
    for (int64_t k = 0; k < steps; k++, x += next, weight += 2 * REGISTER) {
        const __m512i first = _mm512_loadu_si512(weight), second = _mm512_loadu_si512(weight + REGISTER);
#pragma GCC unroll 16
        for (int r = 0; r < NUM; r++) {
            int32_t four;
            std::memcpy(&four, x + r * row, sizeof four);
            Kind::multiply_add(sums[r][0], _mm512_set1_epi32(four), first);
            Kind::multiply_add(sums[r][1], _mm512_set1_epi32(four), second);
        }
    }
}

// The same for a block of tokens.
template <class Kind, int NUM>
[[gnu::always_inline]] inline void add_block(__m512i (&sums)[NUM][2], const typename Kind::Input* x, const typename Kind::Weight* weight) {
    add_products<Kind, NUM>(sums, x, BLOCK, AT_ONCE<Kind>, BLOCK / AT_ONCE<Kind>, weight);
}

template <int NUM>
[[gnu::always_inline]] inline void clear(__m512i (&sums)[NUM][2]) {
#pragma GCC unroll 16
    for (int r = 0; r < NUM; r++) sums[r][0] = sums[r][1] = _mm512_setzero_si512();
}

// to (+)= x W' for NUM rows and PANEL outputs. `by` has for each group the outputs' scales, and the sums of their weights.
template <class Kind>
struct MultiplyIntegers {
    template <int NUM>
    [[gnu::noinline]] static void run(const typename Kind::Input* x, int64_t x_step, int64_t groups, const float* scales,
                                      int64_t scales_step, const typename Kind::Weight* weight, const float* by, float* to,
                                      int64_t to_step, bool go_on) {
        for (int64_t g = 0; g < groups; g++, scales += scales_step, by += 2 * PANEL, go_on = true) {
            __m512i products[NUM][2];
            clear<NUM>(products);
            for (int64_t b = 0; b < GROUP_BLOCKS; b++, x += x_step, weight += BLOCK * PANEL)
                add_block<Kind, NUM>(products, x, weight);
#pragma GCC unroll 16
            for (int r = 0; r < NUM; r++)
#pragma GCC unroll 2
                for (int c = 0; c < 2; c++) {
                    float* total = to + r * to_step + c * LANES;
                    // One instruction whether it goes on or not, so that a batch's cut into pieces changes no bit.
                    const V more = fma(all(scales[2 * r + 1]), load(by + PANEL + c * LANES), go_on ? load(total) : all(0.0f));
                    store(total, fma(_mm512_cvtepi32_ps(products[r][c]) * load(by + c * LANES), all(scales[2 * r]), more));
                }
        }
    }
};

}  // namespace
