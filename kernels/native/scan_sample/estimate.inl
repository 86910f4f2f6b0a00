// Estimated scores of a chunk, and what they weigh beside the largest of the chunk: nothing leaves the first-level cache.
#include "scan_sample/products.h"

namespace truffle::TRUFFLE_ISA {
namespace {

typedef uint16_t Halves __attribute__((vector_size(2 * W)));

TRUFFLE_INLINE Floats widen_bf16(const uint16_t* from) {
    return (Floats)(__builtin_convertvector(load<Halves>(from), Words) << 16u);
}

template <int BITS, int HEADS>
void estimate_block(const Estimate& task, int64_t block, int64_t head) {
    Ints sums[HEADS][64 / W];
    multiply<BITS, HEADS>(task.words + block * task.W * 64, task.W, task.queries + head * task.query_stride,
                          task.query_stride, sums);
    const uint16_t* scales = task.scales + block * 64;
    for (int t = 0; t < 64 / W; ++t) {
        const Floats scale = widen_bf16(scales + t * W);
        for (int h = 0; h < HEADS; ++h) {
            const Ints levels = 2 * sums[h][t] - task.corrections[head + h];
            store(task.weights + (head + h) * task.stride + block * 64 + t * W,
                  __builtin_convertvector(levels, Floats) * (scale * task.factors[head + h]));
        }
    }
}

template <int BITS>
void estimate_blocks(const Estimate& task) {
    for (int64_t block = 0; block < task.blocks; ++block)
        for (int64_t head = 0; head < task.heads;) {
            const int64_t left = task.heads - head;
            if (left >= 4) estimate_block<BITS, 4>(task, block, head);
            else if (left == 3) estimate_block<BITS, 3>(task, block, head);
            else if (left == 2) estimate_block<BITS, 2>(task, block, head);
            else estimate_block<BITS, 1>(task, block, head);
            head += left < 4 ? left : 4;
        }
}

// 2^x for x <= 0 within 3e-6; 2^-126 for all below. Proposals need no more, and x is finite.
TRUFFLE_INLINE Floats power_of_two(Floats x) {
    const float shift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer kept in the low bits
    x = larger(x, broadcast(-126.0f));
    const Floats shifted = x + shift;
    const Floats r = x - (shifted - shift);
    Floats y = broadcast(0.00958285f);
    y = y * r + 0.05590643f;
    y = y * r + 0.24024099f;
    y = y * r + 0.69312419f;
    y = y * r + 1.0f;
    return (Floats)((Words)y + ((Words)shifted << 23));
}

// Estimates, as powers of two, become 2^(estimate - the largest), which is returned beside their sum.
void weigh(float* at, int64_t blocks, int64_t tokens, float* peak, float* sum) {
    const int64_t all = blocks * 64;
    for (int64_t i = tokens; i < all; ++i) at[i] = -1e38f;
    Floats highest[4];
    for (int v = 0; v < 4; ++v) highest[v] = load<Floats>(at);
    for (int64_t i = 0; i < all; i += 4 * W)
        TRUFFLE_UNROLL for (int v = 0; v < 4; ++v) highest[v] = larger(highest[v], load<Floats>(at + i + v * W));
    *peak = max_lanes(larger(larger(highest[0], highest[1]), larger(highest[2], highest[3])));
    Floats total[4] = {};
    for (int64_t i = 0; i < all; i += 4 * W)
        TRUFFLE_UNROLL for (int v = 0; v < 4; ++v) {
            const Floats weight = power_of_two(load<Floats>(at + i + v * W) - *peak);
            total[v] += weight;
            store(at + i + v * W, weight);
        }
    for (int64_t i = tokens; i < all; ++i) at[i] = 0.0f;
    *sum = sum_lanes((total[0] + total[1]) + (total[2] + total[3]));
}

}  // namespace

void estimate_chunk(const Estimate& task) {
    if (task.bits == 4) estimate_blocks<4>(task);
    else if (task.bits == 2) estimate_blocks<2>(task);
    else estimate_blocks<1>(task);
    for (int64_t head = 0; head < task.heads; ++head)
        weigh(task.weights + head * task.stride, task.blocks, task.tokens, task.peaks + head * task.peaks_stride,
              task.sums + head * task.peaks_stride);
}

}  // namespace truffle::TRUFFLE_ISA
