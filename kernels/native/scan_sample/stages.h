// What a scan does to one chunk of the tokens of a key/value head, by instruction set.
#pragma once

#include <cstdint>

#include "isa.h"

namespace truffle {

constexpr int64_t BLOCK_TOKENS = 64, CHUNK_BLOCKS = 16, CHUNK_TOKENS = BLOCK_TOKENS * CHUNK_BLOCKS;

// From codes to 2^(estimate - peak) of a group's heads, for factors that make estimates powers of two.
struct Estimate {
    int64_t heads, W, blocks, tokens;  // `tokens` of the chunk exist
    int bits;
    const uint32_t* words;       // [blocks, W, 64]
    const uint16_t* scales;      // [blocks, 64]
    const int8_t* queries;       // [heads, stride], codes padded to W words of fields
    const int32_t* corrections;  // [heads], what codes from 0 on add to the products of levels
    const float* factors;        // [heads], from whole numbers to scores
    int64_t query_stride, stride;
    float* weights;              // [heads, stride], zeros behind the last token
    float *peaks, *sums;         // [heads, peaks_stride]: the largest estimate, and the sum of weights
    int64_t peaks_stride;
};

// weights[0] = sum over heads of max(weights[h] * factors[h], least[h]), for the tokens that exist.
struct Combine {
    int64_t heads, tokens, stride;
    const float *factors, *least;  // [heads], `factors` with a stride
    int64_t factors_stride;
    float* weights;
};

// How many of `count` weights times c are 1 or more, and the sum of the other weights.
struct Share {
    int64_t certain = 0;
    double rest = 0;
};

// From a row's proposals to its sample, as Draw says.
struct Cut {
    float multiplier, least, threshold;
};

// Where a row's random numbers come from: its key, and its counter but for the token.
struct Stream {
    uint32_t key[2], counter[3];
};

// Ratios are max(weight * multiplier, least); of a priority sample, max(weight, least) * multiplier, and its tokens those
// whose max(weight, least) / u is above the threshold.
struct Draw {
    const float* weights;
    int64_t first, tokens;  // of the row: a multiple of 64, and how many from there
    Cut cut;
    Stream stream;
    bool priority;
    int32_t* ids;   // drawn
    float* ratios;  // of those: may be `weights` itself
};

TRUFFLE_DECLARE(void, estimate_chunk, const Estimate& task)
TRUFFLE_DECLARE(void, combine_chunk, const Combine& task)
TRUFFLE_DECLARE(Share, share_of, const float* weights, int64_t count, float c)
TRUFFLE_DECLARE(int64_t, draw_chunk, const Draw& task)
// to[i] = max(weights[i], least) / u_i
TRUFFLE_DECLARE(void, lift, const float* weights, int64_t count, float least, const Stream& stream, float* to)
#ifdef TRUFFLE_X86
namespace avx512_bf16 { void estimate_chunk(const Estimate& task); }
#endif

}  // namespace truffle
