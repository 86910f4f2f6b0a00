// Everything that knows Python: arguments in, one clear error out, the interpreter lock released between.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "build_tables/build_tables.h"
#include "dense_attend/dense_attend.h"
#include "direct_probes/direct_probes.h"
#include "hash_codes/hash_codes.h"
#include "isa.h"
#include "memory.h"
#include "retrieve_attend/retrieve_attend.h"
#include "retrieve/retrieve.h"
#include "sparse_attend/sparse_attend.h"

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
namespace {

template <class T, int N>
using Array = nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu>;
template <int N>
using RealArray = nb::ndarray<nb::ro, nb::ndim<N>, nb::c_contig, nb::device::cpu>;

void expect(bool condition, const char* argument, const std::string& expected) {
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

Threads expect_threads(int threads, const std::string& pinning) {
    expect(threads >= 1 && threads <= 4096, "threads", "1 to 4096");
    expect(pinning == "none" || pinning == "cores", "pinning", "none or cores");
    return {threads, pinning == "cores"};
}

// A store or segment as the kernels see it; holding its arrays keeps their memory alive.
struct Store {
    RealArray<3> rows;
    int64_t head_dim;
    StoreView view;

    Store(RealArray<3> held, int64_t length, int64_t head_dim) : rows(std::move(held)), head_dim(head_dim) {
        Format format = format_of(rows.dtype());
        int64_t size = element_bytes(format), capacity = rows.shape(1), row_bytes = rows.shape(2) * size;
        expect(head_dim > 0 && head_dim % 2 == 0, "head_dim", "an even number");
        expect(row_bytes >= RowLayout(head_dim, size).used, "rows", "room for key, value, norm and scales");
        expect(length >= 0 && length <= capacity, "length", "0 to " + std::to_string(capacity));
        view = {static_cast<const char*>(rows.data()), int64_t(rows.shape(0)), capacity, row_bytes, length, format};
    }

    static Format format_of(nb::dlpack::dtype dtype) {
        if (dtype == nb::dtype<int8_t>()) return Format::int8;
        expect(dtype == nb::dtype<bf16>() || dtype == nb::dtype<float>(), "rows", "dtype float32, bfloat16 or int8");
        return dtype == nb::dtype<bf16>() ? Format::bfloat16 : Format::float32;
    }
};

struct Segment {
    Array<const int32_t, 3> offsets;
    Array<const uint16_t, 3> ids;
    SegmentView view;

    Segment(int64_t start, Array<const int32_t, 3> held_offsets, Array<const uint16_t, 3> held_ids)
        : offsets(std::move(held_offsets)), ids(std::move(held_ids)) {
        int64_t heads = offsets.shape(0), L = offsets.shape(1), n = ids.shape(2), buckets = offsets.shape(2) - 1;
        expect(int64_t(ids.shape(0)) == heads && int64_t(ids.shape(1)) == L, "ids",
               "shape [" + std::to_string(heads) + ", " + std::to_string(L) + ", n]");
        expect(heads > 0 && buckets > 0 && buckets <= 65'536, "offsets", "shape [Hkv, L, 2^K + 1] with K <= 16");
        expect(n <= 65'536, "ids", "at most 65536 rows a segment");
        expect(start >= 0 && start + n <= INT32_MAX, "start", "rows that fit 32 bits");
        view = {start, heads, L, buckets, n, offsets.data(), ids.data()};
    }
};

void bind_hash_codes(const RealArray<3>& x, const Array<const float, 2>& planes,
                     const std::optional<Array<const float, 2>>& center, const Array<uint16_t, 3>& codes, int K,
                     int threads, const std::string& isa, const std::string& pinning) {
    int64_t R = x.shape(0), n = x.shape(1), d = x.shape(2), L = codes.shape(1);
    Threads team = expect_threads(threads, pinning);
    expect(K >= 1 && K <= 16, "K", "1 to 16 bits a table");
    expect_shape(planes, "planes", {d, L * K});
    expect_shape(codes, "codes", {R, L, n});
    if (center) expect_shape(*center, "center", {R, d});
    HashCodes call{R, n, d, L, K, reals<3>(x, "x"), planes.data(), center ? center->data() : nullptr, codes.data()};
    Isa level = require_isa(isa);
    nb::gil_scoped_release released;
    hash_codes(call, level, team);
}

void bind_build_tables(const Array<const uint16_t, 3>& codes, const Array<int32_t, 3>& offsets,
                       const Array<uint16_t, 3>& ids, int K, int threads, const std::string& isa,
                       const std::string& pinning) {
    int64_t R = codes.shape(0), L = codes.shape(1), n = codes.shape(2);
    Threads team = expect_threads(threads, pinning);
    require_isa(isa);
    expect(K >= 1 && K <= 16, "K", "1 to 16 bits a table");
    expect(n <= 65'536, "codes", "at most 65536 tokens a segment");
    expect_shape(offsets, "offsets", {R, L, (int64_t{1} << K) + 1});
    expect_shape(ids, "ids", {R, L, n});
    BuildTables call{R * L, n, K, codes.data(), offsets.data(), ids.data()};
    nb::gil_scoped_release released;
    build_tables(call, team);
}

void bind_direct_probes(const Array<const float, 4>& margins, const Array<const int32_t, 2>& sets,
                        const Array<const float, 2>& tails, const Array<const float, 2>& weights,
                        const Array<uint16_t, 4>& query_codes, const Array<float, 2>& log_u, int min_hits, int threads,
                        const std::string& isa, const std::string& pinning) {
    int64_t B = margins.shape(0), H = margins.shape(1), L = margins.shape(2), K = margins.shape(3);
    int64_t P = query_codes.shape(3), count = sets.shape(0);
    Threads team = expect_threads(threads, pinning);
    expect(K >= 1 && K <= MOST_BITS, "margins", "1 to 16 bits a table");
    expect(P >= 1 && P <= MOST_PROBES && P <= int64_t{1} << K, "query_codes", "1 to 64 of the 2^K buckets");
    expect(min_hits >= 1 && min_hits <= 3, "min_hits", "1 to 3");
    expect_shape(query_codes, "query_codes", {B, H, L, P});
    expect_shape(log_u, "log_u", {B * H, PROBE_CELLS + 1});
    expect(count >= P && count <= MOST_SETS && sets.shape(1) == 3, "sets", "shape [P to 256, 3]");
    const auto* set = reinterpret_cast<const ProbeSet*>(sets.data());
    for (int64_t s = 0; s < count; ++s) {
        auto earlier = [&](int32_t other) { return other >= 0 && other < std::max<int64_t>(s, 1); };
        expect(earlier(set[s].parent) && earlier(set[s].rest) && set[s].top >= 0 && set[s].top < K, "sets",
               "parents before children");
    }
    expect_shape(tails, "tails", {MARGIN_ROWS, HALF_KNOTS});
    expect_shape(weights, "weights", {STENCIL, CELLS_A_KNOT});
    DirectProbes call{B * H, L, int(K), int(P), int(count), min_hits, margins.data(), set, tails.data(),
                      weights.data(), query_codes.data(), log_u.data()};
    Isa level = require_isa(isa);
    nb::gil_scoped_release released;
    direct_probes(call, level, team);
}

using Tables = std::vector<std::vector<const Segment*>>;
using TableViews = std::vector<std::vector<const SegmentView*>>;

TableViews views_of(const Tables& tables, const Array<const uint16_t, 4>& query_codes, int64_t min_hits) {
    int64_t B = query_codes.shape(0), H = query_codes.shape(1), L = query_codes.shape(2);
    expect(min_hits >= 1 && min_hits <= 65'535, "min_hits", "1 to 65535");
    expect(int64_t(tables.size()) == B, "tables", "one list of segments a request");
    TableViews views;
    for (const auto& segments : tables) {
        views.emplace_back();
        for (const Segment* segment : segments) {
            expect(segment && segment->view.L == L, "tables", "L = " + std::to_string(L) + " as in query_codes");
            expect(H % segment->view.heads == 0, "tables", "a key/value head count that divides H");
            views.back().push_back(&segment->view);
        }
    }
    return views;
}

Collisions collisions_of(const TableViews& views, const Array<const uint16_t, 4>& query_codes, int64_t min_hits) {
    auto size = [&](int axis) { return int64_t(query_codes.shape(axis)); };
    return {size(0), size(1), size(2), size(3), &views, query_codes.data(), min_hits};
}

void bind_retrieve(const Tables& tables, const Array<const uint16_t, 4>& query_codes, const Array<int32_t, 2>& ids,
                   const Array<int32_t, 1>& count, int64_t min_hits, int threads, const std::string& isa,
                   const std::string& pinning) {
    int64_t rows = query_codes.shape(0) * query_codes.shape(1), capacity = ids.shape(1);
    Threads team = expect_threads(threads, pinning);
    require_isa(isa);
    expect_shape(ids, "ids", {rows, capacity});
    expect_shape(count, "count", {rows});
    TableViews views = views_of(tables, query_codes, min_hits);
    for (const auto& segments : views) {
        int64_t room = 0;
        for (const SegmentView* segment : segments) room += segment->n;
        expect(room <= capacity, "ids", "room for all " + std::to_string(room) + " keys of a request");
    }
    Retrieve call{collisions_of(views, query_codes, min_hits), capacity, ids.data(), count.data()};
    nb::gil_scoped_release released;
    retrieve(call, team);
}

std::vector<StoreView> views_of(const std::vector<const Store*>& stores, const RealArray<3>& q,
                                const std::optional<Array<const float, 3>>& center) {
    int64_t B = q.shape(0), H = q.shape(1), d = q.shape(2);
    expect(int64_t(stores.size()) == B, "stores", "one store a request");
    std::vector<StoreView> views;
    for (const Store* store : stores) {
        expect(store && store->head_dim == d, "stores", "head_dim " + std::to_string(d));
        expect(store->view.heads > 0 && H % store->view.heads == 0, "stores", "a head count that divides H");
        if (center) expect_shape(*center, "center", {B, store->view.heads, d});
        views.push_back(store->view);
    }
    return views;
}

Queries queries_of(const RealArray<3>& q, const std::vector<StoreView>& views,
                   const std::optional<Array<const float, 3>>& center,
                   const std::optional<Array<const float, 2>>& law, float scale) {
    int64_t B = q.shape(0), H = q.shape(1), d = q.shape(2), laws = law ? law->shape(0) : 0;
    if (law) expect_shape(*law, "law", {laws == 1 ? 1 : B * H, LAW_CELLS + 1});
    return {B, H, d, reals<3>(q, "q"), views.data(), center ? center->data() : nullptr, law ? law->data() : nullptr,
            laws, scale};
}

void bind_sparse_attend(const RealArray<3>& q, const std::vector<const Store*>& stores,
                        const Array<const int32_t, 2>& ids, const Array<const int32_t, 1>& count,
                        const std::optional<Array<const float, 3>>& center,
                        const std::optional<Array<const float, 2>>& law,
                        const std::optional<Array<const float, 2>>& log_weight, const Array<float, 3>& out,
                        const Array<float, 2>& lse, float scale, int threads, const std::string& isa,
                        const std::string& pinning) {
    int64_t B = q.shape(0), H = q.shape(1), d = q.shape(2), capacity = ids.shape(1);
    Threads team = expect_threads(threads, pinning);
    expect_shape(ids, "ids", {B * H, capacity});
    expect_shape(count, "count", {B * H});
    expect_shape(out, "out", {B, H, d});
    expect_shape(lse, "lse", {B, H});
    expect(law.has_value() == center.has_value() && law.has_value() != log_weight.has_value(), "law",
           "either law and center, or log_weight");
    if (log_weight) expect_shape(*log_weight, "log_weight", {B * H, capacity});
    std::vector<StoreView> views = views_of(stores, q, center);
    for (int64_t row = 0; row < B * H; ++row)
        expect(count.data()[row] >= 0 && count.data()[row] <= capacity, "count", "0 to capacity");
    SparseAttend call{queries_of(q, views, center, law, scale), capacity, ids.data(), count.data(),
                      log_weight ? log_weight->data() : nullptr, out.data(), lse.data()};
    Isa level = require_isa(isa);
    nb::gil_scoped_release released;
    sparse_attend(call, level, team);
}

void bind_retrieve_attend(const RealArray<3>& q, const Tables& tables, const Array<const uint16_t, 4>& query_codes,
                          const std::vector<const Store*>& stores, const Array<const float, 3>& center,
                          const Array<const float, 2>& law, const Array<float, 3>& out, const Array<float, 2>& lse,
                          const Array<int32_t, 1>& count, float scale, int64_t min_hits, int threads,
                          const std::string& isa, const std::string& pinning) {
    int64_t B = q.shape(0), H = q.shape(1), d = q.shape(2);
    Threads team = expect_threads(threads, pinning);
    expect(int64_t(query_codes.shape(0)) == B && int64_t(query_codes.shape(1)) == H, "query_codes",
           "shape [" + std::to_string(B) + ", " + std::to_string(H) + ", L, P]");
    expect_shape(out, "out", {B, H, d});
    expect_shape(lse, "lse", {B, H});
    expect_shape(count, "count", {B * H});
    TableViews segments = views_of(tables, query_codes, min_hits);
    std::vector<StoreView> views = views_of(stores, q, center);
    for (int64_t b = 0; b < B; ++b)
        for (const SegmentView* segment : segments[b])
            expect(segment->heads == views[b].heads, "tables", "as many key/value heads as the stores");
    RetrieveAttend call{collisions_of(segments, query_codes, min_hits), queries_of(q, views, center, law, scale),
                        out.data(), lse.data(), count.data()};
    Isa level = require_isa(isa);
    nb::gil_scoped_release released;
    retrieve_attend(call, level, team);
}

void bind_dense_attend(const RealArray<3>& q, const RealArray<4>& keys, const RealArray<4>& values,
                       const Array<const int32_t, 1>& lengths, const Array<float, 3>& out, const Array<float, 2>& lse,
                       float scale, int threads, const std::string& isa, const std::string& pinning) {
    int64_t B = q.shape(0), H = q.shape(1), d = q.shape(2), heads = keys.shape(1), T = keys.shape(2);
    Threads team = expect_threads(threads, pinning);
    expect(heads > 0 && H % heads == 0, "keys", "a key/value head count that divides H");
    expect(d % 2 == 0, "q", "an even head_dim");
    expect_shape(keys, "keys", {B, heads, T, d});
    expect_shape(values, "values", {B, heads, T, d});
    expect_shape(lengths, "lengths", {B});
    expect_shape(out, "out", {B, H, d});
    expect_shape(lse, "lse", {B, H});
    for (int64_t b = 0; b < B; ++b)
        expect(lengths.data()[b] >= 0 && lengths.data()[b] <= T, "lengths", "0 to " + std::to_string(T));
    DenseAttend call{B, H, heads, T, d, reals<3>(q, "q"), reals<4>(keys, "keys"), reals<4>(values, "values"),
                     lengths.data(), scale, out.data(), lse.data()};
    expect(call.keys.is_bf16 == call.values.is_bf16, "values", "the dtype of keys");
    Isa level = require_isa(isa);
    nb::gil_scoped_release released;
    dense_attend(call, level, team);
}

using Block = nb::ndarray<nb::pytorch, uint8_t, nb::ndim<1>, nb::device::cpu>;

Block bind_allocate(int64_t bytes, int threads, const std::string& pinning) {
    Threads team = expect_threads(threads, pinning);
    expect(bytes >= 1, "bytes", "at least 1");
    void* block;
    {
        nb::gil_scoped_release released;
        block = take_block(bytes, team);
    }
    nb::capsule owner(block, [](void* taken) noexcept { give_block(taken); });
    return Block(block, {size_t(bytes)}, owner);
}

nb::tuple bind_memory_use() {
    MemoryUse use = memory_use();
    return nb::make_tuple(use.used, use.kept);
}

// Copies and pickles of a handle are None: whoever kept it makes a new one.
nb::tuple forget(nb::handle) { return nb::make_tuple(nb::borrow(nb::none().type()), nb::tuple()); }

}  // namespace
}  // namespace truffle

NB_MODULE(_native, m) {
    using namespace truffle;
    m.attr("sanitizers") = TRUFFLE_SANITIZE;
    m.def("why_not_isa", &why_not_isa, "name"_a);
    m.def("allocate", &bind_allocate, "bytes"_a, "threads"_a, "pinning"_a = "none");
    m.def("release_memory", &release_memory);
    m.def("memory_use", &bind_memory_use);
    nb::class_<Store>(m, "Store")
        .def(nb::init<RealArray<3>, int64_t, int64_t>(), "rows"_a.noconvert(), "length"_a, "head_dim"_a)
        .def("__reduce__", &forget);
    nb::class_<Segment>(m, "Segment")
        .def(nb::init<int64_t, Array<const int32_t, 3>, Array<const uint16_t, 3>>(), "start"_a,
             "offsets"_a.noconvert(), "ids"_a.noconvert())
        .def("__reduce__", &forget);
    m.def("hash_codes", &bind_hash_codes, "x"_a.noconvert(), "planes"_a.noconvert(), "center"_a.noconvert().none(),
          "codes"_a.noconvert(), "K"_a, "threads"_a, "isa"_a, "pinning"_a = "none");
    m.def("build_tables", &bind_build_tables, "codes"_a.noconvert(), "offsets"_a.noconvert(), "ids"_a.noconvert(),
          "K"_a, "threads"_a, "isa"_a, "pinning"_a = "none");
    m.def("direct_probes", &bind_direct_probes, "margins"_a.noconvert(), "sets"_a.noconvert(), "tails"_a.noconvert(),
          "weights"_a.noconvert(), "query_codes"_a.noconvert(), "log_u"_a.noconvert(), "min_hits"_a, "threads"_a, "isa"_a, "pinning"_a = "none");
    m.def("retrieve", &bind_retrieve, "tables"_a, "query_codes"_a.noconvert(), "ids"_a.noconvert(),
          "count"_a.noconvert(), "min_hits"_a, "threads"_a, "isa"_a, "pinning"_a = "none");
    m.def("sparse_attend", &bind_sparse_attend, "q"_a.noconvert(), "stores"_a, "ids"_a.noconvert(),
          "count"_a.noconvert(), "center"_a.noconvert().none(), "law"_a.noconvert().none(),
          "log_weight"_a.noconvert().none(), "out"_a.noconvert(), "lse"_a.noconvert(), "scale"_a, "threads"_a, "isa"_a,
          "pinning"_a = "none");
    m.def("retrieve_attend", &bind_retrieve_attend, "q"_a.noconvert(), "tables"_a, "query_codes"_a.noconvert(),
          "stores"_a, "center"_a.noconvert(), "law"_a.noconvert(), "out"_a.noconvert(), "lse"_a.noconvert(),
          "count"_a.noconvert(), "scale"_a, "min_hits"_a, "threads"_a, "isa"_a, "pinning"_a = "none");
    m.def("dense_attend", &bind_dense_attend, "q"_a.noconvert(), "keys"_a.noconvert(), "values"_a.noconvert(),
          "lengths"_a.noconvert(), "out"_a.noconvert(), "lse"_a.noconvert(), "scale"_a, "threads"_a, "isa"_a, "pinning"_a = "none");
}
