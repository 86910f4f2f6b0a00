#define TRUFFLE_ISA scalar
#define TRUFFLE_WIDTH 4
#include "kernel.inl"
