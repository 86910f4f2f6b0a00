// The extension: everything that knows Python is in this folder. Arguments in, one clear error out, the interpreter
// lock released between.
#include <nanobind/stl/string.h>

#include "bind/codes.h"
#include "bind/handles.h"
#include "isa.h"
#include "memory.h"

namespace truffle {

void define_index(nb::module_& m);
void define_attention(nb::module_& m);
void define_scan(nb::module_& m);

namespace {

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
    m.def("spin_before_parking", &spin_before_parking, "microseconds"_a);
    m.def("release_memory", &release_memory);
    m.def("memory_use", &bind_memory_use);
    nb::class_<Store>(m, "Store")
        .def(nb::init<RealArray<3>, int64_t, int64_t>(), "rows"_a.noconvert(), "length"_a, "head_dim"_a)
        .def("__reduce__", &forget);
    nb::class_<Segment>(m, "Segment")
        .def(nb::init<int64_t, Array<const int32_t, 3>, Array<const uint16_t, 3>>(), "start"_a,
             "offsets"_a.noconvert(), "ids"_a.noconvert())
        .def("__reduce__", &forget);
    nb::class_<Codes>(m, "Codes")
        .def(nb::init<Array<const int32_t, 4>, Array<const bf16, 3>, int64_t, int64_t, int>(), "words"_a.noconvert(),
             "scales"_a.noconvert(), "length"_a, "head_dim"_a, "bits"_a)
        .def("__reduce__", &forget);
    define_index(m);
    define_attention(m);
    define_scan(m);
}
