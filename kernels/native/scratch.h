// Memory of a thread that is kept between calls and only ever grows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace truffle {

// Hands out 64-byte aligned pieces of a thread's buffer; all pieces are forgotten when `reserve` is called again.
class Scratch {
  public:
    void reserve(size_t bytes) {
        if (bytes + 64 > buffer_.size()) buffer_.resize(bytes + 64);
        next_ = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(buffer_.data()) + 63) & ~uintptr_t{63});
    }

    template <class T>
    T* take(size_t count) {
        T* piece = reinterpret_cast<T*>(next_);
        next_ += rounded<T>(count);
        return piece;
    }

    template <class T>
    static size_t rounded(size_t count) {
        return (count * sizeof(T) + 63) & ~size_t{63};
    }

  private:
    std::vector<char> buffer_;
    char* next_ = nullptr;
};

}  // namespace truffle
