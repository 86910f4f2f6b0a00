"""Times settings of a grid on one attention layer: those that share an index take turns on the same keys."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from truffle.bench.arguments import arguments_of
from truffle.bench.layer_data import LayerData
from truffle.bench.sizes import Sizes
from truffle.bench.timing import interleaved_s
from truffle.bench.workloads import Workload
from truffle.kernels import registry
from truffle.kernels.moving import Mover
from truffle.model.config import FUSED, SEPARATE, DecodeConfig, LshParameters, ScanParameters

Call = Callable[[], object]
DRAWS, SAMPLES, ROUNDS, CALLS, FASTEST = 3, 7, 3, 4, 0.2


class GridTimer:
    """Keys and values of a layer are made once; tables, or codes, once a group.

    A sample is the fastest fifth of ROUNDS turns of CALLS calls each: what else the machine does slows some of them.
    """

    def __init__(self, workload: Workload, threads: int, seed: int) -> None:
        shape = workload.shape
        sizes = Sizes(workload.context, shape.heads, shape.kv_heads, shape.head_dim, 1, 1, 1, 1, seed)
        self._bases, self._threads = {sizes.dtype: LayerData(sizes, threads)}, threads

    def samples_s(self, configs: Mapping[str, DecodeConfig]) -> dict[str, list[float]]:
        """SAMPLES times of a layer, by name of the setting; the settings are of one group."""
        data = self._data(next(iter(configs.values())))
        return _sampled({name: _call(config, data) for name, config in configs.items()})

    def dense_s(self, batch: int) -> float:
        """The median time of a layer that attends every key, on all threads."""
        data = self._base("bfloat16").with_scan(4, 0.0, batch)
        turns, run = _turns(data, "dense_attend"), registry.get("dense_attend")
        (samples,) = _sampled({"dense": lambda: run(**next(turns), threads=self._threads)}).values()
        return float(np.median(samples))

    def _data(self, config: DecodeConfig) -> LayerData:
        p, base = config.parameters, self._base(config.execution.store_format)
        if isinstance(p, ScanParameters):
            data = base.with_scan(p.bits, p.budget, 1)
            return data.with_codes(data.codes)
        assert isinstance(p, LshParameters)
        data = base.with_tables(p.K, p.L, p.min_hits, 1, p.probing)
        assert data.segments
        return data

    def _base(self, store_format: str) -> LayerData:
        dtype = getattr(torch, store_format)
        if dtype not in self._bases:
            self._bases[dtype] = self._bases[torch.bfloat16].with_store(dtype)
        return self._bases[dtype]


def group(config: DecodeConfig) -> tuple[Any, ...]:
    """What settings share that are timed together."""
    p = config.parameters
    if isinstance(p, ScanParameters):
        return p.method, p.bits, config.execution.store_format
    assert isinstance(p, LshParameters)
    return p.method, p.K, p.L, config.execution.store_format


def _call(config: DecodeConfig, data: LayerData) -> Call:
    p, execution = config.parameters, config.execution
    how = {"threads": execution.threads, "isa": execution.isa}
    if isinstance(p, ScanParameters):
        return _scan(data.with_scan(p.bits, p.budget, execution.batch_size), how)
    assert isinstance(p, LshParameters)
    data = data.with_tables(p.K, p.L, p.min_hits, execution.batch_size, p.probing)
    if config.resident:
        return _on_device(data)
    turns, run = _turns(data, FUSED), registry.get(FUSED)
    return lambda: run(**next(turns), **how)


def _scan(data: LayerData, how: dict[str, Any]) -> Call:
    scan, attend = registry.get("scan_sample"), registry.get("sparse_attend")
    questions = [arguments_of("scan_sample", data, draw) for draw in range(DRAWS)]
    answers = [_attending(data, draw, asked) for draw, asked in enumerate(questions)]
    turns = itertools.cycle(zip(questions, answers, strict=True))

    def call() -> None:
        asked, attended = next(turns)
        scan(**asked, **how)
        attend(**attended, **how)

    return call


def _attending(data: LayerData, draw: int, asked: dict[str, Any]) -> dict[str, Any]:
    """Arguments of sparse_attend over what a scan draws."""
    s = data.sizes
    return {
        "q": data.queries(draw), "stores": [data.store] * s.batch, "center": None, "law": None,
        **{name: asked[name] for name in ("ids", "count", "log_weight", "scale")},
        "out": torch.empty(s.batch, s.heads, s.head_dim), "lse": torch.empty(s.batch, s.heads),
    }  # fmt: skip


def _on_device(data: LayerData) -> Call:
    """Both operations on the card, which is waited for."""
    move = Mover("cuda")
    runs = [registry.get(op, "gpu_triton", "cuda") for op in SEPARATE]
    turns = itertools.cycle([[move(arguments_of(op, data, draw)) for op in SEPARATE] for draw in range(DRAWS)])

    def call() -> None:
        for run, arguments in zip(runs, next(turns), strict=True):
            run(**arguments)
        torch.cuda.synchronize()

    return call


def _turns(data: LayerData, op: str) -> itertools.cycle[dict[str, Any]]:
    return itertools.cycle([arguments_of(op, data, draw) for draw in range(DRAWS)])


def _sampled(calls: Mapping[str, Call]) -> dict[str, list[float]]:
    taken = interleaved_s(calls, 0.0, min_rounds=SAMPLES * ROUNDS, turn_calls=CALLS)
    return {name: [float(np.quantile(part, FASTEST)) for part in np.split(np.array(times), SAMPLES)]
            for name, times in taken.items()}  # fmt: skip
