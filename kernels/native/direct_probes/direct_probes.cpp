#include "direct_probes/direct_probes.h"

#include "scratch.h"

namespace truffle {

void direct_probes(const DirectProbes& call, Isa isa, Threads threads) {
    parallel(threads, call.rows, [&](int64_t row) {
        thread_local Scratch scratch;
        scratch.reserve(call.L * sizeof(ProbePlan));
        TRUFFLE_PICK(isa, direct_row)(call, row, scratch.take<ProbePlan>(call.L));
    });
}

}  // namespace truffle
