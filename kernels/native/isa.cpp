#include "isa.h"

#include <cstdint>
#include <stdexcept>

#ifdef TRUFFLE_X86
#include <cpuid.h>
#endif

namespace truffle {
namespace {

#ifdef TRUFFLE_X86
struct Features {
    bool fma = false, avx2 = false, avx512 = false;        // what the processor has
    bool ymm_saved = false, zmm_saved = false;  // what the operating system keeps across task switches
};

Features read_features() {
    Features found;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
    found.fma = c >> 12 & 1;
    if (c >> 27 & 1) {  // OSXSAVE: XGETBV may be executed
        uint32_t low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        found.ymm_saved = (low & 0x06) == 0x06;
        found.zmm_saved = (low & 0xE6) == 0xE6;
    }
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    found.avx2 = b >> 5 & 1;
    constexpr unsigned f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31;
    found.avx512 = (b & (f | dq | bw | vl)) == (f | dq | bw | vl);
    return found;
}

std::string why_not_x86(const std::string& name) {
    static const Features has = read_features();
    bool wide = name == "avx512";
    if (!has.fma || !(wide ? has.avx512 : has.avx2))
        return wide ? "the processor lacks AVX-512 F, BW, DQ or VL" : "the processor lacks AVX2 or FMA";
    if (!(wide ? has.zmm_saved : has.ymm_saved)) return "the operating system does not save its registers";
    return "";
}
#else
std::string why_not_x86(const std::string&) { return "it is for x86-64 processors"; }
#endif

}  // namespace

std::string why_not_isa(const std::string& name) {
    if (name == "scalar") return "";
    if (name == "avx2" || name == "avx512") return why_not_x86(name);
    return "there is no such instruction set; known: scalar, avx2, avx512";
}

Isa require_isa(const std::string& name) {
    std::string reason = why_not_isa(name);
    if (!reason.empty()) throw std::invalid_argument("isa: " + name + " cannot be used here: " + reason);
    return name == "avx512" ? Isa::avx512 : name == "avx2" ? Isa::avx2 : Isa::scalar;
}

}  // namespace truffle
