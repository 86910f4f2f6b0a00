// Attention over part of a head's keys, and how parts are joined.
#pragma once

#include <cstdint>

namespace truffle {

// sum_i exp(a_i - max) v_i is kept unnormalised beside `max` and `sum`, so that parts merge.
struct State {
    float max;
    float sum;
    float* weighted;  // [d]
};

// out = sum_p weighted_p / sum, lse = ln sum, over `parts` states of one head. No parts, or none with weight,
// give out = 0 and lse = -inf.
void merge_states(const State* states, int64_t parts, int64_t d, float* out, float* lse);

}  // namespace truffle
