# tuned for llama-3.1-8b at 98304 tokens, batch 2, on rtx-4090 (estimated): lsh K=9 L=120 min_hits=2
# variables for a POSIX shell
export TRUFFLE_METHOD=lsh
export TRUFFLE_K=9
export TRUFFLE_L=120
export TRUFFLE_MIN_HITS=2
export TRUFFLE_PROBING_KIND=none
export TRUFFLE_PROBING_AMOUNT=0
export TRUFFLE_FAMILY=simhash
export TRUFFLE_CENTRED=1
export TRUFFLE_SINK=4
export TRUFFLE_WINDOW=64
export TRUFFLE_DENSE_LAYERS=0,16
export TRUFFLE_SEAL_TOKENS=1024
export TRUFFLE_SEED=0
export TRUFFLE_BATCH_SIZE=2
export TRUFFLE_THREADS=15
export TRUFFLE_ISA=avx512
export TRUFFLE_PINNING=cores
export TRUFFLE_WAIT_POLICY=park
export TRUFFLE_MICRO_BATCHES=1
export TRUFFLE_STORE_FORMAT=bfloat16
export TRUFFLE_CODES=auto
export TRUFFLE_GATHER=auto
export TRUFFLE_IMPL_HASH_CODES=gpu_triton
export TRUFFLE_IMPL_RETRIEVE=cpu_native
