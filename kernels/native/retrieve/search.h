// The collision search of one query head in one segment.
#pragma once

#include <cstdint>

#include "isa.h"
#include "retrieve/retrieve.h"

namespace truffle {

constexpr int64_t SEGMENT = 65'536;  // what a 16-bit id can name

struct Search {
    const SegmentView* segment;
    int64_t head;           // of the keys
    const uint16_t* codes;  // [L, P], the buckets to visit
    int64_t L, P, min_hits;
    int64_t first, last;  // ids to find are in [first, last)
};

// Rows of the store, ascending, in memory of the calling thread that its next search reuses.
struct Found {
    const int32_t* ids;
    int64_t count;
};

// The search of query head `row` (of B*H) for one of `pieces` equal ranges of a segment's ids.
inline Search search_of(const Collisions& from, int64_t row, const SegmentView& segment, int64_t piece,
                        int64_t pieces) {
    const int64_t head = row % from.H / (from.H / segment.heads);
    const uint16_t* codes = from.query_codes + row * from.L * from.P;
    return {&segment, head, codes, from.L, from.P, from.min_hits, segment.n * piece / pieces,
            segment.n * (piece + 1) / pieces};
}

// Into how many ranges segments are cut so that there is work for all threads: 1 where heads and segments suffice.
int64_t pieces_of(const Collisions& from, int threads);

// Throws std::invalid_argument for a code without a bucket, or tables that point outside their segment.
Found search(const Search& task, Isa isa);

}  // namespace truffle
