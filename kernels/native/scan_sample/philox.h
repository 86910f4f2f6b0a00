// Philox-4x32-10 (Salmon et al., SC'11) for the 64 tokens of a block: 16 counters, four words each.
#pragma once

#include "scan_sample/stages.h"
#include "simd.h"

namespace truffle::TRUFFLE_ISA {
namespace {

typedef uint64_t Longs __attribute__((vector_size(4 * W)));

// Products of the lower halves of the lanes with a word.
TRUFFLE_INLINE Longs wide_product(Longs a, uint32_t b) {
#if TRUFFLE_WIDTH == 16
    return (Longs)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(b));
#elif TRUFFLE_WIDTH == 8
    return (Longs)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(b));
#else
    return (a & 0xFFFFFFFFull) * uint64_t{b};
#endif
}

// The upper 31 bits of random words of the counters from `first` on: word j of W of them in to[j]. Upper halves of the
// lanes hold what is never used.
TRUFFLE_INLINE void random_bits(const Stream& stream, uint32_t first, Words (&to)[4]) {
    Longs even, odd;
    for (int i = 0; i < W / 2; ++i) even[i] = first + 2 * i, odd[i] = first + 2 * i + 1;
    Longs c0[2] = {even, odd}, c1[2], c2[2], c3[2];
    for (int half = 0; half < 2; ++half) {
        c1[half] = Longs{} + stream.counter[0];
        c2[half] = Longs{} + stream.counter[1];
        c3[half] = Longs{} + stream.counter[2];
    }
    uint32_t k0 = stream.key[0], k1 = stream.key[1];
    TRUFFLE_UNROLL for (int round = 0; round < 10; ++round) {
        TRUFFLE_UNROLL for (int half = 0; half < 2; ++half) {
            const Longs a = wide_product(c0[half], 0xD2511F53u), b = wide_product(c2[half], 0xCD9E8D57u);
            c0[half] = (b >> 32) ^ c1[half] ^ uint64_t{k0};
            c2[half] = (a >> 32) ^ c3[half] ^ uint64_t{k1};
            c1[half] = b;
            c3[half] = a;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    const Longs* words[4] = {c0, c1, c2, c3};
    TRUFFLE_UNROLL for (int j = 0; j < 4; ++j)
        to[j] = (Words)((words[j][0] & 0xFFFFFFFFull) | (words[j][1] << 32)) >> 1;
}

}  // namespace
}  // namespace truffle::TRUFFLE_ISA
