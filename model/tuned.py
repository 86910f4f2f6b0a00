"""tuned.json, schema_version 1: a decode config with the evidence for it. Needs neither torch nor a GPU."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from truffle.model.config import DecodeConfig, ModelShape

SCHEMA_VERSION = 1
Kind = Literal["measured", "estimated", "replayed"]


class TunedFileError(ValueError):
    """A tuned file that cannot be read, with the reason in one line."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Figure(_Frozen):
    """One number with its 95% interval and how it came about."""

    value: float
    ci95: tuple[float, float] | None = None
    kind: Kind
    measured_on: str


class Generator(_Frozen):
    """What wrote the file."""

    name: str
    version: str
    commit: str | None = None


class Hardware(_Frozen):
    """The machine the figures are for; `kind` says whether the GPU was there.

    Attributes:
        vram_limit_bytes: what the GPU was held to, None where all of its memory could be used.
    """

    profile: str | None
    gpu: dict[str, Any] | None
    cpu: dict[str, Any]
    link: dict[str, Any] | None
    kind: Kind
    vram_limit_bytes: int | None = Field(default=None, ge=1)


class Model(_Frozen):
    """The model that was timed."""

    id: str
    architecture: str
    shape: ModelShape
    weights_sha256: str | None = None


class Workload(_Frozen):
    """What was timed. Setup A: the whole prompt dense, sampling from the first decoded token on."""

    context: int = Field(ge=1)
    new_tokens: int = Field(ge=1)
    setup: Literal["A"] = "A"


class Match(_Frozen):
    """Where the config applies: what must be equal, and how far the rest may be."""

    equal: tuple[str, ...] = ("model.shape", "hardware.profile")
    context_ratio: float = Field(default=2.0, ge=1.0)
    batch_ratio: float = Field(default=2.0, ge=1.0)


class Evidence(_Frozen):
    """Why this config: its accuracy and throughput, and those of what it was compared with."""

    accuracy: dict[str, Figure]
    throughput: dict[str, Figure]
    baselines: dict[str, dict[str, Figure]]


class FrontPoint(_Frozen):
    """Another non-dominated point of error and throughput."""

    config: DecodeConfig
    accuracy: dict[str, Figure]
    throughput: dict[str, Figure]


class Study(_Frozen):
    """How thoroughly was searched."""

    trials: int
    failed: int
    seconds: float
    stop_reason: str
    complete: bool


class TunedConfig(_Frozen):
    """The whole file."""

    schema_version: Literal[1] = SCHEMA_VERSION
    created: str
    generator: Generator
    hardware: Hardware
    model: Model
    workload: Workload
    match: Match = Match()
    config: DecodeConfig
    evidence: Evidence
    front: tuple[FrontPoint, ...] = ()
    study: Study


def save(tuned: TunedConfig, path: Path) -> None:
    """Write atomically, so that a reader never sees half a file."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(tuned.model_dump_json(indent=2) + "\n")
    os.replace(temporary, path)


def load(path: Path) -> TunedConfig:
    """Read a tuned file.

    Raises:
        TunedFileError: not there, not JSON, another schema version, or an unknown or wrong key, by name.
    """
    try:
        data = json.loads(path.read_text(), parse_constant=_refuse_constant)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise TunedFileError(f"{path}: {error}") from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        raise TunedFileError(f"{path}: schema_version: expected {SCHEMA_VERSION}, got {version!r}")
    try:
        return TunedConfig.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TunedFileError(f"{path}: {where}: {first['msg']}") from error


def _refuse_constant(name: str) -> None:
    raise TunedFileError(f"{name} is not a JSON number")
