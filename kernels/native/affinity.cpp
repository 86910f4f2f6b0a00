#include "affinity.h"

#ifdef __linux__
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

namespace truffle {
namespace {

constexpr size_t MOST_CPUS = 16'384, SET_BYTES = CPU_ALLOC_SIZE(MOST_CPUS);
struct Cpus {
    cpu_set_t sets[SET_BYTES / sizeof(cpu_set_t)]{};
};

// The lowest CPU of each CPU's core. Read once: cores do not move.
const std::vector<int>& core_of_cpu() {
    static const std::vector<int> cores = [] {
        std::vector<int> found(std::max(1L, sysconf(_SC_NPROCESSORS_CONF)));
        for (size_t cpu = 0; cpu < found.size(); ++cpu) {
            std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
            if (!(file >> found[cpu])) found[cpu] = int(cpu);
        }
        return found;
    }();
    return cores;
}

// CPUs of the process, one of every core, then their siblings.
std::vector<int> by_core(const Cpus& usable) {
    struct Choice {
        int turn, cpu;
    };
    const std::vector<int>& cores = core_of_cpu();
    std::vector<Choice> choices;
    std::vector<int> taken(cores.size());
    for (size_t cpu = 0; cpu < cores.size(); ++cpu)
        if (CPU_ISSET_S(cpu, SET_BYTES, usable.sets)) choices.push_back({taken[cores[cpu]]++, int(cpu)});
    std::stable_sort(choices.begin(), choices.end(), [](Choice a, Choice b) { return a.turn < b.turn; });
    std::vector<int> order;
    for (Choice choice : choices) order.push_back(choice.cpu);
    return order;
}

// The affinity of the main thread stands for the process: a worker's own is what is set here.
bool read_usable(Cpus& usable) { return sched_getaffinity(getpid(), SET_BYTES, usable.sets) == 0; }

}  // namespace

void stay_on_core(int64_t place) {
    Cpus usable, one;
    if (!read_usable(usable)) return;
    std::vector<int> order = by_core(usable);
    if (order.empty()) return;
    CPU_SET_S(order[place % order.size()], SET_BYTES, one.sets);
    sched_setaffinity(0, SET_BYTES, one.sets);
}

void run_anywhere() {
    Cpus usable;
    if (read_usable(usable)) sched_setaffinity(0, SET_BYTES, usable.sets);
}

}  // namespace truffle
#else
namespace truffle {
void stay_on_core(int64_t) {}
void run_anywhere() {}
}  // namespace truffle
#endif
