// Operations that attend.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bind/handles.h"
#include "dense_attend/dense_attend.h"
#include "isa.h"
#include "retrieve_attend/retrieve_attend.h"

namespace truffle {
namespace {

void bind_sparse_attend(const RealArray<3>& q, const std::vector<const Store*>& stores,
                        const Array<const int32_t, 2>& ids, const Array<const int32_t, 1>& count,
                        const std::optional<Array<const float, 3>>& center,
                        const std::optional<Array<const float, 2>>& law,
                        const std::optional<Array<const float, 2>>& log_weight, const Array<float, 3>& out,
                        const Array<float, 2>& lse, float scale, int threads, const std::string& isa,
                        const std::string& pinning) {
    int64_t B = q.shape(0), H = q.shape(1), d = q.shape(2), lists = ids.shape(0), capacity = ids.shape(1);
    Threads team = expect_threads(threads, pinning);
    expect_shape(count, "count", {lists});
    expect_shape(out, "out", {B, H, d});
    expect_shape(lse, "lse", {B, H});
    expect(law.has_value() == center.has_value() && law.has_value() != log_weight.has_value(), "law",
           "either law and center, or log_weight");
    if (log_weight) expect_shape(*log_weight, "log_weight", {lists, capacity});
    std::vector<StoreView> views = views_of(stores, q, center);
    const int64_t sharing = lists ? B * H / lists : 1;
    for (const StoreView& view : views)
        expect(lists == B * H || (log_weight && lists == B * view.heads), "ids",
               "a row a query head, or with log_weight a key/value head");
    for (int64_t row = 0; row < lists; ++row)
        expect(count.data()[row] >= 0 && count.data()[row] <= capacity, "count", "0 to capacity");
    SparseAttend call{queries_of(q, views, center, law, scale), capacity, ids.data(), count.data(),
                      log_weight ? log_weight->data() : nullptr, out.data(), lse.data()};
    call.queries.sharing = sharing;
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

}  // namespace

void define_attention(nb::module_& m) {
    m.def("sparse_attend", &bind_sparse_attend, "q"_a.noconvert(), "stores"_a, "ids"_a.noconvert(),
          "count"_a.noconvert(), "center"_a.noconvert().none(), "law"_a.noconvert().none(),
          "log_weight"_a.noconvert().none(), "out"_a.noconvert(), "lse"_a.noconvert(), "scale"_a, "threads"_a, "isa"_a,
          "pinning"_a = "none");
    m.def("retrieve_attend", &bind_retrieve_attend, "q"_a.noconvert(), "tables"_a, "query_codes"_a.noconvert(),
          "stores"_a, "center"_a.noconvert(), "law"_a.noconvert(), "out"_a.noconvert(), "lse"_a.noconvert(),
          "count"_a.noconvert(), "scale"_a, "min_hits"_a, "threads"_a, "isa"_a,
          "pinning"_a = "none");
    m.def("dense_attend", &bind_dense_attend, "q"_a.noconvert(), "keys"_a.noconvert(), "values"_a.noconvert(),
          "lengths"_a.noconvert(), "out"_a.noconvert(), "lse"_a.noconvert(), "scale"_a, "threads"_a, "isa"_a,
          "pinning"_a = "none");
}

}  // namespace truffle
