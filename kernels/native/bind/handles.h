// Stores and segments as Python holds them, and as the operations take them.
#pragma once

#include <optional>
#include <vector>

#include "bind/arguments.h"
#include "retrieve/retrieve.h"
#include "sparse_attend/sparse_attend.h"

namespace truffle {

// A store or segment as the kernels see it; holding its arrays keeps their memory alive.
struct Store {
    RealArray<3> rows;
    int64_t head_dim;
    StoreView view;

    Store(RealArray<3> held, int64_t length, int64_t head_dim) : rows(std::move(held)), head_dim(head_dim) {
        Format format = format_of(rows.dtype());
        int64_t size = element_bytes(format), capacity = rows.shape(1), row_bytes = rows.shape(2) * size;
        expect(head_dim > 0 && head_dim % 2 == 0, "head_dim", "an even number");
        expect(row_bytes >= RowLayout(head_dim, size).used, "rows", "room for key, value and scales");
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

using Tables = std::vector<std::vector<const Segment*>>;
using TableViews = std::vector<std::vector<const SegmentView*>>;

inline TableViews views_of(const Tables& tables, const Array<const uint16_t, 4>& query_codes, int64_t min_hits) {
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

inline Collisions collisions_of(const TableViews& views, const Array<const uint16_t, 4>& query_codes, int64_t min_hits) {
    auto size = [&](int axis) { return int64_t(query_codes.shape(axis)); };
    return {size(0), size(1), size(2), size(3), &views, query_codes.data(), min_hits};
}

inline std::vector<StoreView> views_of(const std::vector<const Store*>& stores, const RealArray<3>& q,
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

inline Queries queries_of(const RealArray<3>& q, const std::vector<StoreView>& views,
                   const std::optional<Array<const float, 3>>& center,
                   const std::optional<Array<const float, 2>>& law, float scale) {
    int64_t B = q.shape(0), H = q.shape(1), d = q.shape(2), laws = law ? law->shape(0) : 0;
    if (law) expect_shape(*law, "law", {laws == 1 ? 1 : B * H, LAW_CELLS + 1});
    return {B, H, d, reals<3>(q, "q"), views.data(), center ? center->data() : nullptr, law ? law->data() : nullptr,
            laws, scale};
}

}  // namespace truffle
