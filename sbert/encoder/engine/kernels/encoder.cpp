// A BERT encoder's layers on one core with AMX: bfloat16 products, float32 sums, softmax, GELU and layer norms.
//
// Only token vectors leave the cache. A group of a few hundred tokens goes through all layers. The result of a
// product is finished (bias, GELU, residual, norm) while it is in the first-level cache. Each sequence attends to itself, so there
// is no mask, and padding only to the next 16 tokens.
//
// Layout: an array of T tokens with H values is stored as H/32 blocks of T rows of 32 values. A row is a cache line, and 16 rows
// are an AMX tile. Weights (out, in) have the layout [out/32][in/32][2][16 pairs of in][16 of out][2]; `native.py` makes it.
//
// The interface is plain C, and all state is the caller's, so any number of threads may call. Lengths and ids are checked; the
// caller is responsible for sizes.

#include <sys/syscall.h>
#include <unistd.h>

#include "attention.h"
#include "products.h"

namespace {

constexpr int64_t INNER_BLOCKS = 12;  // blocks of the intermediate layer at a time: they and their weights stay in the cache

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

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};
template <class T>
using Buffer = std::unique_ptr<T[], Free>;

// Returns memory filled with zeros, because rows past the last token are multiplied too.
template <class T>
Buffer<T> allocate(int64_t num) {
    const size_t bytes = ((size_t)num * sizeof(T) + 63) / 64 * 64;
    Buffer<T> made((T*)std::aligned_alloc(64, bytes));
    if (made) std::memset(made.get(), 0, bytes);
    return made;
}

// Memory for a group of up to `tokens` tokens.
struct Scratch {
    const int64_t num_pairs, step;  // pairs of tiles; distance from one block to the next, in values
    const Buffer<bf16> x, qkv, attended, inner, values;
    const Buffer<float> sums, row;

    Scratch(const Model& model, int64_t tokens, int64_t longest)
        : num_pairs((tokens + 31) / 32),
          step((num_pairs * 32 + SPARE_ROWS) * BLOCK),
          x(allocate<bf16>(step * (model.hidden / BLOCK))),
          qkv(allocate<bf16>(step * (model.hidden / BLOCK) * 3)),
          attended(allocate<bf16>(step * (model.hidden / BLOCK))),
          inner(allocate<bf16>(step * INNER_BLOCKS)),
          values(allocate<bf16>(3 * values_of(longest, model.hidden / model.num_heads / BLOCK) + 1)),
          sums(allocate<float>(num_pairs * (model.hidden / BLOCK) * SUMS + 1)),
          row(allocate<float>(model.hidden)) {}
    bool is_there() const { return x && qkv && attended && inner && values && sums && row; }
};

void run_layer(const Model& model, const Layer& layer, const int64_t* lengths, int64_t num, int64_t tokens, const Scratch& on) {
    const int64_t blocks = model.hidden / BLOCK, head_blocks = blocks / model.num_heads, inner_blocks = model.inner / BLOCK;
    const int64_t tiles = (tokens + TILE - 1) / TILE, step = on.step;
    const float eps = (float)model.norm_eps;
    bf16 *x = on.x.get(), *qkv = on.qkv.get(), *attended = on.attended.get(), *inner = on.inner.get();
    float *sums = on.sums.get(), *row = on.row.get();
    linear(x, step, tiles, layer.qkv, blocks, 3 * blocks, qkv, Plain());
    int64_t first = 0;
    for (int64_t b = 0; b < num; first += lengths[b++])
        if (lengths[b])
            attend(qkv + first * BLOCK, step, lengths[b], model.num_heads, head_blocks, on.values.get(), attended + first * BLOCK);
    products(attended, step, tiles, layer.out.weight, blocks * 2 * TILE_VALUES, blocks, blocks, sums, false);
    add_and_normalize(sums, layer.out.bias, tokens, model.hidden, layer.attention_norm, eps, x, step, row);
    for (int64_t i = 0; i < inner_blocks; i += INNER_BLOCKS) {
        const int64_t some = std::min(INNER_BLOCKS, inner_blocks - i);
        const Linear up = {layer.up.weight + i * blocks * 2 * TILE_VALUES, layer.up.bias + i * BLOCK};
        if (model.uses_relu)
            linear(x, step, tiles, up, blocks, some, inner, Relu());
        else
            linear(x, step, tiles, up, blocks, some, inner, Gelu());
        products(inner, step, tiles, layer.down.weight + i * 2 * TILE_VALUES, inner_blocks * 2 * TILE_VALUES, some, blocks,
                 sums, i > 0);
    }
    add_and_normalize(sums, layer.down.bias, tokens, model.hidden, layer.output_norm, eps, x, step, row);
}

void embed(const Model& model, const int32_t* ids, const int64_t* lengths, int64_t num, const Scratch& on) {
    float* row = on.row.get();
    bf16* x = on.x.get();
    for (int64_t b = 0; b < num; b++)
        for (int64_t place = 0; place < lengths[b]; place++, ids++, x += BLOCK) {
            const bf16 *word = model.words + *ids * model.hidden, *position = model.positions + place * model.hidden;
            __m512 total = _mm512_setzero_ps();
            for (int64_t i = 0; i < model.hidden; i += 16) {
                const __m512 sum = _mm512_add_ps(widen(_mm256_loadu_si256((const __m256i*)(word + i))),
                                                 widen(_mm256_loadu_si256((const __m256i*)(position + i))));
                total = _mm512_add_ps(total, sum);
                _mm512_store_ps(row + i, sum);
            }
            normalize(row, total, model.hidden, model.embedding_norm, (float)model.norm_eps, x, on.step);
        }
}

// Writes token vectors as rows of `hidden` values.
void write_tokens(const Model& model, int64_t tokens, const Scratch& on, bf16* to) {
    for (int64_t t = 0; t < tokens; t++, to += model.hidden)
        for (int64_t n = 0; n < model.hidden / BLOCK; n++)
            std::memcpy(to + n * BLOCK, on.x.get() + n * on.step + t * BLOCK, 64);
}

// Writes the mean of each sequence's token vectors from token `skipped` on; zeros if there are none.
void write_means(const Model& model, const int64_t* lengths, int64_t num, int64_t skipped, const Scratch& on, float* to) {
    int64_t first = 0;
    for (int64_t b = 0; b < num; first += lengths[b++], to += model.hidden) {
        const __m512 factor = _mm512_set1_ps(1.0f / (float)std::max<int64_t>(lengths[b] - skipped, 1));
        for (int64_t n = 0; n < model.hidden / BLOCK; n++) {
            const bf16* rows = on.x.get() + n * on.step + first * BLOCK;
            __m512 sums[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
            for (int64_t t = skipped; t < lengths[b]; t++) {
                sums[0] = _mm512_add_ps(sums[0], low(rows + t * BLOCK));
                sums[1] = _mm512_add_ps(sums[1], high(rows + t * BLOCK));
            }
            _mm512_storeu_ps(to + n * BLOCK, _mm512_mul_ps(sums[0], factor));
            _mm512_storeu_ps(to + n * BLOCK + 16, _mm512_mul_ps(sums[1], factor));
        }
    }
}

}  // namespace

enum Outcome { DONE = 0, NO_MEMORY = 1, BAD_LENGTH = 2, BAD_ID = 3 };

// Asks Linux for permission to use AMX. Returns 0, or the error of the system call.
extern "C" int32_t sbert_start() {
    constexpr long request = 0x1023, tile_data = 18;
    return (int32_t)syscall(SYS_arch_prctl, request, tile_data);
}

// Computes B sequences that lie end to end, in groups of at most `group` tokens. Writes the vectors of the T tokens, (T, hidden),
// and the means of each sequence's tokens from `skipped` on, (B, hidden), each only if its pointer is not null.
extern "C" int32_t sbert_encode(const Model* model, const int32_t* ids, const int64_t* lengths, int64_t num, int64_t group,
                                int64_t skipped, bf16* vectors, float* means) {
    int64_t longest = 0, total = 0;
    for (int64_t b = 0; b < num; b++) {
        if (lengths[b] < 0 || lengths[b] > model->num_places) return BAD_LENGTH;
        longest = std::max(longest, lengths[b]);
        total += lengths[b];
    }
    for (int64_t t = 0; t < total; t++)
        if (ids[t] < 0 || ids[t] >= model->vocabulary) return BAD_ID;
    if (means) std::fill_n(means, num * model->hidden, 0.0f);  // empty sequences at the end are not reached below
    if (total == 0) return DONE;
    const Scratch on(*model, std::max(std::min(group, total), longest), longest);
    if (!on.is_there()) return NO_MEMORY;
    const Tiles tiles;
    for (int64_t first = 0; first < num;) {
        int64_t stop = first, tokens = 0;
        while (stop < num && (tokens == 0 || tokens + lengths[stop] <= group)) tokens += lengths[stop++];
        if (tokens == 0) break;  // only empty sequences are left
        embed(*model, ids, lengths + first, stop - first, on);
        for (int64_t i = 0; i < model->num_layers; i++)
            run_layer(*model, model->layers[i], lengths + first, stop - first, tokens, on);
        if (vectors) {
            write_tokens(*model, tokens, on, vectors);
            vectors += tokens * model->hidden;
        }
        if (means) {
            write_means(*model, lengths + first, stop - first, skipped, on, means);
            means += (stop - first) * model->hidden;
        }
        ids += tokens;
        first = stop;
    }
    return DONE;
}
