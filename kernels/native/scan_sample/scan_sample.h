// scan_sample: keys drawn independently, each as likely as a scan of a few bits a coordinate makes it.
#pragma once

#include <cstdint>

#include "isa.h"
#include "team.h"

namespace truffle {

struct CodesView {
    int64_t heads, blocks, W, length;
    int bits;
    const uint32_t* words;   // [heads, blocks, W, 64]
    const uint16_t* scales;  // [heads, blocks, 64], bfloat16
};

struct ScanSample {
    int64_t B, H, d, R, capacity;
    const float* q;          // [B, H, d], rotated
    const CodesView* codes;  // [B]
    const float* wanted;     // [B, R]
    const float* floor;      // [B]
    const int32_t* step;     // [B]
    int32_t* ids;            // [B*R, capacity]
    int32_t* count;          // [B*R]
    float* log_weight;       // [B*R, capacity]
    float scale;
    uint64_t seed;
    uint32_t layer;
    bool priority;
};

void scan_sample(const ScanSample& call, Isa isa, Threads threads);

}  // namespace truffle
