"""No time without a green gate: an implementation passes its contract's cases before it is timed."""

from __future__ import annotations

from truffle.kernels import registry
from truffle.kernels.moving import moved
from truffle.kernels.registry import Implementation


def check(implementation: Implementation, threads: int, isa: str, device: str) -> str | None:
    """None if the implementation agrees with the reference on every case, else the first disagreement."""
    contract = registry.contract(implementation.op)
    reference = registry.get(implementation.op, "reference")
    for case in contract.cases:
        want, got = contract.arguments(case), moved(contract.arguments(case), device)
        reference(**want)
        try:
            implementation(**got, threads=threads, isa=isa)
        except Exception as error:  # the record keeps what went wrong; nothing is timed
            return f"{case.name}: {type(error).__name__}: {error}"
        problem = contract.compare(moved(got, "cpu"), want)
        if problem:
            return f"{case.name}: {problem}"
    return None
