#include "sparse_attend/sparse_attend.h"

#include <algorithm>
#include <vector>

namespace truffle {
namespace {

constexpr int64_t LEAST_KEYS = 256;  // a smaller part costs more to begin than it shares out

struct Part {
    int64_t row, first, count;
};

// Splits the samples into parts of about equal size, some for each thread.
void split(const SparseAttend& call, int threads, std::vector<Part>& parts) {
    const int64_t rows = call.queries.B * call.queries.H;
    int64_t total = 0;
    for (int64_t row = 0; row < rows; ++row) total += call.count[row];
    int64_t most = threads == 1 ? total : std::max(LEAST_KEYS, total / (4 * threads));
    parts.clear();
    for (int64_t row = 0; row < rows; ++row) {
        int64_t pieces = std::max<int64_t>(1, (call.count[row] + most - 1) / std::max<int64_t>(most, 1));
        for (int64_t i = 0; i < pieces; ++i) {
            int64_t first = call.count[row] * i / pieces;
            parts.push_back({row, first, call.count[row] * (i + 1) / pieces - first});
        }
    }
}

SampledRows rows_of(const SparseAttend& call, const Part& part) {
    int64_t place = part.row * call.capacity + part.first;
    return {part.row, 1, call.ids + place, part.count, nullptr, call.log_weight ? call.log_weight + place : nullptr};
}

}  // namespace

void sparse_attend(const SparseAttend& call, Isa isa, Threads threads) {
    thread_local std::vector<Part> parts;
    thread_local std::vector<State> states;
    thread_local std::vector<float> sums;
    const int64_t d = call.queries.d;
    split(call, threads.count, parts);
    sums.resize(parts.size() * d);
    states.resize(parts.size());
    for (size_t p = 0; p < parts.size(); ++p) states[p] = {0.0f, 0.0f, sums.data() + p * d};
    // A worker's own thread-local vectors are not the caller's.
    const Part* part = parts.data();
    State* state = states.data();
    parallel(threads, parts.size(),
             [&](int64_t p) { attend_rows(call.queries, rows_of(call, part[p]), isa, state + p); });
    for (size_t p = 0, end; p < parts.size(); p = end) {
        for (end = p + 1; end < parts.size() && parts[end].row == parts[p].row;) ++end;
        int64_t row = parts[p].row;
        merge_states(states.data() + p, end - p, d, call.out + row * d, call.lse + row);
    }
}

}  // namespace truffle
