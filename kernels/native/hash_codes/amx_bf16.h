// hash_codes of bfloat16 vectors by tiles of 32 vectors and 32 planes, multiplied by the matrix unit.
#pragma once

#include <vector>

#include "hash_codes/hash_codes.h"

namespace truffle::amx_bf16 {

// Planes as the matrix unit takes them. A float32 plane is the sum of three bfloat16 terms, of which the last two
// vanish where it was bfloat16 to begin with.
struct PackedPlanes {
    int64_t columns, depth;  // depth: d, rounded up to what a tile takes
    int terms;
    std::vector<uint16_t> panels;  // [panel][term][depth / 2][32][2]
};

PackedPlanes pack_planes(const HashCodes& call, Threads threads);

// Bytes of scratch for a block.
int64_t scratch_bytes(const HashCodes& call, const HashBlock& block);

// `block.table` is the first of the tables: a block has all of them.
void hash_block(const HashCodes& call, const HashBlock& block, const PackedPlanes& planes);

}  // namespace truffle::amx_bf16
