"""The space of a study of accuracy alone: what the error depends on, and nothing that a machine has a say in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import optuna

from truffle.autotune import method_space, scan_space
from truffle.autotune.exact_part import DENSE_LAYERS, SINKS, WINDOWS, asked_exact
from truffle.autotune.index_choices import MARKS, asked_index
from truffle.autotune.mixed_space import LSH, MixedSpace
from truffle.autotune.space import STORE_FORMATS
from truffle.model.config import DecodeConfig

NAMES = ("method", "K", "L", "min_hits", "family", "probing", "store_format", "sink", "window", "dense_layers")


@dataclass(frozen=True)
class AccuracySpace(MixedSpace):
    """Points are requests of one, and none is ruled out: memory and bandwidth are some machine's."""

    def first_points(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Those of MixedSpace that differ in their accuracy."""
        seen = []
        for origin, point in super().first_points():
            kept = {name: value for name, value in point.items() if name in NAMES or "." in name}
            if kept not in seen:
                seen.append(kept)
                yield origin, kept

    def suggest(self, trial: optuna.Trial) -> DecodeConfig:
        """A point as the sampler asks for it."""
        method = LSH if self.methods == (LSH,) else trial.suggest_categorical("method", self.methods)
        point: dict[str, Any] = {"method": method}
        if method == LSH:
            point |= asked_index(trial)
        else:
            point |= method_space.suggested_point(trial, method)
        if method in (LSH, scan_space.SCAN):
            point |= {**asked_exact(trial), "store_format": trial.suggest_categorical("store_format", STORE_FORMATS)}
        return self.config(point)

    def config(self, point: dict[str, Any]) -> DecodeConfig:
        """The decode config of a point, of one request on one thread."""
        found = super().config({**point, "batch_size": 1})
        execution = found.execution.model_copy(update={"threads": 1, "isa": "auto", "codes": "auto", "gather": "auto"})
        return found.model_copy(update={"execution": execution})

    def ruled_out(self, config: DecodeConfig, fastest_exact: float, max_latency_ms: float | None = None) -> None:
        """Nothing is."""

    @property
    def marks(self) -> dict[str, Any]:
        """See `Space`."""
        own = {**MARKS, "store_format": STORE_FORMATS, "sink": SINKS, "window": WINDOWS, "dense_layers": DENSE_LAYERS}
        return own | {method: str(method_space.RANGES[method]) for method in self._others}
