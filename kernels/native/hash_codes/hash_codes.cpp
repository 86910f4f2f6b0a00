#include "hash_codes/hash_codes.h"

#include <algorithm>

#include "scratch.h"

namespace truffle {

// Blocks of vectors that fit the second-level cache; where there are too few, tables are shared out as well.
void hash_codes(const HashCodes& call, Isa isa, Threads threads) {
    constexpr int64_t BLOCK = 512;
    const int64_t vectors = call.R * call.n, blocks = (vectors + BLOCK - 1) / BLOCK;
    if (vectors == 0 || call.L == 0) return;
    const int64_t wanted = threads.count == 1 ? 1 : 4 * threads.count;
    const int64_t shares = std::clamp<int64_t>((wanted + blocks - 1) / blocks, 1, call.L);
    parallel(threads, blocks * shares, [&](int64_t task) {
        thread_local Scratch scratch;
        HashBlock block;
        block.first = task / shares * BLOCK;
        block.count = std::min(BLOCK, vectors - block.first);
        block.table = call.L * (task % shares) / shares;
        block.tables = call.L * (task % shares + 1) / shares - block.table;
        scratch.reserve(hash_scratch(block.count, call.d, block.tables * call.K));
        block.scratch = scratch.take<char>(0);
        TRUFFLE_PICK(isa, hash_block)(call, block);
    });
}

}  // namespace truffle
