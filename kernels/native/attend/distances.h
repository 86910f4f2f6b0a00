// Distances of rows' keys from a center, summed over the differences: |k|^2 - 2 k.c + |c|^2 would cancel.
#pragma once

#include "attend/tile.h"

namespace truffle::TRUFFLE_ISA {
namespace {

// Of rows whose words are unpacked, with the center split as they are.
template <class Rows>
class Distances {
  public:
    // A center of d elements, or null if nobody asks; `split` has room for it as rows are split, zeros at first.
    Distances(const float* center, int64_t d, float* split) : center_(split), chunks_(d, Rows::parts) {
        for (int64_t i = 0; center && i < d; ++i) split[split_index<Rows>(i)] = center[i];
    }

    // to[k] = |key_k - center| of KEYS rows.
    TRUFFLE_INLINE void of(const char* const* keys, const float*, float* to) const {
        Floats sums[KEYS] = {};
        Words raw[KEYS];
        for (int c = 0; c < chunks_.full; ++c) {
            TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k) raw[k] = load<Words>(keys[k] + 4 * W * c);
            add(raw, c, sums);
        }
        if (chunks_.tail) {
            TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k)
                raw[k] = load_some(keys[k] + 4 * W * chunks_.full, chunks_.tail);
            add(raw, chunks_.full, sums);
        }
        roots_of_four(sums, to);
    }

  private:
    TRUFFLE_INLINE void add(const Words* raw, int c, Floats (&sums)[KEYS]) const {
        TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k) {
            Floats key[Rows::parts];
            Rows::unpack(raw[k], key);
            TRUFFLE_UNROLL for (int p = 0; p < Rows::parts; ++p) {
                Floats apart = key[p] - load<Floats>(center_ + (c * Rows::parts + p) * W);
                sums[k] += apart * apart;
            }
        }
    }

    const float* center_;
    Chunks chunks_;
};

// Of codes, widened in the order in which they lie: a last word that they share with the value is no matter.
template <>
class Distances<Int8Rows> {
  public:
    Distances(const float* center, int64_t d, float* padded) : center_(padded), d_(d) {
        if (center) memcpy(padded, center, d * sizeof(float));
    }

    // Codes are multiples of scales[k].
    TRUFFLE_INLINE void of(const char* const* keys, const float* scales, float* to) const {
        Floats sums[KEYS] = {};
        int64_t i = 0;
        for (; i + W <= d_; i += W)
            TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k) add(load_codes(keys[k] + i), scales[k], i, sums[k]);
        for (int k = 0; i < d_ && k < KEYS; ++k) {
            int8_t rest[W] = {};
            memcpy(rest, keys[k] + i, d_ - i);
            add(load_codes(rest), scales[k], i, sums[k]);
        }
        roots_of_four(sums, to);
    }

  private:
    TRUFFLE_INLINE void add(Floats codes, float scale, int64_t i, Floats& sum) const {
        Floats apart = rounded(codes * scale) - load<Floats>(center_ + i);
        sum += apart * apart;
    }

    const float* center_;
    int64_t d_;
};

}  // namespace
}  // namespace truffle::TRUFFLE_ISA
