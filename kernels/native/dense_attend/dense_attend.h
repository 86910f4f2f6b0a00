// dense_attend: exact attention of one query a request over its cached keys.
#pragma once

#include <cstdint>

#include "attend/state.h"
#include "isa.h"
#include "numbers.h"
#include "team.h"

namespace truffle {

struct DenseAttend {
    int64_t B, H, heads, T, d;
    Reals q;                 // [B, H, d]
    Reals keys, values;      // [B, heads, T, d], of one type
    const int32_t* lengths;  // [B], each at most T
    float scale;
    float* out;  // [B, H, d]
    float* lse;  // [B, H]
};

void dense_attend(const DenseAttend& call, Isa isa, Threads threads);

// A run of keys of one key/value head and the query heads that read it, as a kernel sees them.
struct Run {
    Reals keys, values;  // [count, d]
    int64_t count, d, group;
    const float* q;  // [group, d], scaled
    float* scratch;  // run_scratch(d, group) floats, aligned to 64 bytes
};

constexpr int64_t run_scratch(int64_t d, int64_t group) { return 2 * group * (d + 32); }

TRUFFLE_DECLARE(void, attend_run, const Run& run, State* states)

}  // namespace truffle
