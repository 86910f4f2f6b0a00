// Compiled by NVRTC, with D, W (words a token), BITS, GROUP (heads a key/value head), HEADS (heads a row), PRIORITY, and
// MOST_PARTS, PART_TOKENS, BINS, LOWEST_BIN, FRACTION_BITS and CANDIDATES of scan_scratch.py; includes nothing.
//
// The stages of scan_triton, with the same scratch between them. Every block has THREADS threads, all of which take
// part in what a block sums up, always in the same order.

constexpr int THREADS = 128, WARPS = THREADS / 32, OWN = 4, TILE = THREADS * OWN;
constexpr int FIELDS = 8 / BITS, QUERY_WORDS = W * FIELDS, LENGTH = 4 * QUERY_WORDS;
constexpr int MEMBERS = GROUP < 8 ? GROUP : 8, CHUNKS = (GROUP + MEMBERS - 1) / MEMBERS;  // heads a block
constexpr float LARGEST_CODE = 127.0f, LARGEST_QUERY = 1e15f, LOG2_E = 1.44269504f, LOWEST = -40.0f * LOG2_E;
constexpr float NONE = -3e38f, ALL = 3e38f, UNIT = 2147483648.0f;
constexpr int AWAY = THREADS / CANDIDATES;

static_assert(MOST_PARTS == THREADS && PART_TOKENS % TILE == 0 && BINS % THREADS == 0 && THREADS % CANDIDATES == 0);

using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

struct Sum {
    template <class T> __device__ T operator()(T a, T b) const { return a + b; }
};
struct Larger {
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

// What a block's values come to, for all of its threads.
template <class T, class Both>
__device__ T over_block(T value, Both both) {
    __shared__ T found[WARPS];
    for (int apart = 16; apart; apart /= 2) value = both(value, __shfl_xor_sync(~0u, value, apart));
    __syncthreads();
    if (threadIdx.x % 32 == 0) found[threadIdx.x / 32] = value;
    __syncthreads();
    value = found[0];
    for (int i = 1; i < WARPS; ++i) value = both(value, found[i]);
    return value;
}

// The sum of the values of the threads before.
template <class T>
__device__ T before(T value) {
    __shared__ T found[WARPS];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    T sum = value;
    for (int apart = 1; apart < 32; apart *= 2) {
        const T other = __shfl_up_sync(~0u, sum, apart);
        if (lane >= apart) sum += other;
    }
    __syncthreads();
    if (lane == 31) found[warp] = sum;
    __syncthreads();
    T others = 0;
    for (int i = 0; i < warp; ++i) others += found[i];
    return others + sum - value;
}

__device__ int part_tokens(int n) {
    const int pieces = (n + PART_TOKENS - 1) / PART_TOKENS, each = (pieces + MOST_PARTS - 1) / MOST_PARTS;
    return (each > 1 ? each : 1) * PART_TOKENS;
}

__device__ int parts_of(int n) { return (n + part_tokens(n) - 1) / part_tokens(n); }

// The row, and the tokens of it, of blocks in a grid of [parts, R, B].
struct Part {
    int b, r, n, first, last;
    long long row, rows;
    __device__ explicit Part(const int *lengths) : b(blockIdx.z), r(blockIdx.y), n(lengths[blockIdx.z]) {
        row = b * (long long)gridDim.y + r, rows = (long long)gridDim.y * gridDim.z;
        first = blockIdx.x * part_tokens(n), last = min(first + part_tokens(n), n);
    }
};

// q [B, H, D] becomes queries [B, H, LENGTH], corrections and factors [B, H]; bins [B, R, BINS] become zeros.
extern "C" __global__ void __launch_bounds__(THREADS)
    quantise_query(const float *q, signed char *queries, int *corrections, float *factors, int *bins, float scale) {
    const long long row = blockIdx.x;
    float largest = 0.0f;
    int fine = 0;
    for (int k = threadIdx.x; k < D; k += THREADS) {
        largest = fmaxf(largest, fabsf(q[row * D + k]));
        fine += fabsf(q[row * D + k]) <= LARGEST_QUERY;  // NaN is not
    }
    largest = over_block(largest, Larger{});
    const bool known = over_block(fine, Sum{}) == D && largest > 0.0f;
    const float steps = known ? __fdiv_rn(LARGEST_CODE, largest) : 0.0f;
    int sum = 0;
    for (int k = threadIdx.x; k < LENGTH; k += THREADS) {
        const int code = known && k < D ? int(rintf(__fmul_rn(q[row * D + k], steps))) : 0;
        queries[row * LENGTH + k] = (signed char)code;
        sum += code;
    }
    sum = over_block(sum, Sum{});
    if (threadIdx.x == 0) {
        corrections[row] = sum * ((1 << BITS) - 1);
        factors[row] = known ? largest / LARGEST_CODE * scale * LOG2_E : 0.0f;
    }
    for (int i = threadIdx.x; i < BINS && row % HEADS == 0; i += THREADS) bins[row / HEADS * BINS + i] = 0;
}

// words [Hkv, blocks, W, 64] and scales [Hkv, blocks, 64] of request b become scores [B, H, stride], and each part's
// peaks and sums [B, H, MOST_PARTS]. Grid [parts, Hkv * CHUNKS].
extern "C" __global__ void __launch_bounds__(THREADS)
    estimate(const uint4 *words, const ushort4 *scales, const int *queries, const int *corrections,
             const float *factors, const int *lengths, float *scores, float *peaks, float *sums, int b, int blocks,
             int stride, int H) {
    __shared__ __align__(16) int query[QUERY_WORDS][MEMBERS];
    const int n = lengths[b], g = blockIdx.y / CHUNKS, member = blockIdx.y % CHUNKS * MEMBERS;
    const int count = min(MEMBERS, GROUP - member);
    const long long head = (long long)b * H + g * GROUP + member;
    for (int i = threadIdx.x; i < QUERY_WORDS * MEMBERS; i += THREADS)
        query[i / MEMBERS][i % MEMBERS] = queries[(head + min(i % MEMBERS, count - 1)) * QUERY_WORDS + i / MEMBERS];
    __syncthreads();

    float peak[MEMBERS], total[MEMBERS];
    for (int h = 0; h < MEMBERS; ++h) peak[h] = NONE, total[h] = 0.0f;
    const int start = blockIdx.x * part_tokens(n), end = min(start + part_tokens(n), n);
    for (int token = start + threadIdx.x * OWN; token < end; token += TILE) {
        const long long block = (long long)g * blocks + token / 64;
        const uint4 *mine = words + (block * W * 64 + token % 64) / 4;
        int product[MEMBERS][OWN] = {};
#pragma unroll
        for (int w = 0; w < W; ++w) {
            const uint4 loaded = __ldg(mine + w * 16);
            const u32 word[OWN] = {loaded.x, loaded.y, loaded.z, loaded.w};
#pragma unroll
            for (int f = 0; f < FIELDS; ++f)
#pragma unroll
                for (int i = 0; i < OWN; ++i) {
                    const int code = int(word[i] >> (BITS * f) & 0x01010101u * ((1u << BITS) - 1));
#pragma unroll
                    for (int h = 0; h < MEMBERS; ++h)
                        product[h][i] = __dp4a(code, query[w * FIELDS + f][h], product[h][i]);
                }
        }
        const ushort4 held = __ldg(scales + (block * 64 + token % 64) / 4);
        const u16 bits[OWN] = {held.x, held.y, held.z, held.w};
#pragma unroll
        for (int h = 0; h < MEMBERS; ++h) {
            if (h >= count) break;
            const float factor = factors[head + h];
            float score[OWN], highest = peak[h];
            for (int i = 0; i < OWN; ++i) {
                const float size = __uint_as_float(u32(bits[i]) << 16) * factor;
                score[i] = token + i < n ? float(2 * product[h][i] - corrections[head + h]) * size : NONE;
                highest = fmaxf(highest, score[i]);
            }
            *reinterpret_cast<float4 *>(scores + (head + h) * stride + token) = {score[0], score[1], score[2], score[3]};
            total[h] *= exp2f(peak[h] - highest);
            for (int i = 0; i < OWN; ++i) total[h] += token + i < n ? exp2f(score[i] - highest) : 0.0f;
            peak[h] = highest;
        }
    }
#pragma unroll
    for (int h = 0; h < MEMBERS; ++h) {
        const float highest = over_block(peak[h], Larger{});
        const float sum = over_block(total[h] * exp2f(peak[h] - highest), Sum{});
        if (threadIdx.x == 0 && h < count) {
            peaks[(head + h) * MOST_PARTS + blockIdx.x] = highest;
            sums[(head + h) * MOST_PARTS + blockIdx.x] = sum;
        }
    }
}

// scores, peaks and sums become proposals [B, R, stride], counted by size in bins [B, R, BINS].
extern "C" __global__ void __launch_bounds__(THREADS)
    propose(const float *scores, const float *peaks, const float *sums, const int *lengths, float *proposals,
            int *bins, int stride) {
    __shared__ float highest[HEADS], share[HEADS];
    __shared__ int counts[BINS];
    const Part part(lengths);
    for (int i = threadIdx.x; i < BINS; i += THREADS) counts[i] = 0;
    for (int h = 0; h < HEADS; ++h) {
        const long long at = (part.row * HEADS + h) * MOST_PARTS + threadIdx.x;
        const bool there = threadIdx.x < parts_of(part.n);
        const float peak = there ? peaks[at] : NONE, high = over_block(peak, Larger{});
        const float total = over_block(there ? sums[at] * exp2f(peak - high) : 0.0f, Sum{});
        if (threadIdx.x == 0) highest[h] = high, share[h] = 1.0f / total;
    }
    __syncthreads();
    for (int token = part.first + threadIdx.x * OWN; token < part.last; token += TILE) {
        float proposal[OWN] = {};
        for (int h = 0; h < HEADS; ++h) {
            const float *from = scores + (part.row * HEADS + h) * stride + token;
            const float4 loaded = *reinterpret_cast<const float4 *>(from);
            const float score[OWN] = {loaded.x, loaded.y, loaded.z, loaded.w};
            for (int i = 0; i < OWN; ++i) proposal[i] += exp2f(fmaxf(score[i] - highest[h], LOWEST)) * share[h];
        }
        for (int i = 0; i < OWN; ++i) {
            if (token + i >= part.n) proposal[i] = 0.0f;
            const int bin = (__float_as_int(proposal[i]) >> FRACTION_BITS) - LOWEST_BIN;
            if (token + i < part.n) atomicAdd(counts + max(0, min(bin, BINS - 1)), 1);
        }
        float *to = proposals + part.row * stride + token;
        *reinterpret_cast<float4 *>(to) = {proposal[0], proposal[1], proposal[2], proposal[3]};
    }
    __syncthreads();
    for (int i = threadIdx.x; i < BINS; i += THREADS)
        if (counts[i]) atomicAdd(bins + part.row * BINS + i, counts[i]);
}

// c at which the line #certain + c rest reaches `wanted`.
__device__ float meets(float certain, float rest, float wanted) {
    return rest > 0.0f && certain <= wanted ? (wanted - certain) / rest : 0.0f;
}

// The largest multiplier that counts of proposals by size, [BINS], allow.
__device__ float highest_multiplier(const int *counts, float wanted, int n) {
    constexpr int EACH = BINS / THREADS;
    int count[EACH], sum = 0;
    float edge[EACH], weight = 0.0f, best = 0.0f;
    for (int i = 0; i < EACH; ++i) {
        const int bin = threadIdx.x * EACH + i;
        count[i] = counts[bin], edge[i] = __int_as_float((bin + LOWEST_BIN) << FRACTION_BITS);
        sum += count[i], weight += count[i] * edge[i];
    }
    int below = before(sum);
    float rest = before(weight);
    for (int i = 0; i < EACH; ++i) {
        best = fmaxf(best, meets(float(n - below), rest, wanted));
        below += count[i], rest += count[i] * edge[i];
    }
    return over_block(best, Larger{});
}

// What part.first to part.last say of each candidate: certain and rest, [B, R, MOST_PARTS, CANDIDATES].
extern "C" __global__ void __launch_bounds__(THREADS)
    try_candidates(const float *proposals, const int *bins, const float *wanted, const int *lengths, float *certain,
                   float *rest, int stride) {
    __shared__ float tile[TILE], certains[THREADS], rests[THREADS];
    const Part part(lengths);
    const int own = threadIdx.x % CANDIDATES, away = threadIdx.x / CANDIDATES;
    const float highest = highest_multiplier(bins + part.row * BINS, wanted[part.row], part.n);
    const float lowest = highest * 0.999f / (1.0f + 1.0f / (1 << (23 - FRACTION_BITS)));
    const float candidate = lowest + (highest - lowest) * (own / float(CANDIDATES - 1));
    float certain_sum = 0.0f, rest_sum = 0.0f;
    for (int first = part.first; first < part.last; first += TILE) {
        __syncthreads();
        for (int i = threadIdx.x; i < TILE; i += THREADS)
            tile[i] = first + i < part.n ? proposals[part.row * stride + first + i] : 0.0f;
        __syncthreads();
        for (int i = away; i < TILE; i += AWAY) {
            const bool high = tile[i] * candidate >= 1.0f;
            certain_sum += high ? 1.0f : 0.0f, rest_sum += high ? 0.0f : tile[i];
        }
    }
    certains[threadIdx.x] = certain_sum, rests[threadIdx.x] = rest_sum;
    __syncthreads();
    if (away) return;
    for (int i = 1; i < AWAY; ++i)
        certain_sum += certains[own + i * CANDIDATES], rest_sum += rests[own + i * CANDIDATES];
    const long long at = (part.row * MOST_PARTS + blockIdx.x) * CANDIDATES + own;
    certain[at] = certain_sum, rest[at] = rest_sum;
}

// The multiplier of a row, by what its parts say.
__device__ float multiplier(const float *certain, const float *rest, float wanted, int n) {
    __shared__ float certains[THREADS], rests[THREADS];
    const int own = threadIdx.x % CANDIDATES, away = threadIdx.x / CANDIDATES;
    float certain_sum = 0.0f, rest_sum = 0.0f;
    for (int i = away; i < parts_of(n); i += AWAY)
        certain_sum += certain[i * CANDIDATES + own], rest_sum += rest[i * CANDIDATES + own];
    certains[threadIdx.x] = certain_sum, rests[threadIdx.x] = rest_sum;
    __syncthreads();
    for (int i = 1; i < AWAY && away == 0; ++i)
        certain_sum += certains[own + i * CANDIDATES], rest_sum += rests[own + i * CANDIDATES];
    const float best = over_block(away ? 0.0f : meets(certain_sum, rest_sum, wanted), Larger{});
    return wanted < n ? best : ALL;
}

struct Stream {
    u32 key[2], row, step, layer;
};

// Four words of Philox-4x32-10.
__device__ uint4 philox(const Stream &stream, u32 counter) {
    uint4 c = {counter, stream.row, stream.step, stream.layer};
    u32 k0 = stream.key[0], k1 = stream.key[1];
#pragma unroll
    for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
        c = {__umulhi(0xCD9E8D57u, c.z) ^ c.y ^ k0, 0xCD9E8D57u * c.z, __umulhi(0xD2511F53u, c.x) ^ c.w ^ k1,
             0xD2511F53u * c.x};
    return c;
}

struct Cut {
    float multiplier, least, threshold;
};

__device__ float lifted(float proposal, float least, u32 random) {
    return fmaxf(proposal, least) / ((float(random) + 0.5f) / UNIT);
}

// Ratios of the four tokens of thread t in a tile, 16 apart from `64 (t / 16) + t % 16` on, and bits that tell which
// of its 64 neighbours are drawn, in their order.
__device__ u64 drawn(const float *proposals, const Cut &cut, const Stream &stream, int first, int n, float (&ratio)[4]) {
    const uint4 words = philox(stream, first / 4 + threadIdx.x);
    const u32 random[4] = {words.x >> 1, words.y >> 1, words.z >> 1, words.w >> 1};
    const int token = first + threadIdx.x / 16 * 64 + threadIdx.x % 16;
    u64 bits = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        const bool there = token + 16 * j < n;
        const float proposal = there ? proposals[token + 16 * j] : 0.0f;
        bool in;
        if (PRIORITY) {
            ratio[j] = fmaxf(proposal, cut.least) * cut.multiplier;
            in = lifted(proposal, cut.least, random[j]) > cut.threshold;
        } else {
            ratio[j] = fmaxf(proposal * cut.multiplier, cut.least);
            in = ratio[j] >= 1.0f || random[j] < u32(ratio[j] * UNIT);
        }
        const u32 warp = __ballot_sync(~0u, there && in);
        bits |= u64(warp >> (threadIdx.x / 16 % 2 * 16) & 0xFFFF) << (16 * j);
    }
    return bits;
}

__device__ Stream stream_of(const Part &part, const int *step, u64 seed, int layer) {
    return {{u32(seed), u32(seed >> 32)}, u32(part.r), u32(step[part.b]), u32(layer)};
}

__device__ Cut cut_of(const Part &part, const float *cuts) {
    return {cuts[part.row], cuts[part.rows + part.row], cuts[2 * part.rows + part.row]};
}

// counts [B, R, MOST_PARTS]; cuts [3, B, R] are settled here, but for those of a priority sample.
extern "C" __global__ void __launch_bounds__(THREADS)
    count_drawn(const float *proposals, float *cuts, const int *lengths, const int *step, const float *wanted,
                const float *floor, const float *certain, const float *rest, int *counts, u64 seed, int layer, int stride) {
    const Part part(lengths);
    const Stream stream = stream_of(part, step, seed, layer);
    Cut cut;
    if (PRIORITY) {
        cut = cut_of(part, cuts);
    } else {
        const long long at = part.row * MOST_PARTS * CANDIDATES;
        cut.multiplier = multiplier(certain + at, rest + at, wanted[part.row], part.n);
        cut.least = part.n ? fminf(1.0f, floor[part.b] / part.n) : 0.0f, cut.threshold = 0.0f;
        if (blockIdx.x == 0 && threadIdx.x == 0)
            cuts[part.row] = cut.multiplier, cuts[part.rows + part.row] = cut.least;
    }
    int sum = 0;
    float ratio[4];
    for (int first = part.first; first < part.last; first += TILE) {
        const u64 bits = drawn(proposals + part.row * stride, cut, stream, first, part.n, ratio);
        sum += threadIdx.x % 16 == 0 ? __popcll(bits) : 0;
    }
    sum = over_block(sum, Sum{});
    if (threadIdx.x == 0) counts[part.row * MOST_PARTS + blockIdx.x] = sum;
}

// ids and log_weight [B * R, capacity], count [B * R]
extern "C" __global__ void __launch_bounds__(THREADS)
    write_drawn(const float *proposals, const float *cuts, const int *lengths, const int *step, const int *counts,
                int *ids, float *log_weight, int *count, u64 seed, int layer, int stride, int capacity) {
    __shared__ int found[TILE / 64];
    const Part part(lengths);
    const Stream stream = stream_of(part, step, seed, layer);
    const Cut cut = cut_of(part, cuts);
    const int mine = threadIdx.x < parts_of(part.n) ? counts[part.row * MOST_PARTS + threadIdx.x] : 0;
    const int whole = over_block(mine, Sum{});
    int place = over_block(threadIdx.x < blockIdx.x ? mine : 0, Sum{});
    if (blockIdx.x == 0 && threadIdx.x == 0) count[part.row] = min(whole, capacity);
    const int block = threadIdx.x / 16, lane = threadIdx.x % 16;
    for (int first = part.first; first < part.last; first += TILE) {
        float ratio[4];
        const u64 bits = drawn(proposals + part.row * stride, cut, stream, first, part.n, ratio);
        __syncthreads();
        if (lane == 0) found[block] = __popcll(bits);
        __syncthreads();
        int from = place;
        for (int i = 0; i < TILE / 64; ++i) from += i < block ? found[i] : 0, place += found[i];
        for (int j = 0; j < 4; ++j) {
            const u64 own = u64(1) << (16 * j + lane);
            const int to = from + __popcll(bits & (own - 1));
            if (!(bits & own) || to >= capacity) continue;
            ids[part.row * capacity + to] = first + block * 64 + 16 * j + lane;
            log_weight[part.row * capacity + to] = logf(fminf(ratio[j], 1.0f));
        }
    }
}

// proposals over random numbers, [B, R, stride]
extern "C" __global__ void __launch_bounds__(THREADS)
    lift(const float *proposals, const float *cuts, const int *lengths, const int *step, float *to, u64 seed,
         int layer, int stride) {
    const Part part(lengths);
    const Stream stream = stream_of(part, step, seed, layer);
    for (int first = part.first; first < part.last; first += TILE) {
        const uint4 words = philox(stream, first / 4 + threadIdx.x);
        const u32 random[4] = {words.x >> 1, words.y >> 1, words.z >> 1, words.w >> 1};
        for (int j = 0; j < 4; ++j) {
            const long long at = part.row * stride + first + threadIdx.x / 16 * 64 + 16 * j + threadIdx.x % 16;
            to[at] = lifted(proposals[at], cuts[part.rows + part.row], random[j]);
        }
    }
}
