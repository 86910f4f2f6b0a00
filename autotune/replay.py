"""A bench that answers from a recorded grid, each time with another of the samples that were taken."""

from __future__ import annotations

import math
from statistics import median, stdev
from typing import Any

import numpy as np

from truffle.autotune.evaluate import accuracy_key
from truffle.autotune.grid_space import GridSpace
from truffle.autotune.measuring import ACCURACY_FIGURES, Fidelity, Measured, MeasureError
from truffle.model.config import DecodeConfig

KL = tuple(name for name in ACCURACY_FIGURES if name.startswith(("kl", "top1", "perplexity")))
FIGURES: dict[str, tuple[str, ...]] = {
    "statistics": ("screen_error", "density", "rows"), "output_error": ("output_error", "density", "rows"), "kl": KL,
}  # fmt: skip
WITHIN = 1.96  # standard deviations, of a normal distribution 95%


class Recording:
    """Figures of settings of a grid.

    Each measurement of throughput is one of the setting's samples, drawn anew. It cannot tell its own error; the
    bounds are what samples of a setting stray from one another in the median over the grid.

    Args:
        seed: of the draws.
    """

    def __init__(self, space: GridSpace, seed: int = 0) -> None:
        self._grid = space.grid
        self._keys = {_identity(config): key for key, config in space.configs.items()}
        self._random = np.random.default_rng(seed)
        strays = [stdev(map(math.log, s)) for s in self._grid.step_ms.values() if len(s) > 1]
        self._stray = math.exp(WITHIN * median(strays)) if strays else 1.0

    def measure(self, config: DecodeConfig, fidelity: Fidelity, repeat: int = 0) -> Measured:
        """See `measuring.Bench`."""
        found = self._timed(config) if fidelity == "throughput" else self._accuracy(config, fidelity)
        return Measured(found, 0.0, {"step_ms": [found["step_ms"]]} if "step_ms" in found else {})

    def _timed(self, config: DecodeConfig) -> dict[str, Any]:
        samples = self._grid.step_ms.get(self._keys.get(_identity(config), ""))
        if not samples:
            raise MeasureError("the grid has no time of this setting")
        step_ms = float(self._random.choice(samples))
        rate = 1e3 * config.execution.batch_size / step_ms
        return {
            "tokens_per_s": rate, "tokens_per_s_low": rate / self._stray, "tokens_per_s_high": rate * self._stray,
            "throughput_kind": "replayed", "step_ms": step_ms,
        }  # fmt: skip

    def _accuracy(self, config: DecodeConfig, fidelity: Fidelity) -> dict[str, Any]:
        known = self._grid.accuracy.get(accuracy_key(config))
        if known is None or fidelity not in FIGURES:
            raise MeasureError(f"the grid has no {fidelity} of this setting")
        return {name: known.get(name) for name in FIGURES[fidelity]}


def _identity(config: DecodeConfig) -> tuple[object, ...]:
    """A config whatever the names of the implementations that `auto` took."""
    return config.parameters.model_dump_json(), config.execution.model_dump_json(), config.fused, config.resident
