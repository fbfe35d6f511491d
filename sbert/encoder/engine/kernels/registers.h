// The building blocks of the kernels: float32 registers of AVX-512 or AVX2, and values in memory, which are bfloat16 where the
// processor has units for their products, else float32. The compiler's options choose (`compiled.py`).
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace {

constexpr int64_t BLOCK = 32;  // values of a row of a block

#ifdef __AVX512F__

using V = __m512;
constexpr int64_t LANES = 16;

inline V all(float value) { return _mm512_set1_ps(value); }
inline V load(const float* from) { return _mm512_loadu_ps(from); }
inline void store(float* to, V values) { _mm512_storeu_ps(to, values); }
inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
inline V most(V a, V b) { return _mm512_max_ps(a, b); }
inline V least(V a, V b) { return _mm512_min_ps(a, b); }
inline float add_up(V values) { return _mm512_reduce_add_ps(values); }
inline V round_to_integer(V x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline V times_power_of_2(V x, V integer) { return _mm512_scalef_ps(x, integer); }

#else

using V = __m256;
constexpr int64_t LANES = 8;

inline V all(float value) { return _mm256_set1_ps(value); }
inline V load(const float* from) { return _mm256_loadu_ps(from); }
inline void store(float* to, V values) { _mm256_storeu_ps(to, values); }
inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
inline V most(V a, V b) { return _mm256_max_ps(a, b); }
inline V least(V a, V b) { return _mm256_min_ps(a, b); }
inline float add_up(V values) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
inline V round_to_integer(V x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// `integer` is at most 127; below -126 the result is nearly 0.
inline V times_power_of_2(V x, V integer) {
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(most(integer, all(-127.0f))), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

#endif

constexpr int64_t PARTS = BLOCK / LANES;  // registers of a row
constexpr int64_t PANEL = 2 * LANES;      // outputs that a product computes at a time

#ifdef __AVX512BF16__

using Value = uint16_t;
constexpr int64_t PAIR = 2;  // inputs that one instruction multiplies and adds up for each output

inline V widen(__m256i values) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16)); }
inline V get(const Value* from) { return widen(_mm256_loadu_si256((const __m256i*)from)); }
inline __m512i narrow(V first, V second) { return (__m512i)_mm512_cvtne2ps_pbh(second, first); }
inline void store_row(Value* row, const V (&parts)[PARTS]) { _mm512_store_si512(row, narrow(parts[0], parts[1])); }

// Interleaves two rows: word 2n is value n of the first row, word 2n + 1 value n of the second.
inline __m512i pairs(V first, V second) {
    alignas(64) static constexpr uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_load_si512(order), narrow(first, second));
}

#else

using Value = float;
constexpr int64_t PAIR = 1;

inline V get(const Value* from) { return load(from); }
inline void store_row(Value* row, const V (&parts)[PARTS]) {
    for (int64_t i = 0; i < PARTS; i++) store(row + i * LANES, parts[i]);
}

#endif

#if defined(__AVX512BF16__) || defined(__AVX512VNNI__)

// Returns x Phi(x), within 2.1e-4 (bfloat16 rounds 0.1 by as much). Phi is an odd polynomial on [-4, 4], exactly 0 and 1 at its ends.
inline V gelu(V x) {
    const V inside = _mm512_range_ps(x, all(4.0f), 2), square = inside * inside;  // the sign of x, and its absolute value or 4
    V sum = all(2.319411666e-08f);
    for (float coefficient : {-1.623533477e-06f, 4.854603081e-05f, -8.209372763e-04f, 8.813879626e-03f, -6.468993764e-02f, 3.9799773e-01f})
        sum = fma(sum, square, all(coefficient));
    return x * fma(sum, inside, all(0.5f));
}

// Returns 2^x, with a relative error of at most 3e-06.
inline V exp2(V x) {
    const V part = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x - floor(x)
    V sum = all(1.352461553e-02f);
    for (float coefficient : {5.209146422e-02f, 2.413444389e-01f, 6.930391797e-01f, 9.999996983e-01f})
        sum = fma(sum, part, all(coefficient));
    return times_power_of_2(sum, x);
}

#else

// Returns x (1 + erf(x / sqrt 2)) / 2. The error function is a quotient of polynomials on [-4, 4], within 3e-7.
inline V gelu(V x) {
    const V limit = all(4.0f), inside = most(least(x * all(0.70710678118654752f), limit), -limit), square = inside * inside;
    V above = all(-2.72614225801306e-10f), below = all(-1.45660718464996e-05f);
    for (float coefficient : {2.77068142495902e-08f, -2.10102402082508e-06f, -5.69250639462346e-05f, -7.34990630326855e-04f,
                              -2.95459980854025e-03f, -1.60960333262415e-02f})
        above = fma(above, square, all(coefficient));
    for (float coefficient : {-2.13374055278905e-04f, -1.68282697438203e-03f, -7.37332916720468e-03f, -1.42647390514189e-02f})
        below = fma(below, square, all(coefficient));
    const V half = x * all(0.5f);
    return fma(half, inside * above / below, half);
}

// Returns 2^x, with a relative error of at most 2e-07: the Taylor polynomial of 2^f with |f| <= 1/2, times a power of 2.
inline V exp2(V x) {
    const V integer = round_to_integer(x), part = x - integer;
    V sum = all(1.5403530393381609e-04f);
    for (float coefficient : {1.3333558146428443e-03f, 9.6181291076284772e-03f, 5.5504108664821580e-02f, 2.4022650695910071e-01f,
                              6.9314718055994531e-01f, 1.0f})
        sum = fma(sum, part, all(coefficient));
    return times_power_of_2(sum, integer);
}

#endif

struct Norm {
    const float *scale, *shift;
};

template <class Weight>
struct LinearOf {
    const Weight* weight;
    const float *bias, *scales;  // integers have scales: `register_integers.h`
};

#ifdef __AVX512VNNI__
constexpr bool INTEGERS = true;  // products of layers are computed in integers
using Linear = LinearOf<int8_t>;
using ValuesLinear = LinearOf<int16_t>;
#else
constexpr bool INTEGERS = false;
using Linear = LinearOf<Value>;
using ValuesLinear = Linear;
#endif

struct Plain {
    V operator()(V x) const { return x; }
};
struct Gelu {
    V operator()(V x) const { return gelu(x); }
};
struct Relu {
    V operator()(V x) const { return most(all(0.0f), x); }  // the second value where one is NaN
};

}  // namespace
