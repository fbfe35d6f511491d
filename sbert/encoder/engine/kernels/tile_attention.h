// Attention of whole sequences in tiles, without masks and padding.
//
// Queries are the rows of a tile of scores, and keys are its columns. Keys and values are laid out once for each sequence and
// head. Products of float32 took twice as long beside tiles as alone (LOG.md), so shares are computed in integers.
#pragma once

#include "team.h"
#include "tiles.h"

namespace {

constexpr int64_t KEYS = 32;    // keys of a step: their shares are one tile
constexpr int64_t CHUNK = 128;  // keys whose scores are kept at a time

// 16 queries of one head.
struct Queries {
    const bf16 *rows, *keys, *values;  // of the head; `lay_out` describes keys and values
    bf16* to;
    int64_t num;
    float share_bits;                    // the share of a key that scores as much as the reference, as an integer
    alignas(64) float references[TILE];  // a score for each query
};

constexpr int64_t values_of(int64_t length, int64_t head_blocks) { return (length + KEYS - 1) / KEYS * 2 * TILE_VALUES * head_blocks; }

// Lays out the keys and values of one head and sequence, with zeros past the end. Keys: [16 keys][head block][16 pairs of
// values][16 keys][2]. Values: [32 keys][head block][2][16 pairs of keys][16 values][2], with the keys in the order of `share`.
void lay_out(const bf16* key, const bf16* value, int64_t step, int64_t length, int64_t head_blocks, bf16* keys, bf16* values) {
    alignas(64) static constexpr uint16_t order[2][32] = {
        {0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39, 8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47},
        {16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55, 24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63}};
    const __m512i left = _mm512_load_si512(order[0]), right = _mm512_load_si512(order[1]);
    const auto row = [&](const bf16* from, int64_t k) {
        return k < length ? _mm512_load_si512(from + k * BLOCK) : _mm512_setzero_si512();
    };
    for (int64_t first = 0; first < length; first += TILE)
        for (int64_t d = 0; d < head_blocks; d++, keys += TILE_VALUES) {
            __m512i rows[TILE];
            for (int64_t k = 0; k < TILE; k++) rows[k] = row(key + d * step, first + k);
            transpose(rows);
            for (int64_t k = 0; k < TILE; k++) _mm512_store_si512(keys + k * BLOCK, rows[k]);
        }
    for (int64_t first = 0; first < length; first += KEYS)
        for (int64_t d = 0; d < head_blocks; d++, values += 2 * TILE_VALUES)
            for (int64_t pair = 0; pair < TILE; pair++) {
                const int64_t k = first + pair / 4 * 4 + pair / 2 % 2 * TILE + pair % 2 * 2;
                const __m512i one = row(value + d * step, k), other = row(value + d * step, k + 1);
                _mm512_store_si512(values + pair * BLOCK, _mm512_permutex2var_epi16(one, left, other));
                _mm512_store_si512(values + TILE_VALUES + pair * BLOCK, _mm512_permutex2var_epi16(one, right, other));
            }
}

// Computes the scores of `num` keys (at most 32) from `first` on, a tile of 16 queries for each 16 keys.
template <int HEAD_BLOCKS>
inline void score(const Queries& of, int64_t step, int64_t first, int64_t num, float* scores) {
    const bf16* keys = of.keys + first * HEAD_BLOCKS * BLOCK;
    LOAD_TILE(2, of.rows, 64);
    _tile_zero(0);
    LOAD_TILE(3, keys, 64);
    _tile_dpbf16ps(0, 2, 3);
    if constexpr (HEAD_BLOCKS == 1) {
        if (num > TILE) {
            _tile_zero(1);
            LOAD_TILE(3, keys + TILE_VALUES, 64);
            _tile_dpbf16ps(1, 2, 3);
            _tile_stored(1, scores + TILE * TILE, 64);
        }
        _tile_stored(0, scores, 64);
    } else {
        LOAD_TILE(2, of.rows + step, 64);
        LOAD_TILE(3, keys + TILE_VALUES, 64);
        _tile_dpbf16ps(0, 2, 3);
        _tile_stored(0, scores, 64);
        if (num > TILE) {
            _tile_zero(0);
            LOAD_TILE(3, keys + 3 * TILE_VALUES, 64);
            _tile_dpbf16ps(0, 2, 3);
            LOAD_TILE(2, of.rows, 64);
            LOAD_TILE(3, keys + 2 * TILE_VALUES, 64);
            _tile_dpbf16ps(0, 2, 3);
            _tile_stored(0, scores + TILE * TILE, 64);
        }
    }
}

// How much less than x the first 7 bits of 2^x - 1 are, in units of the last bit: an entry for each two of x = 0, 1/128, ..., 127/128.
struct alignas(64) Excess {
    uint16_t units[64];

    Excess() {
        for (int i = 0; i < 64; i++) {
            const double x = (i + 0.25) / 64;  // the mean of the two
            units[i] = (uint16_t)std::lround((x + 1 - std::exp2(x)) * 128);
        }
    }
};
const Excess EXCESS;

// Computes the shares of `num` keys (at most 32) in bfloat16, zeros past the last, in the order 0 to 3, 16 to 19, 4 to 7, 20 to 23
// and so on. The bits of an integer i, read as bfloat16, are about 2^(i / 128 - 127): exponent and straight lines between powers
// of 2 (Schraudolph 1999). A table makes the lines curves. An exponent too large gives infinity or NaN, and one too small 0.
inline void share(const Queries& of, const float* scores, int64_t num, V scale, bf16* shares) {
    const __m512i first = _mm512_load_si512(EXCESS.units), second = _mm512_load_si512(EXCESS.units + 32);
    const uint32_t there = num < KEYS ? (1u << num) - 1 : ~0u;
    const __mmask32 ordered = _pdep_u32(there, 0x0f0f0f0f) | _pdep_u32(there >> TILE, 0xf0f0f0f0);
    const V bits = all(of.share_bits), largest = all(32767.0f);  // NaN in bfloat16; `least` gives it also where a score is NaN
#pragma GCC unroll 4
    for (int64_t q = 0; q < TILE; q++, scores += TILE, shares += KEYS) {
        const V reference = all(of.references[q]);
        const __m512i one = _mm512_cvtps_epi32(least(fma(load(scores) - reference, scale, bits), largest));
        const __m512i other = _mm512_cvtps_epi32(least(fma(load(scores + TILE * TILE) - reference, scale, bits), largest));
        const __m512i lines = _mm512_maskz_max_epi16(ordered, _mm512_packs_epi32(one, other), _mm512_setzero_si512());
        const __m512i excess = _mm512_permutex2var_epi16(first, _mm512_srli_epi16(lines, 1), second);
        _mm512_store_si512(shares, _mm512_sub_epi16(lines, excess));
    }
}

// A tile of the number 1.
struct alignas(64) Ones {
    bf16 values[TILE_VALUES];

    constexpr Ones() : values() {
        for (bf16& value : values) value = 0x3f80;
    }
};

// Adds the values of 32 keys from `first` on, weighted with their shares, to tiles 4, 5 and, with heads of 64, 6 and 7; and the shares
// to tile 6, or 1 with heads of 64. The first keys begin from zero. With heads of 32, tile 7 holds ones from then on.
template <int HEAD_BLOCKS>
inline void add_values(const Queries& of, int64_t first, const bf16* shares) {
    static constexpr Ones ones;
    const bf16* values = of.values + first * HEAD_BLOCKS * BLOCK;
    if (first == 0) {
        _tile_zero(4);
        _tile_zero(5);
        _tile_zero(6);
        if constexpr (HEAD_BLOCKS == 1) {
            LOAD_TILE(7, &ones, 64);
        } else {
            _tile_zero(7);
            _tile_zero(1);
        }
    }
    LOAD_TILE(2, shares, 64);
    LOAD_TILE(3, values, 64);
    _tile_dpbf16ps(4, 2, 3);
    LOAD_TILE(3, values + TILE_VALUES, 64);
    _tile_dpbf16ps(5, 2, 3);
    if constexpr (HEAD_BLOCKS == 1) {
        _tile_dpbf16ps(6, 2, 7);
    } else {
        LOAD_TILE(3, values + 2 * TILE_VALUES, 64);
        _tile_dpbf16ps(6, 2, 3);
        LOAD_TILE(3, values + 3 * TILE_VALUES, 64);
        _tile_dpbf16ps(7, 2, 3);
        LOAD_TILE(3, &ones, 64);
        _tile_dpbf16ps(1, 2, 3);
    }
}

// Divides the sums of values by the sums of shares and writes one row for each query. Returns whether a sum is too large or NaN,
// because a key scores much higher than the first or is not finite.
template <int HEAD_BLOCKS>
inline bool write_sums(const Queries& of, int64_t step) {
    alignas(64) float sums[HEAD_BLOCKS][2][TILE * TILE], totals[TILE * TILE], factors[TILE];
    _tile_stored(4, sums[0][0], 64);
    _tile_stored(5, sums[0][1], 64);
    if constexpr (HEAD_BLOCKS == 1) {
        _tile_stored(6, totals, 64);
    } else {
        _tile_stored(6, sums[1][0], 64);
        _tile_stored(7, sums[1][1], 64);
        _tile_stored(1, totals, 64);
    }
    const __m512i places = _mm512_slli_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0), 4);
    const V total = _mm512_i32gather_ps(places, totals, 4);
    store(factors, all(1.0f) / total);
    for (int64_t q = 0; q < of.num; q++)
        for (int64_t d = 0; d < HEAD_BLOCKS; d++)
            store_row(of.to + d * step + q * BLOCK,
                      {load(sums[d][0] + q * TILE) * all(factors[q]), load(sums[d][1] + q * TILE) * all(factors[q])});
    return _mm512_mask_cmp_ps_mask((__mmask16)((1u << of.num) - 1), total, all(0x1p100f), _CMP_NLT_UQ);
}

// Computes the attention of 16 queries relative to their references. Without references the scores of the first key are taken.
// Returns what `write_sums` returns.
template <int HEAD_BLOCKS>
inline bool attend_to_all(Queries& of, bool has_references, int64_t step, int64_t length, V scale) {
    alignas(64) float scores[CHUNK * TILE];  // shares take their place
    for (int64_t first = 0; first < length; first += CHUNK) {
        const int64_t num = std::min(CHUNK, length - first);
        for (int64_t k = 0; k < num; k += KEYS) score<HEAD_BLOCKS>(of, step, first + k, std::min(KEYS, num - k), scores + k * TILE);
        if (first == 0 && !has_references) {
            // The first key has a share of 2^-60. So others may score higher by 160 (to base 2), and those that matter do not vanish.
            of.share_bits = 128 * (127 - 60);
            for (int64_t q = 0; q < TILE; q++) of.references[q] = scores[q * TILE];
        }
        for (int64_t k = 0; k < num; k += KEYS) share(of, scores + k * TILE, std::min(KEYS, num - k), scale, (bf16*)(scores + k * TILE));
        for (int64_t k = 0; k < num; k += KEYS) add_values<HEAD_BLOCKS>(of, first + k, (const bf16*)(scores + k * TILE));
    }
    return write_sums<HEAD_BLOCKS>(of, step);
}

// Makes the highest score of each query its reference, with the share 1. This is needed when a query scores another key very much
// higher than the first.
template <int HEAD_BLOCKS>
[[gnu::noinline]] void refer_to_highest(Queries& of, int64_t step, int64_t length) {
    alignas(64) float scores[KEYS * TILE];
    V highest[TILE];
    for (V& one : highest) one = all(-INFINITY);
    for (int64_t first = 0; first < length; first += KEYS) {
        const int64_t num = std::min(KEYS, length - first);
        score<HEAD_BLOCKS>(of, step, first, num, scores);
        for (int64_t k = 0; k < num; k += TILE) {
            const __mmask16 there = (__mmask16)((1u << std::min(TILE, num - k)) - 1);
            for (int64_t q = 0; q < TILE; q++)
                highest[q] = _mm512_mask_max_ps(highest[q], there, highest[q], load(scores + k * TILE + q * TILE));
        }
    }
    of.share_bits = 128 * 127;
    for (int64_t q = 0; q < TILE; q++) of.references[q] = _mm512_reduce_max_ps(highest[q]);
}

// Computes the attention of one sequence for a range of heads (Vaswani et al. 2017, section 3.2.1), 16 queries of a head at a time.
template <int HEAD_BLOCKS>
void attend(const bf16* qkv, int64_t step, int64_t length, int64_t blocks, Range heads, bf16* memory, bf16* to) {
    const V scale = all(128 * 1.4426950408889634f / std::sqrt((float)(HEAD_BLOCKS * BLOCK)));
    bf16 *const keys = memory, *const values = memory + values_of(length, HEAD_BLOCKS);
    for (int64_t head = heads.first; head < heads.stop; head++) {
        const bf16 *query = qkv + head * HEAD_BLOCKS * step, *key = query + blocks * step;
        lay_out(key, key + blocks * step, step, length, HEAD_BLOCKS, keys, values);
        for (int64_t q = 0; q < length; q += TILE) {
            Queries of = {query + q * BLOCK, keys, values, to + head * HEAD_BLOCKS * step + q * BLOCK, std::min(TILE, length - q), 0, {}};
            if (attend_to_all<HEAD_BLOCKS>(of, false, step, length, scale)) {
                refer_to_highest<HEAD_BLOCKS>(of, step, length);
                attend_to_all<HEAD_BLOCKS>(of, true, step, length, scale);
            }
        }
    }
}

}  // namespace
