"""Times whole decode steps of a workload on a GPU: all layers, random weights, synthetic keys calibrated for rates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from truffle.bench import synthetic
from truffle.bench.kinds import layer_kinds
from truffle.bench.timeline import Clock, LayerSpans, breakdown, timeline_records, trace_step
from truffle.bench.timing import layers_beyond_cache, median_ci95, microseconds, quantiles_us
from truffle.bench.workloads import Workload
from truffle.model.config import DecodeConfig
from truffle.model.generate import DensityMeter
from truffle.model.graphs import CapturedScript, rehearse
from truffle.model.llama import Decoder
from truffle.model.methods.resident import ResidentLayer
from truffle.model.methods.sampled import SampledLayer
from truffle.model.weights import Weights

Material = tuple[Weights, torch.Tensor, torch.Tensor]

OBSERVED_STEPS, WARM_UP_STEPS, FEWEST_STEPS, TRACED_STEPS = 2, 3, 5, 5


@torch.inference_mode()
def time_steps(
    workload: Workload,
    config: DecodeConfig,
    steps: int,
    device: str,
    dtype: torch.dtype,
    material: Material | None = None,
    samples_us: list[float] | None = None,
    within_s: float = math.inf,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Decode `steps` steps of the whole model; returns a record and the timeline's, a layer of each lane.

    Once those that are timed have taken `within_s` seconds, five do.

    Sampled layers have exact slots of their own, but share stores and tables with as many others as leaves more than
    three times the last-level cache to walk through. A step that captures is not among the timed. `material` is that
    of the workload, made if not given. To `samples_us`, if given, what each timed step took is appended.
    """
    decoder = filled_decoder(workload, config, device, *(material or synthetic.material(workload, device, dtype)))
    batch, kinds = config.execution.batch_size, layer_kinds(workload.shape, config)
    decoder.observer = meter = DensityMeter()
    tokens = torch.zeros(batch, dtype=torch.int64, device=device)
    for _ in range(OBSERVED_STEPS):
        tokens = decoder.step(tokens).argmax(-1)
    decoder.observer = None
    samples: list[float] = []
    timed = steps
    while len(samples) < WARM_UP_STEPS + timed:
        started = time.perf_counter()
        tokens = decoder.step(tokens).argmax(-1)
        _wait(device)
        samples.append(time.perf_counter() - started)
        if sum(samples[WARM_UP_STEPS:]) > within_s:
            timed = min(steps, FEWEST_STEPS)
    times = np.array(samples[WARM_UP_STEPS:])
    if samples_us is not None:
        samples_us += microseconds(times)
    low, high = median_ci95(times)
    figures = quantiles_us(list(times))
    parts, timeline = _where(decoder, tokens) if kinds.sparse and _exchanges(decoder) else ({}, [])
    record = {
        **figures,
        "tokens_per_s": batch / figures["median_us"] * 1e6,
        "tokens_per_s_low": batch / high,
        "tokens_per_s_high": batch / low,
        "dense_layers": kinds.dense,
        "sparse_layers": kinds.sparse,
        "density": meter.density,
        "context": workload.context,
        "cosine_deviation": workload.deviation or synthetic.COSINE_DEVIATION,
        "steps": len(times),
        "kind": "measured",
        **parts,
        **(transfers(decoder, figures["median_us"]) if parts else {}),
        **_memory(decoder, device),
    }
    return record, timeline


def filled_decoder(
    workload: Workload, config: DecodeConfig, device: str, weights: Weights, keys: torch.Tensor, values: torch.Tensor
) -> Decoder:
    """A decoder of all layers whose requests have read `context` synthetic tokens each."""
    decoder = Decoder(workload.shape, weights, config)
    fill(decoder, keys.to(device), values.to(device))
    return decoder


def fill(decoder: Decoder, keys: torch.Tensor, values: torch.Tensor) -> None:
    """Let every request of every layer have read keys and values [Hkv, n, d] on the decoder's device.

    Sampled layers on the host share what as many others hold as leaves more than three times the last-level cache.
    Those on the device are copies of one: building each may take a second.
    """
    shape, batch, context = decoder.shape, decoder.config.execution.batch_size, keys.shape[1]
    distinct = layers_beyond_cache(batch * shape.kv_bytes_per_token() // shape.layers * context)
    originals: list[SampledLayer] = []
    resident: ResidentLayer | None = None
    for index, cache in enumerate(decoder.caches):
        if isinstance(cache, SampledLayer) and len(originals) >= distinct:
            decoder.caches[index] = originals[index % distinct].twin()
            continue
        if isinstance(cache, ResidentLayer) and resident:
            decoder.caches[index] = resident.replica()
            continue
        cache.prefill([keys] * batch, [values] * batch)
        if isinstance(cache, SampledLayer):
            originals.append(cache)
        if isinstance(cache, ResidentLayer):
            resident = cache
    decoder.lengths = [context] * batch


def _exchanges(decoder: Decoder) -> bool:
    return decoder.pipeline is not None and bool(decoder.pipeline.lanes[0].exchanges)


def _where(decoder: Decoder, tokens: torch.Tensor) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The breakdown of lane 0 over some traced steps, and the last one's timeline."""
    trace_step(decoder, tokens)
    traced = [trace_step(decoder, tokens) for _ in range(TRACED_STEPS)]
    first: list[list[LayerSpans]] = [lanes[0] for lanes in traced]
    rows = len(decoder.pipeline.lanes[0].requests) if decoder.pipeline else 1
    figures = breakdown(first, weights_us(decoder.weights, rows) if tokens.is_cuda else None)
    records = [record for number, lane in enumerate(traced[-1]) for record in timeline_records(lane, number)]
    return figures, records


def transfers(decoder: Decoder, step_us: float) -> dict[str, float]:
    """What a step takes each way, how long that takes by itself as one copy a layer, and its share of `step_us`.

    The pipeline makes no copies: kernels write questions to the host's memory and read answers there.
    """
    assert decoder.pipeline is not None
    device = decoder.weights.device
    exchanges = [exchange for lane in decoder.pipeline.lanes for exchange in lane.exchanges.values()]
    to_host_us = _launched_us([_copy(exchange.bytes_to_host, device, "cpu") for exchange in exchanges], device)
    to_device_us = _launched_us([_copy(exchange.bytes_to_device, "cpu", device) for exchange in exchanges], device)
    return {
        "to_host_bytes": sum(exchange.bytes_to_host for exchange in exchanges),
        "to_device_bytes": sum(exchange.bytes_to_device for exchange in exchanges),
        "to_host_us": to_host_us,
        "to_device_us": to_device_us,
        "copies_share": (to_host_us + to_device_us) / step_us,
    }


def _copy(size: int, source: torch.device | str, target: torch.device | str) -> Callable[[], object]:
    ends = [torch.empty(size, dtype=torch.uint8, device=end, pin_memory=str(end) == "cpu" and torch.cuda.is_available())
            for end in (source, target)]  # fmt: skip
    return partial(ends[1].copy_, ends[0], non_blocking=True)


def _launched_us(calls: Sequence[Callable[[], object]], device: torch.device, repeats: int = 5) -> float:
    """What all calls take one after the other, captured: the host's launches would take longer than the copies."""
    if device.type != "cuda":
        return 0.0

    def program() -> Iterator[None]:
        for call in calls:
            call()
        yield from ()

    rehearse(program)
    script, clock = CapturedScript(program), Clock(device)
    marks = [clock.mark()]
    for _ in range(repeats):
        script.begin()
        script.advance()
        marks.append(clock.mark())
    torch.cuda.synchronize()
    times = [clock.device_us(mark) for mark in marks]
    return float(np.median(np.diff(times)))


def weights_us(weights: Weights, rows: int) -> float:
    """Microseconds a layer that its four products take alone for `rows` requests, captured: the traffic of weights."""
    linears = [matrix for layer in weights.layers for matrix in (layer.qkv, layer.out, layer.gate_up, layer.down)]
    inputs = {m.shape[1]: torch.randn(rows, m.shape[1], device=m.device, dtype=m.dtype) for m in linears}

    products = [partial(F.linear, inputs[matrix.shape[1]], matrix) for matrix in linears]
    return _launched_us(products, weights.device) / len(weights.layers)


def _memory(decoder: Decoder, device: str) -> dict[str, Any]:
    """Of the sampled layers as they are shared here, and as they would be were each its own; of the device."""
    layers = [cache for cache in decoder.caches if isinstance(cache, SampledLayer)]
    distinct = {store.rows.data_ptr(): store.rows.nbytes for layer in layers for store in layer.stores}
    found: dict[str, Any] = {"distinct_store_bytes": sum(distinct.values()),
                             "sampled_layers_bytes": sum(layer.memory_bytes for layer in layers)}  # fmt: skip
    if device == "cuda":
        found |= {"gpu_allocated_bytes": torch.cuda.max_memory_allocated(),
                  "gpu_reserved_bytes": torch.cuda.max_memory_reserved()}  # fmt: skip
    return found


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
