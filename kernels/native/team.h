// One team of threads a process, parked between calls, at once or after looking for the next one for a while.
#pragma once

#include <cstdint>
#include <type_traits>

namespace truffle {

// How many threads a call may use, the caller's among them, and whether the team's own stay on a core each. The
// caller's thread is never moved; the first core is left to it.
struct Threads {
    int count = 1;
    bool pinned = false;
};

// Calls body(context, task) once for every task in [0, tasks). Tasks start in ascending order. The first exception
// thrown by a task stops the rest and is rethrown. Calls from several threads take turns.
void run_tasks(Threads threads, int64_t tasks, void (*body)(void*, int64_t), void* context);

// From its next call on, a worker of any team looks for another call for so long before it parks: it is then there at
// once, where waking 15 parked threads takes 50 us.
void spin_before_parking(int64_t microseconds);

template <class Body>
void parallel(Threads threads, int64_t tasks, Body&& body) {
    using Callable = std::remove_reference_t<Body>;
    run_tasks(threads, tasks, [](void* context, int64_t task) { (*static_cast<Callable*>(context))(task); }, &body);
}

}  // namespace truffle
