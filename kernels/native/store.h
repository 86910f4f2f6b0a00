// Rows of sampled keys as kernels/store.py lays them out.
#pragma once

#include <cstdint>

namespace truffle {

enum class Format { float32, bfloat16, int8 };

constexpr int64_t element_bytes(Format format) {
    return format == Format::float32 ? 4 : format == Format::bfloat16 ? 2 : 1;
}

// Where the parts of a row begin, in bytes: [key d | value d], and both scales behind for 8-bit elements. d is even.
struct RowLayout {
    int64_t value, key_scale, value_scale, used;

    constexpr RowLayout(int64_t d, int64_t element)
        : value(d * element), key_scale(2 * value), value_scale(key_scale + 4),
          used(element == 1 ? value_scale + 4 : key_scale) {}
};

// Rows of one request, [heads, capacity, row bytes].
struct StoreView {
    const char* rows;
    int64_t heads, capacity, row_bytes, length;
    Format format;

    const char* head(int64_t g) const { return rows + g * capacity * row_bytes; }
};

}  // namespace truffle
