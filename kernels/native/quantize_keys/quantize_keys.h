// quantize_keys: a few bits a coordinate of rotated keys.
#pragma once

#include <cstdint>

#include "isa.h"
#include "numbers.h"
#include "team.h"

namespace truffle {

constexpr int64_t BLOCK = 64;  // tokens side by side

struct QuantizeKeys {
    int64_t R, n, d;
    int64_t blocks, W;  // of the codes
    int64_t start;      // the token of the codes that the first key becomes
    int bits;
    Reals keys;             // [R, n, d]
    const float* center;    // [R, d]
    const float* rotation;  // [d, d]
    uint32_t* words;        // [R, blocks, W, BLOCK]
    uint16_t* scales;       // [R, blocks, BLOCK], bfloat16
};

struct QuantizeBlock {
    int64_t r, block;
    float* scratch;  // 2 * d * BLOCK, aligned to 64 bytes
};

TRUFFLE_DECLARE(void, quantize_block, const QuantizeKeys& call, const QuantizeBlock& task)

void quantize_keys(const QuantizeKeys& call, Isa isa, Threads threads);

}  // namespace truffle
