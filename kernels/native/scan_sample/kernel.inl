// Estimates, and what becomes of them: proposals, the share of a multiplier, and draws, 64 tokens at a time.
#include "scan_sample/estimate.inl"
#include "scan_sample/philox.h"

namespace truffle::TRUFFLE_ISA {
namespace {

TRUFFLE_INLINE Floats lifted(Floats weight, float least, Words random) {
    return larger(weight, broadcast(least)) / ((__builtin_convertvector((Ints)random, Floats) + 0.5f) * 0x1p-31f);
}

// Bit i is set where ratio i of 64 is drawn; ratios are written to `ratios`.
TRUFFLE_INLINE uint64_t drawn(const Draw& task, int64_t at, float* ratios) {
    uint64_t bits = 0;
    for (int part = 0; part < 16; part += W) {
        Words random[4];
        random_bits(task.stream, uint32_t((task.first + at) / 4 + part), random);
        TRUFFLE_UNROLL for (int j = 0; j < 4; ++j) {
            const int place = 16 * j + part;
            const Floats weight = load<Floats>(task.weights + at + place), least = broadcast(task.cut.least);
            Floats ratio;
            Ints in;
            if (task.priority) {
                ratio = larger(weight, least) * task.cut.multiplier;
                in = lifted(weight, task.cut.least, random[j]) > task.cut.threshold;
            } else {
                ratio = larger(weight * task.cut.multiplier, least);
                const Floats below = select(ratio < 1.0f, ratio, Floats{});
                const Ints limit = __builtin_convertvector(below * 0x1p31f, Ints);
                in = ((Ints)random[j] < limit) | (ratio >= 1.0f);
            }
            store(ratios + place, ratio);
            bits |= uint64_t{set_lanes(in)} << place;
        }
    }
    return bits;
}

}  // namespace

void combine_chunk(const Combine& task) {
    for (int64_t i = 0; i < task.tokens; i += W) {
        Floats sum{};
        for (int64_t h = 0; h < task.heads; ++h) {
            const Floats weight = load<Floats>(task.weights + h * task.stride + i) * task.factors[h * task.factors_stride];
            sum += larger(weight, broadcast(task.least[h]));
        }
        store(task.weights + i, sum);
    }
    for (int64_t i = task.tokens; i % 64; ++i) task.weights[i] = 0.0f;
}

Share share_of(const float* weights, int64_t count, float c) {
    Share found;
    for (int64_t i = 0; i < count;) {
        const int64_t end = i + CHUNK_TOKENS < count ? i + CHUNK_TOKENS : count;
        Floats rest{};
        Ints certain{};
        for (; i < end; i += W) {
            const Floats weight = load<Floats>(weights + i);
            const Ints high = weight * c >= 1.0f;
            certain -= high;
            rest += select(high, Floats{}, weight);
        }
        found.rest += sum_lanes(rest);
        found.certain += int64_t(sum_lanes(__builtin_convertvector(certain, Floats)));
    }
    return found;
}

int64_t draw_chunk(const Draw& task) {
    int64_t count = 0;
    for (int64_t at = 0; at < task.tokens; at += 64) {
        float ratios[64];
        uint64_t bits = drawn(task, at, ratios);
        if (task.tokens - at < 64) bits &= (uint64_t{1} << (task.tokens - at)) - 1;
        for (; bits; bits &= bits - 1, ++count) {
            const int place = __builtin_ctzll(bits);
            task.ids[count] = int32_t(task.first + at + place);
            task.ratios[count] = ratios[place];
        }
    }
    return count;
}

void lift(const float* weights, int64_t count, float least, const Stream& stream, float* to) {
    for (int64_t at = 0; at < count; at += 64)
        for (int part = 0; part < 16; part += W) {
            Words random[4];
            random_bits(stream, uint32_t(at / 4 + part), random);
            for (int j = 0; j < 4; ++j) {
                const int64_t place = at + 16 * j + part;
                store(to + place, lifted(load<Floats>(weights + place), least, random[j]));
            }
        }
}

}  // namespace truffle::TRUFFLE_ISA
