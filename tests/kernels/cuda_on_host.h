// CUDA kernels as C++ of the host: a block's threads are coroutines that take turns from one barrier to the next.
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#define __device__
#define __global__
#define __shared__ static
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct Place {
    unsigned x, y, z;
};
struct uint4 {
    unsigned x, y, z, w;
};
struct float4 {
    float x, y, z, w;
};
struct ushort4 {
    unsigned short x, y, z, w;
};

inline Place threadIdx, blockIdx, blockDim, gridDim;
inline ucontext_t scheduler, *current;
inline const std::function<void()> *kernel;
inline unsigned long long exchanged[1024];
inline bool finished;

inline void __syncthreads() {
    const Place mine = threadIdx;
    swapcontext(current, &scheduler);
    threadIdx = mine;
}

inline void start_thread() {
    (*kernel)();
    finished = true;
    setcontext(&scheduler);
}

inline void run_block(unsigned threads) {
    constexpr size_t STACK = 1 << 17;
    static std::vector<char> stacks(1024 * STACK);
    std::vector<ucontext_t> all(threads);
    std::vector<char> ended(threads, 0);
    for (unsigned i = 0; i < threads; ++i) {
        getcontext(&all[i]);
        all[i].uc_stack.ss_sp = stacks.data() + i * STACK, all[i].uc_stack.ss_size = STACK;
        makecontext(&all[i], start_thread, 0);
    }
    for (unsigned left = threads; left;)
        for (unsigned i = 0; i < threads; ++i) {
            if (ended[i]) continue;
            threadIdx = {i, 0, 0}, current = &all[i], finished = false;
            swapcontext(&scheduler, current);
            if (finished) ended[i] = 1, --left;
        }
}

template <class... A, size_t... I>
void run(void (*function)(A...), const unsigned *grid, unsigned threads, void **given, std::index_sequence<I...>) {
    const std::function<void()> bound = [=] { function(*static_cast<std::decay_t<A> *>(given[I])...); };
    kernel = &bound, gridDim = {grid[0], grid[1], grid[2]}, blockDim = {threads, 1, 1};
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x) run_block(threads);
}

template <class... A>
void run(void (*function)(A...), const unsigned *grid, unsigned threads, void **given) {
    run(function, grid, threads, given, std::index_sequence_for<A...>{});
}

// What the threads of a block hold, by thread; all of them take part.
template <class T, class Then>
auto exchange(T mine, Then then) {
    memcpy(&exchanged[threadIdx.x], &mine, sizeof mine);
    __syncthreads();
    auto found = then([](unsigned thread) {
        T held;
        memcpy(&held, &exchanged[thread], sizeof held);
        return held;
    });
    __syncthreads();
    return found;
}
template <class T>
T __shfl_xor_sync(unsigned, T mine, int apart) {
    return exchange(mine, [=](auto held) { return held(threadIdx.x ^ apart); });
}
template <class T>
T __shfl_up_sync(unsigned, T mine, int apart) {
    const bool inside = int(threadIdx.x % 32) >= apart;
    return exchange(mine, [=](auto held) { return inside ? held(threadIdx.x - apart) : mine; });
}
inline unsigned __ballot_sync(unsigned, bool mine) {
    return exchange(mine, [](auto held) {
        unsigned bits = 0;
        for (int lane = 0; lane < 32; ++lane) bits |= unsigned(held(threadIdx.x / 32 * 32 + lane)) << lane;
        return bits;
    });
}

inline int min(int a, int b) { return std::min(a, b); }
inline int max(int a, int b) { return std::max(a, b); }
inline int atomicAdd(int *to, int more) { return std::exchange(*to, *to + more); }
inline int __dp4a(int a, int b, int sum) {
    for (int shift = 0; shift < 32; shift += 8) sum += int((signed char)(a >> shift)) * (signed char)(b >> shift);
    return sum;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
template <class To, class From>
To as(From from) {
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
inline int __float_as_int(float x) { return as<int>(x); }
inline unsigned __float_as_uint(float x) { return as<unsigned>(x); }
inline float __int_as_float(int x) { return as<float>(x); }
inline float __uint_as_float(unsigned x) { return as<float>(x); }
template <class T>
T __ldg(const T *from) {
    return *from;
}
