// The building blocks of the kernels: AMX tiles, and float32 registers of AVX-512.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace {

using bf16 = uint16_t;

constexpr int64_t BLOCK = 32;         // values of a row of a block
constexpr int64_t TILE = 16;          // rows of an AMX tile
constexpr int64_t TILE_VALUES = 512;  // of 2 bytes
constexpr int64_t SUMS = 1024 + 32;   // a square of float32 sums, with a gap that puts neighbouring squares into other cache sets
constexpr int64_t SPARE_ROWS = 17;    // room past the end, because tiles read beyond a sequence; odd, for the same reason

struct Norm {
    const float *scale, *shift;
};

struct Linear {
    const bf16* weight;
    const float* bias;
};

struct alignas(64) TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

struct Tiles {
    Tiles() {
        static constexpr TileConfig config;  // static, so that GCC does not drop the stores as unread
        _tile_loadconfig(&config);
    }
    ~Tiles() { _tile_release(); }
};

// GCC does not know that loading a tile reads memory. The barrier makes sure that earlier stores are done.
#define LOAD_TILE(tile, from, step)    \
    do {                               \
        asm volatile("" ::: "memory"); \
        _tile_loadd(tile, from, step); \
    } while (0)

inline __m512 widen(__m256i values) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16)); }
inline __m512 low(const bf16* row) { return widen(_mm256_load_si256((const __m256i*)row)); }
inline __m512 high(const bf16* row) { return widen(_mm256_load_si256((const __m256i*)(row + 16))); }
inline __m512i narrow(__m512 first, __m512 second) { return (__m512i)_mm512_cvtne2ps_pbh(second, first); }
inline void store_row(bf16* row, __m512 first, __m512 second) { _mm512_store_si512(row, narrow(first, second)); }

// Returns x Phi(x). Phi is an odd polynomial on [-4.25, 4.25], within 6e-5 of the exact one; bfloat16 rounds by 4e-3.
inline __m512 gelu(__m512 x) {
    const __m512 limit = _mm512_set1_ps(4.25f);
    const __m512 inside = _mm512_max_ps(_mm512_min_ps(x, limit), _mm512_sub_ps(_mm512_setzero_ps(), limit));
    const __m512 square = _mm512_mul_ps(inside, inside);
    constexpr float coefficients[] = {-2.706470603186517e-09f, 1.3835499146352959e-07f, -4.072297997481655e-06f,
                                      7.74133950471878e-05f,   -0.0010129876900464296f, 0.009502246044576168f,
                                      -0.06585053354501724f,   0.39863935112953186f};
    __m512 sum = _mm512_set1_ps(2.2964449786222474e-11f);
    for (float coefficient : coefficients) sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(coefficient));
    return _mm512_mul_ps(x, _mm512_fmadd_ps(sum, inside, _mm512_set1_ps(0.5f)));
}

// Returns 2^x, with a relative error of at most 3e-06.
inline __m512 exp2(__m512 x) {
    const __m512 part = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x - floor(x)
    __m512 sum = _mm512_set1_ps(1.352461553e-02f);
    for (float coefficient : {5.209146422e-02f, 2.413444389e-01f, 6.930391797e-01f, 9.999996983e-01f})
        sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(coefficient));
    return _mm512_scalef_ps(sum, x);
}

// Interleaves two rows: word 2n is value n of the first row, word 2n + 1 value n of the second.
inline __m512i pairs(__m512 first, __m512 second) {
    alignas(64) static constexpr uint16_t order[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                                       8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    return _mm512_permutexvar_epi16(_mm512_load_si512(order), narrow(first, second));
}

inline void transpose(__m512i r[16]) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

}  // namespace
