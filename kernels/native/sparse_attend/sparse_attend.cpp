#include "sparse_attend/sparse_attend.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>
#include <vector>

#include "scratch.h"

namespace truffle {
namespace {

constexpr int64_t LEAST_KEYS = 256;  // a smaller part costs more to begin than it shares out

struct Part {
    int64_t row, first, count;
};

// Splits the samples into parts of about equal size, some for each thread.
void split(const SparseAttend& call, int threads, std::vector<Part>& parts) {
    int64_t total = 0;
    for (int64_t row = 0; row < call.B * call.H; ++row) total += call.count[row];
    int64_t most = threads == 1 ? total : std::max(LEAST_KEYS, total / (4 * threads));
    parts.clear();
    for (int64_t row = 0; row < call.B * call.H; ++row) {
        int64_t pieces = std::max<int64_t>(1, (call.count[row] + most - 1) / std::max<int64_t>(most, 1));
        for (int64_t i = 0; i < pieces; ++i) {
            int64_t first = call.count[row] * i / pieces;
            parts.push_back({row, first, call.count[row] * (i + 1) / pieces - first});
        }
    }
}

void attend_part(const SparseAttend& call, Isa isa, const Part& part, State& state) {
    thread_local Scratch scratch;
    int64_t d = call.d, b = part.row / call.H;
    const StoreView& store = call.stores[b];
    int64_t head = part.row % call.H / (call.H / store.heads);
    scratch.reserve((d + sample_scratch(d)) * sizeof(float) + 128);
    float* q = scratch.take<float>(d);
    const float* center = call.center ? call.center + (b * store.heads + head) * d : nullptr;
    double squares = 0.0, along_center = 0.0;
    for (int64_t i = 0; i < d; ++i) {
        q[i] = (call.q + part.row * d)[i];
        squares += double{q[i]} * q[i];
        if (center) along_center += double{q[i]} * center[i];
    }
    int64_t place = part.row * call.capacity + part.first;
    const float* law = call.law ? call.law + (call.laws == 1 ? 0 : part.row) * (LAW_CELLS + 1) : nullptr;
    Sample sample{store.rows + head * store.capacity * store.row_bytes, store.row_bytes, store.length, d,
                  store.is_bf16, q, float(std::sqrt(squares)), float(along_center), call.scale,
                  call.ids + place, part.count, law,
                  call.log_weight ? call.log_weight + place : nullptr, scratch.take<float>(sample_scratch(d))};
    int64_t bad = TRUFFLE_PICK(isa, attend_sample)(sample, state);
    if (bad < 0) return;
    while (uint32_t(sample.ids[bad]) < uint64_t(store.length)) ++bad;
    throw std::out_of_range("ids: expected rows below " + std::to_string(store.length) + ", got " +
                            std::to_string(sample.ids[bad]) + " in row " + std::to_string(part.row));
}

}  // namespace

void sparse_attend(const SparseAttend& call, Isa isa, Threads threads) {
    thread_local std::vector<Part> parts;
    thread_local std::vector<State> states;
    thread_local std::vector<float> sums;
    split(call, threads.count, parts);
    sums.resize(parts.size() * call.d);
    states.resize(parts.size());
    for (size_t p = 0; p < parts.size(); ++p) states[p] = {0.0f, 0.0f, sums.data() + p * call.d};
    // A worker's own thread-local vectors are not the caller's.
    const Part* part = parts.data();
    State* state = states.data();
    parallel(threads, parts.size(), [&](int64_t p) { attend_part(call, isa, part[p], state[p]); });
    for (size_t p = 0, end; p < parts.size(); p = end) {
        for (end = p + 1; end < parts.size() && parts[end].row == parts[p].row;) ++end;
        int64_t row = parts[p].row;
        merge_states(states.data() + p, end - p, call.d, call.out + row * call.d, call.lse + row);
    }
}

}  // namespace truffle
