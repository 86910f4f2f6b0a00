#include "hash_codes/amx_bf16.h"

#include <immintrin.h>

#include <cstring>

#define TRUFFLE_ISA amx_bf16
#include "hash_codes/cut.inl"

namespace truffle::amx_bf16 {
namespace {

// Tiles 0 to 3 hold sums, 4 and 5 vectors, 6 and 7 planes: 16 rows of 64 bytes each.
struct alignas(64) TileConfig {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

uint16_t nearest(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return uint16_t(bits >> 16 | 0x40);
    return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float widened(uint16_t half) {
    uint32_t bits = uint32_t{half} << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

int64_t width_of(const HashCodes& call, int64_t panel) {
    const int64_t left = call.L * call.K - panel * SIDE;
    return left < SIDE ? left : SIDE;
}

// Rows of 64 bytes a turn, zeros behind the last dimension and the last vector.
void copy_rows(const HashCodes& call, const HashBlock& block, int64_t depth, int64_t rows, uint16_t* to) {
    const uint16_t* from = static_cast<const uint16_t*>(call.x.data) + block.first * call.d;
    for (int64_t i = 0; i < rows; ++i) {
        const int64_t there = i < block.count ? call.d : 0;
        if (there) memcpy(to + i * depth, from + i * call.d, there * 2);
        memset(to + i * depth + there, 0, (depth - there) * 2);
    }
}

// What the centre adds to the projections on a panel's planes.
void project_center(const HashCodes& call, int64_t r, int64_t panel, float* offsets) {
    const int64_t width = width_of(call, panel);
    memset(offsets, 0, SIDE * sizeof(float));
    for (int64_t k = 0; call.center && k < call.d; ++k)
        for (int64_t c = 0; c < width; ++c)
            offsets[c] += call.center[r * call.d + k] * call.planes[k * call.L * call.K + panel * SIDE + c];
}

// sums[32][32] of 32 vectors and the planes of a panel; small terms first.
void multiply(const uint16_t* rows, const uint16_t* panel, int64_t depth, int terms, float* sums) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int t = terms - 1; t >= 0; --t)
        for (int64_t k = 0; k < depth; k += DEPTH) {
            const uint16_t* planes = panel + t * SIDE * depth + k * SIDE;
            _tile_loadd(4, rows + k, depth * 2);
            _tile_loadd(5, rows + 16 * depth + k, depth * 2);
            _tile_loadd(6, planes, SIDE * 4);
            _tile_loadd(7, planes + 32, SIDE * 4);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    _tile_stored(0, sums, SIDE * 4);
    _tile_stored(1, sums + 16, SIDE * 4);
    _tile_stored(2, sums + 16 * SIDE, SIDE * 4);
    _tile_stored(3, sums + 16 * SIDE + 16, SIDE * 4);
}

// words[0] and words[stride] = which of 32 sums lie above their offsets.
void take_signs(const float* sums, const float* offsets, uint16_t* words, int64_t stride) {
    for (int64_t half = 0; half < 2; ++half)
        words[half * stride] = _mm512_cmp_ps_mask(_mm512_loadu_ps(sums + 16 * half),
                                                  _mm512_loadu_ps(offsets + 16 * half), _CMP_GT_OQ);
}

struct Pieces {
    uint16_t* rows;
    float *sums, *offsets;
    uint16_t* words;
};

int64_t rounded(int64_t count) { return (count + SIDE - 1) / SIDE * SIDE; }

int64_t centers_of(const HashCodes& call, const HashBlock& block) {
    return call.center ? (block.first + block.count - 1) / call.n - block.first / call.n + 1 : 1;
}

Pieces pieces_of(const HashCodes& call, const HashBlock& block, int64_t depth) {
    Pieces at;
    at.sums = reinterpret_cast<float*>(block.scratch);
    at.rows = reinterpret_cast<uint16_t*>(at.sums + SIDE * SIDE);
    at.offsets = reinterpret_cast<float*>(at.rows + rounded(block.count) * depth);
    at.words = reinterpret_cast<uint16_t*>(at.offsets + centers_of(call, block) * SIDE);
    return at;
}

}  // namespace

bool all_bf16(const HashCodes& call) {
    bool same = true;
    for (int64_t i = 0; i < call.d * call.L * call.K; ++i) same &= widened(nearest(call.planes[i])) == call.planes[i];
    return same;
}

void pack_panel(const HashCodes& call, int64_t panel, const PackedPlanes& to) {
    uint16_t* terms = to.panels + panel * to.panel_size();
    for (int64_t k = 0; k < call.d; ++k)
        for (int64_t c = 0; c < width_of(call, panel); ++c) {
            float rest = call.planes[k * call.L * call.K + panel * SIDE + c];
            for (int t = 0; t < to.terms; ++t) {
                const uint16_t term = nearest(rest);
                terms[t * SIDE * to.depth + (k / 2 * SIDE + c) * 2 + k % 2] = term;
                rest -= widened(term);
            }
        }
}

int64_t scratch_bytes(const HashCodes& call, const HashBlock& block) {
    const int64_t depth = (call.d + DEPTH - 1) / DEPTH * DEPTH, rows = rounded(block.count);
    const int64_t columns = rounded(call.L * call.K) + 2 * SIDE;
    return 4 * SIDE * SIDE + 2 * rows * depth + 4 * centers_of(call, block) * SIDE + 2 * rows * columns / 16 + 64;
}

void hash_block(const HashCodes& call, const HashBlock& block, const PackedPlanes& planes) {
    const TileConfig config;
    _tile_loadconfig(&config);
    const int64_t rows = rounded(block.count), centers = centers_of(call, block), first = block.first / call.n;
    const Pieces at = pieces_of(call, block, planes.depth);
    copy_rows(call, block, planes.depth, rows, at.rows);
    for (int64_t panel = 0; panel * SIDE < planes.columns; ++panel) {
        for (int64_t r = 0; r < centers; ++r) project_center(call, first + r, panel, at.offsets + r * SIDE);
        int64_t r = 0, end = centers > 1 ? (first + 1) * call.n - block.first : rows;  // of those around center r
        for (int64_t i = 0; i < rows; i += SIDE) {
            multiply(at.rows + i * planes.depth, planes.panels + panel * planes.panel_size(), planes.depth,
                     planes.terms, at.sums);
            for (int64_t j = 0; j < SIDE; ++j) {
                if (i + j == end && r + 1 < centers) ++r, end += call.n;
                take_signs(at.sums + j * SIDE, at.offsets + r * SIDE, at.words + 2 * panel * rows + i + j, rows);
            }
        }
    }
    _tile_release();
    write_codes(call, block, at.words, rows);
}

}  // namespace truffle::amx_bf16
