// Products of a block's 64 tokens, in the lanes, with byte queries: codes are shifted to the bottom of their bytes and
// multiplied four coordinates at a time.
#pragma once

#include "scan_sample/stages.h"
#include "simd.h"

namespace truffle::TRUFFLE_ISA {
namespace {

template <int BITS>
constexpr uint32_t low_fields = BITS == 4 ? 0x0F0F0F0Fu : BITS == 2 ? 0x03030303u : 0x01010101u;

TRUFFLE_INLINE int32_t four_bytes(const int8_t* from) {
    int32_t word;
    memcpy(&word, from, 4);
    return word;
}

// Blocks on their way while one is multiplied: a core without them waits for half of the time, as it does nothing but
// compute between two chunks.
constexpr int64_t AHEAD = 8;

// A word of 64 tokens.
TRUFFLE_INLINE void ask_for(const uint32_t* row) {
    TRUFFLE_UNROLL for (int i = 0; i < 64; i += 16) __builtin_prefetch(row + i);
}

#ifdef TRUFFLE_BYTE_DOT  // one instruction for four products and their sum

// As _mm512_dpbusd_epi32, of which GCC 12 copies every sum, and spills some.
TRUFFLE_INLINE void add_four(__m512i& sums, __m512i codes, __m512i query) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(codes), "v"(query));
}

template <int BITS, int HEADS>
TRUFFLE_INLINE void multiply(const uint32_t* block, int64_t words, const int8_t* q, int64_t stride, Ints (*to)[4]) {
    __m512i sums[HEADS][4] = {};
    const __m512i mask = _mm512_set1_epi32(int(low_fields<BITS>));
    for (int64_t w = 0; w < words; ++w, block += 64) {
        __m512i word[4];
        TRUFFLE_UNROLL for (int t = 0; t < 4; ++t) word[t] = _mm512_loadu_si512(block + 16 * t);
        ask_for(block + AHEAD * 64 * words);
        TRUFFLE_UNROLL for (int field = 0; field < 8 / BITS; ++field) {
            __m512i codes[4];
            TRUFFLE_UNROLL for (int t = 0; t < 4; ++t)
                codes[t] = _mm512_and_si512(_mm512_srli_epi32(word[t], BITS * field), mask);
            TRUFFLE_UNROLL for (int h = 0; h < HEADS; ++h) {
                const __m512i query = _mm512_set1_epi32(four_bytes(q + h * stride + w * (32 / BITS) + 4 * field));
                TRUFFLE_UNROLL for (int t = 0; t < 4; ++t) add_four(sums[h][t], codes[t], query);
            }
        }
    }
    TRUFFLE_UNROLL for (int h = 0; h < HEADS; ++h)
        TRUFFLE_UNROLL for (int t = 0; t < 4; ++t) to[h][t] = (Ints)sums[h][t];
}

#elif TRUFFLE_WIDTH > 4  // pairs of products are added in 16 bits, which hold eight of them, then in 32

#if TRUFFLE_WIDTH == 16
typedef __m512i Bytes;
TRUFFLE_INLINE Bytes add_pairs_of(Bytes sums, Bytes codes, Bytes query) {
    return _mm512_add_epi16(sums, _mm512_maddubs_epi16(codes, query));
}
TRUFFLE_INLINE Bytes add_wide(Bytes sums, Bytes pairs) {
    return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#else
typedef __m256i Bytes;
TRUFFLE_INLINE Bytes add_pairs_of(Bytes sums, Bytes codes, Bytes query) {
    return _mm256_add_epi16(sums, _mm256_maddubs_epi16(codes, query));
}
TRUFFLE_INLINE Bytes add_wide(Bytes sums, Bytes pairs) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#endif

template <int BITS, int HEADS>
TRUFFLE_INLINE void multiply(const uint32_t* block, int64_t words, const int8_t* q, int64_t stride,
                             Ints (*to)[64 / W]) {
    constexpr int VECTORS = 64 / W, TOGETHER = 2;
    for (int t = 0; t < VECTORS; t += TOGETHER) {
        Bytes sums[HEADS][TOGETHER] = {};
        for (int64_t w = 0; w < words; w += BITS) {
            Bytes pairs[HEADS][TOGETHER] = {};
            for (int64_t i = w; i < w + BITS && i < words; ++i) {
                if (t == 0) ask_for(block + 64 * (i + AHEAD * words));
                TRUFFLE_UNROLL for (int field = 0; field < 8 / BITS; ++field) {
                    Bytes codes[TOGETHER];
                    TRUFFLE_UNROLL for (int v = 0; v < TOGETHER; ++v)
                        codes[v] = (Bytes)(load<Words>(block + 64 * i + (t + v) * W) >> uint32_t(BITS * field) &
                                           low_fields<BITS>);
                    TRUFFLE_UNROLL for (int h = 0; h < HEADS; ++h) {
                        const Bytes query = (Bytes)(four_bytes(q + h * stride + i * (32 / BITS) + 4 * field) - Ints{});
                        TRUFFLE_UNROLL for (int v = 0; v < TOGETHER; ++v)
                            pairs[h][v] = add_pairs_of(pairs[h][v], codes[v], query);
                    }
                }
            }
            TRUFFLE_UNROLL for (int h = 0; h < HEADS; ++h)
                TRUFFLE_UNROLL for (int v = 0; v < TOGETHER; ++v) sums[h][v] = add_wide(sums[h][v], pairs[h][v]);
        }
        TRUFFLE_UNROLL for (int h = 0; h < HEADS; ++h)
            TRUFFLE_UNROLL for (int v = 0; v < TOGETHER; ++v) to[h][t + v] = (Ints)sums[h][v];
    }
}

#else

template <int BITS, int HEADS>
TRUFFLE_INLINE void multiply(const uint32_t* block, int64_t words, const int8_t* q, int64_t stride,
                             Ints (*to)[64 / W]) {
    for (int h = 0; h < HEADS; ++h)
        for (int t = 0; t < 64 / W; ++t) to[h][t] = Ints{};
    for (int64_t w = 0; w < words; ++w)
        for (int place = 0; place < 32 / BITS; ++place) {
            const uint32_t shift = 8 * (place % 4) + BITS * (place / 4);
            for (int t = 0; t < 64 / W; ++t) {
                const Ints codes = (Ints)(load<Words>(block + 64 * w + t * W) >> shift & ((1u << BITS) - 1));
                for (int h = 0; h < HEADS; ++h) to[h][t] += codes * int32_t{q[h * stride + w * (32 / BITS) + place]};
            }
        }
}

#endif

}  // namespace
}  // namespace truffle::TRUFFLE_ISA
