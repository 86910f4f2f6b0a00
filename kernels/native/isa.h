// Instruction sets that a kernel is compiled for, and which of them this machine can run.
#pragma once

#include <string>

namespace truffle {

// Each level includes those before it.
enum class Isa { scalar, avx2, avx512, avx512_bf16, amx_bf16 };

// Parses a level by name. Throws std::invalid_argument for an unknown one, or one this machine cannot run.
Isa require_isa(const std::string& name);

// Why level `name` cannot run here, or an empty string when it can.
std::string why_not_isa(const std::string& name);

}  // namespace truffle

// TRUFFLE_DECLARE(result, name, arguments) declares one kernel for scalar, AVX2 and AVX-512; TRUFFLE_PICK takes the
// one for a level, or for the highest level below.
#ifdef TRUFFLE_X86
#define TRUFFLE_DECLARE(result, name, ...)              \
    namespace scalar { result name(__VA_ARGS__); }      \
    namespace avx2 { result name(__VA_ARGS__); }        \
    namespace avx512 { result name(__VA_ARGS__); }
#define TRUFFLE_PICK(isa, name) \
    ((isa) >= Isa::avx512 ? avx512::name : (isa) == Isa::avx2 ? avx2::name : scalar::name)
#else
#define TRUFFLE_DECLARE(result, name, ...) \
    namespace scalar { result name(__VA_ARGS__); }
#define TRUFFLE_PICK(isa, name) ((void)(isa), scalar::name)
#endif
