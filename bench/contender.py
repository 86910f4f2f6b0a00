"""What is timed side by side: an implementation's name, its gate's verdict, and how to make its call."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from truffle.bench import gate
from truffle.bench.arguments import arguments_of
from truffle.bench.layer_data import LayerData
from truffle.kernels import registry
from truffle.kernels.moving import Mover

PASSED = "passed"
READS_SAMPLES = ("retrieve", "sparse_attend", "retrieve_attend")
QUERY_DRAWS = 4  # several sets of queries, so that one set's rows are not all in cache

Call = Callable[[], object]


@dataclass(frozen=True)
class Contender:
    """One of the things timed in turn.

    Attributes:
        isa: instruction set that it runs with.
        gate: PASSED, or why it is not timed.
        prepare: makes the call that is timed; one on a CUDA device does not wait for it.
        device: where it computes.
    """

    name: str
    isa: str
    gate: str
    prepare: Callable[[], Call]
    device: str = "cpu"


def registered(op: str, name: str, layers: list[LayerData], threads: int, isa: str) -> Contender:
    """The implementation `name` of `op`, after the cases of its contract."""
    verdict, used = judged(op, name, threads, isa)
    device = device_of(op, name) if verdict == PASSED else "cpu"
    return Contender(name, used, verdict, partial(_call, op, name, layers, threads, used, device), device)


def judged(op: str, name: str, threads: int, isa: str) -> tuple[str, str]:
    """PASSED or why not, and the ISA that is used."""
    reason = registry.why_not(op, name)
    if reason:
        return f"unusable: {reason}", isa
    implementation = registry.get(op, name)
    used = resolve(isa) if implementation.needs.isas else "auto"
    problem = gate.check(implementation, threads, used, device_of(op, name))
    return (f"failed: {problem}" if problem else PASSED), used


def resolve(level: str) -> str:
    """The instruction set that the native kernels take for `level`."""
    from truffle.kernels import isa

    return isa.resolve(level)


def turns(op: str, layers: list[LayerData], device: str = "cpu") -> list[dict[str, Any]]:
    """Arguments of one call after another; outputs go to the same place each time, as a decoder's do."""
    move, outputs = Mover(device), registry.contract(op).tensors
    first = move(arguments_of(op, layers[0]))
    shared = {name: first[name] for name, spec in outputs.items() if spec.output}
    draws = range(QUERY_DRAWS if op in READS_SAMPLES else 1)
    return [move(arguments_of(op, layer, draw) | shared) for draw in draws for layer in layers]


def in_turn(calls: Sequence[Call]) -> Call:
    """A call that makes the next of `calls` each time."""
    turn = itertools.cycle(calls)
    return lambda: next(turn)()


def device_of(op: str, name: str) -> str:
    """Where the implementation's tensors live; a GPU kernel that is interpreted takes the CPU's."""
    on_gpu = registry.get(op, name).needs.device == "cuda" and torch.cuda.is_available()
    return "cuda" if on_gpu else "cpu"


def _call(op: str, name: str, layers: list[LayerData], threads: int, isa: str, device: str) -> Call:
    call = partial(registry.get(op, name), threads=threads, isa=isa)
    return in_turn([partial(call, **arguments) for arguments in turns(op, layers, device)])
