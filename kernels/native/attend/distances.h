// Distances of rows' keys from a center, summed over the differences: |k|^2 - 2 k.c + |c|^2 would cancel.
#pragma once

#include "attend/tile.h"

namespace truffle::TRUFFLE_ISA {
namespace {

template <class Rows>
class Distances {
  public:
    // A center of d elements, or null if nobody asks; `split` has room for it as rows are split, zeros at first.
    Distances(const float* center, int64_t d, float* split)
        : center_(center), split_(split), d_(d), whole_(d / Rows::parts * Rows::parts, Rows::parts) {
        for (int64_t i = 0; center && i < d; ++i) split[split_index<Rows>(i)] = center[i];
    }

    // to[k] = |key_k - center| of KEYS rows; codes are multiples of scales[k].
    TRUFFLE_INLINE void of(const char* const* keys, const float* scales, float* to) const {
        Floats sums[KEYS] = {};
        for (int c = 0; c < whole_.full; ++c)
            add(c, scales, sums, [&](int k) { return load<Words>(keys[k] + 4 * W * c); });
        if (whole_.tail)
            add(whole_.full, scales, sums,
                [&](int k) { return load_some(keys[k] + 4 * W * whole_.full, whole_.tail); });
        sum_four(sums, to);
        for (int k = 0; scaled<Rows> && k < KEYS; ++k) to[k] += rest(keys[k], scales[k]);
        for (int k = 0; k < KEYS; ++k) to[k] = __builtin_sqrtf(to[k]);
    }

  private:
    template <class Read>
    TRUFFLE_INLINE void add(int c, const float* scales, Floats (&sums)[KEYS], Read&& read) const {
        TRUFFLE_UNROLL for (int k = 0; k < KEYS; ++k) {
            Floats key[Rows::parts];
            Rows::unpack(read(k), key);
            TRUFFLE_UNROLL for (int p = 0; p < Rows::parts; ++p) {
                if (scaled<Rows>) key[p] = rounded(key[p] * scales[k]);
                Floats apart = key[p] - load<Floats>(split_ + (c * Rows::parts + p) * W);
                sums[k] += apart * apart;
            }
        }
    }

    // What codes add that share their last word with the value.
    float rest(const char* key, float scale) const {
        float sum = 0.0f;
        for (int64_t i = d_ / 4 * 4; i < d_; ++i) {
            float apart = rounded(broadcast(float(int8_t(key[i])) * scale))[0] - center_[i];
            sum += apart * apart;
        }
        return sum;
    }

    const float *center_, *split_;
    int64_t d_;
    Chunks whole_;  // words of the key's own
};

}  // namespace
}  // namespace truffle::TRUFFLE_ISA
