// A run of keys, a tile at a time; up to four query heads share each row that is loaded.
#include "attend/tile.h"
#include "dense_attend/dense_attend.h"

namespace truffle::TRUFFLE_ISA {
namespace {

struct Tile {
    const char* keys[TILE];
    const char* values[TILE];
    int count;
};

TRUFFLE_INLINE Tile tile_at(const Run& run, int64_t first, int64_t row_bytes) {
    Tile tile;
    tile.count = int(run.count - first < TILE ? run.count - first : TILE);
    for (int i = 0; i < TILE; ++i) {
        int64_t offset = (first + (i < tile.count ? i : tile.count - 1)) * row_bytes;
        tile.keys[i] = static_cast<const char*>(run.keys.data) + offset;
        tile.values[i] = static_cast<const char*>(run.values.data) + offset;
    }
    return tile;
}

template <class Rows, int HEADS>
TRUFFLE_INLINE void attend_tile(const Tile& tile, Chunks chunks, const float* q, float* sums, State* states) {
    const int64_t stride = int64_t(chunks.count()) * Rows::parts * W;
    float logits[HEADS * TILE];
    constexpr int first = W == 16 || HEADS < 3 ? HEADS : 2, rest = HEADS - first;  // 16 sums need 32 registers
    for (int k = 0; k < TILE; k += KEYS) {
        dot<Rows, first>(tile.keys + k, chunks, q, stride, logits + k);
        if constexpr (rest > 0)
            dot<Rows, rest>(tile.keys + k, chunks, q + first * stride, stride, logits + first * TILE + k);
    }
    for (int h = 0; h < HEADS; ++h) {
        for (int i = tile.count; i < TILE; ++i) logits[h * TILE + i] = -__builtin_inff();
        scale_sums(sums + h * stride, stride, absorb(logits + h * TILE, states[h].max, states[h].sum));
    }
    add_values<Rows, HEADS>(tile.values, tile.count, chunks, logits, sums, stride);
}

template <class Rows>
void attend(const Run& run, State* states) {
    const Chunks chunks(run.d, Rows::parts);
    const int64_t stride = int64_t(chunks.count()) * Rows::parts * W;
    float *q = run.scratch, *sums = q + run.group * stride;
    memset(q, 0, 2 * run.group * stride * sizeof(float));
    for (int64_t h = 0; h < run.group; ++h) {
        for (int64_t i = 0; i < run.d; ++i) q[h * stride + split_index<Rows>(i)] = run.q[h * run.d + i];
        states[h].max = -__builtin_inff();
        states[h].sum = 0.0f;
    }
    for (int64_t first = 0; first < run.count; first += TILE) {
        Tile tile = tile_at(run, first, run.d * 4 / Rows::parts);
        for (int64_t h = 0; h < run.group; h += 4) {
            float *query = q + h * stride, *sum = sums + h * stride;
            switch (run.group - h) {
                case 1: attend_tile<Rows, 1>(tile, chunks, query, sum, states + h); break;
                case 2: attend_tile<Rows, 2>(tile, chunks, query, sum, states + h); break;
                case 3: attend_tile<Rows, 3>(tile, chunks, query, sum, states + h); break;
                default: attend_tile<Rows, 4>(tile, chunks, query, sum, states + h);
            }
        }
    }
    for (int64_t h = 0; h < run.group; ++h)
        for (int64_t i = 0; i < run.d; ++i) states[h].weighted[i] = sums[h * stride + split_index<Rows>(i)];
}

}  // namespace

void attend_run(const Run& run, State* states) {
    run.keys.is_bf16 ? attend<Bf16Rows>(run, states) : attend<F32Rows>(run, states);
}

}  // namespace truffle::TRUFFLE_ISA
