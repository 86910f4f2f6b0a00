// Codes as Python holds them, and as the scan takes them.
#pragma once

#include "bind/arguments.h"
#include "scan_sample/scan_sample.h"

namespace truffle {

inline void expect_bits(int bits) { expect(bits == 1 || bits == 2 || bits == 4, "bits", "1, 2 or 4"); }

inline int64_t words_of(int64_t d, int bits) { return (bits * d + 31) / 32; }

// Codes as the kernels see them; holding its arrays keeps their memory alive.
struct Codes {
    Array<const int32_t, 4> words;
    Array<const bf16, 3> scales;
    int64_t head_dim;
    CodesView view;

    Codes(Array<const int32_t, 4> held_words, Array<const bf16, 3> held_scales, int64_t length, int64_t head_dim,
          int bits)
        : words(std::move(held_words)), scales(std::move(held_scales)), head_dim(head_dim) {
        expect_bits(bits);
        expect(head_dim > 0, "head_dim", "at least 1");
        int64_t heads = words.shape(0), blocks = words.shape(1), W = words_of(head_dim, bits);
        expect_shape(words, "words", {heads, blocks, W, 64});
        expect_shape(scales, "scales", {heads, blocks, 64});
        expect(heads > 0, "words", "one key/value head at least");
        expect(length >= 0 && length <= blocks * 64 && length <= INT32_MAX, "length", "tokens that there is room for");
        view = {heads, blocks, W, length, bits, reinterpret_cast<const uint32_t*>(words.data()),
                reinterpret_cast<const uint16_t*>(scales.data())};
    }
};

}  // namespace truffle
