#include "affinity.h"

#ifdef __linux__
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

namespace truffle {
namespace {

constexpr size_t MOST_CPUS = 16'384, SET_BYTES = CPU_ALLOC_SIZE(MOST_CPUS);
struct Cpus {
    cpu_set_t sets[SET_BYTES / sizeof(cpu_set_t)]{};
};

// The first number of a list such as 3,67; otherwise where there is none below `end`. By C's own means: a C++ stream asks
// the locale of the process, which another copy of the C++ library may have made, and crashed on an image whose copies
// differ.
int first_in(const std::string& path, int end, int otherwise) {
    int first = -1;
    if (FILE* file = std::fopen(path.c_str(), "r")) {
        if (std::fscanf(file, "%d", &first) != 1) first = -1;
        std::fclose(file);
    }
    return first >= 0 && first < end ? first : otherwise;
}

// The lowest CPU of each CPU's core. Read once: cores do not move.
const std::vector<int>& core_of_cpu() {
    static const std::vector<int> cores = [] {
        std::vector<int> found(std::max(1L, sysconf(_SC_NPROCESSORS_CONF)));
        for (int cpu = 0; cpu < int(found.size()); ++cpu) {
            std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/";
            found[cpu] = first_in(folder + "thread_siblings_list", int(found.size()), cpu);
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
