"""Output error of methods on one synthetic layer with real scores, and what they read for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from truffle.bench.scored import ScoredLayer
from truffle.bench.shares import read_shares
from truffle.model.config import DecodeConfig, ModelShape
from truffle.model.methods.base import LayerCache
from truffle.model.methods.layers import layer_caches
from truffle.model.operations import Operations

FIGURES = ("output_error", "density", "rows")


def filled_cache(layer: ScoredLayer, shape: ModelShape, config: DecodeConfig, ops: Operations) -> LayerCache:
    """The method's own layer, which has read all keys but those of the steps."""
    if hasattr(config.parameters, "dense_layers"):
        parameters = config.parameters.model_copy(update={"dense_layers": ()})
        config = config.model_copy(update={"parameters": parameters})
    (cache,) = layer_caches(shape.model_copy(update={"layers": 1}), config, ops)
    cache.prefill(*([part[:, : -len(layer.queries)]] for part in (layer.keys, layer.values)))
    return cache


@torch.inference_mode()
def step_errors(layer: ScoredLayer, cache: LayerCache, exact: list[torch.Tensor]) -> list[dict[str, float | None]]:
    """One record a step: FIGURES, means over heads, of attention decoded step by step."""
    found = []
    for step, (q, right) in enumerate(zip(layer.queries, exact, strict=True)):
        at = step - len(layer.queries)
        out = cache.decode(q[None], layer.keys[None, :, at], layer.values[None, :, at])[0].float()
        error = float(((out - right).norm(dim=-1) / right.norm(dim=-1)).mean())
        found.append({"output_error": error, **read_shares([cache])})
    return found


def summarised(samples: list[list[dict[str, float | None]]], draws: int = 2000) -> dict[str, Any]:
    """Means of FIGURES over samples and their steps, and of the error the 95% interval of a bootstrap over samples and
    then steps."""
    steps = [step for sample in samples for step in sample]
    found: dict[str, Any] = {}
    for name in FIGURES:
        values = [value for step in steps if (value := step[name]) is not None]
        found[name] = float(np.mean(values)) if values else None
    errors = np.array([[step["output_error"] for step in sample] for sample in samples], float)
    generator = np.random.default_rng(0)
    S, T = errors.shape
    rows = generator.integers(0, S, (draws, S, 1))
    means = errors[rows, generator.integers(0, T, (draws, S, T))].mean((1, 2))
    low, high = np.quantile(means, [0.025, 0.975])
    return found | {"output_error_low": float(low), "output_error_high": float(high)}
