// A BERT encoder's layers on one core with AMX: bfloat16 products, float32 sums, softmax, GELU and layer norms.
//
// The one idea: nothing but token vectors leaves the cache. A group of some hundred tokens goes through all layers; what a
// product gives is finished (bias, GELU, residual, norm) while it is in the first-level cache; attention looks at each
// sequence by itself, so there is no mask and no padding but to the next 16 tokens.
//
// Layout: an array of T tokens with H values is stored as H/32 blocks of T rows of 32 values: a row is a cache line, 16 rows are
// an AMX tile. Weights (out, in) come as [out/32][in/32][2][16 pairs of in][16 of out][2], `native.py` lays them out.
// Attention is computed transposed (keys down, queries across): the sums of softmax are then sums of whole registers.
//
// Plain C interface, no state but the caller's; any number of threads may call. Lengths and ids are checked, sizes are the caller's.

#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

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
constexpr int64_t INNER_BLOCKS = 12;  // of the intermediate layer at a time: they and their weights stay in the cache
constexpr int64_t SUMS = 32 * 32 + 32;  // a square of float32 sums; the rest keeps squares out of each other's cache sets
constexpr int64_t SPARE_ROWS = 17;    // tiles read past a sequence's end; odd, for the same reason

struct Norm {
    const float *scale, *shift;
};

struct Linear {
    const bf16* weight;
    const float* bias;
};

struct Layer {
    Linear qkv, out, up, down;
    Norm attention_norm, output_norm;
};

struct Model {
    int64_t num_layers, hidden, inner, num_heads, vocabulary, num_places, uses_relu;
    double norm_eps;
    const bf16 *words, *positions;
    Norm embedding_norm;
    const Layer* layers;
};

struct alignas(64) TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

struct Tiles {
    Tiles() {
        TileConfig config;
        _tile_loadconfig(&config);
    }
    ~Tiles() { _tile_release(); }
};

// GCC does not know that loading a tile reads memory: what was stored must be there by then.
#define LOAD_TILE(tile, from, step)    \
    do {                               \
        asm volatile("" ::: "memory"); \
        _tile_loadd(tile, from, step); \
    } while (0)

// ---- float32 in registers ----

inline __m512 widen(__m256i values) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16)); }
inline __m512 low(const bf16* row) { return widen(_mm256_load_si256((const __m256i*)row)); }
inline __m512 high(const bf16* row) { return widen(_mm256_load_si256((const __m256i*)(row + 16))); }
inline __m512i narrow(__m512 first, __m512 second) { return (__m512i)_mm512_cvtne2ps_pbh(second, first); }
inline void store_row(bf16* row, __m512 first, __m512 second) { _mm512_store_si512(row, narrow(first, second)); }

// x Phi(x), Phi by an odd polynomial on [-4.25, 4.25]: within 6e-5 of erf's, bfloat16 rounds by 4e-3.
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

// 2^x, within 3e-06 of its value.
inline __m512 exp2(__m512 x) {
    const __m512 part = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // x - floor(x)
    __m512 sum = _mm512_set1_ps(1.352461553e-02f);
    for (float coefficient : {5.209146422e-02f, 2.413444389e-01f, 6.930391797e-01f, 9.999996983e-01f})
        sum = _mm512_fmadd_ps(sum, part, _mm512_set1_ps(coefficient));
    return _mm512_scalef_ps(sum, x);
}

// Two rows as pairs: word 2n is the first row's n-th, word 2n + 1 the second's.
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

// ---- products ----

// 32 (or 16) tokens times 32 outputs over `steps` blocks of inputs, into a square of sums; `between` is other work for the core.
template <bool BOTH, class Between>
inline void multiply(const bf16* x, int64_t x_step, const bf16* weight, int64_t steps, float* sums, bool go_on, Between between) {
    if (go_on) {
        LOAD_TILE(0, sums, 128);
        LOAD_TILE(1, sums + 16, 128);
        if (BOTH) {
            LOAD_TILE(2, sums + 512, 128);
            LOAD_TILE(3, sums + 528, 128);
        }
    } else {
        _tile_zero(0);
        _tile_zero(1);
        if (BOTH) {
            _tile_zero(2);
            _tile_zero(3);
        }
    }
    for (int64_t k = 0; k < steps; k++, x += x_step, weight += 2 * TILE_VALUES) {
        LOAD_TILE(6, weight, 64);
        LOAD_TILE(4, x, 64);
        _tile_dpbf16ps(0, 4, 6);
        LOAD_TILE(7, weight + TILE_VALUES, 64);
        _tile_dpbf16ps(1, 4, 7);
        if (BOTH) {
            LOAD_TILE(5, x + TILE_VALUES, 64);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        between();
    }
    _tile_stored(0, sums, 128);
    _tile_stored(1, sums + 16, 128);
    if (BOTH) {
        _tile_stored(2, sums + 512, 128);
        _tile_stored(3, sums + 528, 128);
    }
}

template <class Between>
inline void multiply(bool both, const bf16* x, int64_t x_step, const bf16* weight, int64_t steps, float* sums, bool go_on,
                     Between between) {
    both ? multiply<true>(x, x_step, weight, steps, sums, go_on, between)
         : multiply<false>(x, x_step, weight, steps, sums, go_on, between);
}

// Fetches the weights of the next block of outputs from far memory while those of this one are used.
struct Ahead {
    const char *next, *end;
    int64_t bytes;  // a step

    Ahead(const bf16* weight, int64_t steps, int64_t num_tiles)
        : next((const char*)weight), end(next + steps * 4 * TILE_VALUES), bytes((2048 / ((num_tiles + 1) / 2) + 63) / 64 * 64) {}
    void operator()() {
        const char* stop = std::min(end, next + bytes);
        for (; next < stop; next += 64) _mm_prefetch(next, _MM_HINT_T1);
    }
};

struct Plain {
    __m512 operator()(__m512 x) const { return x; }
};
struct Gelu {
    __m512 operator()(__m512 x) const { return gelu(x); }
};
struct Relu {
    __m512 operator()(__m512 x) const { return _mm512_max_ps(x, _mm512_setzero_ps()); }
};

// What is left to do with a square of sums: bias, function, rounding. It is done while the next square is multiplied.
template <class Function>
struct Unfinished {
    const float *sums = nullptr, *bias = nullptr;
    bf16* to = nullptr;
    int64_t rows = 0;

    void finish(int64_t some, Function f) {
        if (some > rows) some = rows;
        rows -= some;
        for (; some > 0; some--, sums += 32, to += BLOCK)
            store_row(to, f(_mm512_add_ps(_mm512_load_ps(sums), _mm512_loadu_ps(bias))),
                      f(_mm512_add_ps(_mm512_load_ps(sums + 16), _mm512_loadu_ps(bias + 16))));
    }
};

// y = f(x W' + b) for `blocks` blocks of outputs.
template <class Function>
void linear(const bf16* x, int64_t step, int64_t num_tiles, Linear by, int64_t in_blocks, int64_t blocks, bf16* y, Function f) {
    alignas(64) float squares[2][SUMS];
    const int64_t some = (32 + in_blocks - 1) / in_blocks, panel = in_blocks * 2 * TILE_VALUES;
    Unfinished<Function> last;
    int turn = 0;
    for (int64_t n = 0; n < blocks; n++, y += step) {
        const bf16* weight = by.weight + n * panel;
        Ahead ahead(weight + panel, n + 1 < blocks ? in_blocks : 0, num_tiles);
        for (int64_t m = 0; m < num_tiles; m += 2, turn ^= 1) {
            const bool both = m + 1 < num_tiles;
            multiply(both, x + m * TILE_VALUES, step, weight, in_blocks, squares[turn], false, [&] {
                ahead();
                last.finish(some, f);
            });
            last.finish(32, f);
            last = {squares[turn], by.bias + n * BLOCK, y + m * TILE_VALUES, both ? 32 : 16};
        }
    }
    last.finish(32, f);
}

// sums (+)= x W', squares in the order [pair of tiles][block of outputs].
void products(const bf16* x, int64_t step, int64_t num_tiles, const bf16* weight, int64_t weight_step, int64_t in_blocks,
              int64_t blocks, float* sums, bool go_on) {
    for (int64_t n = 0; n < blocks; n++, weight += weight_step) {
        Ahead ahead(weight + weight_step, n + 1 < blocks ? in_blocks : 0, num_tiles);
        for (int64_t m = 0; m < num_tiles; m += 2)
            multiply(m + 1 < num_tiles, x + m * TILE_VALUES, step, weight, in_blocks, sums + (m / 2 * blocks + n) * SUMS, go_on,
                     [&] { ahead(); });
    }
}

// Layer norm of one token (Ba et al. 2016), variance by a second pass.
void normalize(const float* row, int64_t hidden, Norm norm, float eps, bf16* x, int64_t step) {
    __m512 total = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    for (int64_t i = 0; i < hidden; i += 16) total = _mm512_add_ps(total, _mm512_load_ps(row + i));
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(total) / (float)hidden);
    for (int64_t i = 0; i < hidden; i += 16) {
        const __m512 apart = _mm512_sub_ps(_mm512_load_ps(row + i), mean);
        squares = _mm512_fmadd_ps(apart, apart, squares);
    }
    const __m512 factor = _mm512_set1_ps(1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / (float)hidden + eps));
    for (int64_t i = 0; i < hidden; i += 32, x += step) {
        __m512 half[2];
        for (int64_t j = 0; j < 2; j++) {
            const int64_t at = i + 16 * j;
            const __m512 unit = _mm512_mul_ps(_mm512_sub_ps(_mm512_load_ps(row + at), mean), factor);
            half[j] = _mm512_fmadd_ps(unit, _mm512_loadu_ps(norm.scale + at), _mm512_loadu_ps(norm.shift + at));
        }
        store_row(x, half[0], half[1]);
    }
}

// x = norm(sums + bias + x)
void add_and_normalize(const float* sums, const float* bias, int64_t num_tokens, int64_t hidden, Norm norm, float eps, bf16* x,
                       int64_t step, float* row) {
    const int64_t blocks = hidden / BLOCK;
    for (int64_t t = 0; t < num_tokens; t++, x += BLOCK) {
        const float* from = sums + t / 32 * blocks * SUMS + t % 32 * 32;
        for (int64_t n = 0; n < blocks; n++, from += SUMS) {
            const bf16* old = x + n * step;
            const float* shift = bias + n * BLOCK;
            _mm512_store_ps(row + n * 32, _mm512_add_ps(_mm512_add_ps(_mm512_load_ps(from), _mm512_loadu_ps(shift)), low(old)));
            _mm512_store_ps(row + n * 32 + 16,
                            _mm512_add_ps(_mm512_add_ps(_mm512_load_ps(from + 16), _mm512_loadu_ps(shift + 16)), high(old)));
        }
        normalize(row, hidden, norm, eps, x, step);
    }
}

// ---- attention ----

constexpr int64_t MAX_HEAD_BLOCKS = 2;
constexpr int64_t KEYS = 64;  // looked at together

// 16 queries of one head on their way: scores, then shares of 1, then sums of values.
struct Queries {
    alignas(64) bf16 transposed[MAX_HEAD_BLOCKS][TILE_VALUES];
    const bf16 *keys, *values;  // values: [32 keys][head block][2][16 values][32 keys], of the head
    bf16* to;
    int64_t num;
    __m512 most, total[2];  // a value a query: what shares are relative to, and what they add up to
};

// What is written while another is read. They do not lie 4 KiB apart, a load would wait for the store.
struct alignas(64) Chunk {
    float scores[KEYS * 16];   // [keys][16 queries]
    bf16 shares[KEYS * 16];    // [pairs of keys][16 queries][2]
    char apart[64 * 11];
};

constexpr int64_t values_of(int64_t length, int64_t head_blocks) { return (length + 31) / 32 * 2 * TILE_VALUES * head_blocks; }

// The values of one head and sequence, transposed; zero past the end.
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

// Scores of `num` keys from `first` on, and of what follows up to a multiple of 16.
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

// Adds the values of `num` keys from `first` on.
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

// A key scores much higher than those before (rare): what was added up so far becomes relative to it.
[[gnu::noinline]] void raise(Queries& of, int64_t head_blocks, __m512 most) {
    alignas(64) float sums[MAX_HEAD_BLOCKS * TILE_VALUES];
    most = _mm512_max_ps(most, of.most);
    const __m512 factor = exp2(_mm512_sub_ps(of.most, most));
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

// Writes the sums, divided and turned: a row a query.
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

// Shares of `num` keys (2^(score - most)), zero up to a multiple of 32; adds them up.
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

// Attention of one sequence (Vaswani et al. 2017, section 3.2.1): 16 queries of a head after the other, 64 keys after the
// other, with sums as in Milakov and Gimelshein 2018 but raised only when a score is 2^8 times over what is known. While the
// shares of some are computed, the units for products make the next scores and the last sums.
void attend(const bf16* qkv, int64_t step, int64_t length, int64_t num_heads, int64_t head_blocks, bf16* memory, bf16* to) {
    const __m512 scale = _mm512_set1_ps(1.4426950408889634f / std::sqrt((float)(head_blocks * BLOCK)));
    const __m512 slack = _mm512_set1_ps(8.0f);
    const int64_t blocks = num_heads * head_blocks, per_head = (length + TILE - 1) / TILE, chunks = (length + KEYS - 1) / KEYS;
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
    const int64_t num = num_heads * per_head;
    for (int64_t turn = 0; last.item < num; turn ^= 1) {
        // In the first round there is nothing but a first score, in the second no sum yet.
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
            if (now.chunk == 0)
                of.most = most, of.total[0] = of.total[1] = _mm512_setzero_ps();
            else if (_mm512_cmp_ps_mask(most, _mm512_add_ps(of.most, slack), _CMP_GT_OQ))
                raise(of, head_blocks, most);
            share(of, other.scores, keys_of(now), scale, other.shares);
            forward(now);
        }
        if (next.item < num) forward(next);
    }
}

// ---- the encoder ----

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};

// Memory for a group of up to `tokens` tokens.
struct Scratch {
    int64_t step;
    std::unique_ptr<char, Free> memory;
    bf16 *x, *qkv, *attended, *inner, *values;
    float *sums, *row;

    Scratch(const Model& model, int64_t tokens, int64_t longest) {
        const int64_t rows = (tokens + 31) / 32 * 32 + SPARE_ROWS;
        step = rows * BLOCK;
        const int64_t hidden = rows * model.hidden, sums_size = (tokens + 31) / 32 * (model.hidden / BLOCK) * SUMS;
        const int64_t sizes[] = {2 * hidden, 6 * hidden, 2 * hidden, 2 * step * INNER_BLOCKS, 4 * sums_size, 4 * model.hidden,
                                 6 * values_of(longest, model.hidden / model.num_heads / BLOCK)};
        char* parts[7];
        int64_t total = 0;
        for (int64_t size : sizes) total += (size + 63) / 64 * 64;
        memory.reset((char*)std::aligned_alloc(64, (size_t)total));
        if (!memory) return;
        char* next = memory.get();
        for (int i = 0; i < 7; next += (sizes[i] + 63) / 64 * 64, i++) parts[i] = next;
        x = (bf16*)parts[0], qkv = (bf16*)parts[1], attended = (bf16*)parts[2], inner = (bf16*)parts[3];
        sums = (float*)parts[4], row = (float*)parts[5];
        values = (bf16*)parts[6];
        std::memset(memory.get(), 0, (size_t)total);
    }
};

void run_layer(const Model& model, const Layer& layer, const int64_t* lengths, int64_t num, int64_t tokens, const Scratch& on) {
    const int64_t blocks = model.hidden / BLOCK, head_blocks = blocks / model.num_heads, inner_blocks = model.inner / BLOCK;
    const int64_t tiles = (tokens + TILE - 1) / TILE, step = on.step;
    const float eps = (float)model.norm_eps;
    linear(on.x, step, tiles, layer.qkv, blocks, 3 * blocks, on.qkv, Plain());
    int64_t first = 0;
    for (int64_t b = 0; b < num; first += lengths[b++])
        if (lengths[b])
            attend(on.qkv + first * BLOCK, step, lengths[b], model.num_heads, head_blocks, on.values, on.attended + first * BLOCK);
    products(on.attended, step, tiles, layer.out.weight, blocks * 2 * TILE_VALUES, blocks, blocks, on.sums, false);
    add_and_normalize(on.sums, layer.out.bias, tokens, model.hidden, layer.attention_norm, eps, on.x, step, on.row);
    for (int64_t i = 0; i < inner_blocks; i += INNER_BLOCKS) {
        const int64_t some = std::min(INNER_BLOCKS, inner_blocks - i);
        const Linear up = {layer.up.weight + i * blocks * 2 * TILE_VALUES, layer.up.bias + i * BLOCK};
        if (model.uses_relu)
            linear(on.x, step, tiles, up, blocks, some, on.inner, Relu());
        else
            linear(on.x, step, tiles, up, blocks, some, on.inner, Gelu());
        products(on.inner, step, tiles, layer.down.weight + i * 2 * TILE_VALUES, inner_blocks * 2 * TILE_VALUES, some, blocks,
                 on.sums, i > 0);
    }
    add_and_normalize(on.sums, layer.down.bias, tokens, model.hidden, layer.output_norm, eps, on.x, step, on.row);
}

void embed(const Model& model, const int32_t* ids, const int64_t* lengths, int64_t num, const Scratch& on) {
    int64_t t = 0;
    for (int64_t b = 0; b < num; b++)
        for (int64_t place = 0; place < lengths[b]; place++, t++) {
            const bf16 *word = model.words + ids[t] * model.hidden, *position = model.positions + place * model.hidden;
            for (int64_t i = 0; i < model.hidden; i += 16)
                _mm512_store_ps(on.row + i, _mm512_add_ps(widen(_mm256_loadu_si256((const __m256i*)(word + i))),
                                                          widen(_mm256_loadu_si256((const __m256i*)(position + i)))));
            normalize(on.row, model.hidden, model.embedding_norm, (float)model.norm_eps, on.x + t * BLOCK, on.step);
        }
}

}  // namespace

enum Outcome { DONE = 0, NO_MEMORY = 1, BAD_LENGTH = 2, BAD_ID = 3 };

// Ask Linux for the right to use AMX; gives 0, or what the system call gave.
extern "C" int32_t sbert_start() {
    constexpr long request = 0x1023, tile_data = 18;
    return (int32_t)syscall(SYS_arch_prctl, request, tile_data);
}

// Token vectors of B sequences that lie end to end: T ids to (T, hidden) values, in groups of up to `group` tokens.
extern "C" int32_t sbert_encode(const Model* model, const int32_t* ids, const int64_t* lengths, int64_t num, int64_t group,
                                bf16* vectors) {
    int64_t longest = 0, total = 0;
    for (int64_t b = 0; b < num; b++) {
        if (lengths[b] < 0 || lengths[b] > model->num_places) return BAD_LENGTH;
        longest = std::max(longest, lengths[b]);
        total += lengths[b];
    }
    for (int64_t t = 0; t < total; t++)
        if (ids[t] < 0 || ids[t] >= model->vocabulary) return BAD_ID;
    const Scratch on(*model, std::max(std::min(group, total), longest), longest);
    if (!on.memory) return NO_MEMORY;
    const Tiles tiles;
    for (int64_t first = 0; first < num;) {
        int64_t stop = first + 1, tokens = lengths[first];
        while (stop < num && tokens + lengths[stop] <= group) tokens += lengths[stop++];
        embed(*model, ids, lengths + first, stop - first, on);
        for (int64_t i = 0; i < model->num_layers; i++)
            run_layer(*model, model->layers[i], lengths + first, stop - first, tokens, on);
        for (int64_t t = 0; t < tokens; t++, vectors += model->hidden)
            for (int64_t n = 0; n < model->hidden / BLOCK; n++)
                std::memcpy(vectors + n * BLOCK, on.x + n * on.step + t * BLOCK, 64);
        ids += tokens;
        first = stop;
    }
    return DONE;
}
