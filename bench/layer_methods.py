"""Methods on the same synthetic layers: a record each, with times of those that have a part on the CPU to time."""

from __future__ import annotations

import sys
from typing import Any

from truffle.bench import layer_time
from truffle.bench.contender import PASSED
from truffle.bench.layer_error import filled_cache, step_errors, summarised
from truffle.bench.scored import ScoredLayer
from truffle.bench.task_methods import Contender
from truffle.model.config import ModelShape
from truffle.model.methods.base import LayerCache
from truffle.model.methods.sealing import SealingLayer
from truffle.model.operations import Operations
from truffle.model.torch_threads import torch_threads


def measure(
    contenders: list[Contender], shape: ModelShape, layers: list[ScoredLayer], seconds: float
) -> list[dict[str, Any]]:
    """Flat records in the contenders' order; ratios of times are to the first of them but dense."""
    exact = [[layer.exact(step) for step in range(len(layer.queries))] for layer in layers]
    records, calls = [], {}
    for number, contender in enumerate(contenders):
        print(f"{contender.asked.method} {contender.asked.options} {contender.density or ''}", file=sys.stderr)
        ops = Operations(contender.config, "cpu")
        cache = filled_cache(layers[0], shape, contender.config, ops)
        samples = [step_errors(layers[0], cache, exact[0])]
        for layer, right in zip(layers[1:], exact[1:], strict=True):
            samples.append(step_errors(layer, filled_cache(layer, shape, contender.config, ops), right))
        records.append(_described(contender) | summarised(samples) | {"index_bytes": _index_bytes(cache)})
        if seconds and contender.config.method in layer_time.TIMED:
            records[-1]["gate"] = layer_time.verdict(contender.config, ops)
            if records[-1]["gate"] == PASSED:
                calls[number] = layer_time.part(layers[0], cache, ops)
    if calls:
        between = layer_time.between(layers[0], Operations(contenders[0].config, "cpu"))
        with torch_threads(contenders[0].config.execution.threads):
            taken = layer_time.rounds_s(calls, between, seconds)
        first = taken[min((number for number in taken if contenders[number].config.method != "dense"), default=0)]
        for number, samples_s in taken.items():
            records[number] |= layer_time.timed(samples_s, first)
    return records


def _described(contender: Contender) -> dict[str, Any]:
    config = contender.config
    return {
        "method": config.method, "asked_density": contender.density, "parameters": config.parameters.model_dump_json(),
        "threads": config.execution.threads, "isa": config.execution.isa, "fused": config.fused,
    }  # fmt: skip


def _index_bytes(cache: LayerCache) -> float | None:
    """Bytes a key of tables or codes."""
    if not isinstance(cache, SealingLayer):
        return None
    store = cache.stores[0]
    return cache.selector.memory_bytes / (store.rows.shape[0] * store.length)
