"""Times the CPU side of a workload: one layer that finds and attends keys, at the workload's own context."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from truffle.autotune import reference_timing
from truffle.bench import gate
from truffle.bench.arguments import arguments_of
from truffle.bench.layer_data import LayerData
from truffle.bench.sizes import Sizes
from truffle.bench.timing import layers_beyond_cache, median_ci95, sequence_s
from truffle.bench.workloads import Workload
from truffle.kernels import registry
from truffle.kernels.isa import why_not
from truffle.kernels.waiting import set_wait_policy
from truffle.model.config import FUSED, SEPARATE, DecodeConfig, LshParameters, SelectingParameters

QUERY_DRAWS, SECONDS = 3, 1.5


@dataclass(frozen=True)
class LayerTime:
    """Seconds of one layer for the whole batch: the median sum of both parts, split by their median share.

    Attributes:
        retrieve_s: choosing probes by the query included.
        attend_s: everything but that where one operation retrieves and attends, or a reference method does both.
        total_ci95_s: bootstrap 95% interval of that sum.
        sampled_fraction: keys sampled over keys cached.
        samples_s: that sum, round by round.
    """

    retrieve_s: float
    attend_s: float
    total_ci95_s: tuple[float, float]
    sampled_fraction: float
    samples_s: tuple[float, ...]


class HostTimer:
    """Measures one layer's CPU work; keys, values and a store a format are made once, tables when (K, L) or the
    format changes.

    Arguments are not checked, as a decoder checks them once. Requests of a batch read the same layer's rows by their
    own queries. Where one layer would stay in cache, copies of it take turns.

    Between two layers the host has nothing to do for as long as the GPU works alone. That pause is part of what is
    measured, for the sake of `wait_policy`: threads that spin find the next call at once if it comes within
    waiting.SPIN_US, and are no better than parked ones if it does not. On 2 cores, a layer of 8,192 tokens took 220 us
    parked and 175 us spinning without a pause, 250 and 200 us behind a pause of 0.7 ms, but 280 us either way behind
    one of 2 ms; at 98,304 tokens (1.4 ms) spinning gained 5 to 8% up to 0.7 ms, and nothing at 2 ms.
    """

    def __init__(self, workload: Workload, threads: int, seed: int) -> None:
        shape, self._workload = workload.shape, workload
        sizes = Sizes(workload.context, shape.heads, shape.kv_heads, shape.head_dim, 1, 1, 1, 1, seed)
        self._bases, self._threads = {sizes.dtype: LayerData(sizes, threads)}, threads
        self._passed: set[tuple[str, str, int, str]] = set()
        self._tables: LayerData | None = None

    def measure(self, config: DecodeConfig, threads: int, pause_s: float = 0.0, seconds: float = SECONDS) -> LayerTime:
        """Time what the config chooses keys and attends with, on `threads` threads, `pause_s` after the last layer.

        Raises:
            RuntimeError: an implementation does not agree with the reference.
        """
        p, batch = config.parameters, config.execution.batch_size
        if isinstance(p, SelectingParameters):
            return self._reference(config, threads, seconds)
        assert isinstance(p, LshParameters)
        data = self._data(p, batch, getattr(torch, config.execution.store_format))
        layers = [data, *(data.copied() for _ in range(layers_beyond_cache(data.memory_bytes) - 1))]
        calls, ops = {}, _timed_ops(config, p)
        for op in ops:
            implementation = registry.get(op, config.implementations.get(op, "auto"))
            isa = self._isa(config.execution.isa) if implementation.needs.isas else "auto"
            self._require_gate(implementation, threads, isa)
            turns = itertools.cycle(_turns(layers, op))
            pinning = config.execution.pinning if implementation.needs.pinning else "none"
            how = {"threads": threads, "isa": isa, "pinning": pinning}
            calls[op] = lambda run=implementation.function, turns=turns, how=how: run(**next(turns), **how)
        set_wait_policy(config.execution.wait_policy)
        samples = sequence_s(calls, pause_s, seconds)
        together = np.sum(list(samples.values()), axis=0)  # those of one round
        total, share = float(np.median(together)), float(np.median(samples[ops[-1]] / together))
        parts = (total * (1 - share), total * share)
        return LayerTime(*parts, median_ci95(together), self._fraction(data), tuple(together.tolist()))

    def _reference(self, config: DecodeConfig, threads: int, seconds: float) -> LayerTime:
        """All of it counts as attention. Requests are attended one after another, so that one of them is timed."""
        here = {"threads": threads, "isa": self._isa(config.execution.isa), "batch_size": 1}
        one = config.model_copy(update={"execution": config.execution.model_copy(update=here)})
        samples, fraction = reference_timing.request_s(self._workload, one, self._base(torch.bfloat16), seconds)
        samples = samples * config.execution.batch_size
        return LayerTime(0.0, float(np.median(samples)), median_ci95(samples), fraction, tuple(samples.tolist()))

    def _data(self, p: LshParameters, batch: int, dtype: torch.dtype) -> LayerData:
        wanted = (p.K, p.L, p.min_hits, batch, p.probing)
        held = self._tables and self._tables.sizes
        if held and (p.K, p.L, dtype) == (held.K, held.L, held.dtype) and self._tables:
            tables = self._tables.with_tables(*wanted)
        else:
            self._tables = None  # one index at a time
            tables = self._base(dtype).with_tables(*wanted)
        self._tables = tables
        return tables

    def _base(self, dtype: torch.dtype) -> LayerData:
        if dtype not in self._bases:
            self._bases[dtype] = next(iter(self._bases.values())).with_store(dtype)
        return self._bases[dtype]

    @staticmethod
    def _isa(wanted: str) -> str:
        """The instruction set to measure with here; that of another host may be none of this one's."""
        return wanted if why_not(wanted) is None else "auto"

    def _require_gate(self, implementation: registry.Implementation, threads: int, isa: str) -> None:
        key = (implementation.op, implementation.name, threads, isa)
        if key in self._passed:
            return
        problem = gate.check(implementation, threads, isa, "cpu")
        if problem:
            raise RuntimeError(f"{implementation.op}/{implementation.name} failed its gate: {problem}")
        self._passed.add(key)

    @staticmethod
    def _fraction(data: LayerData) -> float:
        found = arguments_of("retrieve", data)
        registry.get("retrieve")(**found)
        return float(found["count"].double().mean()) / data.sizes.context


def _timed_ops(config: DecodeConfig, p: LshParameters) -> tuple[str, ...]:
    """What a step of one layer calls on the CPU; the last one attends."""
    directs = ("direct_probes",) if p.probing.kind == "directed" else ()
    return directs + ((FUSED,) if config.fused else SEPARATE)


def _turns(layers: list[LayerData], op: str) -> list[dict[str, Any]]:
    """Arguments of one call after another, each from the next layer, with the queries of another draw."""
    draws = max(1, -(-QUERY_DRAWS // len(layers)))
    return [arguments_of(op, layer, draw) for draw in range(draws) for layer in layers]
