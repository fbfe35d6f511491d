// The tile instructions of AMX as loops over AVX512-BF16, for processors that have only these: the rest of the kernels is as it is.
// Tiles are 16 rows of 64 bytes, as the kernels configure all of theirs.
#pragma once

#include <immintrin.h>

namespace {

struct alignas(64) EmulatedTile {
    char rows[16][64];
};

thread_local EmulatedTile emulated_tiles[8];

inline void emulated_load(int tile, const void* from, long step) {
    for (int row = 0; row < 16; row++) __builtin_memcpy(emulated_tiles[tile].rows[row], (const char*)from + row * step, 64);
}

inline void emulated_store(int tile, void* to, long step) {
    for (int row = 0; row < 16; row++) __builtin_memcpy((char*)to + row * step, emulated_tiles[tile].rows[row], 64);
}

inline void emulated_product(int sums, int first, int second) {
    for (int row = 0; row < 16; row++) {
        __m512 sum = _mm512_load_ps(emulated_tiles[sums].rows[row]);
        for (int pair = 0; pair < 16; pair++) {
            int values;
            __builtin_memcpy(&values, emulated_tiles[first].rows[row] + 4 * pair, 4);
            const __m512i others = _mm512_load_si512(emulated_tiles[second].rows[pair]);
            sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32(values), (__m512bh)others);
        }
        _mm512_store_ps(emulated_tiles[sums].rows[row], sum);
    }
}

}  // namespace

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stream_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig(config) (void)(config)
#define _tile_release() (void)0
#define _tile_zero(tile) (void)(emulated_tiles[tile] = EmulatedTile{})
#define _tile_loadd(tile, from, step) emulated_load(tile, from, step)
#define _tile_stream_loadd(tile, from, step) emulated_load(tile, from, step)
#define _tile_stored(tile, to, step) emulated_store(tile, to, step)
#define _tile_dpbf16ps(sums, first, second) emulated_product(sums, first, second)
