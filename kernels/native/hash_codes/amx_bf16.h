// hash_codes of bfloat16 vectors by tiles of 32 vectors and 32 planes, multiplied by the matrix unit.
#pragma once

#include "hash_codes/hash_codes.h"

namespace truffle::amx_bf16 {

constexpr int64_t SIDE = 32;   // vectors, and planes, of two tiles
constexpr int64_t DEPTH = 32;  // bfloat16 numbers in a tile's row

// Planes as the matrix unit takes them. A float32 plane is the sum of three bfloat16 terms, of which the last two
// vanish where it was bfloat16 to begin with.
struct PackedPlanes {
    int64_t columns, depth;  // depth: d, rounded up to what a tile takes
    int terms;
    uint16_t* panels;  // [panel][term][depth / 2][SIDE][2]

    int64_t count() const { return (columns + SIDE - 1) / SIDE; }
    int64_t panel_size() const { return terms * SIDE * depth; }
};

// Whether one term does for all planes.
bool all_bf16(const HashCodes& call);

// Fills one panel, which is zero.
void pack_panel(const HashCodes& call, int64_t panel, const PackedPlanes& to);

// Bytes of scratch for a block.
int64_t scratch_bytes(const HashCodes& call, const HashBlock& block);

// A block has all of the tables.
void hash_block(const HashCodes& call, const HashBlock& block, const PackedPlanes& planes);

}  // namespace truffle::amx_bf16
