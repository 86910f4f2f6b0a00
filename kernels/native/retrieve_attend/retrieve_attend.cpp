#include "retrieve_attend/retrieve_attend.h"

#include <algorithm>
#include <mutex>
#include <thread>

#include "retrieve_attend/group.h"

namespace truffle {
namespace {

// Portions that wait for a thread, and searches that lead to more. A thread takes a portion where there is one: what
// one thread found is attended to by all, while others still search.
class Work {
  public:
    Work(const RetrieveAttend& call, Isa isa, int threads, std::vector<Group>& groups)
        : call_(call), isa_(isa), threads_(threads), groups_(groups) {
        for (Group& group : groups)
            for (int64_t h = 0; h < group.heads(); ++h) searches_.push_back({&group, h});
        left_ = int64_t(searches_.size());
    }

    void run() {
        try {
            while (!failed_ && (attend_one() || search_one() || left_ > 0)) continue;
        } catch (...) {
            failed_ = true;
            throw;
        }
    }

  private:
    struct Step {
        Group* group;
        int64_t head;
    };

    bool attend_one() {
        Portion* portion = nullptr;
        {
            std::lock_guard lock(mutex_);
            if (next_ready_ < ready_.size()) portion = ready_[next_ready_++];
        }
        if (portion) attend_portion(call_.queries, isa_, *portion);
        return portion != nullptr;
    }

    bool search_one() {
        const size_t place = next_search_.fetch_add(1);
        if (place >= searches_.size()) {
            std::this_thread::yield();
            return false;
        }
        auto [group, head] = searches_[place];
        if (group->search_head(call_.from, head)) publish(*group);
        --left_;
        return true;
    }

    void publish(Group& group) {
        constexpr int64_t least = 256, most = 4096;
        const int64_t all = group.found() * int64_t(groups_.size());
        group.cut(std::clamp<int64_t>(all / (8 * threads_), least, most));
        std::lock_guard lock(mutex_);
        for (Portion* p = group.begin_portions(); p != group.end_portions(); ++p) ready_.push_back(p);
    }

    const RetrieveAttend& call_;
    const Isa isa_;
    const int threads_;
    std::vector<Group>& groups_;
    std::vector<Step> searches_;
    std::atomic<size_t> next_search_{0};
    std::atomic<int64_t> left_{0};
    std::atomic<bool> failed_{false};
    std::mutex mutex_;
    std::vector<Portion*> ready_;
    size_t next_ready_ = 0;
};

// Long segments first, so that no long search begins when the others end.
void list_groups(const RetrieveAttend& call, int threads, std::vector<Group>& groups) {
    const Collisions& from = call.from;
    const int64_t pieces = pieces_of(from, threads);
    struct Place {
        int64_t row, heads, piece;
        const SegmentView* segment;
    };
    std::vector<Place> places;
    for (int64_t b = 0; b < from.B; ++b)
        for (const SegmentView* segment : (*from.tables)[b]) {
            const int64_t size = from.H / segment->heads;
            for (int64_t h = 0; h < from.H; h += std::min<int64_t>(MOST_HEADS, size - h % size))
                for (int64_t piece = 0; piece < pieces; ++piece)
                    places.push_back({b * from.H + h, std::min<int64_t>(MOST_HEADS, size - h % size), piece, segment});
        }
    std::stable_sort(places.begin(), places.end(),
                     [](const Place& a, const Place& b) { return a.segment->n > b.segment->n; });
    groups.resize(places.size());
    for (size_t i = 0; i < places.size(); ++i)
        groups[i].begin(places[i].row, places[i].heads, *places[i].segment, places[i].piece, pieces);
}

void finish(const RetrieveAttend& call, std::vector<Group>& groups) {
    thread_local std::vector<std::vector<State>> of_row;
    const int64_t rows = call.from.B * call.from.H, d = call.queries.d;
    of_row.resize(rows);
    for (auto& states : of_row) states.clear();
    std::fill(call.count, call.count + rows, 0);
    for (Group& group : groups) {
        for (int64_t h = 0; h < group.heads(); ++h) call.count[group.row() + h] += int32_t(group.found_by(h));
        for (Portion* p = group.begin_portions(); p != group.end_portions(); ++p)
            for (int64_t h = 0; h < p->rows.heads; ++h) of_row[p->rows.row + h].push_back(p->states[h]);
    }
    for (int64_t row = 0; row < rows; ++row)
        merge_states(of_row[row].data(), int64_t(of_row[row].size()), d, call.out + row * d, call.lse + row);
}

}  // namespace

void retrieve_attend(const RetrieveAttend& call, Isa isa, Threads threads) {
    thread_local std::vector<Group> groups;
    list_groups(call, threads.count, groups);
    Work work(call, isa, threads.count, groups);
    parallel(threads, threads.count, [&](int64_t) { work.run(); });
    finish(call, groups);
}

}  // namespace truffle
