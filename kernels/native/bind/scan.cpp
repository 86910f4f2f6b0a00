// Operations that quantise keys and scan them.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <climits>
#include <cmath>

#include "bind/codes.h"
#include "isa.h"
#include "quantize_keys/quantize_keys.h"

namespace truffle {
namespace {

void bind_quantize_keys(const RealArray<3>& keys, const Array<const float, 2>& center,
                        const Array<const float, 2>& rotation, const Array<int32_t, 4>& words,
                        const Array<bf16, 3>& scales, int64_t start, int bits, int threads, const std::string& isa,
                        const std::string& pinning) {
    int64_t R = keys.shape(0), n = keys.shape(1), d = keys.shape(2), blocks = words.shape(1);
    Threads team = expect_threads(threads, pinning);
    expect_bits(bits);
    const int64_t W = words_of(d, bits);
    expect_shape(center, "center", {R, d});
    expect_shape(rotation, "rotation", {d, d});
    expect_shape(words, "words", {R, blocks, W, BLOCK});
    expect_shape(scales, "scales", {R, blocks, BLOCK});
    expect(start >= 0 && start <= blocks * BLOCK - n, "start", "room for all keys");
    QuantizeKeys call{R, n, d, blocks, W, start, bits, reals<3>(keys, "keys"), center.data(), rotation.data(),
                      reinterpret_cast<uint32_t*>(words.data()), reinterpret_cast<uint16_t*>(scales.data())};
    Isa level = require_isa(isa);
    nb::gil_scoped_release released;
    quantize_keys(call, level, team);
}

std::vector<CodesView> views_of(const std::vector<const Codes*>& codes, const int32_t* lengths, int64_t B, int64_t H,
                                int64_t d, int64_t R) {
    expect(int64_t(codes.size()) == B, "codes", "one a request");
    std::vector<CodesView> views;
    for (const Codes* held : codes) {
        expect(held && held->head_dim == d, "codes", "head_dim " + std::to_string(d));
        const int64_t heads = held->view.heads;
        expect(H % heads == 0, "codes", "a head count that divides H");
        expect(R == H || R == heads, "wanted", "a row a query head or a key/value head");
        views.push_back(held->view);
        const int64_t n = lengths[views.size() - 1];
        expect(0 <= n && n <= held->view.length, "lengths", "0 to as many tokens as there are");
        views.back().length = n;
    }
    return views;
}

void bind_scan_sample(const Array<const float, 3>& q, const std::vector<const Codes*>& codes,
                      const Array<const int32_t, 1>& lengths, const Array<const float, 2>& wanted,
                      const Array<const float, 1>& floor, const Array<const int32_t, 1>& step,
                      const Array<int32_t, 2>& ids, const Array<int32_t, 1>& count,
                      const Array<float, 2>& log_weight, float scale, int64_t seed, int64_t layer, bool priority,
                      int threads, const std::string& isa, const std::string& pinning) {
    int64_t B = q.shape(0), H = q.shape(1), d = q.shape(2), R = wanted.shape(1), capacity = ids.shape(1);
    Threads team = expect_threads(threads, pinning);
    expect_shape(lengths, "lengths", {B});
    expect_shape(wanted, "wanted", {B, R});
    expect_shape(floor, "floor", {B});
    expect_shape(step, "step", {B});
    expect_shape(ids, "ids", {B * R, capacity});
    expect_shape(count, "count", {B * R});
    expect_shape(log_weight, "log_weight", {B * R, capacity});
    expect(std::isfinite(scale), "scale", "a finite number");
    expect(seed >= 0 && layer >= 0 && layer <= INT32_MAX, "seed", "numbers from 0 on");
    for (int64_t row = 0; row < B * R; ++row) {
        const float keys = wanted.data()[row];
        expect(keys >= 0 && keys <= float(INT32_MAX), "wanted", "numbers of 0 to 2147483647");
    }
    for (int64_t b = 0; b < B; ++b)
        expect(std::isfinite(floor.data()[b]) && floor.data()[b] >= 0, "floor", "finite numbers from 0 on");
    const std::vector<CodesView> views = views_of(codes, lengths.data(), B, H, d, R);
    ScanSample call{B, H, d, R, capacity, q.data(), views.data(), wanted.data(), floor.data(), step.data(), ids.data(),
                    count.data(), log_weight.data(), scale, uint64_t(seed), uint32_t(layer), priority};
    Isa level = require_isa(isa);
    nb::gil_scoped_release released;
    scan_sample(call, level, team);
}

}  // namespace

void define_scan(nb::module_& m) {
    m.def("quantize_keys", &bind_quantize_keys, "keys"_a.noconvert(), "center"_a.noconvert(), "rotation"_a.noconvert(),
          "words"_a.noconvert(), "scales"_a.noconvert(), "start"_a, "bits"_a, "threads"_a, "isa"_a,
          "pinning"_a = "none");
    m.def("scan_sample", &bind_scan_sample, "q"_a.noconvert(), "codes"_a, "lengths"_a.noconvert(), "wanted"_a.noconvert(),
          "floor"_a.noconvert(), "step"_a.noconvert(), "ids"_a.noconvert(), "count"_a.noconvert(),
          "log_weight"_a.noconvert(), "scale"_a, "seed"_a, "layer"_a, "priority"_a, "threads"_a, "isa"_a,
          "pinning"_a = "none");
}

}  // namespace truffle
