#include "retrieve_attend/group.h"

#include <algorithm>

namespace truffle {
namespace {

// Attending to the union takes every head's products with all of its rows: worth it from this share of the rows on.
constexpr double MOST_SHARED = 0.8;

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
    used_ = 0;
    searching_->store(heads);
}

bool Group::search_head(const Collisions& from, int64_t h) {
    Found found = search(search_of(from, row_ + h, *segment_, piece_, pieces_));
    const int32_t start = int32_t(segment_->start);
    found_[h].resize(found.count);
    for (int64_t i = 0; i < found.count; ++i) found_[h][i] = start + found.ids[i];
    return searching_->fetch_sub(1) == 1;
}

int64_t Group::found() const {
    int64_t total = 0;
    for (int64_t h = 0; h < heads_; ++h) total += found_by(h);
    return total;
}

void Group::cut(int64_t keys) {
    if (heads_ > 1 && unite()) return add_portions(0, heads_, union_, keys);
    for (int64_t h = 0; h < heads_; ++h) add_portions(h, 1, found_[h], keys);
}

// Collects the union; false where it is hardly smaller than the heads' own samples together.
bool Group::unite() {
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
    const bool worth_it = double(size) <= MOST_SHARED * double(found());
    if (worth_it) members_.resize(size);
    for (int64_t i = 0; i < size; ++i) {
        uint8_t& by = seen[union_[i] - segment_->start];
        if (worth_it) members_[i] = by;
        by = 0;
    }
    return worth_it;
}

void Group::add_portions(int64_t first_head, int64_t heads, const std::vector<int32_t>& ids, int64_t keys) {
    const int64_t size = int64_t(ids.size()), pieces = (size + keys - 1) / keys;
    const bool all = &ids != &union_;
    for (int64_t i = 0; i < pieces; ++i) {
        const int64_t first = size * i / pieces, count = size * (i + 1) / pieces - first;
        if (used_ == portions_.size()) portions_.emplace_back();
        portions_[used_++].rows = {row_ + first_head, heads, ids.data() + first, count,
                                   all ? nullptr : members_.data() + first, nullptr};
    }
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
