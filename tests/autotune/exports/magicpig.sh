# tuned for llama-3.1-8b at 98304 tokens, batch 2, on rtx-4090 (estimated): lsh K=9 L=120 min_hits=2
# MagicPIG v0.2: run inside a checkout of it; MODEL is the model's folder or Hugging Face id
# MagicPIG draws its hyperplanes unseeded, so that runs differ; seed 0 is not carried over
# CPUs +0 to +14 are the first that this process may use: on a machine with hyperthreads name one a core
set -e
# min_hits 2 is compiled in, and so are threads: they are set here and built again
sed -i -E 's/^(#define (LSH|ATTENTION)_THREADS) .*/\1 15/' library/lsh/lsh.h library/sparse_attention/sparse_attention.h
sed -i 's/num_threads(64)/num_threads(ATTENTION_THREADS)/' library/sparse_attention/sparse_attention.cc
(cd library/sparse_attention && python -m pip install -e .)
(cd library/lsh && python -m pip install -e .)
cd examples
export OMP_NUM_THREADS=15 OMP_PROC_BIND=true OMP_WAIT_POLICY=passive
numactl -C +0-14 -l python bench.py --model "${MODEL:?}" --B 2 --P 98304 --M 98496 --G 128 --K 9 --L 120
