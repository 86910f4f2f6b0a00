#include "isa.h"

#include <cstdint>
#include <iterator>
#include <stdexcept>

#ifdef TRUFFLE_X86
#include <cpuid.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace truffle {
namespace {

constexpr const char* names[] = {"scalar", "avx2", "avx512", "avx512_bf16", "amx_bf16"};

#ifdef TRUFFLE_X86

struct Features {
    bool avx2 = false, avx512 = false, bf16 = false, amx = false;  // what the processor has
    uint32_t saved = 0;                               // XCR0: registers kept across task switches
};

Features read_features() {
    Features found;
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return found;
    bool fma = c >> 12 & 1;
    if (c >> 27 & 1) {  // OSXSAVE: XGETBV may be executed
        uint32_t high;
        __asm__ volatile("xgetbv" : "=a"(found.saved), "=d"(high) : "c"(0));
    }
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    constexpr unsigned f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31;
    found.avx2 = fma && (b >> 5 & 1);
    found.avx512 = found.avx2 && (b & (f | dq | bw | vl)) == (f | dq | bw | vl);
    bool vnni = c >> 11 & 1, tiles = (d >> 22 & 1) && (d >> 24 & 1);
    found.bf16 = found.avx512 && vnni && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 5 & 1);
    found.amx = found.bf16 && tiles;
    return found;
}

// A process asks once for the tiles' 8 KB of state.
bool may_use_tiles() {
#ifdef __linux__
    constexpr long request = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
    return false;
#endif
}

std::string why_not_x86(Isa isa) {
    static const Features has = read_features();
    auto lacks = [&](bool present, uint32_t saved, const char* what) -> std::string {
        if (!present) return std::string("the processor lacks ") + what;
        return (has.saved & saved) == saved ? "" : "the operating system does not save its registers";
    };
    switch (isa) {
        case Isa::scalar: return "";
        case Isa::avx2: return lacks(has.avx2, 0x06, "AVX2 or FMA");
        case Isa::avx512: return lacks(has.avx512, 0xE6, "AVX-512 F, BW, DQ or VL");
        case Isa::avx512_bf16: return lacks(has.bf16, 0xE6, "AVX512-BF16 or VNNI");
        case Isa::amx_bf16: break;
    }
    static const bool permitted = has.amx && may_use_tiles();
    const std::string reason = lacks(has.amx, 0x600E6, "AMX-BF16");
    return !reason.empty() || permitted ? reason : "the operating system does not permit tiles";
}
#else
std::string why_not_x86(Isa isa) { return isa == Isa::scalar ? "" : "it is for x86-64 processors"; }
#endif

int level_of(const std::string& name) {
    for (size_t i = 0; i < std::size(names); ++i)
        if (name == names[i]) return int(i);
    return -1;
}

}  // namespace

std::string why_not_isa(const std::string& name) {
    int level = level_of(name);
    if (level >= 0) return why_not_x86(Isa(level));
    return "there is no such instruction set; known: scalar, avx2, avx512, avx512_bf16, amx_bf16";
}

Isa require_isa(const std::string& name) {
    std::string reason = why_not_isa(name);
    if (!reason.empty()) throw std::invalid_argument("isa: " + name + " cannot be used here: " + reason);
    return Isa(level_of(name));
}

}  // namespace truffle
