#include "retrieve/search.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "prefetch.h"
#include "retrieve/collect.h"

namespace truffle {
namespace {

constexpr int64_t AHEAD = 16;  // buckets on their way while one is walked

struct Bucket {
    const uint16_t* ids;
    int64_t size;
};

[[noreturn]] void refuse(const std::string& argument, const std::string& problem) {
    throw std::invalid_argument(argument + ": " + problem);
}

void find_buckets(const Search& task, Bucket* buckets) {
    const SegmentView& segment = *task.segment;
    const int64_t entries = segment.buckets + 1, n = segment.n;
    const int32_t* offsets = segment.offsets + task.head * segment.L * entries;
    const uint16_t* ids = segment.ids + task.head * segment.L * n;
    for (int64_t l = 0, i = 0; l < task.L; ++l)
        for (int64_t end = i + task.P; i < end; ++i) {
            if (task.codes[i] >= segment.buckets)
                refuse("query_codes", "expected codes below " + std::to_string(segment.buckets) + ", got " +
                                          std::to_string(task.codes[i]));
            __builtin_prefetch(offsets + l * entries + task.codes[i]);
        }
    for (int64_t l = 0, i = 0; l < task.L; ++l, offsets += entries, ids += n)
        for (int64_t end = i + task.P; i < end; ++i) {
            const int64_t from = offsets[task.codes[i]], to = offsets[task.codes[i] + 1];
            if (from < 0 || to < from || to > n)
                refuse("tables", "expected ascending offsets from 0 to " + std::to_string(n) + ", got " +
                                     std::to_string(from) + " and " + std::to_string(to));
            buckets[i] = {ids + from, to - from};
        }
}

void prefetch(const Bucket& bucket) { ask_for(reinterpret_cast<const char*>(bucket.ids), 2 * bucket.size + 62, false); }

// How many of `size` ascending ids are below `bound`, without a branch that could be guessed wrong.
int64_t count_below(const uint16_t* ids, int64_t size, int64_t bound) {
    const uint16_t* from = ids;
    while (size > 1) {
        int64_t half = size / 2;
        from += (from[half - 1] < bound) * half;
        size -= half;
    }
    return from - ids + (size == 1 && *from < bound);
}

// The part of a bucket, whose ids ascend, that lies in the task's range.
Bucket narrowed(const Search& task, const Bucket& bucket) {
    if (task.first == 0 && task.last == task.segment->n) return bucket;
    int64_t low = count_below(bucket.ids, bucket.size, task.first);
    return {bucket.ids + low, count_below(bucket.ids, bucket.size, task.last) - low};
}

// Adds one to the counter of every id in the buckets.
template <class Counter>
void count_hits(const Search& task, const Bucket* buckets, Counter* hits) {
    const int64_t probes = task.L * task.P;
    for (int64_t i = 0; i < probes && i < AHEAD; ++i) prefetch(buckets[i]);
    for (int64_t i = 0; i < probes; ++i) {
        if (i + AHEAD < probes) prefetch(buckets[i + AHEAD]);
        const Bucket bucket = narrowed(task, buckets[i]);
        for (int64_t j = 0; j < bucket.size; ++j) ++hits[bucket.ids[j]];
    }
}

int64_t collect(const Collect<uint8_t>& from, Isa isa) { return TRUFFLE_PICK(isa, collect_bytes)(from); }
int64_t collect(const Collect<uint16_t>& from, Isa isa) { return TRUFFLE_PICK(isa, collect_words)(from); }

template <class Counter>
Found walk(const Search& task, const Bucket* buckets, Isa isa) {
    thread_local std::vector<Counter> counters(SEGMENT + AT_A_TIME, 0);  // all zero between searches
    thread_local std::vector<int32_t> ids(SEGMENT + AT_A_TIME);
    count_hits(task, buckets, counters.data());
    const int64_t start = task.segment->start;
    const int64_t size = collect(
        Collect<Counter>{counters.data(), SEGMENT, task.first, task.last, task.min_hits, start, ids.data()}, isa);
    if (size < 0 || (size && ids[size - 1] >= start + task.last))
        refuse("tables", "expected ids below " + std::to_string(task.segment->n) + " in the segment");
    return {ids.data(), size};
}

}  // namespace

int64_t pieces_of(const Collisions& from, int threads) {
    int64_t searches = 0;
    for (const auto& segments : *from.tables) searches += from.H * int64_t(segments.size());
    return threads == 1 || searches == 0 ? 1 : std::max<int64_t>(1, 2 * threads / searches);
}

Found search(const Search& task, Isa isa) {
    thread_local std::vector<Bucket> buckets;
    buckets.resize(task.L * task.P);
    find_buckets(task, buckets.data());
    // A key is in one bucket of a table, and the probed ones are distinct: as many hits as tables at most.
    return task.L <= std::numeric_limits<uint8_t>::max() ? walk<uint8_t>(task, buckets.data(), isa)
                                                         : walk<uint16_t>(task, buckets.data(), isa);
}

}  // namespace truffle
