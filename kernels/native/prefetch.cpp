#include "prefetch.h"

#ifdef TRUFFLE_X86
#include <cpuid.h>
#endif

namespace truffle {

bool far_prefetch() {
#ifdef TRUFFLE_X86
    static const bool intel = [] {
        unsigned a, b = 0, c, d;
        return __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx;
    }();
    return intel;
#else
    return false;
#endif
}

}  // namespace truffle
