// Inputs and products in 8-bit integers, for processors with AVX512-VNNI.
//
// The values of a token are rotated and rounded in groups of 128: value = scale * integer + least. The rotation (a Hadamard matrix)
// spreads a few large values over the group, so that the step between two integers stays small. `rounding.py` rotates the
// weights the same way, so a product stays what it was. Products of integers are exact, so no order of sums changes a bit.
#pragma once

#include "model.h"
#include "team.h"

namespace {

constexpr int64_t GROUP_BLOCKS = 4;                // blocks of a group
constexpr int64_t GROUP_PARTS = 2 * GROUP_BLOCKS;  // registers of a group
constexpr int64_t QUAD = 4;                        // inputs that one instruction multiplies and adds up for each output

// Rounded inputs of a product: integers in blocks, as the values that they come from, and for each group and token its scale and
// least value.
struct Rounded {
    const Value* from;
    int64_t step, tokens;
    uint8_t* integers;
    float* scales;

    float* scales_of(int64_t group, int64_t token) const { return scales + 2 * (group * tokens + token); }
};

// Memory for rounded inputs.
struct RoundedMemory {
    const int64_t step, tokens;
    const Buffer<uint8_t> integers;
    const Buffer<float> scales;

    RoundedMemory(int64_t blocks, int64_t step, int64_t tokens)
        : step(step),
          tokens(tokens),
          integers(allocate<uint8_t>(step * blocks)),
          scales(allocate<float>(2 * tokens * blocks / GROUP_BLOCKS)) {}
    bool is_there() const { return integers && scales; }
    Rounded of(const Value* from) const { return {from, step, tokens, integers.get(), scales.get()}; }
};

// Adds the value that lies APART places further to the first of each two values, and subtracts it from the second.
template <int APART>
inline V add_and_subtract(V x) {
    V other;
    if (APART == 1) other = _mm512_permute_ps(x, 0xB1);
    if (APART == 2) other = _mm512_permute_ps(x, 0x4E);
    if (APART == 4) other = _mm512_shuffle_f32x4(x, x, 0xB1);
    if (APART == 8) other = _mm512_shuffle_f32x4(x, x, 0x4E);
    constexpr uint16_t seconds[] = {0xAAAA, 0xCCCC, 0xF0F0, 0xFF00};
    constexpr uint16_t second = seconds[APART == 1 ? 0 : APART == 2 ? 1 : APART == 4 ? 2 : 3];
    return fma(x, _mm512_mask_blend_ps(second, all(1.0f), all(-1.0f)), other);
}

// Multiplies a group by the Hadamard matrix of order 128 (Sylvester 1867), whose entries are 1 and -1.
inline void rotate(V (&x)[GROUP_PARTS]) {
#pragma GCC unroll 8
    for (int i = 0; i < GROUP_PARTS; i++)
        x[i] = add_and_subtract<8>(add_and_subtract<4>(add_and_subtract<2>(add_and_subtract<1>(x[i]))));
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

// Rounds the values of a range of tokens.
void prepare(const Rounded& x, Range tokens, int64_t blocks) {
    for (int64_t t = tokens.first; t < tokens.stop; t++)
        for (int64_t g = 0; g < blocks / GROUP_BLOCKS; g++) {
            const int64_t at = g * GROUP_BLOCKS * x.step + t * BLOCK;
            V values[GROUP_PARTS];
#pragma GCC unroll 8
            for (int i = 0; i < GROUP_PARTS; i++) values[i] = get(x.from + at + i / 2 * x.step + i % 2 * LANES);
            rotate(values);
            V lowest = values[0], highest = values[0];
#pragma GCC unroll 8
            for (int i = 1; i < GROUP_PARTS; i++) lowest = least(lowest, values[i]), highest = most(highest, values[i]);
            const float low = _mm512_reduce_min_ps(lowest), range = _mm512_reduce_max_ps(highest) - low;
            const V factor = all(range > 1e-30f ? 255 / range : 0);
#pragma GCC unroll 8
            for (int i = 0; i < GROUP_PARTS; i++)
                _mm_store_si128((__m128i*)(x.integers + at + i / 2 * x.step + i % 2 * LANES),
                                _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32((values[i] - all(low)) * factor)));
            x.scales_of(g, t)[0] = range / 255;
            x.scales_of(g, t)[1] = low;
        }
}

// Adds the products of four integers, the same for all outputs, and of weights of LANES outputs. GCC 12 moves the sums to memory
// and back with _mm512_dpbusd_epi32, which takes three times as long.
inline void multiply_add(__m512i& sum, __m512i x, __m512i weight) { asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(weight)); }

// to (+)= x W' for NUM rows and PANEL outputs. `by` has for each group the outputs' scales, and the sums of their weights.
template <int NUM>
[[gnu::noinline]] void multiply_integers(const uint8_t* x, int64_t x_step, int64_t groups, const float* scales, int64_t scales_step,
                                         const int8_t* weight, const float* by, float* to, int64_t to_step, bool go_on) {
    for (int64_t g = 0; g < groups; g++, scales += scales_step, by += 2 * PANEL, go_on = true) {
        __m512i products[NUM][2];
#pragma GCC unroll 16
        for (int r = 0; r < NUM; r++) products[r][0] = products[r][1] = _mm512_setzero_si512();
        for (int64_t b = 0; b < GROUP_BLOCKS; b++, x += x_step)
#pragma GCC unroll 2
            for (int64_t k = 0; k < BLOCK; k += QUAD, weight += PANEL * QUAD) {
                const __m512i first = _mm512_loadu_si512(weight), second = _mm512_loadu_si512(weight + LANES * QUAD);
#pragma GCC unroll 16
                for (int r = 0; r < NUM; r++) {
                    int32_t quad;
                    std::memcpy(&quad, x + r * BLOCK + k, sizeof quad);
                    multiply_add(products[r][0], _mm512_set1_epi32(quad), first);
                    multiply_add(products[r][1], _mm512_set1_epi32(quad), second);
                }
            }
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

}  // namespace
