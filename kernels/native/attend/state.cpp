#include "attend/state.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace truffle {

void merge_states(const State* states, int64_t parts, int64_t d, float* out, float* lse) {
    constexpr float nothing = -std::numeric_limits<float>::infinity();
    float max = nothing;
    for (int64_t p = 0; p < parts; ++p) max = std::max(max, states[p].max);
    std::fill(out, out + d, 0.0f);
    double sum = 0.0;
    for (int64_t p = 0; p < parts; ++p) {
        if (states[p].max == nothing && states[p].sum == 0.0f) continue;
        float weight = parts == 1 ? 1.0f : std::exp(states[p].max - max);
        sum += double{weight} * states[p].sum;
        for (int64_t i = 0; i < d; ++i) out[i] += weight * states[p].weighted[i];
    }
    *lse = sum == 0.0 ? nothing : static_cast<float>(max + std::log(sum));
    if (sum == 0.0) return;
    float inverse = static_cast<float>(1.0 / sum);
    for (int64_t i = 0; i < d; ++i) out[i] *= inverse;
}

}  // namespace truffle
