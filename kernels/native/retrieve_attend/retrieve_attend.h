// retrieve_attend: retrieve and sparse_attend in one, without ids between them.
#pragma once

#include <cstdint>

#include "retrieve/retrieve.h"
#include "sparse_attend/sparse_attend.h"

namespace truffle {

struct RetrieveAttend {
    Collisions from;
    Queries queries;
    float* out;      // [B, H, d]
    float* lse;      // [B, H]
    int32_t* count;  // [B*H]
};

// Throws as retrieve and sparse_attend do.
void retrieve_attend(const RetrieveAttend& call, Isa isa, Threads threads);

}  // namespace truffle
