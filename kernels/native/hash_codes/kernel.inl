// Projections by register tiles of ROWS vectors and COLUMNS planes; only their signs leave the registers.
//
// Signs of 16 consecutive columns are a word, kept as words[column / 16][vector].
#include "hash_codes/cut.inl"
#include "hash_codes/hash_codes.h"
#include "simd.h"

namespace truffle::TRUFFLE_ISA {
namespace {

constexpr int ROWS = W == 16 ? 8 : W == 8 ? 6 : 3;
constexpr int VECTORS = W == 16 ? 3 : W == 8 ? 2 : 4;
constexpr int COLUMNS = VECTORS * W;
static_assert(COLUMNS % 16 == 0 && COLUMNS <= PANEL && ROWS <= MOST_ROWS);

// words[g * stride + r] = signs of columns 16 g to 16 g + 15 of row r, for x in [d][ROWS].
TRUFFLE_INLINE void sign_tile(const float* x, const float* planes, int64_t plane_stride, int64_t d,
                              uint16_t* words, int64_t stride) {
    Floats sums[ROWS][VECTORS] = {};
    for (int64_t k = 0; k < d; ++k) {
        Floats plane[VECTORS];
        TRUFFLE_UNROLL for (int v = 0; v < VECTORS; ++v) plane[v] = load<Floats>(planes + k * plane_stride + v * W);
        TRUFFLE_UNROLL for (int r = 0; r < ROWS; ++r) {
            Floats element = broadcast(x[k * ROWS + r]);
            TRUFFLE_UNROLL for (int v = 0; v < VECTORS; ++v) sums[r][v] += element * plane[v];
        }
    }
    TRUFFLE_UNROLL for (int r = 0; r < ROWS; ++r)
        TRUFFLE_UNROLL for (int g = 0; g < COLUMNS / 16; ++g) {
            uint32_t word = 0;
            TRUFFLE_UNROLL for (int v = 0; v < 16 / W; ++v)
                word |= positive_lanes(sums[r][g * (16 / W) + v]) << (v * W);
            words[g * stride + r] = uint16_t(word);
        }
}

// tiles[t][k][r] = x - center of vector t * ROWS + r; zeros behind the last.
void split_rows(const HashCodes& call, const HashBlock& block, int64_t rows, float* tiles) {
    for (int64_t i = 0; i < rows; ++i) {
        float* to = tiles + i / ROWS * ROWS * call.d + i % ROWS;
        if (i >= block.count) {
            for (int64_t k = 0; k < call.d; ++k) to[k * ROWS] = 0.0f;
            continue;
        }
        const int64_t vector = block.first + i;
        const float* center = call.center ? call.center + vector / call.n * call.d : nullptr;
        const uint16_t* half = static_cast<const uint16_t*>(call.x.data) + vector * call.d;
        const float* whole = static_cast<const float*>(call.x.data) + vector * call.d;
        for (int64_t k = 0; k < call.d; ++k) {
            uint32_t bits = uint32_t(half[call.x.is_bf16 ? k : 0]) << 16;
            float value;
            memcpy(&value, &bits, 4);
            if (!call.x.is_bf16) value = whole[k];
            to[k * ROWS] = center ? value - center[k] : value;
        }
    }
}

void pack_panel(const float* planes, int64_t stride, int64_t d, int64_t columns, float* panel) {
    for (int64_t k = 0; k < d; ++k) {
        memcpy(panel + k * COLUMNS, planes + k * stride, columns * sizeof(float));
        memset(panel + k * COLUMNS + columns, 0, (COLUMNS - columns) * sizeof(float));
    }
}

}  // namespace

void hash_block(const HashCodes& call, const HashBlock& block) {
    const int64_t rows = (block.count + ROWS - 1) / ROWS * ROWS, columns = block.tables * call.K;
    const int64_t stride = call.L * call.K;
    float* tiles = reinterpret_cast<float*>(block.scratch);
    float* panel = tiles + rows * call.d;
    uint16_t* words = reinterpret_cast<uint16_t*>(panel + COLUMNS * call.d);
    split_rows(call, block, rows, tiles);
    for (int64_t c = 0; c < columns; c += COLUMNS) {
        const float* planes = call.planes + block.table * call.K + c;
        const int64_t width = columns - c < COLUMNS ? columns - c : COLUMNS;
        const bool packed = width < COLUMNS || rows > ROWS;
        if (packed) pack_panel(planes, stride, call.d, width, panel);
        for (int64_t i = 0; i < rows; i += ROWS)
            sign_tile(tiles + i * call.d, packed ? panel : planes, packed ? COLUMNS : stride, call.d,
                      words + c / 16 * rows + i, rows);
    }
    write_codes(call, block, words, rows);
}

}  // namespace truffle::TRUFFLE_ISA
