// From counters of hits to the ids of the keys that were hit often enough.
#pragma once

#include <cstdint>

#include "isa.h"

namespace truffle {

// Counters are looked at, and ids written, this many at a time: memory behind the last must allow for it.
constexpr int64_t AT_A_TIME = 64;

template <class Counter>
struct Collect {
    Counter* hits;  // a counter an id, all zero afterwards
    int64_t counters;
    int64_t first, last;  // ids that there may be
    int64_t least;
    int64_t start;  // added to every id
    int32_t* found;
};

// Writes the ids of counters that are at least `least`, ascending; returns how many, or -1 where there were hits of ids
// that there may not be.
TRUFFLE_DECLARE(int64_t, collect_bytes, const Collect<uint8_t>& task)
TRUFFLE_DECLARE(int64_t, collect_words, const Collect<uint16_t>& task)

}  // namespace truffle
