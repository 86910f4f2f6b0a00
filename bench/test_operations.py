"""Every operation with every implementation that runs here, at one modest size: `make bench`.

The layer may fit a last-level cache; `python -m truffle.bench op` times sizes that do not, beside what memory gives.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics

import pytest
import torch

from truffle.bench import gate
from truffle.bench.arguments import arguments_of
from truffle.bench.contender import QUERY_DRAWS
from truffle.kernels import registry
from truffle.kernels.moving import Mover, moved

PAIRS = [(op, name) for op in registry.ops() for name in registry.names(op)]


@pytest.mark.parametrize(("op", "name"), PAIRS, ids=map("-".join, PAIRS))
def test_operation(op, name, layer, threads, benchmark, described):
    reason = registry.why_not(op, name)
    if reason:
        pytest.skip(f"{op}/{name}: {reason}")
    implementation = registry.get(op, name)
    device = "cuda" if implementation.needs.device == "cuda" and torch.cuda.is_available() else "cpu"
    isa = widest_isa() if implementation.needs.isas else "auto"
    problem = gate.check(implementation, threads, isa, device)
    if problem:
        pytest.fail(f"{op}/{name} fails its gate, so it is not timed: {problem}")

    move = Mover(device)
    draws = [move(arguments_of(op, layer, draw)) for draw in range(QUERY_DRAWS)]
    turn = itertools.cycle(draws)

    def call() -> None:
        implementation(**next(turn), threads=threads, isa=isa)
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in draws:
        call()
    benchmark.group = op
    benchmark(call)
    described |= facts(op, draws) | {"isa": isa, "device": device}
    described["sizes"] = {field: str(value) if field == "dtype" else value
                          for field, value in dataclasses.asdict(layer.sizes).items()}  # fmt: skip
    if benchmark.stats:
        described["bandwidth_bytes_per_s"] = described["bytes_moved"] / benchmark.stats["median"]


def widest_isa() -> str:
    from truffle.kernels import isa

    return isa.resolve("auto")


def facts(op: str, draws: list[dict]) -> dict[str, float | None]:
    """Bytes moved and keys retrieved a call, over all query heads; means over the draws."""
    on_host = [moved(arguments, "cpu") for arguments in draws]
    retrieved = [float(arguments["count"].sum()) for arguments in on_host if "count" in arguments]
    return {
        "bytes_moved": statistics.mean(map(registry.contract(op).bytes_moved, on_host)),
        "keys_retrieved": statistics.mean(retrieved) if retrieved else None,
    }
