#define TRUFFLE_ISA avx2
#define TRUFFLE_WIDTH 8
#include "kernel.inl"
