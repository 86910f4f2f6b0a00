// build_tables: a counting sort of one segment's codes into buckets.
#pragma once

#include <cstdint>

#include "team.h"

namespace truffle {

struct BuildTables {
    int64_t sorts, n;       // sorts = R * L, n <= 65,536
    int K;                  // 1 to 16
    const uint16_t* codes;  // [R, L, n]
    int32_t* offsets;       // [R, L, 2^K + 1]
    uint16_t* ids;          // [R, L, n]
};

// Throws std::invalid_argument for a code of 2^K or more.
void build_tables(const BuildTables& call, Threads threads);

}  // namespace truffle
