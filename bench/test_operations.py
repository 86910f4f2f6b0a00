"""Every operation with every implementation that runs here, at one modest size: `make bench`.

The layer may fit a last-level cache, and then a share of what memory gives may exceed 1; `python -m truffle.bench op`
times sizes that do not.
"""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch

from truffle.bench.arguments import arguments_of
from truffle.bench.contender import QUERY_DRAWS, device_of, resolve
from truffle.bench.op_command import peak_bytes_per_s
from truffle.bench.op_facts import op_facts
from truffle.kernels import registry
from truffle.kernels.moving import Mover

REFERENCE_ROUNDS = 3
PAIRS = [(op, name) for op in registry.ops() for name in registry.names(op)]


@pytest.mark.parametrize(("op", "name"), PAIRS, ids=map("-".join, PAIRS))
def test_operation(op, name, layer, threads, torch_threads, card_bytes_per_s, benchmark, described, told):
    reason = registry.why_not(op, name)
    if reason:
        pytest.skip(f"{op}/{name}: {reason}")
    isa = resolve("auto") if registry.get(op, name).needs.isas else "auto"
    device = device_of(op, name)
    described |= op_facts(op, name, layer, threads, isa)
    if described["disagrees"]:
        pytest.fail(f"{op}/{name} disagrees with the reference, so it is not timed: {described['disagrees']}")
    described |= {"isa": isa, "device": device, "sizes": sizes_of(layer)}
    move, benchmark.group = Mover(device), op
    turn = itertools.cycle([move(arguments_of(op, layer, draw)) for draw in range(QUERY_DRAWS)])
    implementation = registry.get(op, name)

    def call() -> None:
        implementation(**next(turn), threads=threads, isa=isa)
        if device == "cuda":
            torch.cuda.synchronize()

    if name == "reference":  # seconds where the others take milliseconds
        benchmark.pedantic(call, rounds=REFERENCE_ROUNDS)
    else:
        benchmark(call)
    told(card_bytes_per_s if device == "cuda" else peak_bytes_per_s(op, threads))


def sizes_of(layer) -> dict:
    return {field: str(value) if field == "dtype" else value
            for field, value in dataclasses.asdict(layer.sizes).items()}  # fmt: skip
