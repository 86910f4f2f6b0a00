#include "retrieve/retrieve.h"

#include <cstring>

#include "retrieve/search.h"

namespace truffle {
namespace {

struct Task {
    int64_t row, room;  // `room` ids of the row may come before this task's
    Search search;
};

}  // namespace

void retrieve(const Retrieve& call, Isa isa, Threads threads) {
    thread_local std::vector<Task> tasks;
    thread_local std::vector<int64_t> sizes;
    const Collisions& from = call.from;
    const int64_t pieces = pieces_of(from, threads.count);
    tasks.clear();
    for (int64_t row = 0; row < from.B * from.H; ++row) {
        int64_t room = 0;
        for (const SegmentView* segment : (*from.tables)[row / from.H])
            for (int64_t piece = 0; piece < pieces; ++piece) {
                tasks.push_back({row, room, search_of(from, row, *segment, piece, pieces)});
                room += tasks.back().search.last - tasks.back().search.first;
            }
    }
    sizes.assign(tasks.size(), 0);
    // A worker's own thread-local vectors are not the caller's.
    const Task* task = tasks.data();
    int64_t* size = sizes.data();
    parallel(threads, tasks.size(), [&](int64_t t) {
        const Found found = search(task[t].search, isa);
        memcpy(call.ids + task[t].row * call.capacity + task[t].room, found.ids, found.count * sizeof(int32_t));
        size[t] = found.count;
    });
    memset(call.count, 0, from.B * from.H * sizeof(int32_t));
    for (size_t t = 0; t < tasks.size(); ++t) {
        int32_t* ids = call.ids + task[t].row * call.capacity;
        int32_t& count = call.count[task[t].row];
        memmove(ids + count, ids + task[t].room, size[t] * sizeof(int32_t));
        count += int32_t(size[t]);
    }
}

}  // namespace truffle
