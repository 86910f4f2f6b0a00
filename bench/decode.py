"""Times decode steps: a whole model with weights, or a workload of which a few layers are built and scaled."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch

from truffle.bench import synthetic, text
from truffle.bench.kinds import layer_kinds
from truffle.bench.timing import layers_beyond_cache, median_ci95, microseconds, quantiles_us
from truffle.bench.workloads import Workload
from truffle.model.config import DecodeConfig, DenseParameters
from truffle.model.generate import DensityMeter
from truffle.model.llama import Decoder, Turn
from truffle.model.weights import LoadedModel

WARM_UP_STEPS = 2


def time_model(model: LoadedModel, config: DecodeConfig, context: int, steps: int) -> dict[str, Any]:
    """Prefill `context` tokens of real text for every request of the batch, then time `steps` steps."""
    batch = config.execution.batch_size
    prompts = text.windows(model.tokenizer(), batch, context)
    decoder = Decoder(model.shape, model.weights, config)
    meter = DensityMeter()
    started = time.perf_counter()
    tokens = decoder.prefill(prompts).argmax(-1)
    prefill_s = time.perf_counter() - started
    samples = []
    for step in range(2 * WARM_UP_STEPS + steps):
        decoder.observer = meter if step < WARM_UP_STEPS else None  # counting takes time
        started = time.perf_counter()
        tokens = decoder.step(tokens).argmax(-1)
        device_done(model.weights.device)
        if step >= 2 * WARM_UP_STEPS:  # the first step without an observer may capture
            samples.append(time.perf_counter() - started)
    times = quantiles_us(samples)
    return {
        **times,
        "tokens_per_s": batch / times["median_us"] * 1e6,
        "prefill_s": prefill_s,
        "density": meter.density,
        "context": context,
        "steps": steps,
        "kind": "measured",
        "index_and_cache_bytes": sum(cache.memory_bytes for cache in decoder.caches),
    }


@torch.inference_mode()
def time_workload(
    workload: Workload, config: DecodeConfig, steps: int, dtype: torch.dtype, samples_us: list[float] | None = None
) -> dict[str, Any]:
    """Build a few dense and sparse layers at the workload's context, time them on the CPU, and scale to all layers.

    Keys and queries are synthetic, calibrated for rates; weights are random. There are as many layers of a kind as
    it takes to exceed the CPU's caches, one at least. The step is the sum of the kinds' medians and the head's.
    To `samples_us`, if given, the sum of each round is appended.
    """
    kinds = layer_kinds(workload.shape, config)
    decoder, kind_of_layer = _few_layers(workload, config, dtype)
    meter = DensityMeter()
    batch = config.execution.batch_size
    states = torch.randn(batch, workload.shape.hidden, generator=torch.Generator().manual_seed(1)).to(dtype)
    samples: dict[str, list[float]] = {kind: [] for kind in (*kind_of_layer, "head")}
    counts = {kind: kind_of_layer.count(kind) for kind in kind_of_layer}
    turn = decoder.turn(torch.tensor(decoder.lengths))
    for step in range(WARM_UP_STEPS + steps):
        totals = dict.fromkeys(counts, 0.0)
        for index, kind in enumerate(kind_of_layer):
            totals[kind] += _timed(partial(decode_layer, decoder, index, states, turn))
            if step < WARM_UP_STEPS:
                meter(index, decoder.caches[index])
        for kind, total in totals.items():
            samples[kind].append(total / counts[kind])
        samples["head"].append(_timed(lambda: decoder.logits(states)))
    quantiles = {kind: quantiles_us(times[WARM_UP_STEPS:]) for kind, times in samples.items()}
    medians = {kind: times["median_us"] for kind, times in quantiles.items()}
    layers = {"dense": kinds.dense, "sparse": kinds.sparse, "head": 1}
    step_us = sum(layers[kind] * median for kind, median in medians.items())
    steps_s = sum(layers[kind] * np.array(times[WARM_UP_STEPS:]) for kind, times in samples.items())
    if samples_us is not None:
        samples_us += microseconds(steps_s)
    low, high = median_ci95(steps_s)
    return {
        "median_us": step_us,
        "p20_us": sum(layers[kind] * times["p20_us"] for kind, times in quantiles.items()),
        "tokens_per_s": batch / step_us * 1e6,
        "tokens_per_s_low": batch / high,
        "tokens_per_s_high": batch / low,
        "dense_layer_us": medians.get("dense"),
        "sparse_layer_us": medians.get("sparse"),
        "head_us": medians["head"],
        "dense_layers": kinds.dense,
        "sparse_layers": kinds.sparse,
        "density": meter.density,
        "context": workload.context,
        "cosine_deviation": workload.deviation or synthetic.COSINE_DEVIATION,
        "steps": steps,
        "kind": f"{' and '.join(f'{count} {kind}' for kind, count in counts.items())} layers measured, scaled",
    }


def decode_layer(decoder: Decoder, index: int, states: torch.Tensor, turn: Turn) -> None:
    """One layer's step on the CPU for states [B, hidden], which stay as they are."""
    weights = decoder.weights.layers[index]
    out = decoder.caches[index].decode(*decoder.project(weights, states, turn))
    decoder.finish(weights, states.clone(), out)


def _few_layers(workload: Workload, config: DecodeConfig, dtype: torch.dtype) -> tuple[Decoder, tuple[str, ...]]:
    """A decoder with layers of each kind that the model has, dense first, its caches filled with synthetic keys."""
    kinds, shape, batch = layer_kinds(workload.shape, config), workload.shape, config.execution.batch_size
    layer_bytes = batch * shape.kv_bytes_per_token() // shape.layers * workload.context
    enough = layers_beyond_cache(layer_bytes + shape.parameters // shape.layers)
    dense = min(kinds.dense, enough)
    kind_of_layer = ("dense",) * dense + ("sparse",) * min(kinds.sparse, enough)
    shape = shape.model_copy(update={"layers": len(kind_of_layer)})
    if not isinstance(config.parameters, DenseParameters):
        parameters = config.parameters.model_copy(update={"dense_layers": tuple(range(dense))})
        config = config.model_copy(update={"parameters": parameters})
    decoder = Decoder(shape, synthetic.weights(shape, "cpu", dtype, workload.deviation), config)
    keys, values = synthetic.keys_and_values(
        shape.kv_heads, workload.context, shape.head_dim, 0, dtype, workload.deviation
    )
    decoder.adopt([[keys] * batch] * shape.layers, [[values] * batch] * shape.layers)
    return decoder, kind_of_layer


def _timed(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def device_done(device: torch.device) -> None:
    """Return when a device has done what was launched."""
    if device.type == "cuda":
        torch.cuda.synchronize()
