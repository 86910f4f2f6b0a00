"""Threads, kernels and instruction sets that there is a choice of on the host."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from truffle.kernels import registry
from truffle.kernels.isa import ISAS, why_not


@functools.cache
def kernels(ops: tuple[str, ...]) -> tuple[str, ...]:
    """``"auto"``, and by name the CPU implementations that all of these operations have here but auto does not take."""
    usable = ({name for name, reason in registry.usable(op).items() if reason is None} for op in ops)
    found = {name for name in set.intersection(*usable) if name.startswith("cpu_")}
    return ("auto", *sorted(found - {registry.get(op).name for op in ops}))


def isas(widest: str) -> Sequence[str]:
    """Instruction sets up to the widest that kernels can be timed with here; scalar only where there is no other."""
    vectors = ISAS[1 : ISAS.index(widest)]
    return [*(isa for isa in vectors if why_not(isa) is None), widest]


def thread_counts(usable: int) -> tuple[int, ...]:
    """Powers of two up to the usable CPUs, and all of them."""
    powers = {1 << power for power in range(usable.bit_length()) if 1 << power <= usable}
    return tuple(sorted(powers | {usable}))
