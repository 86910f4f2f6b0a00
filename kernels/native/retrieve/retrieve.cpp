#include "retrieve/retrieve.h"

#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>

#include "scratch.h"

namespace truffle {
namespace {

constexpr int64_t SEGMENT = 65'536;  // what a 16-bit id can name
constexpr int64_t AHEAD = 8;         // buckets on their way while one is walked

struct Bucket {
    const uint16_t* ids;
    int64_t size;
};

struct Task {
    int64_t row, b, segment, room;  // `room` ids of the row come before this segment's
};

[[noreturn]] void refuse(const std::string& argument, const std::string& problem) {
    throw std::invalid_argument(argument + ": " + problem);
}

void find_buckets(const SegmentView& segment, int64_t head, const uint16_t* codes, int64_t P, Bucket* buckets) {
    const int64_t probes = segment.L * P;
    const int32_t* offsets = segment.offsets + head * segment.L * (segment.buckets + 1);
    const uint16_t* ids = segment.ids + head * segment.L * segment.n;
    auto entry = [&](int64_t i) { return offsets + i / P * (segment.buckets + 1) + codes[i]; };
    for (int64_t i = 0; i < probes; ++i) {
        if (codes[i] >= segment.buckets)
            refuse("query_codes", "expected codes below " + std::to_string(segment.buckets) + ", got " +
                                      std::to_string(codes[i]));
        __builtin_prefetch(entry(i));
    }
    for (int64_t i = 0; i < probes; ++i) {
        int64_t begin = entry(i)[0], end = entry(i)[1];
        if (begin < 0 || end < begin || end > segment.n)
            refuse("tables", "expected ascending offsets from 0 to " + std::to_string(segment.n) + ", got " +
                                 std::to_string(begin) + " and " + std::to_string(end));
        buckets[i] = {ids + i / P * segment.n + begin, end - begin};
    }
}

void prefetch(const Bucket& bucket) {
    const char* from = reinterpret_cast<const char*>(bucket.ids);
    for (int64_t at = 0; at < 2 * bucket.size + 62; at += 64) __builtin_prefetch(from + at);
}

// Appends every id on its `min_hits`-th hit. Counters saturate, so that no id is appended twice.
template <class Counter>
int64_t walk(const Bucket* buckets, int64_t probes, Counter* hits, int64_t min_hits, uint16_t* found) {
    const Counter before = Counter(min_hits - 1), most = std::numeric_limits<Counter>::max();
    int64_t size = 0;
    for (int64_t i = 0; i < probes && i < AHEAD; ++i) prefetch(buckets[i]);
    for (int64_t i = 0; i < probes; ++i) {
        if (i + AHEAD < probes) prefetch(buckets[i + AHEAD]);
        const uint16_t* ids = buckets[i].ids;
        for (int64_t j = 0; j < buckets[i].size; ++j) {
            uint16_t id = ids[j];
            Counter seen = hits[id];
            found[size] = id;
            size += seen == before;
            hits[id] = Counter(seen + (seen != most));
        }
    }
    return size;
}

template <class Counter>
int64_t count_hits(const SegmentView& segment, const Bucket* buckets, int64_t probes, int64_t min_hits,
                   Counter* hits, uint16_t* found) {
    memset(hits, 0, segment.n * sizeof(Counter));
    return walk(buckets, probes, hits, min_hits, found);
}

int64_t search(const Retrieve& call, const Task& task) {
    thread_local Scratch scratch;
    const SegmentView& segment = *(*call.tables)[task.b][task.segment];
    const int64_t probes = call.L * call.P, head = task.row % call.H / (call.H / segment.heads);
    scratch.reserve(probes * sizeof(Bucket) + SEGMENT * 2 + (SEGMENT + 1) * 2 + 192);
    Bucket* buckets = scratch.take<Bucket>(probes);
    uint16_t* hits = scratch.take<uint16_t>(SEGMENT);
    uint16_t* found = scratch.take<uint16_t>(SEGMENT + 1);
    find_buckets(segment, head, call.query_codes + task.row * probes, call.P, buckets);
    bool narrow = call.min_hits <= std::numeric_limits<uint8_t>::max();
    int64_t size = narrow ? count_hits(segment, buckets, probes, call.min_hits, (uint8_t*)hits, found)
                          : count_hits(segment, buckets, probes, call.min_hits, hits, found);
    int32_t* ids = call.ids + task.row * call.capacity + task.room;
    int32_t start = int32_t(segment.start);
    bool outside = size > segment.n;
    for (int64_t i = 0; i < size && !outside; ++i) outside = found[i] >= segment.n;
    if (outside) refuse("tables", "expected ids below " + std::to_string(segment.n) + " in the segment");
    for (int64_t i = 0; i < size; ++i) ids[i] = start + found[i];
    return size;
}

void split(const Retrieve& call, std::vector<Task>& tasks) {
    tasks.clear();
    for (int64_t row = 0; row < call.B * call.H; ++row) {
        int64_t room = 0, b = row / call.H, segment = 0;
        for (const SegmentView* view : (*call.tables)[b]) {
            tasks.push_back({row, b, segment++, room});
            room += view->n;
        }
    }
}

}  // namespace

void retrieve(const Retrieve& call, Threads threads) {
    thread_local std::vector<Task> tasks;
    thread_local std::vector<int64_t> sizes;
    split(call, tasks);
    sizes.assign(tasks.size(), 0);
    // A worker's own thread-local vectors are not the caller's.
    const Task* task = tasks.data();
    int64_t* size = sizes.data();
    parallel(threads, tasks.size(), [&](int64_t t) { size[t] = search(call, task[t]); });
    memset(call.count, 0, call.B * call.H * sizeof(int32_t));
    for (size_t t = 0; t < tasks.size(); ++t) {
        int32_t* ids = call.ids + task[t].row * call.capacity;
        int32_t& count = call.count[task[t].row];
        memmove(ids + count, ids + task[t].room, size[t] * sizeof(int32_t));
        count += int32_t(size[t]);
    }
}

}  // namespace truffle
