// What a kernel needs to know of its query heads, gathered from a call.
#include <cmath>
#include <stdexcept>
#include <string>

#include "prefetch.h"
#include "scratch.h"
#include "sparse_attend/sparse_attend.h"

namespace truffle {
namespace {

auto pick(Isa isa) {
#ifdef TRUFFLE_X86
    if (isa >= Isa::avx512_bf16) return &avx512_bf16::attend_sample;
#endif
    return &TRUFFLE_PICK(isa, attend_sample);
}

SampleHead described(const Queries& queries, int64_t row, const float* center, float* q) {
    double squares = 0.0, along_center = 0.0;
    for (int64_t i = 0; i < queries.d; ++i) {
        q[i] = (queries.q + row * queries.d)[i];
        squares += double{q[i]} * q[i];
        if (center) along_center += double{q[i]} * center[i];
    }
    const float* law = queries.law ? queries.law + (queries.laws == 1 ? 0 : row) * (LAW_CELLS + 1) : nullptr;
    return {q, float(std::sqrt(squares)), float(along_center), law};
}

[[noreturn]] void refuse(const Sample& sample, int64_t place, int64_t row) {
    while (uint32_t(sample.ids[place]) < uint64_t(sample.length)) ++place;
    throw std::out_of_range("ids: expected rows below " + std::to_string(sample.length) + ", got " +
                            std::to_string(sample.ids[place]) + " in row " + std::to_string(row));
}

}  // namespace

void attend_rows(const Queries& queries, const SampledRows& rows, Isa isa, State* states) {
    thread_local Scratch scratch;
    const int64_t d = queries.d, b = rows.row / queries.H;
    const StoreView& store = queries.stores[b];
    const int64_t head = rows.row % queries.H / (queries.H / store.heads);
    const float* center = queries.center ? queries.center + (b * store.heads + head) * d : nullptr;
    scratch.reserve((rows.heads * d + sample_scratch(d, rows.heads)) * sizeof(float) + 128);
    float* q = scratch.take<float>(rows.heads * d);
    Sample sample{store.head(head), store.row_bytes, store.length, d, store.format, far_prefetch(),
                  int(rows.heads), {}, center,
                  queries.scale, rows.ids, rows.count, rows.members, rows.log_weight,
                  scratch.take<float>(sample_scratch(d, rows.heads))};
    for (int64_t h = 0; h < rows.heads; ++h)
        sample.heads[h] = described(queries, rows.row + h, center, q + h * d);
    int64_t bad = pick(isa)(sample, states);
    if (bad >= 0) refuse(sample, bad, rows.row / queries.sharing);
}

}  // namespace truffle
