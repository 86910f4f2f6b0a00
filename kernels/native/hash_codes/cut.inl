// From signs to codes: the K bits of a table are cut out of one or two words of 16 signs, for many vectors at a time.
#include "hash_codes/hash_codes.h"

namespace truffle::TRUFFLE_ISA {
namespace {

// codes[i] = the K bits from bit `shift` of low[i], continued in high[i].
void cut_codes(const uint16_t* low, const uint16_t* high, int shift, int K, int64_t count, uint16_t* codes) {
    const uint32_t mask = (1u << K) - 1;
    for (int64_t i = 0; i < count; ++i)
        codes[i] = uint16_t(((uint32_t(high[i]) << 16 | low[i]) >> shift) & mask);
}

// Codes of a block from words[column / 16][rows], the signs of 16 columns each.
void write_codes(const HashCodes& call, const HashBlock& block, const uint16_t* words, int64_t rows) {
    for (int64_t t = 0; t < block.tables; ++t) {
        const int64_t bit = t * call.K;
        const uint16_t* low = words + bit / 16 * rows;
        for (int64_t i = 0; i < block.count;) {
            const int64_t vector = block.first + i, r = vector / call.n, place = vector % call.n;
            const int64_t left = block.count - i, run = call.n - place < left ? call.n - place : left;
            uint16_t* codes = call.codes + (r * call.L + block.table + t) * call.n + place;
            cut_codes(low + i, low + rows + i, int(bit % 16), call.K, run, codes);
            i += run;
        }
    }
}

}  // namespace
}  // namespace truffle::TRUFFLE_ISA
