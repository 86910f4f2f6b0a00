#define TRUFFLE_ISA avx512_bf16
#define TRUFFLE_WIDTH 16
#define TRUFFLE_BYTE_DOT
#include "estimate.inl"
