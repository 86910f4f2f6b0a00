// hash_codes: L codes of K sign bits for every vector.
#pragma once

#include <cstdint>

#include "isa.h"
#include "numbers.h"
#include "team.h"

namespace truffle {

struct HashCodes {
    int64_t R, n, d, L;
    int K;
    Reals x;              // [R, n, d]
    const float* planes;  // [d, L*K]
    const float* center;  // [R, d], or null
    uint16_t* codes;      // [R, L, n]
};

void hash_codes(const HashCodes& call, Isa isa, Threads threads);

// Vectors [first, first + count) of the R*n, hashed into tables [table, table + tables), as a kernel sees them.
struct HashBlock {
    int64_t first, count, table, tables;
    char* scratch;  // aligned to 64 bytes
};

constexpr int64_t PANEL = 64;       // columns packed at a time, at most
constexpr int64_t MOST_ROWS = 16;   // rows a register tile takes, at most

// Bytes of scratch for a block: vectors split into register tiles, a panel of planes, sign words.
constexpr int64_t hash_scratch(int64_t count, int64_t d, int64_t columns) {
    int64_t rows = count + MOST_ROWS;
    return 4 * d * (rows + PANEL) + 2 * rows * (columns + 2 * PANEL) / 16 + 256;
}

TRUFFLE_DECLARE(void, hash_block, const HashCodes& call, const HashBlock& block)

}  // namespace truffle
