// One sample of one query head, a tile of rows at a time, the next tile's rows on their way meanwhile.
#include "attend/tile.h"
#include "sparse_attend/sparse_attend.h"

namespace truffle::TRUFFLE_ISA {
namespace {

struct Tile {
    const char* keys[TILE];
    const char* values[TILE];
    int count;
};

// Finds the rows of the tile at `first`; places behind the last id repeat it. Returns false for a bad id.
TRUFFLE_INLINE bool find_rows(const Sample& s, int64_t first, int64_t value_offset, Tile& tile) {
    int64_t left = s.count - first;
    tile.count = int(left < TILE ? left : TILE);
    bool good = true;
    for (int i = 0; i < TILE; ++i) {
        int64_t row = s.ids[first + (i < tile.count ? i : tile.count - 1)];
        bool inside = uint64_t(row) < uint64_t(s.length);
        good &= inside;
        tile.keys[i] = s.rows + (inside ? row : 0) * s.row_bytes;
        tile.values[i] = tile.keys[i] + value_offset;
    }
    return good;
}

typedef float HalfFloats __attribute__((vector_size(2 * W)));
typedef double Doubles __attribute__((vector_size(4 * W)));

TRUFFLE_INLINE Doubles load_doubles(const void* from) {
    return __builtin_convertvector(load<HalfFloats>(from), Doubles);
}

// q . key of float32 rows in double: a logit of 1000 must not lose what float32 sums would.
TRUFFLE_INLINE void products_of(F32Rows, const char* const* keys, Chunks chunks, const float* q, float* products) {
    constexpr int half = W / 2;
    Doubles sums[KEYS] = {};
    auto add = [&](const float* query, const char* const* from) __attribute__((always_inline)) {
        Doubles low = load_doubles(query), high = load_doubles(query + half);
        TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k)
            sums[k] += low * load_doubles(from[k]) + high * load_doubles(from[k] + 4 * half);
    };
    const char* from[KEYS];
    for (int c = 0; c < chunks.full; ++c) {
        TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k) from[k] = keys[k] + 4 * W * c;
        add(q + c * W, from);
    }
    Words rest[KEYS];
    for (int k = 0; chunks.tail && k < KEYS; ++k) {
        rest[k] = load_some(keys[k] + 4 * W * chunks.full, chunks.tail);
        from[k] = reinterpret_cast<const char*>(rest + k);
    }
    if (chunks.tail) add(q + chunks.full * W, from);
    for (int k = 0; k < KEYS; ++k) {
        double product = 0.0;
        for (int i = 0; i < half; ++i) product += sums[k][i];
        products[k] = float(product);
    }
}

TRUFFLE_INLINE void products_of(Bf16Rows, const char* const* keys, Chunks chunks, const float* q, float* products) {
    dot<Bf16Rows, 1>(keys, chunks, q, 0, products);
}

TRUFFLE_INLINE void prefetch(const char* from, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + at, 0, 3);
    __builtin_prefetch(from + bytes - 1, 0, 3);
}

// a = scale * q.k - ln u, where cos = (q.k - q.center) / (|q| |k - center|), by interpolation in the law's table.
TRUFFLE_INLINE Floats logits_by_law(const Sample& s, Floats product, Floats key_norm) {
    Floats norm = key_norm * s.q_norm;
    Floats cosine = select(norm > 0.0f, (product - s.q_center) / norm, Floats{});
    cosine = select(cosine > -1.0f, cosine, broadcast(-1.0f));  // NaN becomes -1
    cosine = select(cosine < 1.0f, cosine, broadcast(1.0f));
    Floats place = agreement_of(cosine) * float(LAW_CELLS);
    Ints cell = __builtin_convertvector(place, Ints);
    cell = cell < int(LAW_CELLS) - 1 ? cell : (Ints{} + (int(LAW_CELLS) - 1));
    cell = cell > 0 ? cell : Ints{};
    Floats low = gather(s.law, cell), high = gather(s.law + 1, cell);
    Floats log_u = low + (place - __builtin_convertvector(cell, Floats)) * (high - low);
    return product * s.scale - log_u;
}

TRUFFLE_INLINE void fill_logits(const Sample& s, const Tile& tile, int64_t first, int64_t norm_offset, float* logits) {
    if (s.law) {
        float norms[TILE];
        for (int i = 0; i < TILE; ++i) memcpy(norms + i, tile.keys[i] + norm_offset, 4);
        for (int i = 0; i < TILE; i += W)
            store(logits + i, logits_by_law(s, load<Floats>(logits + i), load<Floats>(norms + i)));
    } else {
        for (int i = 0; i < tile.count; ++i) logits[i] = logits[i] * s.scale - s.log_weight[first + i];
    }
    for (int i = tile.count; i < TILE; ++i) logits[i] = -__builtin_inff();
}

template <class Rows>
int64_t attend(const Sample& s, State& state) {
    const int64_t element = 4 / Rows::parts, value_offset = s.d * element, norm_offset = 2 * value_offset;
    const Chunks chunks(s.d, Rows::parts);
    const int64_t floats = int64_t(chunks.count()) * Rows::parts * W;
    float *q = s.scratch, *sums = q + floats;
    memset(q, 0, 2 * floats * sizeof(float));
    for (int64_t i = 0; i < s.d; ++i) q[split_index<Rows>(i)] = s.q[i];

    state.max = -__builtin_inff();
    state.sum = 0.0f;
    Tile tiles[2];
    if (s.count && !find_rows(s, 0, value_offset, tiles[0])) return 0;
    for (int i = 0; s.count && i < tiles[0].count; ++i) prefetch(tiles[0].keys[i], norm_offset + 4);
    for (int64_t first = 0; first < s.count; first += TILE) {
        const Tile& tile = tiles[first / TILE % 2];
        Tile& next = tiles[(first / TILE + 1) % 2];
        next.count = 0;
        if (first + TILE < s.count && !find_rows(s, first + TILE, value_offset, next)) return first + TILE;
        float logits[TILE];
        for (int k = 0; k < TILE; k += KEYS) {
            for (int i = k; i < k + KEYS && i < next.count; ++i) prefetch(next.keys[i], norm_offset + 4);
            products_of(Rows{}, tile.keys + k, chunks, q, logits + k);
        }
        fill_logits(s, tile, first, norm_offset, logits);
        scale_sums(sums, floats, absorb(logits, state.max, state.sum));
        add_values<Rows, 1>(tile.values, tile.count, chunks, logits, sums, 0);
    }
    for (int64_t i = 0; i < s.d; ++i) state.weighted[i] = sums[split_index<Rows>(i)];
    return -1;
}

}  // namespace

int64_t attend_sample(const Sample& sample, State& state) {
    return sample.is_bf16 ? attend<Bf16Rows>(sample, state) : attend<F32Rows>(sample, state);
}

}  // namespace truffle::TRUFFLE_ISA
