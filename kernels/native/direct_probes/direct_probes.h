// direct_probes: the buckets nearest to each query by its own margins, and the inclusion law of exactly those.
#pragma once

#include <cstdint>

#include "isa.h"
#include "team.h"

namespace truffle {

constexpr int64_t PROBE_CELLS = 4096;  // of the law's table over the agreement
constexpr int HALF_KNOTS = 32;         // where the law is computed, on either side of an even agreement
constexpr int STENCIL = 8;             // knots that a cell is interpolated from
constexpr int CELLS_A_KNOT = int(PROBE_CELLS) / (2 * HALF_KNOTS);
constexpr int STEPS_A_UNIT = 256, MOST_MARGIN = 6, MARGIN_ROWS = MOST_MARGIN * STEPS_A_UNIT + 2;
constexpr int MOST_BITS = 16, MOST_PROBES = 64, MOST_SETS = 256;

// A set of bits, numbered by ascending margin: see kernels/probe_sets.py.
struct ProbeSet {
    int32_t parent, rest, top;
};

struct DirectProbes {
    int64_t rows, L;
    int K, P, sets, min_hits;
    const float* margins;  // [rows, L, K]
    const ProbeSet* set;   // [sets]
    const float* tails;    // [MARGIN_ROWS, HALF_KNOTS]: see kernels/law_knots.py
    const float* weights;  // [STENCIL, CELLS_A_KNOT]
    uint16_t* codes;       // [rows, L, P]
    float* log_u;          // [rows, PROBE_CELLS + 1]
};

void direct_probes(const DirectProbes& call, Isa isa, Threads threads);

// One table's margins in ascending order, as places between rows of the tails, and the sets that it probes.
struct ProbePlan {
    float step[MOST_BITS];
    int32_t row[MOST_BITS];
    int32_t flippable;  // bits, the first ones, that some set flips
    uint8_t chosen[MOST_PROBES];
};

// Fills one row; `plans` has room for L.
TRUFFLE_DECLARE(void, direct_row, const DirectProbes& call, int64_t row, ProbePlan* plans)

}  // namespace truffle
