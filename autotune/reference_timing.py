"""Times a layer of a reference method on the CPU, as it runs: it has no kernels that could be timed apart."""

from __future__ import annotations

import itertools

import numpy as np
import torch

from truffle.bench.layer_data import LayerData
from truffle.bench.timing import layers_beyond_cache, sequence_s
from truffle.bench.workloads import Workload
from truffle.model.config import DecodeConfig
from truffle.model.methods.base import LayerCache
from truffle.model.methods.layers import layer_caches
from truffle.model.operations import Operations

QUERY_DRAWS, LEAST_ROUNDS = 3, 5  # behind 98,304 keys a layer may take seconds


def request_s(workload: Workload, config: DecodeConfig, data: LayerData, seconds: float) -> tuple[np.ndarray, float]:
    """Seconds of one layer for one request, step by step, and the share of the keys that it took.

    Steps go on from the keys of `data`, and add one each. Where one layer would stay in cache, others take turns.
    """
    torch.set_num_threads(config.execution.threads)
    layers = _layers(workload, config, data)
    keys, values = (part[None, :, 0] for part in data.keys_and_values)
    queries = [data.queries(draw) for draw in range(QUERY_DRAWS)]
    turns = itertools.cycle([(layer, q) for q in queries for layer in layers])

    def step() -> None:
        layer, q = next(turns)
        layer.decode(q, keys, values)

    samples = sequence_s({"step": step}, 0.0, seconds, LEAST_ROUNDS)
    usage = layers[0].usage()
    assert usage is not None
    return np.array(samples["step"]), float((usage.attended / usage.cached[:, None].clamp_min(1)).mean())


def _layers(workload: Workload, config: DecodeConfig, data: LayerData) -> list[LayerCache]:
    """As many sampled layers as walk out of the CPU's caches, each of which has read the keys."""
    keys, values = data.keys_and_values
    count = layers_beyond_cache(keys.nbytes + values.nbytes)
    parameters = config.parameters.model_copy(update={"dense_layers": ()})
    config = config.model_copy(update={"parameters": parameters})
    layers = layer_caches(workload.shape.model_copy(update={"layers": count}), config, Operations(config, "cpu"))
    for layer in layers:
        layer.prefill([keys], [values])
    return layers
