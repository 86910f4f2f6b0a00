// Up to four query heads that share a key/value head, in one range of one segment: their searches, then their rows.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "retrieve/search.h"
#include "sparse_attend/sparse_attend.h"

namespace truffle {

// Keys to attend to at a time, and what came of it, a state a head.
struct Portion {
    SampledRows rows;
    std::vector<float> weighted;  // [heads, d]
    std::vector<State> states;    // [heads]
};

class Group {
  public:
    // Starts anew, keeping memory. Heads `row` to `row + heads` of the B*H.
    void begin(int64_t row, int64_t heads, const SegmentView& segment, int64_t piece, int64_t pieces);

    // Searches for head h. True for the last search of the group to end.
    bool search_head(const Collisions& from, int64_t h);

    // Cuts what was found into portions of about `keys` keys: each head's own, or where heads share enough of their
    // rows, those of the union.
    void cut(int64_t keys);

    int64_t found_by(int64_t h) const { return int64_t(found_[h].size()); }
    int64_t heads() const { return heads_; }
    int64_t row() const { return row_; }
    int64_t found() const;
    Portion* begin_portions() { return portions_.data(); }
    Portion* end_portions() { return portions_.data() + used_; }

  private:
    bool unite();
    void add_portions(int64_t first_head, int64_t heads, const std::vector<int32_t>& ids, int64_t keys);

    int64_t row_, heads_, piece_, pieces_;
    const SegmentView* segment_;
    std::vector<int32_t> found_[MOST_HEADS];
    std::vector<int32_t> union_;
    std::vector<uint8_t> members_;  // beside union_: bit h for head h
    std::unique_ptr<std::atomic<int64_t>> searching_ = std::make_unique<std::atomic<int64_t>>();
    std::vector<Portion> portions_;
    size_t used_ = 0;
};

void attend_portion(const Queries& queries, Isa isa, Portion& portion);

}  // namespace truffle
