// Operations that make and search the index.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "bind/handles.h"
#include "build_tables/build_tables.h"
#include "direct_probes/direct_probes.h"
#include "hash_codes/hash_codes.h"
#include "isa.h"

namespace truffle {
namespace {

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

void bind_retrieve(const Tables& tables, const Array<const uint16_t, 4>& query_codes, const Array<int32_t, 2>& ids,
                   const Array<int32_t, 1>& count, int64_t min_hits, int threads, const std::string& isa,
                   const std::string& pinning) {
    int64_t rows = query_codes.shape(0) * query_codes.shape(1), capacity = ids.shape(1);
    Threads team = expect_threads(threads, pinning);
    Isa level = require_isa(isa);
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
    retrieve(call, level, team);
}

}  // namespace

void define_index(nb::module_& m) {
    m.def("hash_codes", &bind_hash_codes, "x"_a.noconvert(), "planes"_a.noconvert(), "center"_a.noconvert().none(),
          "codes"_a.noconvert(), "K"_a, "threads"_a, "isa"_a,
          "pinning"_a = "none");
    m.def("build_tables", &bind_build_tables, "codes"_a.noconvert(), "offsets"_a.noconvert(), "ids"_a.noconvert(),
          "K"_a, "threads"_a, "isa"_a,
          "pinning"_a = "none");
    m.def("direct_probes", &bind_direct_probes, "margins"_a.noconvert(), "sets"_a.noconvert(), "tails"_a.noconvert(),
          "weights"_a.noconvert(), "query_codes"_a.noconvert(), "log_u"_a.noconvert(), "min_hits"_a, "threads"_a, "isa"_a,
          "pinning"_a = "none");
    m.def("retrieve", &bind_retrieve, "tables"_a, "query_codes"_a.noconvert(), "ids"_a.noconvert(),
          "count"_a.noconvert(), "min_hits"_a, "threads"_a, "isa"_a,
          "pinning"_a = "none");
}

}  // namespace truffle
