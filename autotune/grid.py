"""A recorded grid: every setting of a few axes with its error and several samples of its step, as a small JSON file."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from truffle.bench.records import write_atomically
from truffle.kernels.checks import ArgumentError
from truffle.model.schema import Frozen, one_line

Value = int | float | str
Point = dict[str, Value]


class GridHost(Frozen):
    """The host that a grid was recorded on; `isa` is the one that its kernels ran with."""

    name: str
    logical_cpus: int = Field(ge=1)
    memory_bytes: int = Field(ge=1)
    isa: str


class GridExact(Frozen):
    """The fastest exact way there, for a step of `batch_size` requests."""

    name: str
    batch_size: int = Field(ge=1)
    step_ms: float = Field(gt=0)
    kind: Literal["measured", "estimated"]


class GridErrors(Frozen):
    """What its errors were measured on: a model, or one synthetic layer, at texts of `context` tokens."""

    model: str
    context: int
    samples: int
    steps: int


class Grid(Frozen):
    """The whole file.

    Attributes:
        source: whether its figures were measured, or made from a few that were.
        about: what a step and an error are here, and what they were measured with, in sentences.
        gpu: the id of a card's profile, None without one.
        parts: by name, axes by name; a part has a setting for every combination of its values.
        accuracy: figures by what accuracy depends on (evaluate.accuracy_key).
        step_ms: samples by `key`; a setting that is missing has not been recorded yet.
    """

    schema_version: Literal[1] = 1
    source: Literal["recorded", "synthetic"]
    about: tuple[str, ...]
    command: str
    environment: dict[str, Any]
    workload: str
    gpu: str | None
    host: GridHost
    exact: GridExact
    errors_on: GridErrors
    parts: dict[str, dict[str, tuple[Value, ...]]]
    accuracy: dict[str, dict[str, float | None]] = Field(default_factory=dict)
    step_ms: dict[str, tuple[float, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _axes_agree(self) -> Grid:
        """The sampler knows an axis by its name, whatever the part."""
        known: dict[str, tuple[Value, ...]] = {}
        for part in self.parts.values():
            for name, values in part.items():
                if len(values) > 1 and known.setdefault(name, values) != values:
                    raise ValueError(f"parts: expected axis {name} to be {known[name]} in all of them, got {values}")
        return self

    @cached_property
    def settings(self) -> dict[str, tuple[str, Point]]:
        """Part and point of every setting, by key."""
        return {key(part, point): (part, point) for part, point in self._every()}

    def _every(self) -> Iterator[tuple[str, Point]]:
        for part, axes in self.parts.items():
            for values in itertools.product(*axes.values()):
                yield part, dict(zip(axes, values, strict=True))

    @property
    def missing(self) -> list[str]:
        """Keys of settings that have no samples yet."""
        return [name for name in self.settings if name not in self.step_ms]


def key(part: str, point: Point) -> str:
    """A setting as it is written in a grid's file."""
    return "/".join([part, *map(str, point.values())])


def load(path: Path) -> Grid:
    """Read a grid.

    Raises:
        ArgumentError: the file is none.
    """
    try:
        return Grid.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise ArgumentError(f"{path}: {one_line(error)}") from None


def save(grid: Grid, path: Path) -> None:
    """Write a grid, a line a setting."""
    fields = grid.model_dump(mode="json")
    lines = []
    for name, value in fields.items():
        if name in ("accuracy", "step_ms", "parts"):
            rows = (f"  {json.dumps(one)}: {json.dumps(held)}" for one, held in value.items())
            lines.append(f" {json.dumps(name)}: {{\n" + ",\n".join(rows) + "\n }")
        else:
            lines.append(f" {json.dumps(name)}: {json.dumps(value)}")
    write_atomically(path, "{\n" + ",\n".join(lines) + "\n}\n")
