// One query head: plan every table's probes, then the law at a few agreements at a time, one in each lane.
#include <cmath>

#include "direct_probes/direct_probes.h"
#include "simd.h"
#ifdef TRUFFLE_X86
#include <xmmintrin.h>
#endif

namespace truffle::TRUFFLE_ISA {
namespace {

// Products of many tails end below the least normal number, where x86 multiplies a hundred times more slowly.
struct FlushToZero {
#ifdef TRUFFLE_X86
    unsigned before = _mm_getcsr();
    FlushToZero() { _mm_setcsr(before | 0x8040); }
    ~FlushToZero() { _mm_setcsr(before); }
#else
    FlushToZero() {}
#endif
};

constexpr float FARTHEST = 1e9f;  // what comes last in the order; its square is finite

// to[i] = how many of the values, none of them negative, come before value i in ascending order, the earlier of equals
// first. Such floats are ordered as their bits are; a difference that is below zero, or zero and from before, counts.
TRUFFLE_INLINE void rank(const float* values, int count, int32_t* to) {
    for (int i = 0; i < count; i += W) {
        const Ints own = load<Ints>(values + i);
        Ints place;
        Words before{};
        for (int lane = 0; lane < W; ++lane) place[lane] = i + lane;
        for (int j = 0; j < count; ++j) {
            int32_t other;
            memcpy(&other, values + j, sizeof other);
            before += (Words)((other - own) + ((j - place) >> 31)) >> 31;
        }
        memcpy(to + i, &before, sizeof before);
    }
}

// Writes a table's codes, the nearest first, and keeps what the law needs.
void plan_table(const DirectProbes& call, const float* margins, uint16_t* codes, ProbePlan& plan) {
    const int padded = MOST_BITS;
    float size[padded], reach[padded], score[MOST_SETS + W];
    int32_t place[MOST_SETS + W];
    uint16_t bit[padded], flips[MOST_SETS], own = 0;
    for (int k = 0; k < call.K; ++k) {
        const float margin = __builtin_fabsf(margins[k]);
        size[k] = margin < FARTHEST ? margin : FARTHEST;
        own |= uint16_t(margins[k] > 0) << k;
    }
    for (int k = call.K; k < padded; ++k) size[k] = FARTHEST;
    rank(size, call.K, place);
    for (int k = 0; k < call.K; ++k) {
        const float at = size[k] < MOST_MARGIN ? size[k] * STEPS_A_UNIT : MOST_MARGIN * STEPS_A_UNIT;
        const int to = place[k];
        reach[to] = size[k];
        plan.row[to] = int32_t(at);
        plan.step[to] = at - float(plan.row[to]);
        bit[to] = uint16_t(1 << k);
    }
    score[0] = 0.0f;
    flips[0] = 0;
    for (int s = 1; s < call.sets; ++s) {
        const ProbeSet& set = call.set[s];
        score[s] = score[set.rest] + reach[set.top] * reach[set.top];
        flips[s] = flips[set.rest] | bit[set.top];
    }
    for (int i = 0; i < W; ++i) score[call.sets + i] = 0.0f;  // lanes behind the last set are not kept
    rank(score, call.sets, place);
    plan.flippable = 0;
    for (int s = 0; s < call.sets; ++s) {
        if (place[s] >= call.P) continue;
        plan.chosen[place[s]] = uint8_t(s);
        if (s > 0 && call.set[s].top >= plan.flippable) plan.flippable = call.set[s].top + 1;
        codes[place[s]] = own ^ flips[s];
    }
}

// What a table's flippable bits do on one side of an even agreement.
struct Bits {
    Floats differs[MOST_BITS], agrees[MOST_BITS];
    Floats ending[MOST_BITS];  // bit k differs and all above agree
    Floats above = broadcast(1.0f);  // all so far, from the largest margin down, agree

    TRUFFLE_INLINE void add(int k, Floats f, Floats g) {
        differs[k] = f;
        agrees[k] = g;
        ending[k] = f * above;
        above *= g;
    }
};

// Pr(a table retrieves the key): the sum over its sets.
//
// A set's product over the bits below its largest is its parent's times one factor: the parent's largest bit
// differs where the set contains it, and agrees where it was moved up.
TRUFFLE_INLINE Floats table_hits(const DirectProbes& call, const ProbePlan& plan, const Bits& bits) {
    Floats below[MOST_SETS], hit = bits.above;
    for (int p = 1; p < call.P; ++p) {
        const int s = plan.chosen[p];
        const ProbeSet &set = call.set[s], &parent = call.set[set.parent];
        const Floats* factor = set.rest == set.parent ? bits.differs : bits.agrees;
        below[s] = set.parent == 0 ? broadcast(1.0f) : below[set.parent] * factor[parent.top];
        hit += below[s] * bits.ending[set.top];
    }
    return select(hit < 1.0f, hit, broadcast(1.0f));
}

// Pr(at least HITS of the tables so far), kept as a sum of positive terms.
template <int HITS>
struct Hits {
    Floats exactly[HITS], reached;

    TRUFFLE_INLINE Hits() : exactly{broadcast(1.0f)}, reached{} {}

    TRUFFLE_INLINE void add(Floats hit) {
        const Floats miss = 1.0f - hit;
        reached += exactly[HITS - 1] * hit;
        TRUFFLE_UNROLL for (int i = HITS - 1; i > 0; --i) exactly[i] = exactly[i] * miss + exactly[i - 1] * hit;
        exactly[0] *= miss;
    }
};

// u at the knots [first, first + W) on either side of an even agreement.
template <int HITS>
TRUFFLE_INLINE void include(const DirectProbes& call, const ProbePlan* plans, int first, float* upper, float* lower) {
    Hits<HITS> near_hits, far_hits;
    for (int64_t l = 0; l < call.L; ++l) {
        const ProbePlan& plan = plans[l];
        Bits near, far;
        auto tail = [&](int k) __attribute__((always_inline)) {
            const float* from = call.tails + plan.row[k] * HALF_KNOTS + first;
            const Floats low = load<Floats>(from), high = load<Floats>(from + HALF_KNOTS);
            return low + plan.step[k] * (high - low);
        };
        int k = call.K - 1;
        for (; k >= plan.flippable; --k) {
            const Floats rarer = tail(k);
            near.above *= 1.0f - rarer;
            far.above *= rarer;
        }
        for (; k >= 0; --k) {
            const Floats rarer = tail(k), likelier = 1.0f - rarer;
            near.add(k, rarer, likelier);
            far.add(k, likelier, rarer);
        }
        near_hits.add(table_hits(call, plan, near));
        far_hits.add(table_hits(call, plan, far));
    }
    store(upper + first, near_hits.reached);
    store(lower + first, far_hits.reached);
}

float log_of(float u) {
    const float lowest = 1.8048514e-35f;  // e^-80
    return u >= 1.0f ? 0.0f : std::log(u > lowest ? u : lowest);
}

// ln u in every cell from ln u at the knots; held beyond the outermost ones.
void fill_cells(const float* weights, const float* knots, float* cells) {
    constexpr int half = CELLS_A_KNOT / 2, intervals = 2 * HALF_KNOTS - 1;
    for (int i = 0; i < half; ++i) cells[i] = knots[0];
    for (int k = 0; k < intervals; ++k) {
        for (int i = 0; i < CELLS_A_KNOT; i += W) {
            Floats sum{};
            for (int j = 0; j < STENCIL; ++j)
                sum += load<Floats>(weights + j * CELLS_A_KNOT + i) * knots[k + j - (STENCIL / 2 - 1)];
            store(cells + half + k * CELLS_A_KNOT + i, select(sum < 0.0f, sum, Floats{}));
        }
    }
    for (int64_t i = half + intervals * CELLS_A_KNOT; i <= PROBE_CELLS; ++i) cells[i] = knots[intervals];
}

template <int HITS>
void fill_law(const DirectProbes& call, const ProbePlan* plans, float* cells) {
    float upper[HALF_KNOTS], lower[HALF_KNOTS], held[2 * (HALF_KNOTS + STENCIL)], *knots = held + STENCIL;
    for (int first = 0; first < HALF_KNOTS; first += W) include<HITS>(call, plans, first, upper, lower);
    for (int i = 0; i < HALF_KNOTS; ++i) {
        knots[HALF_KNOTS + i] = log_of(upper[i]);
        knots[HALF_KNOTS - 1 - i] = log_of(lower[i]);
    }
    for (int i = 1; i <= STENCIL; ++i) {
        knots[-i] = knots[0];
        knots[2 * HALF_KNOTS - 1 + i] = knots[2 * HALF_KNOTS - 1];
    }
    fill_cells(call.weights, knots, cells);
}

}  // namespace

void direct_row(const DirectProbes& call, int64_t row, ProbePlan* plans) {
    for (int64_t l = 0; l < call.L; ++l) {
        const int64_t table = row * call.L + l;
        plan_table(call, call.margins + table * call.K, call.codes + table * call.P, plans[l]);
    }
    const FlushToZero flush;
    float* cells = call.log_u + row * (PROBE_CELLS + 1);
    if (call.min_hits == 1) fill_law<1>(call, plans, cells);
    if (call.min_hits == 2) fill_law<2>(call, plans, cells);
    if (call.min_hits == 3) fill_law<3>(call, plans, cells);
}

}  // namespace truffle::TRUFFLE_ISA
