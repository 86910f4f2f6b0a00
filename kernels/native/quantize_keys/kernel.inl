// A block of tokens, which lie in the lanes: rotated, measured, quantised and packed without a sum across lanes.
#include "quantize_keys/quantize_keys.h"
#include "simd.h"

namespace truffle::TRUFFLE_ISA {
namespace {

constexpr int64_t COLUMNS = 4;
constexpr int VECTORS = W == 16 ? 4 : 2;  // of tokens, for whose sums there are registers
constexpr float SMALLEST = 1e-30f, LARGEST = 1e30f;

float step_of(int bits) { return bits == 4 ? 0.3352f : bits == 2 ? 0.9957f : 1.596f; }

// to[k][token] = the centred keys of the tokens from `low` to `high` of a block; zeros elsewhere.
void gather(const QuantizeKeys& call, const QuantizeBlock& task, int64_t low, int64_t high, float* to) {
    memset(to, 0, call.d * BLOCK * sizeof(float));
    const float* center = call.center + task.r * call.d;
    for (int64_t token = low; token < high; ++token) {
        const Reals key = call.keys + (task.r * call.n + task.block * BLOCK + token - call.start) * call.d;
        for (int64_t k = 0; k < call.d; ++k) to[k * BLOCK + token] = key[k] - center[k];
    }
}

// y[c][token] = sum over k of x[k][token] turn[k][c], for COUNT columns.
template <int COUNT>
void turn_columns(const float* x, const float* turn, int64_t d, float* y) {
    for (int64_t token = 0; token < BLOCK; token += VECTORS * W) {
        Floats sums[COUNT][VECTORS] = {};
        for (int64_t k = 0; k < d; ++k) {
            Floats tokens[VECTORS];
            TRUFFLE_UNROLL for (int v = 0; v < VECTORS; ++v) tokens[v] = load<Floats>(x + k * BLOCK + token + v * W);
            TRUFFLE_UNROLL for (int c = 0; c < COUNT; ++c) {
                const Floats weight = broadcast(turn[k * d + c]);
                TRUFFLE_UNROLL for (int v = 0; v < VECTORS; ++v) sums[c][v] += weight * tokens[v];
            }
        }
        TRUFFLE_UNROLL for (int c = 0; c < COUNT; ++c)
            TRUFFLE_UNROLL for (int v = 0; v < VECTORS; ++v) store(y + c * BLOCK + token + v * W, sums[c][v]);
    }
}

// Coordinates [d][W tokens] at `y` become codes in their place; returns the tokens' scales.
Floats quantise(float* y, int64_t d, int bits) {
    Floats squares{}, product{};
    for (int64_t k = 0; k < d; ++k) squares += load<Floats>(y + k * BLOCK) * load<Floats>(y + k * BLOCK);
    const Ints known = (squares >= SMALLEST) & (squares <= LARGEST);
    const Floats steps = 1.0f / (step_of(bits) * square_root(select(known, squares, broadcast(1.0f)) / float(d)));
    const float half = float(1 << bits) / 2, most = float((1 << bits) - 1);
    for (int64_t k = 0; k < d; ++k) {
        const Floats at = select(known, load<Floats>(y + k * BLOCK), Floats{});
        Floats place = at * steps + half;
        place = select(place < 0.0f, Floats{}, select(place > most, broadcast(most), place));
        const Ints code = __builtin_convertvector(place, Ints);
        product += at * (2.0f * __builtin_convertvector(code, Floats) - most);
        memcpy(y + k * BLOCK, &code, sizeof code);
    }
    return select(known, squares / product, Floats{});
}

// Word w of W tokens from codes [d][token].
Words pack(const float* codes, int64_t d, int64_t w, int bits) {
    Words word{};
    const int64_t fields = 32 / bits;
    for (int64_t k = w * fields; k < d && k < (w + 1) * fields; ++k) {
        const int64_t place = k % fields;
        word |= load<Words>(codes + k * BLOCK) << uint32_t(8 * (place % 4) + bits * (place / 4));
    }
    return word;
}

uint16_t nearest_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

}  // namespace

void quantize_block(const QuantizeKeys& call, const QuantizeBlock& task) {
    const int64_t d = call.d, first = task.block * BLOCK, end = call.start + call.n - first;
    const int64_t low = call.start > first ? call.start - first : 0, high = end < BLOCK ? end : BLOCK;
    float *x = task.scratch, *y = x + d * BLOCK;
    gather(call, task, low, high, x);
    int64_t c = 0;
    for (; c + COLUMNS <= d; c += COLUMNS) turn_columns<COLUMNS>(x, call.rotation + c, d, y + c * BLOCK);
    for (; c < d; ++c) turn_columns<1>(x, call.rotation + c, d, y + c * BLOCK);
    float scales[BLOCK];
    for (int64_t token = 0; token < BLOCK; token += W) store(scales + token, quantise(y + token, d, call.bits));
    const int64_t place = task.r * call.blocks + task.block;
    for (int64_t w = 0; w < call.W; ++w) {
        uint32_t words[BLOCK];
        for (int64_t token = 0; token < BLOCK; token += W) {
            const Words some = pack(y + token, d, w, call.bits);
            memcpy(words + token, &some, sizeof some);
        }
        memcpy(call.words + (place * call.W + w) * BLOCK + low, words + low, (high - low) * sizeof(uint32_t));
    }
    for (int64_t token = low; token < high; ++token)
        call.scales[place * BLOCK + token] = nearest_bf16(scales[token]);
}

}  // namespace truffle::TRUFFLE_ISA
