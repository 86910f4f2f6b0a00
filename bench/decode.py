"""Times decode steps: a whole model with weights, or a workload of which one layer of each kind is built and scaled."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from truffle.bench import synthetic, text
from truffle.bench.timing import ColdCache, median_ci95, quantiles_us
from truffle.bench.workloads import Workload
from truffle.model.config import DecodeConfig, DenseParameters, ModelShape
from truffle.model.generate import DensityMeter
from truffle.model.llama import Decoder
from truffle.model.weights import LoadedModel, random_weights

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
    for step in range(WARM_UP_STEPS + steps):
        decoder.observer = meter if step < WARM_UP_STEPS else None  # counting takes time
        started = time.perf_counter()
        tokens = decoder.step(tokens).argmax(-1)
        _wait(model.weights.device)
        if step >= WARM_UP_STEPS:
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


@dataclass(frozen=True)
class LayerKinds:
    """How often each kind of layer occurs in the model."""

    dense: int
    sparse: int


def layer_kinds(shape: ModelShape, config: DecodeConfig) -> LayerKinds:
    """Dense and sparse layers of a model under a config."""
    p = config.parameters
    dense = shape.layers if isinstance(p, DenseParameters) else len(set(p.dense_layers) & set(range(shape.layers)))
    return LayerKinds(dense, shape.layers - dense)


def time_workload(
    workload: Workload, config: DecodeConfig, steps: int, device: str, dtype: torch.dtype
) -> dict[str, Any]:
    """Build one dense and one sparse layer at the workload's context, time them, and scale to all layers.

    Keys and queries are synthetic, calibrated for rates; weights are random. The step is the sum of the
    layers' medians and the head's; each is timed with the CPU's caches cold, as they are when layers differ.
    """
    kinds = layer_kinds(workload.shape, config)
    decoder, kind_of_layer = _two_layers(workload, config, device, dtype)
    meter, cold = DensityMeter(), ColdCache()
    batch = config.execution.batch_size
    states = torch.randn(batch, workload.shape.hidden, generator=torch.Generator().manual_seed(1)).to(device, dtype)
    samples: dict[str, list[float]] = {kind: [] for kind in (*kind_of_layer, "head")}
    with torch.inference_mode():
        for step in range(WARM_UP_STEPS + steps):
            decoder.observer = meter if step < WARM_UP_STEPS else None  # counting takes time
            positions = torch.tensor(decoder.lengths, device=device)
            for index, kind in enumerate(kind_of_layer):
                run = partial(decoder.decode_layer, index, states, positions)
                samples[kind].append(_timed(run, device, cold))
            samples["head"].append(_timed(lambda: decoder.logits(states), device, cold))
    medians = {kind: quantiles_us(times[WARM_UP_STEPS:])["median_us"] for kind, times in samples.items()}
    layers = {"dense": kinds.dense, "sparse": kinds.sparse, "head": 1}
    step_us = sum(layers[kind] * median for kind, median in medians.items())
    steps_s = sum(layers[kind] * np.array(times[WARM_UP_STEPS:]) for kind, times in samples.items())
    low, high = median_ci95(steps_s)
    return {
        "median_us": step_us,
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
        "steps": steps,
        "kind": "one layer of each kind measured, scaled",
    }


def _two_layers(
    workload: Workload, config: DecodeConfig, device: str, dtype: torch.dtype
) -> tuple[Decoder, tuple[str, ...]]:
    """A decoder with one layer of each kind that the model has, its caches filled with synthetic keys."""
    kinds = layer_kinds(workload.shape, config)
    kind_of_layer = tuple(kind for kind, count in (("dense", kinds.dense), ("sparse", kinds.sparse)) if count)
    shape = workload.shape.model_copy(update={"layers": len(kind_of_layer)})
    if not isinstance(config.parameters, DenseParameters):
        dense_layers = (0,) if kinds.dense else ()
        parameters = config.parameters.model_copy(update={"dense_layers": dense_layers})
        config = config.model_copy(update={"parameters": parameters})
    decoder = Decoder(shape, random_weights(shape, 0, device, dtype), config)
    batch = config.execution.batch_size
    keys, values = synthetic.keys_and_values(shape.kv_heads, workload.context, shape.head_dim, 0, dtype)
    keys, values = keys.to(device), values.to(device)
    decoder.adopt([[keys] * batch] * shape.layers, [[values] * batch] * shape.layers)
    return decoder, kind_of_layer


def _timed(call: Any, device: str, cold: ColdCache) -> float:
    cold()
    started = time.perf_counter()
    call()
    _wait(torch.device(device))
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
