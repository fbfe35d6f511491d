// The layers of a model in registers, on one thread or on several that wait for each other between the steps.
#pragma once

#include <vector>

#include "norms.h"
#ifdef __AVX512VNNI__
#include "register_integer_attention.h"
#else
#include "register_attention.h"
#endif
#include "team.h"

namespace {

constexpr int64_t SPARE_ROWS = 1;     // odd, so that neighbouring blocks lie in other cache sets
constexpr int64_t INNER_BLOCKS = 12;  // blocks of the intermediate layer at a time: they and their weights stay in the cache

// Memory for a group of up to `tokens` tokens, and for each thread.
struct Scratch {
    const int64_t step;          // distance from one block to the next, in values
    const int64_t inner_blocks;  // blocks of the intermediate layer at a time
    const Buffer<Value> x, qkv, attended, inner;
    const RoundedMemory rounded, rounded_inner;  // inputs of the layers that take x or what is attended to, and of the last one
    const int64_t rows_step;  // values of a thread's memory for norms: two tokens
    const Buffer<float> sums, rows;
    std::vector<Attention> attention;

    Scratch(const Model& model, int64_t tokens, int64_t longest, int64_t threads)
        : step((tokens / 2 * 2 + SPARE_ROWS + 2) * BLOCK),
          inner_blocks(tokens <= 128 ? model.inner / BLOCK : INNER_BLOCKS),
          x(allocate<Value>(step * (model.hidden / BLOCK))),
          qkv(allocate<Value>(step * (model.hidden / BLOCK) * 3)),
          attended(allocate<Value>(step * (model.hidden / BLOCK))),
          inner(allocate<Value>(step * inner_blocks)),
          rounded(model.hidden / BLOCK, step, tokens, true),
          rounded_inner(inner_blocks, step, tokens, false),
          rows_step(2 * model.hidden),
          sums(allocate<float>(step * (model.hidden / BLOCK))),
          rows(allocate<float>(rows_step * threads)) {
        for (int64_t i = 0; i < threads; i++) attention.emplace_back(longest, model.hidden / model.num_heads);
    }
    bool is_there() const {
        for (const Attention& one : attention)
            if (!one.is_there()) return false;
        return x && qkv && attended && inner && rounded.is_there() && rounded_inner.is_there() && sums && rows;
    }
    float* rows_of(int64_t thread) const { return rows.get() + thread * rows_step; }
};

// Prepares embedded tokens for the first layer.
inline void prepare_embedded(const Scratch& on, Range tokens, int64_t blocks) {
    prepare(on.rounded, on.x.get(), tokens, blocks, true);
}

void run_layer(const Model& model, const Layer& layer, const int64_t* lengths, int64_t num, int64_t tokens, const Scratch& on,
               int64_t part, Team& team) {
    const int64_t blocks = model.hidden / BLOCK, head_blocks = blocks / model.num_heads, inner_blocks = model.inner / BLOCK;
    const int64_t step = on.step, parts = team.size;
    const float eps = (float)model.norm_eps;
    Value *x = on.x.get(), *qkv = on.qkv.get(), *attended = on.attended.get(), *inner = on.inner.get();
    float *sums = on.sums.get(), *rows = on.rows_of(part);
    const Range mine = share_of(blocks, part, parts), my_tokens = share_of(tokens, part, parts);
    const auto of_x = on.rounded.of(x), of_attended = on.rounded.of(attended), of_inner = on.rounded_inner.of(inner);
    const auto add_and_norm = [&](const float* bias, Norm norm, bool values_follow) {
        const auto sums_of = [&](int64_t token) { return sums + token * BLOCK; };
        add_and_normalize(my_tokens, sums_of, step, bias, model.hidden, norm, eps, x, step, rows);
        prepare(on.rounded, x, my_tokens, blocks, values_follow);
    };
    const auto prepare_together = [&](const RoundedMemory& memory, const Value* inputs, int64_t num_blocks) {
        if (!INTEGERS) return;
        prepare(memory, inputs, my_tokens, num_blocks, false);
        team.meet();
    };
    linear(of_x, step, tokens, layer.qkv, blocks, share_of((INTEGERS ? 2 : 3) * blocks, part, parts), qkv, Plain());
#ifdef __AVX512VNNI__
    linear(on.rounded.in_words(), step, tokens, layer.values, blocks, mine, qkv + 2 * blocks * step, Plain());
#endif
    team.meet();
    for (int64_t b = 0, first = 0; b < num; first += lengths[b++])
        if (lengths[b])
            attend(qkv + first * BLOCK, step, lengths[b], model.num_heads, head_blocks, share_of(model.num_heads, part, parts),
                   on.attention[part], attended + first * BLOCK);
    team.meet();
    prepare_together(on.rounded, attended, blocks);
    products(of_attended, step, tokens, layer.out, blocks, blocks, mine, sums, false);
    team.meet();
    add_and_norm(layer.out.bias, layer.attention_norm, false);
    for (int64_t i = 0; i < inner_blocks; i += on.inner_blocks) {
        team.meet();
        const int64_t some = std::min(on.inner_blocks, inner_blocks - i);
        const Linear up = outputs_from(layer.up, i, blocks);
        const Range range = share_of(some, part, parts);
        model.uses_relu ? linear(of_x, step, tokens, up, blocks, range, inner, Relu())
                        : linear(of_x, step, tokens, up, blocks, range, inner, Gelu());
        team.meet();
        prepare_together(on.rounded_inner, inner, some);
        products(of_inner, step, tokens, inputs_from(layer.down, i), inner_blocks, some, mine, sums, i > 0);
    }
    team.meet();
    add_and_norm(layer.down.bias, layer.output_norm, true);
    team.meet();
}

}  // namespace
