"""What the gate measures of a revision: every operation's implementations, and decode steps, each by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

from truffle.bench import suite
from truffle.bench.arguments import arguments_of
from truffle.bench.contender import QUERY_DRAWS, device_of, in_turn
from truffle.bench.decode_facts import decode_facts
from truffle.bench.device_time import waiting
from truffle.bench.layer_data import LayerData
from truffle.bench.op_facts import op_facts
from truffle.kernels import registry
from truffle.kernels.moving import Mover

DECODE = "decode"
METHODS = ("dense", "streaming", "lsh", "scan")  # the others are references, and not fast
THREADS = 1  # on a shared machine two threads wait for whom the scheduler lets run
REFERENCE = "reference"


@dataclass(frozen=True)
class Benchmark:
    """One thing that is timed.

    Attributes:
        call: one call, done when it returns.
        figures: what is the same at every run.
        workload: what it is timed on; figures and times of another are not comparable.
    """

    call: Callable[[], object]
    figures: Callable[[], dict[str, Any]]
    workload: dict[str, Any]


def names() -> list[str]:
    """KIND/IMPLEMENTATION or decode/METHOD, all that runs here; a reference where there is nothing else."""
    found = []
    for op in registry.ops():
        usable = [name for name, reason in registry.usable(op).items() if reason is None]
        found += [f"{op}/{name}" for name in usable if name != REFERENCE or usable == [REFERENCE]]
    return found + [f"{DECODE}/{method}" for method in METHODS]


def make(name: str) -> Benchmark:
    """The benchmark of a name, ready to be called."""
    kind, _, which = name.partition("/")
    return _decode(which) if kind == DECODE else _operation(kind, which)


def _decode(method: str) -> Benchmark:
    made = suite.decoder(method, THREADS)
    workload = {"shape": suite.SHAPE.model_dump(mode="json"), "context": suite.CONTEXT, "threads": THREADS}
    return Benchmark(partial(suite.next_logits, made), partial(decode_facts, method, THREADS), workload)


def _operation(op: str, name: str) -> Benchmark:
    device, layer = device_of(op, name), _layer()
    move, call = Mover(device), partial(registry.get(op, name), threads=THREADS)
    turns = in_turn([partial(call, **move(arguments_of(op, layer, draw))) for draw in range(QUERY_DRAWS)])
    workload = {"device": device, "threads": THREADS}
    workload |= {field: value if isinstance(value, int | float) else str(value)
                 for field, value in asdict(layer.sizes).items()}  # fmt: skip
    figures = partial(op_facts, op, name, layer, THREADS)
    return Benchmark(waiting(turns) if device == "cuda" else turns, figures, workload)


@cache
def _layer() -> LayerData:
    return LayerData(suite.LAYER, THREADS)
