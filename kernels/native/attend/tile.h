// Attention over a tile of keys: logits, online softmax, weighted values. Included after the width is set.
//
// Elements are read as 32-bit words. A word of a bfloat16 row holds two elements, whose float32 values are one
// shift and one mask away, a word of an 8-bit row four; queries and sums are therefore kept split by an element's
// place in its word, vector by vector.
#pragma once

#include "prefetch.h"
#include "simd.h"

namespace truffle::TRUFFLE_ISA {
namespace {

constexpr int TILE = 16;
constexpr int KEYS = 4;  // rows a pass of dot products takes

struct Bf16Rows {
    static constexpr int parts = 2;
    TRUFFLE_INLINE static void unpack(Words raw, Floats* part) {
        part[0] = (Floats)(raw << 16);
        part[1] = (Floats)(raw & 0xFFFF0000u);
    }
};

struct F32Rows {
    static constexpr int parts = 1;
    TRUFFLE_INLINE static void unpack(Words raw, Floats* part) { part[0] = (Floats)raw; }
};

// Codes of -127 to 127; what they are multiples of is applied to whole products and weights.
struct Int8Rows {
    static constexpr int parts = 4;
    TRUFFLE_INLINE static void unpack(Words raw, Floats* part) {
        TRUFFLE_UNROLL for (int p = 0; p < 4; ++p)
            part[p] = __builtin_convertvector((Ints)(raw << (24 - 8 * p)) >> 24, Floats);
    }
};

template <class Rows>
constexpr bool scaled = Rows::parts == 4;

// How d elements fall into vectors of words. A last word may reach into what lies behind them in the row.
struct Chunks {
    int full;  // whole vectors
    int tail;  // words in the last one, if any

    Chunks(int64_t d, int parts) : full(int((d + parts - 1) / parts / W)), tail(int((d + parts - 1) / parts % W)) {}
    int count() const { return full + (tail > 0); }
};

template <class Rows>
int64_t split_index(int64_t element) {
    int64_t word = element / Rows::parts, part = element % Rows::parts;
    return (word / W * Rows::parts + part) * W + word % W;
}

template <class Rows, int HEADS>
TRUFFLE_INLINE void multiply(const Words* raw, const float* q, int64_t q_stride, Floats (&sums)[HEADS][KEYS]) {
    Floats key[KEYS][Rows::parts];
    TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k) Rows::unpack(raw[k], key[k]);
    TRUFFLE_UNROLL for (int h = 0; h < HEADS; ++h) {
        TRUFFLE_UNROLL for (int p = 0; p < Rows::parts; ++p) {
            Floats query = load<Floats>(q + h * q_stride + p * W);
            TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k) sums[h][k] += query * key[k][p];
        }
    }
}

// products[h * TILE + k] = q_h . key_k for KEYS rows and HEADS heads.
template <class Rows, int HEADS>
TRUFFLE_INLINE void dot(const char* const* keys, Chunks chunks, const float* q, int64_t q_stride, float* products) {
    Floats sums[HEADS][KEYS] = {};
    Words raw[KEYS];
    for (int c = 0; c < chunks.full; ++c) {
        TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k) raw[k] = load<Words>(keys[k] + 4 * W * c);
        multiply<Rows>(raw, q + c * Rows::parts * W, q_stride, sums);
    }
    if (chunks.tail) {
        TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k)
            raw[k] = load_some(keys[k] + 4 * W * chunks.full, chunks.tail);
        multiply<Rows>(raw, q + chunks.full * Rows::parts * W, q_stride, sums);
    }
    TRUFFLE_UNROLL for (int h = 0; h < HEADS; ++h) sum_four(sums[h], products + h * TILE);
}

// Memory to ask for while values are added: `bytes` from each of `count` places.
struct Ahead {
    const char* const* from = nullptr;
    int count = 0;
    int64_t bytes = 0;
    bool far = false;

    TRUFFLE_INLINE void ask(int i) const {
        if (i < count) ask_for(from[i], bytes, far);
    }
};

// Adds weight_k * value_k to BLOCK vectors of words of the sums of HEADS heads.
template <class Rows, int HEADS, int BLOCK, bool SOME = false>
TRUFFLE_INLINE void add_block(const char* const* values, int count, int64_t offset, const float* weights,
                              float* sums, int64_t stride, Ahead ahead, int words = W) {
    Floats held[HEADS][BLOCK][Rows::parts];
    TRUFFLE_UNROLL for (int h = 0; h < HEADS; ++h)
        TRUFFLE_UNROLL for (int b = 0; b < BLOCK; ++b)
            TRUFFLE_UNROLL for (int p = 0; p < Rows::parts; ++p)
                held[h][b][p] = load<Floats>(sums + h * stride + (b * Rows::parts + p) * W);
    for (int k = 0; k < count; ++k) {
        ahead.ask(k);
        Floats weight[HEADS];
        TRUFFLE_UNROLL for (int h = 0; h < HEADS; ++h) weight[h] = broadcast(weights[h * TILE + k]);
        TRUFFLE_UNROLL for (int b = 0; b < BLOCK; ++b) {
            const char* from = values[k] + offset + 4 * W * b;
            Floats value[Rows::parts];
            Rows::unpack(SOME ? load_some(from, words) : load<Words>(from), value);
            TRUFFLE_UNROLL for (int h = 0; h < HEADS; ++h)
                TRUFFLE_UNROLL for (int p = 0; p < Rows::parts; ++p) held[h][b][p] += weight[h] * value[p];
        }
    }
    TRUFFLE_UNROLL for (int h = 0; h < HEADS; ++h)
        TRUFFLE_UNROLL for (int b = 0; b < BLOCK; ++b)
            TRUFFLE_UNROLL for (int p = 0; p < Rows::parts; ++p)
                store(sums + h * stride + (b * Rows::parts + p) * W, held[h][b][p]);
}

// Blocks of BLOCK vectors from vector c on while they last, then of half as many.
template <class Rows, int HEADS, int BLOCK>
TRUFFLE_INLINE void add_blocks(const char* const* values, int count, int full, const float* weights, float* sums,
                               int64_t stride, Ahead ahead, int c = 0) {
    for (; c + BLOCK <= full; c += BLOCK) {
        add_block<Rows, HEADS, BLOCK>(values, count, 4 * W * c, weights, sums + c * Rows::parts * W, stride, ahead);
        ahead = {};
    }
    if constexpr (BLOCK > 1) add_blocks<Rows, HEADS, BLOCK / 2>(values, count, full, weights, sums, stride, ahead, c);
}

template <class Rows, int HEADS>
TRUFFLE_INLINE void add_values(const char* const* values, int count, Chunks chunks, const float* weights,
                               float* sums, int64_t stride, Ahead ahead = {}) {
    // As many sums as fit the registers beside a row and the weights.
    constexpr int registers = W == 16 ? 16 : 8;
    constexpr int fitting = registers / (HEADS * Rows::parts);
    constexpr int BLOCK = fitting >= 8 ? 8 : fitting >= 4 ? 4 : fitting >= 2 ? 2 : 1;
    add_blocks<Rows, HEADS, BLOCK>(values, count, chunks.full, weights, sums, stride, ahead);
    if (chunks.tail)
        add_block<Rows, HEADS, 1, true>(values, count, 4 * W * chunks.full, weights,
                                        sums + chunks.full * Rows::parts * W, stride, {}, chunks.tail);
}

// Turns a tile of logits into weights relative to the running maximum; returns what earlier sums shrink by.
TRUFFLE_INLINE float absorb(float* logits, float& max, float& sum) {
    Floats best = load<Floats>(logits);
    for (int i = W; i < TILE; i += W) {
        Floats next = load<Floats>(logits + i);
        best = select(next > best, next, best);
    }
    float tile_max = max_lanes(best);
    float new_max = tile_max > max ? tile_max : max;
    float origin = new_max == -__builtin_inff() ? 0.0f : new_max;
    Floats total{};
    for (int i = 0; i < TILE; i += W) {
        Floats weight = exp_negative(load<Floats>(logits + i) - origin);
        store(logits + i, weight);
        total += weight;
    }
    float shrink = new_max == max ? 1.0f : exp_negative(broadcast(max - origin))[0];
    sum = sum * shrink + sum_lanes(total);
    max = new_max;
    return shrink;
}

TRUFFLE_INLINE void scale_sums(float* sums, int64_t count, float factor) {
    if (factor == 1.0f) return;
    for (int64_t i = 0; i < count; i += W) store(sums + i, load<Floats>(sums + i) * factor);
}

}  // namespace
}  // namespace truffle::TRUFFLE_ISA
