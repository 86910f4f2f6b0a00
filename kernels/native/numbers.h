// Element types as they cross the border.
#pragma once

#include <bit>
#include <cstdint>

namespace truffle {

struct bf16 {
    uint16_t bits;
};

// A pointer to float32 or bfloat16 elements.
struct Reals {
    const void* data = nullptr;
    bool is_bf16 = false;

    float operator[](int64_t i) const {
        if (!is_bf16) return static_cast<const float*>(data)[i];
        return std::bit_cast<float>(uint32_t{static_cast<const bf16*>(data)[i].bits} << 16);
    }
    Reals operator+(int64_t elements) const {
        return {static_cast<const char*>(data) + elements * (is_bf16 ? 2 : 4), is_bf16};
    }
};

}  // namespace truffle
