// Where the team's threads may run.
#pragma once

#include <cstdint>

namespace truffle {

// Keeps the calling thread on one logical CPU of those this process may use: that of core `place`, counted round,
// with a core's first CPU before its siblings. Does nothing where the system does not let it.
void stay_on_core(int64_t place);

// Lets the calling thread run wherever this process may.
void run_anywhere();

}  // namespace truffle
