#include "dense_attend/dense_attend.h"

#include <algorithm>
#include <vector>

#include "scratch.h"

namespace truffle {
namespace {

constexpr int64_t LEAST_KEYS = 512;  // a smaller part costs more to begin than it shares out

struct Part {
    int64_t b, head, first, count;
};

void split(const DenseAttend& call, int threads, std::vector<Part>& parts) {
    int64_t total = 0;
    for (int64_t b = 0; b < call.B; ++b) total += call.heads * call.lengths[b];
    int64_t most = threads == 1 ? std::max<int64_t>(total, 1) : std::max(LEAST_KEYS, total / (4 * threads));
    parts.clear();
    for (int64_t b = 0; b < call.B; ++b) {
        int64_t length = call.lengths[b], pieces = std::max<int64_t>(1, (length + most - 1) / most);
        for (int64_t head = 0; head < call.heads; ++head)
            for (int64_t i = 0; i < pieces; ++i) {
                int64_t first = length * i / pieces;
                parts.push_back({b, head, first, length * (i + 1) / pieces - first});
            }
    }
}

void attend_part(const DenseAttend& call, Isa isa, const Part& part, State* states) {
    thread_local Scratch scratch;
    int64_t d = call.d, group = call.H / call.heads;
    scratch.reserve((group * d + run_scratch(d, group)) * sizeof(float) + 128);
    float* q = scratch.take<float>(group * d);
    Reals query = call.q + (part.b * call.H + part.head * group) * d;
    for (int64_t i = 0; i < group * d; ++i) q[i] = query[i] * call.scale;
    int64_t row = (part.b * call.heads + part.head) * call.T + part.first;
    Run run{call.keys + row * d, call.values + row * d, part.count, d, group, q,
            scratch.take<float>(run_scratch(d, group))};
    TRUFFLE_PICK(isa, attend_run)(run, states);
}

}  // namespace

void dense_attend(const DenseAttend& call, Isa isa, Threads threads) {
    thread_local std::vector<Part> parts;
    thread_local std::vector<State> states;
    thread_local std::vector<float> sums;
    int64_t d = call.d, group = call.H / call.heads;
    split(call, threads.count, parts);
    int64_t n = parts.size();
    sums.resize(n * group * d);
    states.resize(n * group);
    for (int64_t i = 0; i < n * group; ++i) states[i] = {0.0f, 0.0f, sums.data() + i * d};
    // A worker's own thread-local vectors are not the caller's.
    const Part* part = parts.data();
    State* state = states.data();
    parallel(threads, n, [&](int64_t p) { attend_part(call, isa, part[p], state + p * group); });
    std::vector<State> of_head;
    for (int64_t p = 0, end; p < n; p = end) {
        for (end = p + 1; end < n && part[end].b == part[p].b && part[end].head == part[p].head;) ++end;
        for (int64_t h = 0; h < group; ++h) {
            of_head.clear();
            for (int64_t i = p; i < end; ++i) of_head.push_back(state[i * group + h]);
            int64_t row = part[p].b * call.H + part[p].head * group + h;
            merge_states(of_head.data(), end - p, d, call.out + row * d, call.lse + row);
        }
    }
}

}  // namespace truffle
