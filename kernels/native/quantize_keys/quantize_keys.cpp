#include "quantize_keys/quantize_keys.h"

#include "scratch.h"

namespace truffle {

void quantize_keys(const QuantizeKeys& call, Isa isa, Threads threads) {
    if (call.n == 0) return;
    const int64_t first = call.start / BLOCK, count = (call.start + call.n - 1) / BLOCK + 1 - first;
    parallel(threads, call.R * count, [&](int64_t task) {
        thread_local Scratch scratch;
        scratch.reserve(2 * call.d * BLOCK * sizeof(float));
        const QuantizeBlock block{task / count, first + task % count, scratch.take<float>(2 * call.d * BLOCK)};
        TRUFFLE_PICK(isa, quantize_block)(call, block);
    });
}

}  // namespace truffle
