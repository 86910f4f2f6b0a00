// Products of query heads with KEYS rows, by element type and by what the instruction set multiplies directly.
#pragma once

#include "attend/tile.h"

namespace truffle::TRUFFLE_ISA {
namespace {

// In float32, the query split as the rows are.
template <class Rows>
struct Products {
    static constexpr int query_floats = Rows::parts * W, more_floats = 0;  // a vector of words, and all, take

    Products(const float*, int64_t, int) {}
    static void prepare(const float* q, int64_t d, float* to) {
        for (int64_t i = 0; i < d; ++i) to[split_index<Rows>(i)] = q[i];
    }
    template <int HEADS>
    TRUFFLE_INLINE void of(const char* const* keys, Chunks chunks, const float* q, int64_t stride, float* to) const {
        dot<Rows, HEADS>(keys, chunks, q, stride, to);
    }
};

typedef float HalfFloats __attribute__((vector_size(2 * W)));
typedef double Doubles __attribute__((vector_size(4 * W)));

TRUFFLE_INLINE Doubles load_doubles(const void* from) {
    return __builtin_convertvector(load<HalfFloats>(from), Doubles);
}

// In double for float32 rows: a logit of 1000 must not lose what float32 sums would.
template <>
struct Products<F32Rows> {
    static constexpr int query_floats = W, more_floats = 0;

    Products(const float*, int64_t, int) {}
    static void prepare(const float* q, int64_t d, float* to) { memcpy(to, q, d * sizeof(float)); }

    template <int HEADS>
    TRUFFLE_INLINE void of(const char* const* keys, Chunks chunks, const float* q, int64_t stride, float* to) const {
        for (int h = 0; h < HEADS; ++h) one(keys, chunks, q + h * stride, to + h * TILE);
    }

  private:
    TRUFFLE_INLINE static void one(const char* const* keys, Chunks chunks, const float* q, float* to) {
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
            to[k] = float(product);
        }
    }
};

#ifdef TRUFFLE_BF16_DOT

// Pairs of bfloat16 multiplied and added by one instruction. A float32 query is the sum of three bfloat16 terms, of
// which the last two vanish when it was bfloat16 to begin with.
template <>
struct Products<Bf16Rows> {
    static constexpr int terms = 3, query_floats = terms * W, more_floats = 0;
    const bool exact;

    Products(const float* q, int64_t d, int heads) : exact(is_bf16(q, heads * d)) {}

    static void prepare(const float* q, int64_t d, float* to) {
        for (int64_t i = 0; i < d; ++i) {
            uint16_t* place = reinterpret_cast<uint16_t*>(to + i / 2 / W * query_floats + i / 2 % W) + i % 2;
            float rest = q[i];
            for (int t = 0; t < terms; ++t) {
                uint16_t term = nearest_bf16(rest);
                place[t * 2 * W] = term;
                rest -= widen(term);
            }
        }
    }

    template <int HEADS>
    TRUFFLE_INLINE void of(const char* const* keys, Chunks chunks, const float* q, int64_t stride, float* to) const {
        exact ? sum<HEADS, 1>(keys, chunks, q, stride, to) : sum<HEADS, terms>(keys, chunks, q, stride, to);
    }

  private:
    static float widen(uint16_t bits) {
        uint32_t word = uint32_t{bits} << 16;
        float value;
        memcpy(&value, &word, 4);
        return value;
    }
    static uint16_t nearest_bf16(float x) {
        uint32_t bits;
        memcpy(&bits, &x, 4);
        if (x != x) return uint16_t(bits >> 16 | 0x40);
        return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
    }
    static bool is_bf16(const float* q, int64_t d) {
        bool same = true;
        for (int64_t i = 0; i < d; ++i) same &= widen(nearest_bf16(q[i])) == q[i];
        return same;
    }

    template <int HEADS, int TERMS>
    TRUFFLE_INLINE static void sum(const char* const* keys, Chunks chunks, const float* q, int64_t stride, float* to) {
        Floats sums[HEADS][KEYS] = {};
        for (int c = 0; c < chunks.count(); ++c) {
            Words raw[KEYS];
            TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k)
                raw[k] = c < chunks.full ? load<Words>(keys[k] + 4 * W * c)
                                         : load_some(keys[k] + 4 * W * c, chunks.tail);
            TRUFFLE_UNROLL for (int h = 0; h < HEADS; ++h)
                TRUFFLE_UNROLL for (int t = 0; t < TERMS; ++t) {
                    Words query = load<Words>(q + h * stride + c * query_floats + t * W);
                    TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k)
                        sums[h][k] = (Floats)_mm512_dpbf16_ps((__m512)sums[h][k], (__m512bh)query, (__m512bh)raw[k]);
                }
        }
        TRUFFLE_UNROLL for (int h = 0; h < HEADS; ++h) sum_four(sums[h], to + h * TILE);
    }
};

// Codes times a query of three terms of 8 bits, each a 254th of the one before: 24 bits, multiplied exactly. The
// instruction takes codes as unsigned, 128 too large; every lane starts from what that adds up to.
template <>
struct Products<Int8Rows> {
    static constexpr int terms = 3, query_floats = terms * W, more_floats = (terms + 1) * W;

    Products(const float*, int64_t d, int) : chunks_(Chunks(d, 4).count()) {}

    static void prepare(const float* q, int64_t d, float* to) {
        const int64_t chunks = Chunks(d, 4).count();
        int32_t* offsets = reinterpret_cast<int32_t*>(to + chunks * query_floats);
        float* scales = to + chunks * query_floats + terms * W;
        float largest = 0.0f;
        for (int64_t i = 0; i < d; ++i) largest = q[i] > largest ? q[i] : -q[i] > largest ? -q[i] : largest;
        const bool finite = largest - largest == 0.0f;
        for (int t = 0; t < terms; ++t) scales[t] = (t ? scales[t - 1] / 254.0f : largest / 127.0f);
        for (int64_t i = 0; finite && i < d; ++i) {
            double rest = q[i];
            for (int t = 0; t < terms && scales[t] > 0.0f; ++t) {
                const int term = int(__builtin_rint(rest / scales[t]));
                reinterpret_cast<int8_t*>(to + (i / 64 * terms + t) * W)[i % 64] = int8_t(term);
                offsets[t * W + i % 64 / 4] -= 128 * term;
                rest -= double{scales[t]} * term;
            }
        }
    }

    template <int HEADS>
    TRUFFLE_INLINE void of(const char* const* keys, Chunks chunks, const float* q, int64_t stride, float* to) const {
        for (int h = 0; h < HEADS; ++h) one(keys, chunks, q + h * stride, to + h * TILE);
    }

  private:
    TRUFFLE_INLINE void one(const char* const* keys, Chunks chunks, const float* q, float* to) const {
        const float *offsets = q + chunks_ * query_floats, *scales = offsets + terms * W;
        __m512i sums[terms][KEYS];
        TRUFFLE_UNROLL for (int t = 0; t < terms; ++t)
            TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k) sums[t][k] = (__m512i)load<Ints>(offsets + t * W);
        for (int c = 0; c < chunks.count(); ++c) {
            TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k) {
                const char* from = keys[k] + 4 * W * c;
                const Words raw = (c < chunks.full ? load<Words>(from) : load_some(from, chunks.tail)) ^ 0x80808080u;
                TRUFFLE_UNROLL for (int t = 0; t < terms; ++t)
                    sums[t][k] = _mm512_dpbusd_epi32(sums[t][k], (__m512i)raw,
                                                     (__m512i)load<Words>(q + (c * terms + t) * W));
            }
        }
        Floats products[KEYS];
        TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k) {
            products[k] = Floats{};
            TRUFFLE_UNROLL for (int t = terms - 1; t >= 0; --t)
                products[k] += scales[t] * __builtin_convertvector((Ints)sums[t][k], Floats);
        }
        sum_four(products, to);
    }

    const int64_t chunks_;
};

#endif

}  // namespace
}  // namespace truffle::TRUFFLE_ISA
