"""The CPU's part of one decode step of one layer: retrieve, then sparse_attend of what it found.

    python -m truffle.bench op retrieve+sparse_attend

A fused `retrieve_attend` competes as "NAME fused". Where the queries direct the probes, `direct_probes` is part of
each. A decoder comes back to a layer after all others, so copies of one layer take turns here, with several draws of
queries: a call finds neither its buckets nor its rows in a cache.
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from functools import partial
from typing import Any

from truffle.bench.attend_arguments import sparse_attend
from truffle.bench.contender import PASSED, QUERY_DRAWS, Call, Contender, device_of, in_turn, judged, registered, turns
from truffle.bench.layer_data import LayerData
from truffle.bench.timing import layers_beyond_cache
from truffle.kernels import registry
from truffle.kernels.moving import Mover

OP, PARTS = "retrieve+sparse_attend", ("retrieve", "sparse_attend")
FUSED, FUSED_SUFFIX = "retrieve_attend", " fused"
DIRECTS = "direct_probes"


def names() -> dict[str, str | None]:
    """Every contender, with None where it runs here and the reason where it does not."""
    both = {name: _why_not(name, PARTS) for name in registry.names(PARTS[0]) if name in registry.names(PARTS[1])}
    fused = registry.names(FUSED) if FUSED in registry.ops() else ()
    return both | {name + FUSED_SUFFIX: _why_not(name, (FUSED,)) for name in fused}


def contender(name: str, layers: list[LayerData], threads: int, isa: str) -> Contender:
    """The contender `name`, after the gates of its operations."""
    bare = name.removesuffix(FUSED_SUFFIX)
    if bare == name:
        found = _apart(name, layers, threads, isa)
    else:
        found = replace(registered(FUSED, bare, layers, threads, isa), name=name)
    if layers[0].sizes.probing.kind != "directed":
        return found
    probes = registered(DIRECTS, bare, layers, threads, found.isa)
    gate = probes.gate if found.gate == PASSED else found.gate
    return replace(found, gate=gate, prepare=lambda: _one_after_the_other(probes.prepare(), found.prepare()))


def _one_after_the_other(first: Call, second: Call) -> Call:
    def call() -> None:
        first()
        second()

    return call


def _apart(name: str, layers: list[LayerData], threads: int, isa: str) -> Contender:
    verdicts = [judged(op, name, threads, isa) for op in PARTS]
    verdict = next((found for found, _ in verdicts if found != PASSED), PASSED)
    used = verdicts[-1][1]
    device = device_of(PARTS[0], name) if verdict == PASSED else "cpu"
    return Contender(name, used, verdict, partial(_call, name, layers, threads, used, device), device)


def layers_for(data: LayerData) -> list[LayerData]:
    """`data` and as many copies as it takes for the steps of all draws to read more than the caches hold.

    Where hardly anything is sampled that would fill the memory: copies end at 16 times the size that is wanted.
    """
    read_bytes = QUERY_DRAWS * measured(data, PARTS)["bytes_moved"]
    copies = layers_beyond_cache(max(read_bytes, data.memory_bytes // 16))
    return [data, *(data.copied() for _ in range(copies - 1))]


def measured(data: LayerData, parts: tuple[str, ...]) -> dict[str, Any]:
    """Bytes that the contracts of `parts` count, and the share of the keys that is sampled; means over the draws."""
    moved, fractions = [], []
    for pair in pairs([data]):
        registry.get(PARTS[0])(**pair[0])
        arguments = dict(zip(PARTS, pair, strict=True))
        moved.append(sum(registry.contract(part).bytes_moved(arguments[part]) for part in parts))
        fractions.append(float(pair[0]["count"].double().mean()) / data.sizes.context)
    return {"bytes_moved": round(statistics.mean(moved)), "sampled_fraction": statistics.mean(fractions)}


def pairs(layers: list[LayerData], device: str = "cpu") -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Arguments of the two operations; the second reads the ids that the first writes."""
    first, move = turns(PARTS[0], layers, device), Mover(device)
    found = {name: first[0][name] for name in ("ids", "count")}
    attend = [move(sparse_attend(layer, draw, found)) for draw in range(QUERY_DRAWS) for layer in layers]
    return list(zip(first, attend, strict=True))


def _call(name: str, layers: list[LayerData], threads: int, isa: str, device: str) -> Call:
    retrieve, attend = (partial(registry.get(op, name), threads=threads, isa=isa) for op in PARTS)

    def call(first: dict[str, Any], second: dict[str, Any]) -> None:
        retrieve(**first)
        attend(**second)

    return in_turn([partial(call, *pair) for pair in pairs(layers, device)])


def _why_not(name: str, ops: tuple[str, ...]) -> str | None:
    return next((reason for op in ops if (reason := registry.why_not(op, name))), None)
