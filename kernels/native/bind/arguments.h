// What the bindings say of their arguments, and how they refuse them.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <initializer_list>
#include <stdexcept>
#include <string>

#include "numbers.h"
#include "team.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace nanobind::detail {
template <>
struct dtype_traits<truffle::bf16> {
    static constexpr dlpack::dtype value{uint8_t(dlpack::dtype_code::Bfloat), 16, 1};
    static constexpr auto name = const_name("bfloat16");
};
}  // namespace nanobind::detail

namespace truffle {

template <class T, int N>
using Array = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <int N>
using RealArray = nb::ndarray<nb::ro, nb::ndim<N>, nb::c_contig, nb::device::cpu>;

inline void expect(bool condition, const char* argument, const std::string& expected) {
    if (!condition) throw std::invalid_argument(std::string(argument) + ": expected " + expected);
}

template <int N>
Reals reals(const RealArray<N>& array, const char* argument) {
    bool is_bf16 = array.dtype() == nb::dtype<bf16>();
    expect(is_bf16 || array.dtype() == nb::dtype<float>(), argument, "dtype float32 or bfloat16");
    return {array.data(), is_bf16};
}

template <class A>
void expect_shape(const A& array, const char* argument, std::initializer_list<int64_t> shape) {
    size_t axis = 0;
    bool same = true;
    std::string wanted;
    for (int64_t size : shape) {
        same &= int64_t(array.shape(axis++)) == size;
        wanted += (wanted.empty() ? "" : ", ") + std::to_string(size);
    }
    expect(same, argument, "shape [" + wanted + "]");
}

inline Threads expect_threads(int threads, const std::string& pinning) {
    expect(threads >= 1 && threads <= 4096, "threads", "1 to 4096");
    expect(pinning == "none" || pinning == "cores", "pinning", "none or cores");
    return {threads, pinning == "cores"};
}

}  // namespace truffle
