// Compiled by NVRTC, with D, BITS, STEP_SIZE (of a Gaussian coordinate) and FLOAT_KEYS as macros; includes nothing.
//
// A block has 64 tokens in its lanes, four times: each of four parts, of two warps, has words of its own, whose
// coordinates it turns and keeps in registers until the token's norm is known.

constexpr int FIELDS = 32 / BITS, W = (BITS * D + 31) / 32, COLUMNS = W * FIELDS;
constexpr int PARTS = 4, OWN = (W + PARTS - 1) / PARTS;  // words a part
constexpr int TURN = COLUMNS <= 256 ? 32 : 8;            // coordinates multiplied between two waits
constexpr float SMALLEST = 1e-30f, LARGEST = 1e30f;

using u16 = unsigned short;
using u32 = unsigned int;

#if FLOAT_KEYS
using Key = float;
__device__ float widened(float key) { return key; }
#else
using Key = u16;
__device__ float widened(u16 key) { return __uint_as_float(u32(key) << 16); }
#endif

__device__ u16 rounded(float x) {
    const u32 bits = __float_as_uint(x);
    return u16((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// The sum of a token's four parts.
__device__ float over_parts(float mine, float (&found)[PARTS][64], int part, int lane) {
    __syncthreads();
    found[part][lane] = mine;
    __syncthreads();
    return found[0][lane] + found[1][lane] + found[2][lane] + found[3][lane];
}

// keys [R, n, D], center [R, D], rotation [D, D], words [R, blocks, W, 64], scales [R, blocks, 64]
extern "C" __global__ void __launch_bounds__(256)
    quantize_keys(const Key *keys, const float *center, const float *rotation, u32 *words, u16 *scales, int n,
                  int start, int blocks) {
    __shared__ float x[TURN][64], turn[TURN][COLUMNS], found[PARTS][64];
    const int lane = threadIdx.x % 64, part = threadIdx.x / 64;
    const int token = blockIdx.x * 64 + lane;
    const long long r = blockIdx.y;

    float y[OWN][FIELDS] = {};
    for (int first = 0; first < D; first += TURN) {
        __syncthreads();
        for (int i = threadIdx.x; i < TURN * 64; i += blockDim.x) {
            const int k = first + i % TURN, other = blockIdx.x * 64 + i / TURN;
            const bool there = k < D && other < n;
            x[i % TURN][i / TURN] = there ? widened(keys[(r * n + other) * D + k]) - center[r * D + k] : 0.0f;
        }
        for (int i = threadIdx.x; i < TURN * COLUMNS; i += blockDim.x) {
            const int k = first + i / COLUMNS, column = i % COLUMNS;
            turn[i / COLUMNS][column] = k < D && column < D ? rotation[(long long)k * D + column] : 0.0f;
        }
        __syncthreads();
        for (int k = 0; k < TURN; ++k) {
#pragma unroll
            for (int own = 0; own < OWN; ++own)
#pragma unroll
                for (int f = 0; f < FIELDS; ++f)
                    if (W % PARTS == 0 || own * PARTS + part < W)
                        y[own][f] += x[k][lane] * turn[k][(own * PARTS + part) * FIELDS + f];
        }
    }

    float square = 0.0f;
    for (int own = 0; own < OWN; ++own)
        for (int f = 0; f < FIELDS; ++f) square += y[own][f] * y[own][f];
    square = over_parts(square, found, part, lane);
    const bool known = square >= SMALLEST && square <= LARGEST;
    const float steps = 1.0f / (float(STEP_SIZE) * sqrtf((known ? square : 1.0f) / D));
    const float half = float(1 << BITS) / 2, most = float((1 << BITS) - 1);

    const int at = start + token;
    const long long block = r * blocks + at / 64;
    float product = 0.0f;
#pragma unroll
    for (int own = 0; own < OWN; ++own) {
        u32 word = 0;
#pragma unroll
        for (int f = 0; f < FIELDS; ++f) {
            const float turned = known ? y[own][f] : 0.0f;
            const int code = int(fminf(fmaxf(turned * steps + half, 0.0f), most));
            product += turned * (2.0f * code - most);
            if ((own * PARTS + part) * FIELDS + f < D) word |= u32(code) << (8 * (f % 4) + BITS * (f / 4));
        }
        if (own * PARTS + part < W && token < n) words[(block * W + own * PARTS + part) * 64 + at % 64] = word;
    }
    product = over_parts(product, found, part, lane);
    if (part == 0 && token < n) scales[block * 64 + at % 64] = rounded(known ? square / product : 0.0f);
}
