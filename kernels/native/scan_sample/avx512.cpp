#define TRUFFLE_ISA avx512
#define TRUFFLE_WIDTH 16
#include "kernel.inl"
