#include "sparse_attend/sparse_attend.h"

#include <algorithm>
#include <vector>

namespace truffle {
namespace {

constexpr int64_t LEAST_KEYS = 256;  // a smaller part costs more to begin than it shares out
constexpr int64_t KEPT_BYTES = 1 << 18;  // of rows, that a second-level cache still holds when they are read again

struct Part {
    int64_t list, first, count;
};

// Keys of a part: so many that there are some parts for each thread, and where a kernel cannot take all heads of a list
// at once, no more than stay in the cache until it comes to the next ones.
int64_t most_keys(const Queries& queries, int64_t total, int threads) {
    const int64_t most = threads == 1 ? total : std::max(LEAST_KEYS, total / (4 * threads));
    if (queries.sharing <= MOST_HEADS) return std::max<int64_t>(most, 1);
    return std::clamp<int64_t>(most, 1, std::max(LEAST_KEYS, KEPT_BYTES / queries.stores[0].row_bytes));
}

// Splits the samples into parts of about equal size.
void split(const SparseAttend& call, int threads, std::vector<Part>& parts) {
    const int64_t lists = call.queries.B * call.queries.H / call.queries.sharing;
    int64_t total = 0;
    for (int64_t list = 0; list < lists; ++list) total += call.count[list];
    const int64_t most = most_keys(call.queries, total, threads);
    parts.clear();
    for (int64_t list = 0; list < lists; ++list) {
        const int64_t count = call.count[list], pieces = std::max<int64_t>(1, (count + most - 1) / most);
        for (int64_t i = 0; i < pieces; ++i) {
            int64_t first = count * i / pieces;
            parts.push_back({list, first, count * (i + 1) / pieces - first});
        }
    }
}

// Fills the states of all heads that share the part's list, `stride` apart.
void attend_part(const SparseAttend& call, const Part& part, Isa isa, State* states, int64_t stride) {
    const int64_t place = part.list * call.capacity + part.first, sharing = call.queries.sharing;
    const int64_t turns = (sharing + MOST_HEADS - 1) / MOST_HEADS;
    for (int64_t turn = 0; turn < turns; ++turn) {
        const int64_t h = sharing * turn / turns, heads = sharing * (turn + 1) / turns - h;
        State taken[MOST_HEADS];
        for (int64_t i = 0; i < heads; ++i) taken[i] = states[(h + i) * stride];
        attend_rows(call.queries,
                    {part.list * sharing + h, heads, call.ids + place, part.count, nullptr,
                     call.log_weight ? call.log_weight + place : nullptr},
                    isa, taken);
        for (int64_t i = 0; i < heads; ++i) states[(h + i) * stride] = taken[i];
    }
}

}  // namespace

void sparse_attend(const SparseAttend& call, Isa isa, Threads threads) {
    thread_local std::vector<Part> parts;
    thread_local std::vector<State> states;  // [sharing, parts]
    thread_local std::vector<float> sums;
    const int64_t d = call.queries.d, sharing = call.queries.sharing;
    split(call, threads.count, parts);
    const int64_t count = int64_t(parts.size());
    sums.resize(sharing * count * d);
    states.resize(sharing * count);
    for (int64_t i = 0; i < sharing * count; ++i) states[i] = {0.0f, 0.0f, sums.data() + i * d};
    // A worker's own thread-local vectors are not the caller's.
    const Part* part = parts.data();
    State* state = states.data();
    parallel(threads, count, [&](int64_t p) { attend_part(call, part[p], isa, state + p, count); });
    for (int64_t p = 0, end; p < count; p = end) {
        for (end = p + 1; end < count && parts[end].list == parts[p].list;) ++end;
        for (int64_t h = 0; h < sharing; ++h) {
            const int64_t row = parts[p].list * sharing + h;
            merge_states(state + h * count + p, end - p, d, call.out + row * d, call.lse + row);
        }
    }
}

}  // namespace truffle
