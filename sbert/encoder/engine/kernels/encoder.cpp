// A BERT encoder's layers on a CPU: products in bfloat16, float32 or integers; sums, softmax, GELU and layer norms in float32.
//
// Only token vectors leave the cache. A group of a few hundred tokens goes through all layers. The result of a
// product is finished (bias, GELU, residual, norm) while it is in the first-level cache. Each sequence attends to itself, so there
// is no mask, and padding at most to the next tile.
//
// Layout: an array of T tokens with H values is stored as H/32 blocks of T rows of 32 values. `native.py` makes the layout of the
// weights. One source serves all processors: with AMX the products are computed in tiles (`tile_*.h`), otherwise in registers
// (`register_*.h`) of AVX-512 or AVX2, with AVX512-VNNI in integers (`register_integer*.h`). The compiler's options choose.
//
// The interface is plain C, and all state is the caller's, so any number of threads may call. Lengths and ids are checked; the
// caller is responsible for sizes.

#include <sys/syscall.h>
#include <unistd.h>

#include <vector>

#ifdef __AMX_BF16__
#include "tile_layers.h"
#else
#include "register_layers.h"
#endif

namespace {

// Embeds the sequences of a range.
void embed(const Model& model, const int32_t* ids, const int64_t* lengths, Range sequences, const Scratch& on, float* row) {
    int64_t first = 0, stop = 0;
    for (int64_t b = 0; b < sequences.first; b++) first += lengths[b];
    stop = first;
    ids += first;
    Value* x = on.x.get() + first * BLOCK;
    for (int64_t b = sequences.first; b < sequences.stop; b++)
        for (int64_t place = 0; place < lengths[b]; place++, ids++, stop++, x += BLOCK) {
            const Value *word = model.words + *ids * model.hidden, *position = model.positions + place * model.hidden;
            V total = all(0.0f);
            for (int64_t i = 0; i < model.hidden; i += LANES) {
                const V sum = get(word + i) + get(position + i);
                total += sum;
                store(row + i, sum);
            }
            normalize<1>(row, {total}, model.hidden, model.embedding_norm, (float)model.norm_eps, x, on.step);
        }
    prepare_embedded(on, {first, stop}, model.hidden / BLOCK);
}

// Writes token vectors as rows of `hidden` values.
void write_tokens(const Model& model, int64_t tokens, const Scratch& on, Value* to) {
    for (int64_t t = 0; t < tokens; t++, to += model.hidden)
        for (int64_t n = 0; n < model.hidden / BLOCK; n++)
            std::memcpy(to + n * BLOCK, on.x.get() + n * on.step + t * BLOCK, BLOCK * sizeof(Value));
}

// Writes the mean of each sequence's token vectors from token `skipped` on; zeros if there are none.
void write_means(const Model& model, const int64_t* lengths, int64_t num, int64_t skipped, const Scratch& on, float* to) {
    int64_t first = 0;
    for (int64_t b = 0; b < num; first += lengths[b++], to += model.hidden) {
        const V factor = all(1.0f / (float)std::max<int64_t>(lengths[b] - skipped, 1));
        for (int64_t n = 0; n < model.hidden / BLOCK; n++) {
            const Value* rows = on.x.get() + n * on.step + first * BLOCK;
            V sums[PARTS] = {};
            for (int64_t t = skipped; t < lengths[b]; t++)
                for (int64_t j = 0; j < PARTS; j++) sums[j] += get(rows + t * BLOCK + j * LANES);
            for (int64_t j = 0; j < PARTS; j++) store(to + n * BLOCK + j * LANES, sums[j] * factor);
        }
    }
}

// B sequences that lie end to end, and where their vectors go.
struct Job {
    const Model& model;
    const int32_t* ids;
    const int64_t* lengths;
    int64_t num, group, skipped;
    Value* vectors;
    float* means;
};

// Computes one thread's part of a job, in groups of at most `group` tokens.
void compute(Job job, const Scratch& on, int64_t part, Team& team) {
#ifdef __AMX_BF16__
    const Tiles tiles;
#endif
    const Model& model = job.model;
    for (int64_t first = 0; first < job.num;) {
        int64_t stop = first, tokens = 0;
        while (stop < job.num && (tokens == 0 || tokens + job.lengths[stop] <= job.group)) tokens += job.lengths[stop++];
        if (tokens == 0) break;  // only empty sequences are left
        const int64_t num = stop - first, *lengths = job.lengths + first;
        embed(model, job.ids, lengths, share_of(num, part, team.size), on, on.rows_of(part));
        team.meet();
        for (int64_t i = 0; i < model.num_layers; i++) run_layer(model, model.layers[i], lengths, num, tokens, on, part, team);
        if (part == 0 && job.vectors) write_tokens(model, tokens, on, job.vectors);
        if (part == 0 && job.means) write_means(model, lengths, num, job.skipped, on, job.means);
        team.meet();
        if (job.vectors) job.vectors += tokens * model.hidden;
        if (job.means) job.means += num * model.hidden;
        job.ids += tokens;
        first = stop;
    }
}

}  // namespace

enum Outcome { DONE = 0, NO_MEMORY = 1, BAD_LENGTH = 2, BAD_ID = 3 };

// Asks Linux for permission to use AMX, if the kernels use it. Returns 0, or the error of the system call.
extern "C" int32_t sbert_start() {
#ifdef __AMX_BF16__
    constexpr long request = 0x1023, tile_data = 18;
    return (int32_t)syscall(SYS_arch_prctl, request, tile_data);
#else
    return 0;
#endif
}

// Computes B sequences that lie end to end, in groups of at most `group` tokens, on `threads` threads. Writes the
// vectors of the T tokens, (T, hidden), and the means of each sequence's tokens from `skipped` on, (B, hidden), each only if its
// pointer is not null. The number of threads changes no bit.
extern "C" int32_t sbert_encode(const Model* model, const int32_t* ids, const int64_t* lengths, int64_t num, int64_t group,
                                int64_t threads, int64_t skipped, Value* vectors, float* means) {
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
    Team team(threads);
    const Scratch on(*model, std::max(std::min(group, total), longest), longest, team.size);
    if (!on.is_there()) return NO_MEMORY;
    const Job job = {*model, ids, lengths, num, group, skipped, vectors, means};
    std::vector<std::thread> others;
    for (int64_t part = 1; part < team.size; part++) others.emplace_back([&, part] { compute(job, on, part, team); });
    compute(job, on, 0, team);
    for (std::thread& other : others) other.join();
    return DONE;
}
