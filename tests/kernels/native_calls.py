"""Calls of native kernels on the arguments of a contract's case, changed as a test needs."""

from __future__ import annotations

from truffle.kernels import registry

OPS = (
    "hash_codes",
    "build_tables",
    "direct_probes",
    "retrieve",
    "sparse_attend",
    "dense_attend",
    "quantize_keys",
    "scan_sample",
)


def call(op: str, case: int = 1, **changes):
    """Arguments of a case after the native function, which checks for itself, has run on them."""
    arguments = registry.contract(op).arguments(registry.contract(op).cases[case])
    arguments |= {name: change(arguments[name]) if callable(change) else change for name, change in changes.items()}
    registry.get(op, "cpu_native").function(**arguments)
    return arguments


def assert_agrees(op: str, got: dict, case: int = 1) -> None:
    contract = registry.contract(op)
    want = contract.arguments(contract.cases[case])
    registry.get(op, "reference")(**want)
    assert contract.compare(got, want) is None
