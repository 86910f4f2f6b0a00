// Compiled by NVRTC, with D, K, TERMS (of a plane) and FLOAT_TOKENS as macros; includes nothing.
//
// A warp keeps its tokens in registers, as the left operand of mma.m16n8k16, and walks over the planes. Which token is
// which row, which plane is which column and which dimension is which step of a product are free to choose. They are
// such that a lane loads 16 bytes of a token or of a plane at once, ends up with all the bits of one table for tokens
// that follow one another, and so packs codes without asking other lanes and writes them side by side.

constexpr int STEPS = (D + 31) / 32;       // of 32 dimensions, two products each
constexpr int PAIRS = (K + 1) / 2;         // of bits: a product decides two bits of four tables
constexpr int SPLITS = FLOAT_TOKENS ? 3 : 1;  // a float32 is the sum of three bfloat16
constexpr int ROWS = FLOAT_TOKENS ? 1 : 2;    // products of 16 tokens a warp
constexpr int OWN = 2 * ROWS;                 // tokens a lane
constexpr int BLOCKS = SPLITS * ROWS * STEPS <= 8 ? 2 : 1;  // on a multiprocessor, as registers allow

using u16 = unsigned short;
using u32 = unsigned int;

struct Words {
    u32 w[4];  // eight dimensions in bfloat16
};

__device__ void multiply_add(float (&sum)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

__device__ u32 rounded(float low, float high) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

__device__ float widened(u32 bits) { return __uint_as_float(bits << 16); }

// Eight dimensions of a token, as SPLITS terms, the highest first.
#if FLOAT_TOKENS
using Token = float;
__device__ void load(const float *x, int count, Words (&terms)[SPLITS]) {
    for (int i = 0; i < 4; ++i) {
        float low = 2 * i < count ? x[2 * i] : 0.0f, high = 2 * i + 1 < count ? x[2 * i + 1] : 0.0f;
        for (int t = 0; t < SPLITS; ++t) {
            u32 both = terms[t].w[i] = rounded(low, high);
            low -= widened(both), high -= widened(both >> 16);
        }
    }
}
#else
using Token = u16;
__device__ void load(const u16 *x, int count, Words (&terms)[SPLITS]) {
    if (D % 8 == 0) {
        uint4 all = count > 0 ? *reinterpret_cast<const uint4 *>(x) : uint4{0, 0, 0, 0};
        terms[0] = {all.x, all.y, all.z, all.w};
        return;
    }
    for (int i = 0; i < 4; ++i)
        terms[0].w[i] = (2 * i < count ? x[2 * i] : 0) | (2 * i + 1 < count ? x[2 * i + 1] : 0) << 16;
}
#endif

// offsets [R, columns] = center [R, D] x planes [D, columns]
extern "C" __global__ void project_centers(const float *center, const float *planes, float *offsets, int columns) {
    int column = blockIdx.x * blockDim.x + threadIdx.x;
    long long r = blockIdx.y;
    if (column >= columns) return;
    float sum = 0.0f;
    for (int k = 0; k < D; ++k) sum += center[r * D + k] * planes[(long long)k * columns + column];
    offsets[r * columns + column] = sum;
}

// x [R, n, D], planes [groups, PAIRS, TERMS, STEPS, 32 lanes] of 16 bytes, offsets [R, L * K] or null, codes [R, L, n].
// A block takes tokens of one request, and `each` groups of four tables.
extern "C" __global__ void __launch_bounds__(256, BLOCKS)
    hash_codes(const Token *x, const uint4 *planes, const float *offsets, u16 *codes, int n, int L, int each) {
    const int lane = threadIdx.x % 32, row = lane / 4, part = lane % 4;
    const int tokens = blockDim.x / 32 * 8 * OWN, tiles = (n + tokens - 1) / tokens;
    const long long r = blockIdx.x / tiles;
    const int first = blockIdx.x % tiles * tokens + (threadIdx.x / 32 * 8 + row) * OWN;

    Words own[OWN][STEPS][SPLITS];
#pragma unroll
    for (int i = 0; i < OWN; ++i)
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            int k = step * 32 + part * 8, count = first + i < n ? D - k : 0;
            load(x + (r * n + first + i) * D + k, count, own[i][step]);
        }

    const int groups = (L + 3) / 4, start = blockIdx.y * each, end = min(start + each, groups);
    const uint4 *next = planes + (long long)start * PAIRS * TERMS * STEPS * 32 + lane;
    for (int group = start; group < end; ++group) {
        const int table = group * 4 + part;
        const float *offset = offsets && table < L ? offsets + r * L * K + table * K : nullptr;
        u32 code[OWN] = {};
#pragma unroll
        for (int pair = 0; pair < PAIRS; ++pair) {
            float sum[ROWS][4] = {};
#pragma unroll
            for (int term = 0; term < TERMS; ++term)
#pragma unroll
                for (int step = 0; step < STEPS; ++step, next += 32) {
                    const uint4 b = __ldg(next);
#pragma unroll
                    for (int split = 0; split < SPLITS && split + TERMS - 1 - term < 3; ++split)
#pragma unroll
                        for (int i = 0; i < ROWS; ++i) {
                            const u32 *one = own[2 * i][step][split].w, *two = own[2 * i + 1][step][split].w;
                            multiply_add(sum[i], one[0], two[0], one[1], two[1], b.x, b.y);
                            multiply_add(sum[i], one[2], two[2], one[3], two[3], b.z, b.w);
                        }
                }
#pragma unroll
            for (int j = 0; j < 2 && 2 * pair + j < K; ++j) {
                const int bit = 2 * pair + j;
                const float zero = offset ? offset[bit] : 0.0f;
#pragma unroll
                for (int i = 0; i < OWN; ++i) code[i] |= sum[i / 2][i % 2 * 2 + j] > zero ? 1u << bit : 0u;
            }
        }
        u16 *out = codes + (r * L + table) * n + first;
        if (table < L && n % OWN == 0 && first < n) {
            for (int i = 0; i < OWN; i += 2) reinterpret_cast<u32 *>(out)[i / 2] = code[i] | code[i + 1] << 16;
        } else if (table < L) {
            for (int i = 0; i < OWN && first + i < n; ++i) out[i] = code[i];
        }
        __syncthreads();  // the warps read the same planes at the same time, once from the second-level cache
    }
}
