"""The space of a recorded grid: what was recorded, and nothing beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import optuna

from truffle.autotune.grid import Grid, Point, Value, key
from truffle.autotune.index_choices import PAPER_POINTS, paper_index
from truffle.autotune.mixed_space import LSH, MixedSpace
from truffle.autotune.target import Host, Target
from truffle.bench.workloads import parse_workload
from truffle.kernels import profiles
from truffle.model.config import PAPER_DEFAULT, DecodeConfig

# The paper's points are as the default is in all but K and L, with all threads, one request at a time.
PLAIN: Point = {**paper_index(), "store_format": "bfloat16", "batch_size": 1}


@dataclass(frozen=True)
class GridSpace(MixedSpace):
    """Settings of a grid. An axis of numbers is asked for as an index into its values, so that near stays near."""

    grid: Grid = field(kw_only=True)

    def first_points(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The default and the paper's points as far as they were recorded."""
        default = (PAPER_DEFAULT.K, PAPER_DEFAULT.L)
        for K, L in (default, *PAPER_POINTS):
            point = self._plain({"K": K, "L": L})
            if point:
                yield "default" if default == (K, L) else "paper", point

    def suggest(self, trial: optuna.Trial | optuna.trial.FixedTrial) -> DecodeConfig:
        """A setting as the sampler asks for it."""
        part = _asked(trial, "part", tuple(self.grid.parts))
        point = {name: _asked(trial, name, values) for name, values in self.grid.parts[str(part)].items()}
        return self.configs[key(str(part), point)]

    def config(self, point: dict[str, Any]) -> DecodeConfig:
        """The config of a setting given as the sampler's own values."""
        return self.suggest(optuna.trial.FixedTrial(point))

    def ruled_out(self, config: DecodeConfig, fastest_exact: float, max_latency_ms: float | None = None) -> str | None:
        """By memory alone."""
        return self._shortage(config)

    @property
    def marks(self) -> dict[str, Any]:
        """See `Space`."""
        return {"grid": hashlib.sha256(self.grid.model_dump_json().encode()).hexdigest()}

    @cached_property
    def configs(self) -> dict[str, DecodeConfig]:
        """The decode config of every setting, by key."""
        return {name: self._made(point) for name, (_, point) in self.grid.settings.items()}

    def _made(self, point: Point) -> DecodeConfig:
        threads = point.get("threads", self.threads[-1])
        return super().config({"method": LSH, **point, "threads": self.threads.index(int(threads))})

    def _plain(self, tables: Point) -> dict[str, Any] | None:
        """The sampler's values of the first part that has these tables, plain otherwise; None where none has."""
        for part, axes in self.grid.parts.items():
            wanted = {**PLAIN, "threads": self.threads[-1], **tables}
            point = {name: wanted.get(name, values[0]) for name, values in axes.items()}
            if "K" in axes and all(point[name] in values for name, values in axes.items()):
                asked = {name: _told(values, point[name]) for name, values in axes.items() if len(values) > 1}
                return asked if len(self.grid.parts) == 1 else {"part": part, **asked}
        return None


def space_of(grid: Grid, source: Path) -> GridSpace:
    """The space of a grid, on the machine that it was recorded on."""
    axes = (values for part in grid.parts.values() for name, values in part.items() if name == "threads")
    threads = tuple(sorted({int(value) for values in axes for value in values})) or (grid.host.logical_cpus,)
    made = "made from a few measurements" if grid.source == "synthetic" else "recorded"
    notes = (f"Replayed from {source.name}, a grid that was {made}: nothing was measured for this.", *grid.about)
    there = grid.host
    host = Host(there.name, there.logical_cpus, there.memory_bytes, (), there.isa, False, f"as {source.name} has it")
    target = Target(profiles.load(grid.gpu) if grid.gpu else None, False, host, notes, recorded=True)
    methods = tuple(dict.fromkeys(str(axes.get("method", (LSH,))[0]) for axes in grid.parts.values()))
    return GridSpace(parse_workload(grid.workload), target, threads, 0, methods, grid=grid)


def _asked(trial: Any, name: str, values: tuple[Value, ...]) -> Value:
    if len(values) == 1:
        return values[0]
    if isinstance(values[0], str):
        return trial.suggest_categorical(name, values)
    return values[trial.suggest_int(name, 0, len(values) - 1)]


def _told(values: tuple[Value, ...], value: Value) -> Value:
    return value if isinstance(value, str) else values.index(value)
