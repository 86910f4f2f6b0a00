// retrieve: the keys that share enough buckets with each query head.
#pragma once

#include <cstdint>
#include <vector>

#include "isa.h"
#include "team.h"

namespace truffle {

// Hash tables of up to 65,536 rows, from row `start`.
struct SegmentView {
    int64_t start, heads, L, buckets, n;
    const int32_t* offsets;  // [heads, L, buckets + 1]
    const uint16_t* ids;     // [heads, L, n]
};

// Which buckets of which tables each query head visits.
struct Collisions {
    int64_t B, H, L, P;
    const std::vector<std::vector<const SegmentView*>>* tables;  // [B][segments]
    const uint16_t* query_codes;                                 // [B, H, L, P]
    int64_t min_hits;
};

struct Retrieve {
    Collisions from;
    int64_t capacity;
    int32_t* ids;    // [B*H, capacity]
    int32_t* count;  // [B*H]
};

// Throws std::invalid_argument for a code without a bucket, or tables that point outside their segment.
void retrieve(const Retrieve& call, Isa isa, Threads threads);

}  // namespace truffle
