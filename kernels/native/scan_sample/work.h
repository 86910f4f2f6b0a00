// One key/value head of one request on its way from codes to a sample.
#pragma once

#include "scan_sample/scan_sample.h"
#include "scan_sample/stages.h"
#include "scratch.h"

namespace truffle {

// Stages of a head in order: `estimate` of every chunk, `settle` of every row, `draw` of every row and chunk, `collect`
// of every row. Those of one kind may run at once.
class Work {
  public:
    static size_t bytes(const ScanSample& call, int64_t request);

    // Takes its buffers from `scratch`.
    Work(const ScanSample& call, int64_t request, int64_t kv_head, Isa isa, Scratch& scratch);

    int64_t chunks() const { return chunks_; }
    int64_t rows() const { return rows_; }

    void estimate(int64_t chunk) const;
    void settle(int64_t row) const;
    void draw(int64_t row, int64_t chunk) const;
    void collect(int64_t row) const;

  private:
    struct Sizes {
        int64_t group, rows, n, chunks, padded, stride;
        Sizes(const ScanSample& call, int64_t request);
    };

    void quantise_query(int64_t head);
    void combine(int64_t row) const;
    float priority_threshold(int64_t row, int64_t k, float least) const;
    Stream stream(int64_t row) const;
    float* weights_of(int64_t row) const { return weights_ + row * group_ / rows_ * padded_; }
    int64_t tokens_of(int64_t chunk) const;

    const ScanSample& call_;
    const CodesView& codes_;
    int64_t request_, kv_head_, group_, rows_, n_, chunks_, padded_, query_stride_;
    Isa isa_;
    int8_t* queries_;      // [group, query_stride]
    int32_t* corrections_; // [group]
    float* factors_;       // [group]
    float* weights_;       // [group, padded]; of a row's first head: proposals, then ratios of what is drawn
    float *peaks_, *sums_; // [group, chunks]
    int32_t* found_;       // [rows, padded]: ids drawn, from the start of each chunk on
    int32_t* counts_;      // [rows, chunks]
    Cut* cuts_;            // [rows]
};

}  // namespace truffle
