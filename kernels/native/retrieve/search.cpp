#include "retrieve/search.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "prefetch.h"
#include "scratch.h"

namespace truffle {
namespace {

constexpr int64_t AHEAD = 8;  // buckets on their way while one is walked

struct Bucket {
    const uint16_t* ids;
    int64_t size;
};

[[noreturn]] void refuse(const std::string& argument, const std::string& problem) {
    throw std::invalid_argument(argument + ": " + problem);
}

void find_buckets(const Search& task, Bucket* buckets) {
    const SegmentView& segment = *task.segment;
    const int64_t probes = task.L * task.P, n = segment.n;
    const int32_t* offsets = segment.offsets + task.head * segment.L * (segment.buckets + 1);
    const uint16_t* ids = segment.ids + task.head * segment.L * n;
    auto entry = [&](int64_t i) { return offsets + i / task.P * (segment.buckets + 1) + task.codes[i]; };
    for (int64_t i = 0; i < probes; ++i) {
        if (task.codes[i] >= segment.buckets)
            refuse("query_codes", "expected codes below " + std::to_string(segment.buckets) + ", got " +
                                      std::to_string(task.codes[i]));
        __builtin_prefetch(entry(i));
    }
    for (int64_t i = 0; i < probes; ++i) {
        int64_t begin = entry(i)[0], end = entry(i)[1];
        if (begin < 0 || end < begin || end > n)
            refuse("tables", "expected ascending offsets from 0 to " + std::to_string(n) + ", got " +
                                 std::to_string(begin) + " and " + std::to_string(end));
        buckets[i] = {ids + i / task.P * n + begin, end - begin};
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

// Appends every id on its `min_hits`-th hit. Counters saturate, so that no id is appended twice.
template <class Counter>
int64_t walk(const Search& task, const Bucket* buckets, Counter* hits, uint16_t* found) {
    const Counter before = Counter(task.min_hits - 1), most = std::numeric_limits<Counter>::max();
    const int64_t probes = task.L * task.P;
    memset(hits + task.first, 0, (task.last - task.first) * sizeof(Counter));
    int64_t size = 0;
    for (int64_t i = 0; i < probes && i < AHEAD; ++i) prefetch(buckets[i]);
    for (int64_t i = 0; i < probes; ++i) {
        if (i + AHEAD < probes) prefetch(buckets[i + AHEAD]);
        const Bucket bucket = narrowed(task, buckets[i]);
        for (int64_t j = 0; j < bucket.size; ++j) {
            uint16_t id = bucket.ids[j];
            Counter seen = hits[id];
            found[size] = id;
            size += seen == before;
            hits[id] = Counter(seen + (seen != most));
        }
    }
    return size;
}

}  // namespace

int64_t pieces_of(const Collisions& from, int threads) {
    int64_t searches = 0;
    for (const auto& segments : *from.tables) searches += from.H * int64_t(segments.size());
    return threads == 1 || searches == 0 ? 1 : std::max<int64_t>(1, 2 * threads / searches);
}

Found search(const Search& task) {
    thread_local Scratch scratch;
    const int64_t probes = task.L * task.P;
    scratch.reserve(probes * sizeof(Bucket) + SEGMENT * 2 + (SEGMENT + 1) * 2 + 192);
    Bucket* buckets = scratch.take<Bucket>(probes);
    uint16_t* hits = scratch.take<uint16_t>(SEGMENT);
    uint16_t* found = scratch.take<uint16_t>(SEGMENT + 1);
    find_buckets(task, buckets);
    bool narrow = task.min_hits <= std::numeric_limits<uint8_t>::max();
    int64_t size = narrow ? walk(task, buckets, reinterpret_cast<uint8_t*>(hits), found)
                          : walk(task, buckets, hits, found);
    bool outside = size > task.last - task.first;
    for (int64_t i = 0; i < size; ++i) outside |= found[i] < task.first || found[i] >= task.last;
    if (outside) refuse("tables", "expected ids below " + std::to_string(task.segment->n) + " in the segment");
    return {found, size};
}

}  // namespace truffle
