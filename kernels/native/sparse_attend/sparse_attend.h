// sparse_attend: attention over sampled keys, each weighted by the inverse of its inclusion probability.
#pragma once

#include <cstdint>

#include "attend/state.h"
#include "isa.h"
#include "numbers.h"
#include "store.h"
#include "team.h"

namespace truffle {

constexpr int64_t LAW_CELLS = 4096;

// Query heads, and what tells how likely each of them samples a key.
struct Queries {
    int64_t B, H, d;
    Reals q;                  // [B, H, d]
    const StoreView* stores;  // [B]
    const float* center;      // [B, heads, d], or null
    const float* law;         // [laws, LAW_CELLS + 1]: ln u over the agreement, or null
    int64_t laws;             // 1 for all rows, or B*H
    float scale;
    int64_t sharing = 1;      // consecutive heads that have one sample: 1, or all of a group
};

struct SparseAttend {
    Queries queries;
    int64_t capacity;
    const int32_t* ids;       // [B*H / sharing, capacity]
    const int32_t* count;     // [B*H / sharing]
    const float* log_weight;  // [B*H / sharing, capacity], or null
    float* out;               // [B, H, d]
    float* lse;               // [B, H]
};

// Throws std::out_of_range for an id outside its store.
void sparse_attend(const SparseAttend& call, Isa isa, Threads threads);

// Keys that `heads` consecutive query heads of one group sampled.
struct SampledRows {
    int64_t row, heads;       // the first query head's place among the B*H
    const int32_t* ids;
    int64_t count;
    const uint8_t* members;   // [count]: bit h says that head h sampled the key; null when all did
    const float* log_weight;  // [count], or null
};

// Attends to `rows` and fills one state a head, whose `weighted` have room for d numbers.
void attend_rows(const Queries& queries, const SampledRows& rows, Isa isa, State* states);

constexpr int MOST_HEADS = 4;  // query heads that a kernel takes at once

struct SampleHead {
    const float* q;  // [d]; those of several heads follow one another
    float norm, along_center;
    const float* law;
};

// Sampled keys as a kernel sees them.
struct Sample {
    const char* rows;
    int64_t row_bytes, length, d;
    Format format;
    bool far;  // ask for rows into the second-level cache
    int head_count;
    SampleHead heads[MOST_HEADS];
    const float* center;  // [d] where heads have a law, else null
    float scale;
    const int32_t* ids;
    int64_t count;
    const uint8_t* members;
    const float* log_weight;
    float* scratch;  // sample_scratch(d, head_count) floats, aligned to 64 bytes
};

constexpr int64_t sample_scratch(int64_t d, int64_t heads) { return (3 * heads + 1) * (d + 128); }

// Attends to a sample; returns the position of the first tile with an id outside the store, or -1.
TRUFFLE_DECLARE(int64_t, attend_sample, const Sample& sample, State* states)
#ifdef TRUFFLE_X86
namespace avx512_bf16 { int64_t attend_sample(const Sample& sample, State* states); }
#endif

}  // namespace truffle
