#include "build_tables/build_tables.h"

#include <cstring>
#include <stdexcept>
#include <string>

#include "scratch.h"

namespace truffle {
namespace {

constexpr int64_t LINE_IDS = 32;

// A code is too large exactly when it has a bit above the K low ones.
void check(const uint16_t* codes, int64_t n, int64_t buckets) {
    uint16_t bits = 0;
    for (int64_t i = 0; i < n; ++i) bits |= codes[i];
    if (bits < buckets) return;
    while (*codes < buckets) ++codes;
    throw std::invalid_argument("codes: expected codes below 2^K = " + std::to_string(buckets) + ", got " +
                                std::to_string(*codes));
}

// Counts into two histograms, so that equal neighbours do not wait for each other. Buckets are filled in as random an
// order as the codes are in: their lines are asked for beforehand, in order.
void sort(const uint16_t* __restrict codes, int64_t n, int64_t buckets, int32_t* offsets,
          uint16_t* __restrict ids) {
    thread_local Scratch scratch;
    scratch.reserve(2 * buckets * sizeof(int32_t) + 64);
    int32_t* even = scratch.take<int32_t>(buckets);
    int32_t* odd = scratch.take<int32_t>(buckets);
    for (int64_t i = 0; i < n; i += 32) __builtin_prefetch(ids + i, 1, 2);
    memset(even, 0, buckets * sizeof(int32_t));
    memset(odd, 0, buckets * sizeof(int32_t));
    for (int64_t line = 0; line < n; line += LINE_IDS) {
        __builtin_prefetch(ids + line, 1);  // the ids are written all over their table
        int64_t end = line + LINE_IDS < n ? line + LINE_IDS : n;
        for (int64_t i = line; i + 1 < end; i += 2) ++even[codes[i]], ++odd[codes[i + 1]];
    }
    if (n % 2) ++even[codes[n - 1]];
    int32_t* __restrict next = even;
    int32_t start = 0;
    for (int64_t c = 0; c < buckets; ++c) {
        int32_t size = even[c] + odd[c];
        offsets[c] = next[c] = start;
        start += size;
    }
    offsets[buckets] = start;
    for (int64_t i = 0; i < n; ++i) ids[next[codes[i]]++] = uint16_t(i);
}

}  // namespace

void build_tables(const BuildTables& call, Threads threads) {
    int64_t buckets = int64_t{1} << call.K;
    parallel(threads, call.sorts, [&](int64_t s) {
        const uint16_t* codes = call.codes + s * call.n;
        check(codes, call.n, buckets);
        sort(codes, call.n, buckets, call.offsets + s * (buckets + 1), call.ids + s * call.n);
    });
}

}  // namespace truffle
