// AMX tiles, and the transposition of registers.
#pragma once

#include "registers.h"

namespace {

using bf16 = Value;

constexpr int64_t TILE = 16;          // rows of an AMX tile
constexpr int64_t TILE_VALUES = 512;  // of 2 bytes
constexpr int64_t SUMS = 1024 + 32;   // a square of float32 sums, with a gap that puts neighbouring squares into other cache sets
constexpr int64_t SPARE_ROWS = 17;    // room past the end, because tiles read beyond a sequence; odd, for the same reason

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

// Loads a tile that is not needed again soon, so that it does not take the place of others in the first-level cache.
#define STREAM_TILE(tile, from, step)         \
    do {                                      \
        asm volatile("" ::: "memory");        \
        _tile_stream_loadd(tile, from, step); \
    } while (0)

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
