// Finding the ids that were hit often enough, 64 counters at a time.
#include "retrieve/collect.h"
#include "simd.h"
#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace truffle::TRUFFLE_ISA {
namespace {

template <class Counter>
TRUFFLE_INLINE uint64_t reached(const Counter* hits, int64_t least) {
    uint64_t bits = 0;
    for (int i = 0; i < 64; ++i) bits |= uint64_t{hits[i] >= least} << i;
    return bits;
}

#if TRUFFLE_WIDTH == 16

TRUFFLE_INLINE uint64_t reached(const uint8_t* hits, int64_t least) {
    return _mm512_cmpge_epu8_mask(_mm512_loadu_si512(hits), _mm512_set1_epi8(char(least)));
}

#elif TRUFFLE_WIDTH == 8

TRUFFLE_INLINE uint64_t reached(const uint8_t* hits, int64_t least) {
    uint64_t bits = 0;
    TRUFFLE_UNROLL for (int i = 0; i < 64; i += 32) {
        const __m256i some = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(hits + i));
        const __m256i most = _mm256_max_epu8(some, _mm256_set1_epi8(char(least)));
        bits |= uint64_t{uint32_t(_mm256_movemask_epi8(_mm256_cmpeq_epi8(some, most)))} << i;
    }
    return bits;
}

#elif defined(__SSE2__)  // every x86-64 processor has it

TRUFFLE_INLINE uint64_t reached(const uint8_t* hits, int64_t least) {
    uint64_t bits = 0;
    TRUFFLE_UNROLL for (int i = 0; i < 64; i += 16) {
        const __m128i some = _mm_loadu_si128(reinterpret_cast<const __m128i*>(hits + i));
        const __m128i most = _mm_max_epu8(some, _mm_set1_epi8(char(least)));
        bits |= uint64_t{uint32_t(_mm_movemask_epi8(_mm_cmpeq_epi8(some, most)))} << i;
    }
    return bits;
}
#endif

// Three at a time without asking how many there are: where one key in fifty is sampled a word rarely has more, and a
// guess at how many would often be wrong.
TRUFFLE_INLINE int64_t append(uint64_t bits, int32_t first, int32_t* to) {
    const int64_t count = __builtin_popcountll(bits);
    do {
        TRUFFLE_UNROLL for (int i = 0; i < 3; ++i) {
            *to++ = first + __builtin_ctzll(bits | uint64_t{1} << 63);
            bits &= bits - 1;
        }
    } while (__builtin_expect(bits != 0, 0));
    return count;
}

// Sets counters to zero; returns whether there was one that was not.
template <class Counter>
TRUFFLE_INLINE bool clear(Counter* hits, int64_t first, int64_t last) {
    Counter any = 0;
    for (int64_t i = first; i < last; ++i) any |= hits[i];
    if (any) memset(hits + first, 0, (last - first) * sizeof(Counter));
    return any != 0;
}

template <class Counter>
TRUFFLE_INLINE int64_t collect(const Collect<Counter>& task) {
    int64_t size = 0;
    for (int64_t i = task.first; i < task.last; i += 64) {
        size += append(reached(task.hits + i, task.least), int32_t(task.start + i), task.found + size);
        memset(task.hits + i, 0, 64 * sizeof(Counter));
    }
    if (clear(task.hits, 0, task.first) | clear(task.hits, task.last, task.counters)) return -1;
    return size;
}

}  // namespace

int64_t collect_bytes(const Collect<uint8_t>& task) { return collect(task); }
int64_t collect_words(const Collect<uint16_t>& task) { return collect(task); }

}  // namespace truffle::TRUFFLE_ISA
