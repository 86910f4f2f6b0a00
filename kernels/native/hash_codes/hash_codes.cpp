#include "hash_codes/hash_codes.h"

#include <algorithm>
#include <vector>

#include "hash_codes/amx_bf16.h"
#include "scratch.h"

namespace truffle {
namespace {

constexpr int64_t BLOCK = 512;

#ifdef TRUFFLE_X86
void hash_by_tiles(const HashCodes& call, Threads threads) {
    using amx_bf16::DEPTH;
    amx_bf16::PackedPlanes planes{call.L * call.K, (call.d + DEPTH - 1) / DEPTH * DEPTH,
                                  amx_bf16::all_bf16(call) ? 1 : 3, nullptr};
    std::vector<uint16_t> panels(planes.count() * planes.panel_size());
    planes.panels = panels.data();
    parallel(threads, planes.count(), [&](int64_t panel) { amx_bf16::pack_panel(call, panel, planes); });
    const int64_t vectors = call.R * call.n;
    parallel(threads, (vectors + BLOCK - 1) / BLOCK, [&](int64_t task) {
        thread_local Scratch scratch;
        HashBlock block{task * BLOCK, std::min(BLOCK, vectors - task * BLOCK), 0, call.L, nullptr};
        scratch.reserve(amx_bf16::scratch_bytes(call, block));
        block.scratch = scratch.take<char>(0);
        amx_bf16::hash_block(call, block, planes);
    });
}
#endif

}  // namespace

// Blocks of vectors that fit the second-level cache; where there are too few, tables are shared out as well.
void hash_codes(const HashCodes& call, Isa isa, Threads threads) {
    const int64_t vectors = call.R * call.n, blocks = (vectors + BLOCK - 1) / BLOCK;
    if (vectors == 0 || call.L == 0) return;
#ifdef TRUFFLE_X86
    // For fewer vectors the planes take longer to pack than to multiply by.
    if (isa >= Isa::amx_bf16 && call.x.is_bf16 && vectors >= BLOCK) return hash_by_tiles(call, threads);
#endif
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
