#include "scan_sample/work.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <functional>
#include <vector>

namespace truffle {
namespace {

constexpr float LARGEST_QUERY = 1e15f, LARGEST_CODE = 127.0f, LOG2_E = 1.44269504f;
const float LOWEST_WEIGHT = std::exp(-40.0f);
constexpr int MOST_STEPS = 64;

void estimate_on(const Estimate& task, Isa isa) {
#ifdef TRUFFLE_X86
    if (isa >= Isa::avx512_bf16) return avx512_bf16::estimate_chunk(task);
#endif
    TRUFFLE_PICK(isa, estimate_chunk)(task);
}

}  // namespace

Work::Sizes::Sizes(const ScanSample& call, int64_t request) {
    const CodesView& codes = call.codes[request];
    group = call.H / codes.heads;
    rows = call.R / codes.heads;
    n = codes.length;
    chunks = (n + CHUNK_TOKENS - 1) / CHUNK_TOKENS;
    padded = (n + BLOCK_TOKENS - 1) / BLOCK_TOKENS * BLOCK_TOKENS;
    stride = codes.W * (32 / codes.bits);
}

size_t Work::bytes(const ScanSample& call, int64_t request) {
    const Sizes s(call, request);
    return Scratch::rounded<int8_t>(s.group * s.stride) + 2 * Scratch::rounded<float>(s.group) +
           Scratch::rounded<float>(s.group * s.padded) + 2 * Scratch::rounded<float>(s.group * s.chunks) +
           Scratch::rounded<int32_t>(s.rows * s.padded) + Scratch::rounded<int32_t>(s.rows * s.chunks) +
           Scratch::rounded<Cut>(s.rows);
}

Work::Work(const ScanSample& call, int64_t request, int64_t kv_head, Isa isa, Scratch& scratch)
    : call_(call), codes_(call.codes[request]), request_(request), kv_head_(kv_head), isa_(isa) {
    const Sizes s(call, request);
    group_ = s.group, rows_ = s.rows, n_ = s.n, chunks_ = s.chunks, padded_ = s.padded, query_stride_ = s.stride;
    queries_ = scratch.take<int8_t>(group_ * query_stride_);
    corrections_ = scratch.take<int32_t>(group_);
    factors_ = scratch.take<float>(group_);
    weights_ = scratch.take<float>(group_ * padded_);
    peaks_ = scratch.take<float>(group_ * chunks_);
    sums_ = scratch.take<float>(group_ * chunks_);
    found_ = scratch.take<int32_t>(rows_ * padded_);
    counts_ = scratch.take<int32_t>(rows_ * chunks_);
    cuts_ = scratch.take<Cut>(rows_);
    for (int64_t head = 0; head < group_; ++head) quantise_query(head);
}

void Work::quantise_query(int64_t head) {
    const float* q = call_.q + (request_ * call_.H + kv_head_ * group_ + head) * call_.d;
    int8_t* codes = queries_ + head * query_stride_;
    memset(codes, 0, query_stride_);
    float largest = 0.0f;
    bool fine = true;
    for (int64_t j = 0; j < call_.d; ++j) {
        fine &= std::fabs(q[j]) <= LARGEST_QUERY;
        largest = std::max(largest, std::fabs(q[j]));
    }
    fine &= largest > 0.0f;
    const float steps = fine ? LARGEST_CODE / largest : 0.0f;
    int32_t sum = 0;
    for (int64_t j = 0; fine && j < call_.d; ++j) {
        codes[j] = int8_t(std::nearbyint(q[j] * steps));
        sum += codes[j];
    }
    corrections_[head] = sum * ((1 << codes_.bits) - 1);
    factors_[head] = fine ? largest / LARGEST_CODE * call_.scale * LOG2_E : 0.0f;
}

int64_t Work::tokens_of(int64_t chunk) const { return std::min(CHUNK_TOKENS, n_ - chunk * CHUNK_TOKENS); }

void Work::estimate(int64_t chunk) const {
    const int64_t block = kv_head_ * codes_.blocks + chunk * CHUNK_BLOCKS, tokens = tokens_of(chunk);
    Estimate task{group_, codes_.W, (tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS, tokens, codes_.bits,
                  codes_.words + block * codes_.W * BLOCK_TOKENS, codes_.scales + block * BLOCK_TOKENS, queries_,
                  corrections_, factors_, query_stride_, padded_, weights_ + chunk * CHUNK_TOKENS, peaks_ + chunk,
                  sums_ + chunk, chunks_};
    estimate_on(task, isa_);
}

// Weights of the row's heads become its proposals, which sum to the number of heads.
void Work::combine(int64_t row) const {
    const int64_t heads = group_ / rows_, first = row * heads;
    thread_local std::vector<float> scales, least;
    scales.resize(heads * chunks_);
    least.resize(heads);
    for (int64_t h = 0; h < heads; ++h) {
        const float *peaks = peaks_ + (first + h) * chunks_, *sums = sums_ + (first + h) * chunks_;
        const float highest = *std::max_element(peaks, peaks + chunks_);
        double total = 0.0;
        for (int64_t c = 0; c < chunks_; ++c) total += sums[c] * (scales[h * chunks_ + c] = std::exp2(peaks[c] - highest));
        for (int64_t c = 0; c < chunks_; ++c) scales[h * chunks_ + c] /= float(total);
        least[h] = LOWEST_WEIGHT / float(total);
    }
    for (int64_t c = 0; c < chunks_; ++c)
        TRUFFLE_PICK(isa_, combine_chunk)(Combine{heads, tokens_of(c), padded_, scales.data() + c, least.data(), chunks_,
                                                  weights_of(row) + c * CHUNK_TOKENS});
}

// Newton from below on sum min(1, c w) = wanted, which is concave and piecewise linear in c.
void Work::settle(int64_t row) const {
    const float wanted = call_.wanted[request_ * call_.R + kv_head_ * rows_ + row], floor = call_.floor[request_];
    const float heads = float(group_ / rows_);
    Cut& cut = cuts_[row];
    cut = {FLT_MAX, 0.0f, 0.0f};
    if (n_ == 0) return;
    combine(row);
    if (call_.priority) {
        const int64_t k = int64_t(std::nearbyint(wanted));
        const float least = k ? heads * floor / (float(n_) * float(k)) : 0.0f;
        const float threshold = k == 0 ? FLT_MAX : k < n_ ? priority_threshold(row, k, least) : 0.0f;
        if (k < n_) cut = {1.0f / threshold, least, threshold};
    } else if (wanted < float(n_)) {
        float c = wanted / heads;
        for (int i = 0; i < MOST_STEPS; ++i) {
            const Share share = TRUFFLE_PICK(isa_, share_of)(weights_of(row), padded_, c);
            const float better = float((wanted - double(share.certain)) / share.rest);
            if (!(better > c * (1.0f + 1e-6f))) break;
            c = better;
        }
        cut = {c, std::min(1.0f, floor / float(n_)), 0.0f};
    }
}

// The (k + 1)-th largest of weight / u.
float Work::priority_threshold(int64_t row, int64_t k, float least) const {
    thread_local std::vector<float> lifted;
    lifted.resize(padded_);
    TRUFFLE_PICK(isa_, lift)(weights_of(row), padded_, least, stream(row), lifted.data());
    std::nth_element(lifted.begin(), lifted.begin() + k, lifted.begin() + n_, std::greater<float>());
    return lifted[k];
}

Stream Work::stream(int64_t row) const {
    const uint32_t place = uint32_t(kv_head_ * rows_ + row);
    return {{uint32_t(call_.seed), uint32_t(call_.seed >> 32)}, {place, uint32_t(call_.step[request_]), call_.layer}};
}

void Work::draw(int64_t row, int64_t chunk) const {
    const int64_t first = chunk * CHUNK_TOKENS;
    float* weights = weights_of(row) + first;
    counts_[row * chunks_ + chunk] = int32_t(TRUFFLE_PICK(isa_, draw_chunk)(
        Draw{weights, first, tokens_of(chunk), cuts_[row], stream(row), call_.priority,
             found_ + row * padded_ + first, weights}));
}

void Work::collect(int64_t row) const {
    const int64_t place = request_ * call_.R + kv_head_ * rows_ + row;
    int32_t* ids = call_.ids + place * call_.capacity;
    float* log_weight = call_.log_weight + place * call_.capacity;
    int64_t count = 0;
    for (int64_t chunk = 0; chunk < chunks_; ++chunk) {
        const int64_t from = chunk * CHUNK_TOKENS;
        const int64_t some = std::min<int64_t>(counts_[row * chunks_ + chunk], call_.capacity - count);
        memcpy(ids + count, found_ + row * padded_ + from, some * sizeof(int32_t));
        for (int64_t i = 0; i < some; ++i)
            log_weight[count + i] = std::log(std::min(1.0f, weights_of(row)[from + i]));
        count += some;
    }
    call_.count[place] = int32_t(count);
}

}  // namespace truffle
