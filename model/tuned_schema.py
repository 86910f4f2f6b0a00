"""What tuned.json holds, schema_version 1, as pydantic models and as the JSON Schema beside this file.

`python -m truffle.model.tuned_schema` writes `tuned.schema.json` anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from truffle.model.config import METHODS, DecodeConfig, ModelShape
from truffle.model.schema import Frozen

SCHEMA_VERSION = 1
SCHEMA_FILE = Path(__file__).with_name("tuned.schema.json")
Kind = Literal["measured", "estimated", "replayed"]
Count = Annotated[int, Field(ge=1, le=2**53)]
# One line that a terminal can show, as it is written: files come from elsewhere.
UNSHOWN = r"\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff"
Text = Annotated[str, StringConstraints(max_length=1000, pattern=rf"^[^{UNSHOWN}]*$")]


class Figure(Frozen):
    """One number with its 95% interval and how it came about."""

    value: float
    ci95: tuple[float, float] | None = None
    kind: Kind
    measured_on: Text


class Generator(Frozen):
    """What wrote the file."""

    name: Text
    version: Text
    commit: Text | None = None


class Gpu(Frozen):
    """The card; `present` where it was in the machine that tuned."""

    name: Text
    memory_bytes: Count | None = None
    present: bool | None = None


class Cpu(Frozen):
    """The host; `source` is where its rates come from."""

    model: Text | None = None
    logical_cpus: Count | None = None
    memory_bytes: int | None = Field(default=None, ge=0, le=2**53)
    source: Text | None = None


class Link(Frozen):
    """The PCI Express link."""

    gen: Count
    width: Count


class Hardware(Frozen):
    """The machine the figures are for; `kind` says whether the GPU was there.

    Attributes:
        vram_limit_bytes: what the GPU was held to, None where all of its memory could be used.
    """

    profile: Text | None
    gpu: Gpu | None
    cpu: Cpu
    link: Link | None
    kind: Kind
    vram_limit_bytes: Count | None = None


class Model(Frozen):
    """The model that was timed."""

    id: Text
    architecture: Text
    shape: ModelShape
    weights_sha256: Text | None = None


class Workload(Frozen):
    """What was timed. Setup A: the whole prompt dense, sampling from the first decoded token on."""

    context: Count
    new_tokens: Count
    setup: Literal["A"] = "A"


Equal = Literal["model.shape", "hardware.profile", "hardware.vram_limit_bytes"]


class Match(Frozen):
    """Where the config applies: what must be equal, and how far the rest may be, as the larger over the smaller.

    Another model or card is told of whatever a file says here.
    """

    equal: tuple[Equal, ...] = ("model.shape", "hardware.profile")
    context_ratio: float = Field(default=2.0, ge=1.0)
    batch_ratio: float = Field(default=2.0, ge=1.0)


class Evidence(Frozen):
    """Why this config: its accuracy and throughput, and those of what it was compared with."""

    accuracy: dict[Text, Figure]
    throughput: dict[Text, Figure]
    baselines: dict[Text, dict[Text, Figure]]


class FrontPoint(Frozen):
    """Another non-dominated point of error and throughput."""

    config: DecodeConfig
    accuracy: dict[Text, Figure]
    throughput: dict[Text, Figure]


class Study(Frozen):
    """How thoroughly was searched."""

    trials: int = Field(ge=0, le=2**53)
    failed: int = Field(ge=0, le=2**53)
    seconds: float = Field(ge=0)
    stop_reason: Text
    complete: bool


class TunedConfig(Frozen):
    """The whole file."""

    schema_version: Literal[1] = SCHEMA_VERSION
    created: Text
    generator: Generator
    hardware: Hardware
    model: Model
    workload: Workload
    match: Match = Match()
    config: DecodeConfig
    evidence: Evidence
    front: tuple[FrontPoint, ...] = ()
    study: Study


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a tuned file, in which `method` says whose `parameters` are."""
    schema = TunedConfig.model_json_schema()
    schema["$defs"]["DecodeConfig"]["allOf"] = [
        {
            "if": {"properties": {"method": {"const": name}}},
            "then": {"properties": {"parameters": {"$ref": f"#/$defs/{kind.__name__}"}}},
        }
        for name, kind in METHODS.items()
    ]
    schema["$defs"]["DecodeConfig"]["properties"]["method"]["enum"] = list(METHODS)
    about = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:truffle-attention:tuned:{SCHEMA_VERSION}",
    }
    return about | schema


def main() -> None:
    SCHEMA_FILE.write_text(json.dumps(json_schema(), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
