// A model as the caller describes it, and memory.
#pragma once

#include "registers.h"

namespace {

struct Layer {
    Linear qkv, out, up, down;
    ValuesLinear values;  // with products in integers `qkv` is query and key alone
    Norm attention_norm, output_norm;
};

struct Model {
    int64_t num_layers, hidden, inner, num_heads, vocabulary, num_places, uses_relu;
    double norm_eps;
    const Value *words, *positions;
    Norm embedding_norm;
    const Layer* layers;
};

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};
template <class T>
using Buffer = std::unique_ptr<T[], Free>;

// Returns memory filled with zeros, because rows past the last token are read too.
template <class T>
Buffer<T> allocate(int64_t num) {
    const size_t bytes = ((size_t)num * sizeof(T) + 63) / 64 * 64;
    Buffer<T> made((T*)std::aligned_alloc(64, bytes));
    if (made) std::memset(made.get(), 0, bytes);
    return made;
}

}  // namespace
