// A sample of one query head, or the union of those of up to four that share rows, a tile of rows at a time, the
// next tile's rows on their way meanwhile.
#include "attend/distances.h"
#include "attend/products.h"
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

// What a tile's codes are multiples of.
struct Scales {
    float keys[TILE], values[TILE];

    TRUFFLE_INLINE void read(const char* const* rows, const RowLayout& at) {
        for (int i = 0; i < TILE; ++i) {
            memcpy(keys + i, rows[i] + at.key_scale, 4);
            memcpy(values + i, rows[i] + at.value_scale, 4);
        }
    }
};

template <int HEADS>
TRUFFLE_INLINE void multiply_all(float* numbers, const float* scales) {
    for (int i = 0; i < HEADS * TILE; i += W)
        store(numbers + i, load<Floats>(numbers + i) * load<Floats>(scales + i % TILE));
}

// a = scale * q.k - ln u, where cos = (q.k - q.center) / (|q| |k - center|), by interpolation in the law's table.
TRUFFLE_INLINE Floats logits_by_law(const SampleHead& head, float scale, Floats product, Floats distance) {
    Floats norm = distance * head.norm;
    Floats cosine = select(norm > 0.0f, (product - head.along_center) / norm, Floats{});
    cosine = select(cosine > -1.0f, cosine, broadcast(-1.0f));  // NaN becomes -1
    cosine = select(cosine < 1.0f, cosine, broadcast(1.0f));
    Floats place = agreement_of(cosine) * float(LAW_CELLS);
    Ints cell = __builtin_convertvector(place, Ints);
    cell = cell < int(LAW_CELLS) - 1 ? cell : (Ints{} + (int(LAW_CELLS) - 1));
    cell = cell > 0 ? cell : Ints{};
    Floats low = gather(head.law, cell), high = gather(head.law + 1, cell);
    Floats log_u = low + (place - __builtin_convertvector(cell, Floats)) * (high - low);
    return product * scale - log_u;
}

// Products become logits; -inf where a key is not in the head's sample.
TRUFFLE_INLINE void fill_logits(const Sample& s, int h, int count, int64_t first, const float* distances,
                                float* logits) {
    const SampleHead& head = s.heads[h];
    if (head.law) {
        for (int i = 0; i < TILE; i += W)
            store(logits + i, logits_by_law(head, s.scale, load<Floats>(logits + i), load<Floats>(distances + i)));
    } else {
        for (int i = 0; i < count; ++i) logits[i] = logits[i] * s.scale - s.log_weight[first + i];
    }
    for (int i = 0; s.members && i < count; ++i)
        if (!(s.members[first + i] >> h & 1)) logits[i] = -__builtin_inff();
    for (int i = count; i < TILE; ++i) logits[i] = -__builtin_inff();
}

template <class Rows, int HEADS>
TRUFFLE_INLINE void attend_tile(const Sample& s, const Tile& tile, int64_t first, Chunks chunks, float* logits,
                                const float* distances, const Scales& scales, float* sums, int64_t stride,
                                State* states, Ahead ahead) {
    if (scaled<Rows>) multiply_all<HEADS>(logits, scales.keys);
    for (int h = 0; h < HEADS; ++h) {
        fill_logits(s, h, tile.count, first, distances, logits + h * TILE);
        scale_sums(sums + h * stride, stride, absorb(logits + h * TILE, states[h].max, states[h].sum));
    }
    if (scaled<Rows>) multiply_all<HEADS>(logits, scales.values);
    add_values<Rows, HEADS>(tile.values, tile.count, chunks, logits, sums, stride, ahead);
}

template <class Rows, int HEADS>
int64_t attend(const Sample& s, State* states) {
    const RowLayout at(s.d, 4 / Rows::parts);
    const Chunks chunks(s.d, Rows::parts);
    const int64_t query_stride = chunks.count() * Products<Rows>::query_floats + Products<Rows>::more_floats;
    const int64_t stride = int64_t(chunks.count()) * Rows::parts * W;
    float *q = s.scratch, *sums = q + HEADS * query_stride;
    memset(q, 0, (HEADS * (query_stride + stride) + stride) * sizeof(float));
    for (int h = 0; h < HEADS; ++h) {
        Products<Rows>::prepare(s.heads[h].q, s.d, q + h * query_stride);
        states[h].max = -__builtin_inff();
        states[h].sum = 0.0f;
    }
    const Products<Rows> products(s.heads[0].q, s.d, HEADS);
    const Distances<Rows> distances(s.center, s.d, sums + HEADS * stride);
    // Steps of a line from where a row begins reach its last line, unless it begins within a line and ends in another.
    const int64_t over = (reinterpret_cast<uintptr_t>(s.rows) | s.row_bytes) % 64 ? 48 : 0;
    Tile tiles[2];
    if (s.count && !find_rows(s, 0, at.value, tiles[0])) return 0;
    const Ahead whole{tiles[0].keys, s.count ? tiles[0].count : 0, at.used + over, s.far};
    for (int i = 0; i < whole.count; ++i) whole.ask(i);
    for (int64_t first = 0; first < s.count; first += TILE) {
        const Tile& tile = tiles[first / TILE % 2];
        Tile& next = tiles[(first / TILE + 1) % 2];
        next.count = 0;
        if (first + TILE < s.count && !find_rows(s, first + TILE, at.value, next)) return first + TILE;
        // Keys are asked for while products are taken, values while values are added: requests in one burst
        // would wait for each other and leave memory idle in between.
        const Ahead keys{next.keys, next.count, at.value, s.far};
        const Ahead values{next.values, next.count, at.used - at.value + over, s.far};
        float logits[HEADS * TILE], apart[TILE];
        Scales scales;
        if (scaled<Rows>) scales.read(tile.keys, at);
        for (int k = 0; k < TILE; k += KEYS) {
            for (int i = k; i < k + KEYS; ++i) keys.ask(i);
            products.template of<HEADS>(tile.keys + k, chunks, q, query_stride, logits + k);
            if (s.center) distances.of(tile.keys + k, scales.keys + k, apart + k);
        }
        attend_tile<Rows, HEADS>(s, tile, first, chunks, logits, apart, scales, sums, stride, states, values);
    }
    for (int h = 0; h < HEADS; ++h)
        for (int64_t i = 0; i < s.d; ++i) states[h].weighted[i] = sums[h * stride + split_index<Rows>(i)];
    return -1;
}

template <class Rows>
int64_t attend_heads(const Sample& s, State* states) {
    switch (s.head_count) {
        case 1: return attend<Rows, 1>(s, states);
        case 2: return attend<Rows, 2>(s, states);
        case 3: return attend<Rows, 3>(s, states);
        default: return attend<Rows, 4>(s, states);
    }
}

}  // namespace

int64_t attend_sample(const Sample& sample, State* states) {
    switch (sample.format) {
        case Format::bfloat16: return attend_heads<Bf16Rows>(sample, states);
        case Format::int8: return attend_heads<Int8Rows>(sample, states);
        default: return attend_heads<F32Rows>(sample, states);
    }
}

}  // namespace truffle::TRUFFLE_ISA
