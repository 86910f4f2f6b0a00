"""Times of the sampled part of a layer on the CPU: the question, what is chosen by it, and attention to that.

Between two calls other keys are attended exactly, more than the caches hold, as a decoder's other layers would come
between: a call finds neither index nor rows in a cache, and its threads awake.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from truffle.bench.contender import PASSED, judged
from truffle.bench.scored import ScoredLayer
from truffle.bench.timing import median_ci95, quantiles_us
from truffle.kernels import hardware
from truffle.model.config import DecodeConfig, LshParameters, ScanParameters
from truffle.model.methods.base import LayerCache
from truffle.model.methods.exchange import ExchangingLayer
from truffle.model.operations import Operations

Call = Callable[[], object]
TIMED = ("dense", "lsh", "scan")
MIN_ROUNDS = 20


def verdict(config: DecodeConfig, ops: Operations) -> str:
    """PASSED where every operation that the sampled part calls agrees with its contract, else why not."""
    how = config.execution
    found = (judged(op, ops.names[op], how.threads, how.isa)[0] for op in _called(config))
    return next((problem for problem in found if problem != PASSED), PASSED)


def _called(config: DecodeConfig) -> tuple[str, ...]:
    p = config.parameters
    if isinstance(p, ScanParameters):
        return "quantize_keys", "scan_sample", "sparse_attend"
    if not isinstance(p, LshParameters):
        return ("dense_attend",)
    directed = ("direct_probes",) if p.probing.kind == "directed" else ()
    attending = ("retrieve_attend",) if config.fused else ("retrieve", "sparse_attend")
    return "hash_codes", "build_tables", *directed, *attending


def part(layer: ScoredLayer, cache: LayerCache, ops: Operations) -> Call:
    """What is timed of a method: a dense layer's all, of others what they do beside sink and window."""
    return _sampled_part(layer, cache) if isinstance(cache, ExchangingLayer) else _exact_part(layer, ops)


def _sampled_part(layer: ScoredLayer, cache: ExchangingLayer) -> Call:
    """A call that does the host's part of the next step's attention."""
    (exchange,) = cache.exchanges([range(1)], layer.queries.shape[1])
    exchange.prepare()
    turn = itertools.cycle(layer.queries[:, None])

    def call() -> None:
        exchange.ask(next(turn))
        exchange.answer()

    return call


def _exact_part(layer: ScoredLayer, ops: Operations) -> Call:
    """A call that attends the next step's queries to all keys."""
    q, n = layer.queries[:1].clone(), layer.keys.shape[1]
    out, lse = torch.empty(q.shape), torch.empty(q.shape[:2])
    lengths, scale = torch.tensor([n], dtype=torch.int32), q.shape[-1] ** -0.5
    attend = ops.repeated("dense_attend", q, layer.keys[None], layer.values[None], lengths, out, lse, scale=scale)
    turn = itertools.cycle(layer.queries)

    def call() -> None:
        q[0].copy_(next(turn))
        attend()

    return call


def between(layer: ScoredLayer, ops: Operations) -> Call:
    """Exact attention of three times the last-level cache of keys and values."""
    heads, _, d = layer.keys.shape
    tokens = 3 * (hardware.detect().cpu.last_level_cache_bytes or 64 << 20) // (4 * heads * d)
    other = torch.ones(heads, tokens, d, dtype=torch.bfloat16)
    return _exact_part(ScoredLayer(layer.queries, other, other.clone()), ops)


def rounds_s(calls: Mapping[int, Call], between: Call, seconds: float) -> dict[int, list[float]]:
    """Durations in seconds of each call, one a round, in an order drawn anew, until `seconds` are spent."""
    samples: dict[int, list[float]] = {name: [] for name in calls}
    order, shuffle, end = list(calls), random.Random(0).shuffle, time.perf_counter() + seconds
    for call in calls.values():
        call()
    while time.perf_counter() < end or len(samples[order[0]]) < MIN_ROUNDS:
        shuffle(order)
        for name in order:
            between()
            start = time.perf_counter()
            calls[name]()
            samples[name].append(time.perf_counter() - start)
    return samples


def timed(samples_s: list[float], first_s: list[float]) -> dict[str, float]:
    """Quantiles, and the median over rounds of the time over the first method's, with its 95% interval."""
    ratios = np.array(samples_s) / np.array(first_s)
    low, high = median_ci95(ratios)
    times = quantiles_us(samples_s) | {"samples": len(samples_s)}
    return times | {"ratio": float(np.median(ratios)), "ratio_low": low, "ratio_high": high}
