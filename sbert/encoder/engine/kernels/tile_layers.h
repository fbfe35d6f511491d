// The layers of a model in AMX tiles, on one thread or on several that wait for each other between the steps.
//
// Weights (out, in) have the layout [out/32][in/32][2][16 pairs of in][16 of out][2].
#pragma once

#include "model.h"
#include "norms.h"
#include "team.h"
#include "tile_attention.h"
#include "tile_products.h"

namespace {

constexpr int64_t INNER_BLOCKS = 12;  // blocks of the intermediate layer at a time: they and their weights stay in the cache

// Memory for a group of up to `tokens` tokens, and for each thread.
struct Scratch {
    const int64_t num_pairs, step;  // pairs of tiles; distance from one block to the next, in values
    const int64_t values_step;      // values of a thread's memory for attention: keys and values of a head
    const Buffer<bf16> x, qkv, attended, inner, values;
    const int64_t rows_step;  // values of a thread's memory for norms: two tokens
    const Buffer<float> sums, rows;

    Scratch(const Model& model, int64_t tokens, int64_t longest, int64_t threads)
        : num_pairs((tokens + 31) / 32),
          step((num_pairs * 32 + SPARE_ROWS) * BLOCK),
          values_step(2 * values_of(longest, model.hidden / model.num_heads / BLOCK) + 32),
          x(allocate<bf16>(step * (model.hidden / BLOCK))),
          qkv(allocate<bf16>(step * (model.hidden / BLOCK) * 3)),
          attended(allocate<bf16>(step * (model.hidden / BLOCK))),
          inner(allocate<bf16>(step * INNER_BLOCKS)),
          values(allocate<bf16>(values_step * threads)),
          rows_step(2 * model.hidden),
          sums(allocate<float>(num_pairs * (model.hidden / BLOCK) * SUMS + 1)),
          rows(allocate<float>(rows_step * threads)) {}
    bool is_there() const { return x && qkv && attended && inner && values && sums && rows; }
    float* rows_of(int64_t thread) const { return rows.get() + thread * rows_step; }
};

// Products in tiles take the tokens as they are.
inline void prepare_embedded(const Scratch&, Range, int64_t) {}

void run_layer(const Model& model, const Layer& layer, const int64_t* lengths, int64_t num, int64_t tokens, const Scratch& on,
               int64_t part, Team& team) {
    const int64_t blocks = model.hidden / BLOCK, head_blocks = blocks / model.num_heads, inner_blocks = model.inner / BLOCK;
    const int64_t tiles = (tokens + TILE - 1) / TILE, step = on.step;
    const int64_t parts = team.size;
    const float eps = (float)model.norm_eps;
    bf16 *x = on.x.get(), *qkv = on.qkv.get(), *attended = on.attended.get(), *inner = on.inner.get();
    float *sums = on.sums.get(), *rows = on.rows_of(part);
    const Range mine = share_of(blocks, part, parts), heads = share_of(model.num_heads, part, parts);
    const Range my_tokens = share_of(tokens, part, parts);
    const auto sums_of = [&](int64_t token) { return sums + token / 32 * blocks * SUMS + token % 32 * BLOCK; };
    linear(x, step, tiles, layer.qkv, blocks, share_of(3 * blocks, part, parts), qkv, Plain());
    team.meet();
    int64_t first = 0;
    for (int64_t b = 0; b < num; first += lengths[b++])
        if (lengths[b])
            (head_blocks == 1 ? attend<1> : attend<2>)(qkv + first * BLOCK, step, lengths[b], blocks, heads,
                                                       on.values.get() + part * on.values_step, attended + first * BLOCK);
    team.meet();
    products(attended, step, tiles, layer.out.weight, blocks * 2 * TILE_VALUES, blocks, mine, blocks, sums, false);
    team.meet();
    add_and_normalize(my_tokens, sums_of, SUMS, layer.out.bias, model.hidden, layer.attention_norm, eps, x, step, rows);
    for (int64_t i = 0; i < inner_blocks; i += INNER_BLOCKS) {
        team.meet();
        const int64_t some = std::min(INNER_BLOCKS, inner_blocks - i);
        const Range range = share_of(some, part, parts);
        const Linear up = {layer.up.weight + i * blocks * 2 * TILE_VALUES, layer.up.bias + i * BLOCK, nullptr};
        if (model.uses_relu)
            linear(x, step, tiles, up, blocks, range, inner, Relu());
        else
            linear(x, step, tiles, up, blocks, range, inner, Gelu());
        team.meet();
        products(inner, step, tiles, layer.down.weight + i * 2 * TILE_VALUES, inner_blocks * 2 * TILE_VALUES, some, mine, blocks,
                 sums, i > 0);
    }
    team.meet();
    add_and_normalize(my_tokens, sums_of, SUMS, layer.down.bias, model.hidden, layer.output_norm, eps, x, step, rows);
    team.meet();
}

}  // namespace
