#include "retrieve_attend/retrieve_attend.h"

#include <algorithm>
#include <thread>

#include "retrieve_attend/group.h"

namespace truffle {
namespace {

// Attending to a union takes every head's products with all of its rows. It pays where this share of the buckets that
// a head visits are also the next head's: about a fifth of the rows are then saved.
constexpr double LEAST_SHARED = 0.1;

struct Place {
    int64_t row, heads, piece;
    const SegmentView* segment;
};

// How many of the heads from `row` on, up to `most`, visit the same buckets often enough.
int64_t sharing(const Collisions& from, int64_t row, int64_t most) {
    const int64_t probes = from.L * from.P;
    const uint16_t* codes = from.query_codes + row * probes;
    int64_t same = 0;
    for (int64_t i = 0; i < (most - 1) * probes; ++i) same += codes[i] == codes[i + probes];
    return most > 1 && double(same) >= LEAST_SHARED * double((most - 1) * probes) ? most : 1;
}

// Long segments first, so that no long search begins when the others end.
std::vector<Place> places_of(const Collisions& from, int64_t pieces) {
    std::vector<Place> places;
    for (int64_t b = 0; b < from.B; ++b)
        for (const SegmentView* segment : (*from.tables)[b]) {
            const int64_t size = from.H / segment->heads;
            for (int64_t h = 0, heads; h < from.H; h += heads) {
                heads = sharing(from, b * from.H + h, std::min<int64_t>(MOST_HEADS, size - h % size));
                for (int64_t piece = 0; piece < pieces; ++piece)
                    places.push_back({b * from.H + h, heads, piece, segment});
            }
        }
    std::stable_sort(places.begin(), places.end(),
                     [](const Place& a, const Place& b) { return a.segment->n > b.segment->n; });
    return places;
}

// Searches in turn, a few heads of a key/value head at a time: they visit other buckets of the same tables, whose pages
// the processor then still knows. Who ends them attends to what they found, and who finds no more to search for helps
// the others.
class Work {
  public:
    Work(const RetrieveAttend& call, Isa isa, int threads, std::vector<Group>& groups)
        : call_(call), isa_(isa), threads_(threads), groups_(groups) {
        const std::vector<Place> places = places_of(call.from, pieces_of(call.from, threads));
        if (groups.size() < places.size()) groups = std::vector<Group>(places.size());
        for (const Place& at : places) {
            Group& group = groups[used_++];
            group.begin(at.row, at.heads, *at.segment, at.piece, pieces_of(call.from, threads));
            for (int64_t h = 0; h < at.heads; ++h) searches_.push_back({&group, h});
        }
        searching_ = int64_t(searches_.size());
        at_a_time_ = std::clamp<size_t>(searches_.size() / threads, 1, MOST_HEADS);
    }

    void run() {
        try {
            while (!failed_ && search_some()) continue;
            while (!failed_ && (attend_any() || searching_ > 0)) continue;
        } catch (...) {
            failed_ = true;
            throw;
        }
    }

    void finish() const {
        std::vector<std::vector<State>> of_row(call_.from.B * call_.from.H);
        std::fill(call_.count, call_.count + of_row.size(), 0);
        for (size_t i = 0; i < used_; ++i) {
            const Group& group = groups_[i];
            for (int64_t h = 0; h < group.heads(); ++h) call_.count[group.row() + h] += int32_t(group.found_by(h));
            for (const Portion* p = group.begin_portions(); p != group.end_portions(); ++p)
                for (int64_t h = 0; h < group.heads(); ++h) of_row[group.row() + h].push_back(p->states[h]);
        }
        const int64_t d = call_.queries.d;
        for (size_t row = 0; row < of_row.size(); ++row)
            merge_states(of_row[row].data(), int64_t(of_row[row].size()), d, call_.out + row * d, call_.lse + row);
    }

  private:
    struct Step {
        Group* group;
        int64_t head;
    };

    bool search_some() {
        const size_t first = next_.fetch_add(at_a_time_), end = std::min(first + at_a_time_, searches_.size());
        for (size_t i = first; i < end; ++i) search_head(searches_[i]);
        for (size_t i = first; i < end; ++i) attend_all(*searches_[i].group);
        return first < end;
    }

    void search_head(const Step& step) {
        step.group->search_head(call_.from, step.head, isa_, [this](int64_t found) {
            constexpr int64_t least = 256, most = 4096;
            return std::clamp<int64_t>(found * int64_t(used_) / (8 * threads_), least, most);
        });
        --searching_;
    }

    bool attend_all(Group& group) {
        bool any = false;
        for (Portion* portion; (portion = group.take());) attend_portion(call_.queries, isa_, *portion), any = true;
        return any;
    }

    bool attend_any() {
        bool any = false;
        for (size_t i = 0; i < used_; ++i) any |= attend_all(groups_[i]);
        if (!any) std::this_thread::yield();
        return any;
    }

    const RetrieveAttend& call_;
    const Isa isa_;
    const int threads_;
    std::vector<Group>& groups_;
    size_t used_ = 0;
    std::vector<Step> searches_;
    size_t at_a_time_;
    std::atomic<size_t> next_{0};
    std::atomic<int64_t> searching_{0};
    std::atomic<bool> failed_{false};
};

}  // namespace

void retrieve_attend(const RetrieveAttend& call, Isa isa, Threads threads) {
    thread_local std::vector<Group> groups;
    Work work(call, isa, threads.count, groups);
    parallel(threads, threads.count, [&](int64_t) { work.run(); });
    work.finish();
}

}  // namespace truffle
