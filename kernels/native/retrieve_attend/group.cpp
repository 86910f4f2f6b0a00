#include "retrieve_attend/group.h"

#include <algorithm>

namespace truffle {
namespace {

bool any_nan(const Portion& portion, int64_t d) {
    bool nan = false;
    for (const State& state : portion.states) {
        nan |= state.sum != state.sum;
        for (int64_t i = 0; i < d; ++i) nan |= state.weighted[i] != state.weighted[i];
    }
    return nan;
}

void attend_head(const Queries& queries, Isa isa, const SampledRows& rows, int64_t h, State& state) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < rows.count; ++i)
        if (rows.members[i] >> h & 1) ids.push_back(rows.ids[i]);
    attend_rows(queries, {rows.row + h, 1, ids.data(), int64_t(ids.size()), nullptr, nullptr}, isa, &state);
}

}  // namespace

void Group::begin(int64_t row, int64_t heads, const SegmentView& segment, int64_t piece, int64_t pieces) {
    row_ = row, heads_ = heads, segment_ = &segment, piece_ = piece, pieces_ = pieces;
    searching_ = heads;
    cut_ = taken_ = 0;
}

void Group::find(const Collisions& from, int64_t h, Isa isa) {
    const Found found = search(search_of(from, row_ + h, *segment_, piece_, pieces_), isa);
    found_[h].assign(found.ids, found.ids + found.count);
}

int64_t Group::found() const {
    int64_t total = 0;
    for (int64_t h = 0; h < heads_; ++h) total += found_by(h);
    return total;
}

void Group::cut(int64_t keys) {
    if (heads_ > 1) unite();
    const std::vector<int32_t>& ids = heads_ > 1 ? union_ : found_[0];
    const int64_t size = int64_t(ids.size()), pieces = (size + keys - 1) / keys;
    if (int64_t(portions_.size()) < pieces) portions_.resize(pieces);
    for (int64_t i = 0; i < pieces; ++i) {
        const int64_t first = size * i / pieces, count = size * (i + 1) / pieces - first;
        const uint8_t* members = heads_ > 1 ? members_.data() + first : nullptr;
        portions_[i].rows = {row_, heads_, ids.data() + first, count, members, nullptr};
    }
    cut_ = pieces;
}

void Group::unite() {
    thread_local std::vector<uint8_t> seen(SEGMENT, 0);
    union_.resize(found() + 1);
    int64_t size = 0;
    for (int64_t h = 0; h < heads_; ++h)
        for (int32_t id : found_[h]) {
            uint8_t& by = seen[id - segment_->start];
            union_[size] = id;
            size += by == 0;
            by |= uint8_t(1u << h);
        }
    union_.resize(size);
    members_.resize(size);
    for (int64_t i = 0; i < size; ++i) {
        uint8_t& by = seen[union_[i] - segment_->start];
        members_[i] = by;
        by = 0;
    }
}

Portion* Group::take() {
    if (taken_ >= cut_) return nullptr;
    const int64_t place = taken_.fetch_add(1);
    return place < cut_ ? &portions_[place] : nullptr;
}

void attend_portion(const Queries& queries, Isa isa, Portion& portion) {
    const SampledRows& rows = portion.rows;
    portion.weighted.resize(rows.heads * queries.d);
    portion.states.resize(rows.heads);
    for (int64_t h = 0; h < rows.heads; ++h) portion.states[h] = {0.0f, 0.0f, portion.weighted.data() + h * queries.d};
    attend_rows(queries, rows, isa, portion.states.data());
    // A weight of zero makes nothing of a value, unless that is infinite or NaN: then each head reads its own rows.
    if (rows.members && any_nan(portion, queries.d))
        for (int64_t h = 0; h < rows.heads; ++h) attend_head(queries, isa, rows, h, portion.states[h]);
}

}  // namespace truffle
