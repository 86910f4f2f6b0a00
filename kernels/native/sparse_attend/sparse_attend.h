// sparse_attend: attention over sampled keys, each weighted by the inverse of its inclusion probability.
#pragma once

#include <cstdint>

#include "attend/state.h"
#include "isa.h"
#include "numbers.h"
#include "team.h"

namespace truffle {

constexpr int64_t LAW_CELLS = 4096;

// Rows [key d | value d | norm] of one request, [heads, capacity, row bytes].
struct StoreView {
    const char* rows;
    int64_t heads, capacity, row_bytes, length;
    bool is_bf16;
};

struct SparseAttend {
    int64_t B, H, d, capacity;
    Reals q;                  // [B, H, d]
    const StoreView* stores;  // [B]
    const int32_t* ids;       // [B*H, capacity]
    const int32_t* count;     // [B*H]
    const float* center;      // [B, heads, d], or null
    const float* law;         // [laws, LAW_CELLS + 1]: ln u over the agreement, or null
    int64_t laws;             // 1 for all rows, or B*H
    const float* log_weight;  // [B*H, capacity], or null
    float scale;
    float* out;  // [B, H, d]
    float* lse;  // [B, H]
};

// Throws std::out_of_range for an id outside its store.
void sparse_attend(const SparseAttend& call, Isa isa, Threads threads);

// Part of the sample of one query head, as a kernel sees it.
struct Sample {
    const char* rows;
    int64_t row_bytes, length, d;
    bool is_bf16;
    const float* q;  // [d]
    float q_norm, q_center, scale;
    const int32_t* ids;
    int64_t count;
    const float* law;
    const float* log_weight;  // beside ids
    float* scratch;           // sample_scratch(d) floats, aligned to 64 bytes
};

constexpr int64_t sample_scratch(int64_t d) { return 2 * (d + 32); }

// Attends to a sample; returns the position of the first id outside the store, or -1.
TRUFFLE_DECLARE(int64_t, attend_sample, const Sample& sample, State& state)

}  // namespace truffle
