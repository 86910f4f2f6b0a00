// Vectors of one instruction set. A source file sets TRUFFLE_ISA, its namespace, and TRUFFLE_WIDTH, the floats a
// register holds, and includes this once. Everything here has internal linkage, so that no code compiled for a
// wide instruction set can be taken by the linker for a narrow one.
#pragma once

#include <cstdint>
#include <cstring>
#if TRUFFLE_WIDTH > 4
#include <immintrin.h>
#endif

#define TRUFFLE_INLINE inline __attribute__((always_inline))
#define TRUFFLE_UNROLL _Pragma("GCC unroll 32")

namespace truffle::TRUFFLE_ISA {
namespace {

constexpr int W = TRUFFLE_WIDTH;
typedef float Floats __attribute__((vector_size(4 * W)));
typedef int32_t Ints __attribute__((vector_size(4 * W)));
typedef uint32_t Words __attribute__((vector_size(4 * W)));

TRUFFLE_INLINE Floats broadcast(float x) { return x - Floats{}; }

template <class Vector>
TRUFFLE_INLINE Vector load(const void* from) {
    Vector vector;
    memcpy(&vector, from, sizeof vector);
    return vector;
}

TRUFFLE_INLINE void store(float* to, Floats vector) { memcpy(to, &vector, sizeof vector); }

TRUFFLE_INLINE Floats select(Ints condition, Floats yes, Floats no) {
    return (Floats)((condition & (Ints)yes) | (~condition & (Ints)no));
}

#if TRUFFLE_WIDTH == 16

TRUFFLE_INLINE __m128 fold(Floats x) {
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256((__m512)x), _mm512_extractf32x8_ps((__m512)x, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}
TRUFFLE_INLINE float max_lanes(Floats x) { return _mm512_reduce_max_ps((__m512)x); }
TRUFFLE_INLINE Floats larger(Floats a, Floats b) { return (Floats)_mm512_max_ps((__m512)a, (__m512)b); }
TRUFFLE_INLINE uint32_t set_lanes(Ints condition) { return _mm512_movepi32_mask((__m512i)condition); }

// The first `count` words at `from`, zeros behind; no byte behind them is read.
TRUFFLE_INLINE Words load_some(const void* from, int count) {
    return (Words)_mm512_maskz_loadu_epi32((__mmask16)((1u << count) - 1), from);
}
// The W signed bytes at `from`.
TRUFFLE_INLINE Floats load_codes(const void* from) {
    return (Floats)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(load<__m128i>(from)));
}
TRUFFLE_INLINE Floats gather(const float* table, Ints index) {
    return (Floats)_mm512_i32gather_ps((__m512i)index, table, 4);
}
TRUFFLE_INLINE Floats square_root(Floats x) { return (Floats)_mm512_sqrt_ps((__m512)x); }
TRUFFLE_INLINE uint32_t positive_lanes(Floats x) {
    return _mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_GT_OQ);
}

#elif TRUFFLE_WIDTH == 8

TRUFFLE_INLINE __m128 fold(Floats x) {
    return _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
}
TRUFFLE_INLINE float max_lanes(Floats x) {
    __m128 best = _mm_max_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
    best = _mm_max_ps(best, _mm_movehl_ps(best, best));
    return _mm_cvtss_f32(_mm_max_ss(best, _mm_shuffle_ps(best, best, 1)));
}

TRUFFLE_INLINE Floats larger(Floats a, Floats b) { return (Floats)_mm256_max_ps((__m256)a, (__m256)b); }
TRUFFLE_INLINE uint32_t set_lanes(Ints condition) { return _mm256_movemask_ps((__m256)condition); }

TRUFFLE_INLINE Words load_some(const void* from, int count) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane);
    return (Words)_mm256_maskload_epi32(static_cast<const int*>(from), mask);
}
TRUFFLE_INLINE Floats load_codes(const void* from) {
    return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(load<int64_t>(from))));
}
TRUFFLE_INLINE Floats gather(const float* table, Ints index) {
    return (Floats)_mm256_i32gather_ps(table, (__m256i)index, 4);
}
TRUFFLE_INLINE Floats square_root(Floats x) { return (Floats)_mm256_sqrt_ps((__m256)x); }
TRUFFLE_INLINE uint32_t positive_lanes(Floats x) {
    return _mm256_movemask_ps(_mm256_cmp_ps((__m256)x, _mm256_setzero_ps(), _CMP_GT_OQ));
}

#else

TRUFFLE_INLINE float max_lanes(Floats x) {
    float best = x[0];
    for (int i = 1; i < W; ++i) best = x[i] > best ? x[i] : best;
    return best;
}
TRUFFLE_INLINE Floats larger(Floats a, Floats b) { return select(a > b, a, b); }
TRUFFLE_INLINE uint32_t set_lanes(Ints condition) {
    uint32_t lanes = 0;
    for (int i = 0; i < W; ++i) lanes |= uint32_t(condition[i] & 1) << i;
    return lanes;
}
TRUFFLE_INLINE Words load_some(const void* from, int count) {
    Words words{};
    for (int i = 0; i < count; ++i) memcpy((char*)&words + 4 * i, static_cast<const char*>(from) + 4 * i, 4);
    return words;
}
TRUFFLE_INLINE Floats load_codes(const void* from) {
    Floats codes{};
    for (int i = 0; i < W; ++i) codes[i] = static_cast<const int8_t*>(from)[i];
    return codes;
}
TRUFFLE_INLINE Floats gather(const float* table, Ints index) {
    Floats found{};
    for (int i = 0; i < W; ++i) found[i] = table[index[i]];
    return found;
}
TRUFFLE_INLINE Floats square_root(Floats x) {
    for (int i = 0; i < W; ++i) x[i] = __builtin_sqrtf(x[i]);
    return x;
}
TRUFFLE_INLINE uint32_t positive_lanes(Floats x) {
    uint32_t lanes = 0;
    for (int i = 0; i < W; ++i) lanes |= uint32_t{x[i] > 0} << i;
    return lanes;
}

#endif

// Keeps a product from being fused into a sum of which it is a term.
TRUFFLE_INLINE Floats rounded(Floats x) {
#if defined(__x86_64__)
    asm("" : "+v"(x));
#else
    asm("" : "+m"(x));
#endif
    return x;
}

// to[i] = the sum of x[i], four at a time: together they cost little more than one.
#if TRUFFLE_WIDTH == 16
TRUFFLE_INLINE __m512 add_pairs(__m512 a, __m512 b) {
    return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}
TRUFFLE_INLINE void sum_four(const Floats (&x)[4], float* to) {
    __m512 ab = add_pairs((__m512)x[0], (__m512)x[1]), cd = add_pairs((__m512)x[2], (__m512)x[3]);
    _mm_storeu_ps(to, fold((Floats)_mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xEE))));
}
#elif TRUFFLE_WIDTH == 8
TRUFFLE_INLINE void sum_four(const Floats (&x)[4], float* to) {
    __m256 ab = _mm256_hadd_ps((__m256)x[0], (__m256)x[1]), cd = _mm256_hadd_ps((__m256)x[2], (__m256)x[3]);
    _mm_storeu_ps(to, fold((Floats)_mm256_hadd_ps(ab, cd)));
}
#else
TRUFFLE_INLINE void sum_four(const Floats (&x)[4], float* to) {
    for (int i = 0; i < 4; ++i) to[i] = (x[i][0] + x[i][2]) + (x[i][1] + x[i][3]);
}
#endif

TRUFFLE_INLINE void roots_of_four(const Floats (&x)[4], float* to) {
    sum_four(x, to);
    for (int i = 0; i < 4; ++i) to[i] = __builtin_sqrtf(to[i]);
}

TRUFFLE_INLINE float sum_lanes(Floats x) {
    float sums[4];
    sum_four({x, x, x, x}, sums);
    return sums[0];
}

// e^x for x <= 0 within 2 units in the last place; 0 below the least normal number, NaN for NaN.
TRUFFLE_INLINE Floats exp_negative(Floats x) {
    const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
    Floats shifted = x * 1.44269504f + shift;
    Floats n = shifted - shift;
    Floats r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Floats y = broadcast(1.9875691500e-4f);
    y = y * r + 1.3981999507e-3f;
    y = y * r + 8.3334519073e-3f;
    y = y * r + 4.1665795894e-2f;
    y = y * r + 1.6666665459e-1f;
    y = y * r + 5.0000001201e-1f;
    y = y * (r * r) + r + 1.0f;
    Words power = (Words)shifted << 23;  // wraps where the result is not taken
    Floats scaled = (Floats)((Words)y + power);
    scaled = select(x < -87.3f, Floats{}, scaled);
    return select(x != x, x, scaled);
}

// 1 - acos(x) / pi for x in [-1, 1], absolute error below 1e-7 (Abramowitz and Stegun, 4.4.46).
TRUFFLE_INLINE Floats agreement_of(Floats x) {
    Floats a = select(x < 0.0f, -x, x);
    Floats y = broadcast(-0.0012624911f);
    y = y * a + 0.0066700901f;
    y = y * a - 0.0170881256f;
    y = y * a + 0.0308918810f;
    y = y * a - 0.0501743046f;
    y = y * a + 0.0889789874f;
    y = y * a - 0.2145988016f;
    y = y * a + 1.5707963050f;
    Floats turn = square_root(1.0f - a) * y * 0.318309886f;  // acos(|x|) / pi
    return select(x < 0.0f, turn, 1.0f - turn);
}

}  // namespace
}  // namespace truffle::TRUFFLE_ISA
