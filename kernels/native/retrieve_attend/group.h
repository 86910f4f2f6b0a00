// Query heads that search one range of one segment, and then attend to what they found.
#pragma once

#include <atomic>
#include <cstdint>
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

// One head, or up to four that share a key/value head and enough rows to attend to the union of what they found.
class Group {
  public:
    Group() = default;
    Group(Group&&) noexcept {}  // for vectors that grow before any group has begun

    // Starts anew, keeping memory, with heads `row` to `row + heads` of the B*H.
    void begin(int64_t row, int64_t heads, const SegmentView& segment, int64_t piece, int64_t pieces);

    // Searches for head h; the last of the heads to end cuts what was found into portions of about
    // keys(number found) keys.
    template <class Keys>
    void search_head(const Collisions& from, int64_t h, Isa isa, Keys&& keys) {
        find(from, h, isa);
        if (searching_.fetch_sub(1) == 1) cut(keys(found()));
    }

    // The next portion that nobody attends to, or null where there is none yet, or none any more.
    Portion* take();

    int64_t row() const { return row_; }
    int64_t heads() const { return heads_; }
    int64_t found_by(int64_t h) const { return int64_t(found_[h].size()); }
    const Portion* begin_portions() const { return portions_.data(); }
    const Portion* end_portions() const { return portions_.data() + cut_.load(); }

  private:
    void find(const Collisions& from, int64_t h, Isa isa);
    int64_t found() const;
    void cut(int64_t keys);
    void unite();

    int64_t row_, heads_, piece_, pieces_;
    const SegmentView* segment_;
    std::vector<int32_t> found_[MOST_HEADS];
    std::vector<int32_t> union_;
    std::vector<uint8_t> members_;  // beside union_: bit h for head h
    std::vector<Portion> portions_;
    std::atomic<int64_t> searching_{0}, cut_{0}, taken_{0};
};

void attend_portion(const Queries& queries, Isa isa, Portion& portion);

}  // namespace truffle
