"""Instruction sets of the native kernels, which of them this machine can run, and where their threads may stay."""

from __future__ import annotations

import functools

try:
    from truffle.kernels import _native as native
except ImportError as error:
    raise ImportError(f"the native extension cannot be loaded; run make install ({error})") from error

# Each level includes those before it; an operation without a kernel for a level runs the one below.
ISAS = ("scalar", "avx2", "avx512", "avx512_bf16", "amx_bf16")
PINNING = ("cores",)


def why_not(isa: str) -> str | None:
    """Why `isa` cannot run on this machine, or None when it can."""
    return native.why_not_isa(isa) or None


@functools.cache
def resolve(isa: str) -> str:
    """`isa` itself, or the widest usable one for ``"auto"``.

    Raises:
        ValueError: it is unknown, or this machine cannot run it.
    """
    if isa == "auto":
        return next(name for name in reversed(ISAS) if why_not(name) is None)
    reason = why_not(isa)
    if reason:
        usable = [name for name in ISAS if why_not(name) is None]
        raise ValueError(f"isa: expected one of {', '.join(usable)} or auto, got {isa!r}: {reason}")
    return isa
