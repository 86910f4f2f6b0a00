"""What a processor must have for each instruction set of the native kernels, as /proc/cpuinfo spells it.

For machines that are only described: `isa` asks the native extension about this one.
"""

_AVX2 = frozenset({"avx2", "fma"})
_AVX512 = _AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
_AVX512_BF16 = _AVX512 | {"avx512_vnni", "avx512_bf16"}

FLAGS: dict[str, frozenset[str]] = {
    "scalar": frozenset(),
    "avx2": _AVX2,
    "avx512": _AVX512,
    "avx512_bf16": _AVX512_BF16,
    "amx_bf16": _AVX512_BF16 | {"amx_tile", "amx_bf16"},
}


def why_not(isa: str, flags: tuple[str, ...]) -> str | None:
    """Why a processor with these flags cannot run `isa`, or None when it can; ``"auto"`` runs everywhere."""
    if isa == "auto":
        return None
    if isa not in FLAGS:
        return "there is no such instruction set"
    lacking = sorted(FLAGS[isa].difference(flags))
    return f"the processor lacks {', '.join(lacking)}" if lacking else None
