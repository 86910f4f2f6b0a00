"""MagicPIG v0.2 as a contender of the operations that it has."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from truffle.bench import step
from truffle.bench.contender import PASSED, QUERY_DRAWS, Call, Contender, in_turn
from truffle.bench.layer_data import LayerData
from truffle.bench.magicpig import extensions, gate
from truffle.bench.magicpig.layers import Layers, building, queries, query_codes

NAME = "magicpig_v02"


def offered(op: str) -> bool:
    """Whether it has the operation, and is here."""
    return op in _PREPARE and extensions.is_installed()


def contender(op: str, data: LayerData, copies: int, threads: int) -> Contender:
    """Its contender for `op`, after the gate; as many copies of the layer take turns as of ours."""
    reason = extensions.why_not(data.sizes, threads)
    if reason:
        return Contender(NAME, "as built", f"unusable: {reason}", _nothing)
    problem = gate.check(data.sizes, threads)
    verdict = f"failed: {problem}" if problem else PASSED
    return Contender(NAME, extensions.isa(), verdict, partial(_PREPARE[op], data, copies))


def _retrieve(data: LayerData, copies: int) -> Call:
    layers = Layers.of(data, copies)
    return in_turn([partial(layers.retrieve, layer, query_codes(data, draw)) for draw, layer in _turns(copies)])


def _attend(data: LayerData, copies: int) -> Call:
    layers = Layers.of(data, copies)
    found = [layers.found(0, query_codes(data, draw)) for draw in range(QUERY_DRAWS)]
    return in_turn([partial(layers.attend, layer, queries(data, draw), *found[draw]) for draw, layer in _turns(copies)])


def _step(data: LayerData, copies: int) -> Call:
    layers = Layers.of(data, copies)

    def call(layer: int, codes: object, q: object) -> None:
        layers.retrieve(layer, codes)
        layers.attend(layer, q, layers.ids, layers.count)

    return in_turn(
        [partial(call, layer, query_codes(data, draw), queries(data, draw)) for draw, layer in _turns(copies)]
    )


def _build(data: LayerData, copies: int) -> Call:
    return building(data)


def _nothing() -> Call:
    raise RuntimeError("what did not pass its gate is not prepared")


def _turns(copies: int) -> list[tuple[int, int]]:
    return [(draw, layer) for draw in range(QUERY_DRAWS) for layer in range(copies)]


_PREPARE: dict[str, Callable[[LayerData, int], Call]] = {
    "retrieve": _retrieve,
    "sparse_attend": _attend,
    step.OP: _step,
    "build_tables": _build,
}
