#include "scan_sample/scan_sample.h"

#include <vector>

#include "scan_sample/work.h"

namespace truffle {
namespace {

struct Head {
    int64_t request, kv_head;
};

std::vector<Head> heads_of(const ScanSample& call) {
    std::vector<Head> heads;
    for (int64_t b = 0; b < call.B; ++b)
        for (int64_t head = 0; head < call.codes[b].heads; ++head) heads.push_back({b, head});
    return heads;
}

// A thread takes a head through all stages: what they hand on stays in its caches.
void one_by_one(const ScanSample& call, const std::vector<Head>& heads, Isa isa, Threads threads) {
    parallel(threads, heads.size(), [&](int64_t i) {
        thread_local Scratch scratch;
        scratch.reserve(Work::bytes(call, heads[i].request));
        const Work work(call, heads[i].request, heads[i].kv_head, isa, scratch);
        for (int64_t chunk = 0; chunk < work.chunks(); ++chunk) work.estimate(chunk);
        for (int64_t row = 0; row < work.rows(); ++row) {
            work.settle(row);
            for (int64_t chunk = 0; chunk < work.chunks(); ++chunk) work.draw(row, chunk);
            work.collect(row);
        }
    });
}

struct Step {
    const Work* work;
    int64_t row, chunk;
};

// All threads take all heads through one stage after another, for want of heads.
void stage_by_stage(const ScanSample& call, const std::vector<Head>& heads, Isa isa, Threads threads) {
    thread_local Scratch scratch;
    size_t bytes = 0;
    for (const Head& head : heads) bytes += Work::bytes(call, head.request);
    scratch.reserve(bytes);
    std::vector<Work> works;
    for (const Head& head : heads) works.emplace_back(call, head.request, head.kv_head, isa, scratch);
    std::vector<Step> estimates, rows, draws;
    for (const Work& work : works) {
        for (int64_t chunk = 0; chunk < work.chunks(); ++chunk) estimates.push_back({&work, 0, chunk});
        for (int64_t row = 0; row < work.rows(); ++row) {
            rows.push_back({&work, row, 0});
            for (int64_t chunk = 0; chunk < work.chunks(); ++chunk) draws.push_back({&work, row, chunk});
        }
    }
    parallel(threads, estimates.size(), [&](int64_t i) { estimates[i].work->estimate(estimates[i].chunk); });
    parallel(threads, rows.size(), [&](int64_t i) { rows[i].work->settle(rows[i].row); });
    parallel(threads, draws.size(), [&](int64_t i) { draws[i].work->draw(draws[i].row, draws[i].chunk); });
    parallel(threads, rows.size(), [&](int64_t i) { rows[i].work->collect(rows[i].row); });
}

}  // namespace

void scan_sample(const ScanSample& call, Isa isa, Threads threads) {
    const std::vector<Head> heads = heads_of(call);
    const bool enough = threads.count == 1 || int64_t(heads.size()) >= 2 * threads.count;
    (enough ? one_by_one : stage_by_stage)(call, heads, isa, threads);
}

}  // namespace truffle
