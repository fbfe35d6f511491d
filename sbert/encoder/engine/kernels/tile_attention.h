// Attention of whole sequences, without masks and padding.
//
// Scores are computed transposed: keys are rows, queries are columns. So softmax adds up whole registers.
#pragma once

#include "team.h"
#include "tiles.h"

namespace {

constexpr int64_t MAX_HEAD_BLOCKS = 2;
constexpr int64_t KEYS = 64;  // keys of a chunk

// State of 16 queries of one head, while scores become shares (which add up to 1) and then weighted sums of values.
struct Queries {
    alignas(64) bf16 transposed[MAX_HEAD_BLOCKS][TILE_VALUES];
    const bf16 *keys, *values;  // values of the head: [32 keys][head block][2][16 values][32 keys]
    bf16* to;
    int64_t num;
    __m512 most, total[2];  // for each query: the score that shares are relative to, and the sum of shares
};

// One chunk is written while the other is read. Their distance is not a multiple of 4 KiB, else a load would wait for a store.
struct alignas(64) Chunk {
    float scores[KEYS * 16];   // [keys][16 queries]
    bf16 shares[KEYS * 16];    // [pairs of keys][16 queries][2]
    char apart[64 * 11];
};

constexpr int64_t values_of(int64_t length, int64_t head_blocks) { return (length + 31) / 32 * 2 * TILE_VALUES * head_blocks; }

// Transposes the values of one head and sequence; writes zeros past the end.
void transpose_values(const bf16* value, int64_t step, int64_t length, int64_t head_blocks, bf16* to) {
    alignas(64) uint16_t order[2][32];
    for (int i = 0; i < 32; i++) {
        order[0][i] = (uint16_t)(i / 2 + i % 2 * 32);
        order[1][i] = (uint16_t)(order[0][i] + 16);
    }
    const __m512i first = _mm512_load_si512(order[0]), second = _mm512_load_si512(order[1]);
    for (int64_t k = 0; k < length; k += 32)
        for (int64_t d = 0; d < head_blocks; d++, to += 2 * TILE_VALUES) {
            const bf16* from = value + d * step + k * BLOCK;
            __m512i left[16], right[16];
            for (int64_t p = 0; p < 16; p++) {
                const int64_t at = k + 2 * p;
                const __m512i even = at < length ? _mm512_load_si512(from + 2 * p * BLOCK) : _mm512_setzero_si512();
                const __m512i odd = at + 1 < length ? _mm512_load_si512(from + (2 * p + 1) * BLOCK) : _mm512_setzero_si512();
                left[p] = _mm512_permutex2var_epi16(even, first, odd);
                right[p] = _mm512_permutex2var_epi16(even, second, odd);
            }
            transpose(left);
            transpose(right);
            for (int64_t p = 0; p < 16; p++) {
                _mm512_store_si512(to + p * BLOCK, left[p]);
                _mm512_store_si512(to + TILE_VALUES + p * BLOCK, right[p]);
            }
        }
}

// Computes the scores of `num` keys from `first` on, rounded up to a multiple of 16 keys.
inline void score(const Queries& of, int64_t step, int64_t head_blocks, int64_t first, int64_t num, float* scores) {
    LOAD_TILE(2, of.transposed[0], 64);
    if (head_blocks > 1) LOAD_TILE(7, of.transposed[1], 64);
    for (int64_t k = first; k < first + num; k += TILE, scores += TILE * 16) {
        _tile_zero(0);
        LOAD_TILE(1, of.keys + k * BLOCK, 64);
        _tile_dpbf16ps(0, 1, 2);
        if (head_blocks > 1) {
            LOAD_TILE(1, of.keys + step + k * BLOCK, 64);
            _tile_dpbf16ps(0, 1, 7);
        }
        _tile_stored(0, scores, 64);
    }
}

inline void zero_sums(int64_t head_blocks) {
    _tile_zero(3);
    _tile_zero(4);
    if (head_blocks > 1) {
        _tile_zero(5);
        _tile_zero(6);
    }
}

// Adds the weighted values of `num` keys from `first` on to the sums.
inline void add_values(const Queries& of, int64_t head_blocks, int64_t first, int64_t num, const bf16* shares) {
    const bf16* values = of.values + first * head_blocks * BLOCK;
    for (int64_t k = 0; k < num; k += 32, shares += TILE_VALUES, values += head_blocks * 2 * TILE_VALUES) {
        LOAD_TILE(7, shares, 64);
        LOAD_TILE(1, values, 64);
        LOAD_TILE(2, values + TILE_VALUES, 64);
        _tile_dpbf16ps(3, 1, 7);
        _tile_dpbf16ps(4, 2, 7);
        if (head_blocks > 1) {
            LOAD_TILE(1, values + 2 * TILE_VALUES, 64);
            LOAD_TILE(2, values + 3 * TILE_VALUES, 64);
            _tile_dpbf16ps(5, 1, 7);
            _tile_dpbf16ps(6, 2, 7);
        }
    }
}

inline void store_sums(float* sums, int64_t head_blocks) {
    _tile_stored(3, sums, 64);
    _tile_stored(4, sums + 256, 64);
    if (head_blocks > 1) {
        _tile_stored(5, sums + 512, 64);
        _tile_stored(6, sums + 768, 64);
    }
}

// Makes the sums relative to a new highest score. This is needed when a key scores much higher than those before, which is rare.
// It changes only the queries `concerned`, so that no query's result depends on other queries, which may be of another sequence.
[[gnu::noinline]] void raise(Queries& of, int64_t head_blocks, __mmask16 concerned, __m512 most) {
    alignas(64) float sums[MAX_HEAD_BLOCKS * TILE_VALUES];
    most = _mm512_mask_mov_ps(of.most, concerned, most);
    const __m512 factor = _mm512_mask_mov_ps(_mm512_set1_ps(1.0f), concerned, exp2(_mm512_sub_ps(of.most, most)));
    of.most = most;
    for (auto& total : of.total) total = _mm512_mul_ps(total, factor);
    store_sums(sums, head_blocks);
    for (int64_t i = 0; i < head_blocks * TILE_VALUES; i += 16)
        _mm512_store_ps(sums + i, _mm512_mul_ps(_mm512_load_ps(sums + i), factor));
    LOAD_TILE(3, sums, 64);
    LOAD_TILE(4, sums + 256, 64);
    if (head_blocks > 1) {
        LOAD_TILE(5, sums + 512, 64);
        LOAD_TILE(6, sums + 768, 64);
    }
}

// Divides the sums by the sum of shares, transposes them and writes one row for each query.
inline void write_sums(const Queries& of, int64_t step, int64_t head_blocks) {
    alignas(64) float sums[MAX_HEAD_BLOCKS * TILE_VALUES];
    store_sums(sums, head_blocks);
    const __m512 factor = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_add_ps(of.total[0], of.total[1]));
    for (int64_t d = 0; d < head_blocks; d++) {
        __m512i rows[16];
        for (int64_t p = 0; p < 16; p++) {
            const float* two = sums + d * TILE_VALUES + p * 32;
            rows[p] = pairs(_mm512_mul_ps(_mm512_load_ps(two), factor), _mm512_mul_ps(_mm512_load_ps(two + 16), factor));
        }
        transpose(rows);
        for (int64_t r = 0; r < of.num; r++) _mm512_store_si512(of.to + d * step + r * BLOCK, rows[r]);
    }
}

inline __m512 highest(const float* scores, int64_t length) {
    __m512 most[4] = {_mm512_load_ps(scores), most[0], most[0], most[0]};
    int64_t k = 0;
    for (; k + 3 < length; k += 4)
        for (int64_t i = 0; i < 4; i++) most[i] = _mm512_max_ps(most[i], _mm512_load_ps(scores + (k + i) * 16));
    for (; k < length; k++) most[0] = _mm512_max_ps(most[0], _mm512_load_ps(scores + k * 16));
    return _mm512_max_ps(_mm512_max_ps(most[0], most[1]), _mm512_max_ps(most[2], most[3]));
}

// Computes the shares of `num` keys, 2^(score - most), and adds them to the totals. Writes zeros up to a multiple of 32 keys.
inline void share(Queries& of, const float* scores, int64_t num, __m512 scale, bf16* shares) {
    const __m512 most = of.most;
    __m512 total0 = of.total[0], total1 = of.total[1];
    const auto one = [&](int64_t k) { return exp2(_mm512_fmsub_ps(_mm512_load_ps(scores + k * 16), scale, most)); };
    int64_t k = 0;
    for (; k + 1 < num; k += 2) {
        const __m512 first = one(k), second = one(k + 1);
        total0 = _mm512_add_ps(total0, first);
        total1 = _mm512_add_ps(total1, second);
        _mm512_store_si512(shares + k * 16, pairs(first, second));
    }
    if (k < num) {
        const __m512 last = one(k);
        total0 = _mm512_add_ps(total0, last);
        _mm512_store_si512(shares + k * 16, pairs(last, _mm512_setzero_ps()));
        k += 2;
    }
    for (; k % 32; k += 2) _mm512_store_si512(shares + k * 16, _mm512_setzero_si512());
    of.total[0] = total0;
    of.total[1] = total1;
}

// Computes the attention of one sequence for a range of heads (Vaswani et al. 2017, section 3.2.1), 16 queries of a head at a time and 64 keys at a
// time. Sums are updated as in Milakov and Gimelshein 2018, but made relative to a new highest score only when its share would
// be more than 2^8. While the vector units compute the shares of one chunk, the matrix units compute the scores of the next
// chunk and the sums of the last.
void attend(const bf16* qkv, int64_t step, int64_t length, int64_t blocks, int64_t head_blocks, Range heads, bf16* memory, bf16* to) {
    qkv += heads.first * head_blocks * step, to += heads.first * head_blocks * step;
    const __m512 scale = _mm512_set1_ps(1.4426950408889634f / std::sqrt((float)(head_blocks * BLOCK)));
    const __m512 slack = _mm512_set1_ps(8.0f);
    const int64_t per_head = (length + TILE - 1) / TILE, chunks = (length + KEYS - 1) / KEYS;
    Queries ring[3];
    Chunk turns[2];
    const auto prepare = [&](int64_t item) {
        Queries& of = ring[item % 3];
        const int64_t head = item / per_head, q = item % per_head * TILE;
        const bf16* query = qkv + head * head_blocks * step + q * BLOCK;
        for (int64_t d = 0; d < head_blocks; d++) {
            __m512i rows[16];
            for (int64_t r = 0; r < 16; r++) rows[r] = _mm512_load_si512(query + d * step + r * BLOCK);
            transpose(rows);
            for (int64_t r = 0; r < 16; r++) _mm512_store_si512(of.transposed[d] + r * BLOCK, rows[r]);
        }
        of.keys = qkv + (blocks + head * head_blocks) * step;
        bf16* values = memory + head % 3 * values_of(length, head_blocks);
        if (q == 0) transpose_values(of.keys + blocks * step, step, length, head_blocks, values);
        of.values = values;
        of.to = to + head * head_blocks * step + q * BLOCK;
        of.num = std::min(TILE, length - q);
    };
    struct Place {
        int64_t item = 0, chunk = 0;
    } next, now, last;
    const auto forward = [&](Place& place) {
        if (++place.chunk == chunks) place = {place.item + 1, 0};
    };
    const auto keys_of = [&](const Place& place) { return std::min(KEYS, length - place.chunk * KEYS); };
    const int64_t num = (heads.stop - heads.first) * per_head;
    for (int64_t turn = 0; last.item < num; turn ^= 1) {
        // The first round only computes scores; the second has no sums yet.
        const bool has_now = next.item > 0 || next.chunk > 0;
        const bool has_last = now.item > 0 || now.chunk > 0;
        Chunk &mine = turns[turn], &other = turns[turn ^ 1];
        if (has_last) {
            const Queries& of = ring[last.item % 3];
            if (last.chunk == 0) zero_sums(head_blocks);
            add_values(of, head_blocks, last.chunk * KEYS, keys_of(last), mine.shares);
            if (last.chunk + 1 == chunks) write_sums(of, step, head_blocks);
            forward(last);
        }
        if (next.item < num) {
            if (next.chunk == 0) prepare(next.item);
            score(ring[next.item % 3], step, head_blocks, next.chunk * KEYS, keys_of(next), mine.scores);
        }
        if (has_now && now.item < num) {
            Queries& of = ring[now.item % 3];
            const __m512 most = _mm512_mul_ps(highest(other.scores, keys_of(now)), scale);
            if (now.chunk == 0) {
                of.most = most;
                of.total[0] = of.total[1] = _mm512_setzero_ps();
            } else if (const __mmask16 concerned = _mm512_cmp_ps_mask(most, _mm512_add_ps(of.most, slack), _CMP_GT_OQ)) {
                raise(of, head_blocks, concerned, most);
            }
            share(of, other.scores, keys_of(now), scale, other.shares);
            forward(now);
        }
        if (next.item < num) forward(next);
    }
}

}  // namespace
