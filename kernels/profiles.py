"""Figures of graphics cards that need not be present: one JSON file a card, with the source of every figure.

    card = profiles.load("4090")
    card.memory_bandwidth_bytes_per_s.value, card.memory_bandwidth_bytes_per_s.kind

Files in `~/.config/truffle/profiles` (or under `XDG_CONFIG_HOME`) come first, so that a user can add a card, or correct
one: what a file of a known card's name says replaces that, and all else stays, as in a `rtx-4090.json` of

    {"memory_efficiency": {"value": 0.91, "kind": "measured", "source": "my own, 2026-11"}}
"""

from __future__ import annotations

import itertools
import json
import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from truffle.kernels.hardware import Frozen

FOLDER = Path(__file__).parent / "profiles"
# What no card is beyond: a figure in another unit, or a slip of the pen.
BOUNDS = {
    "memory_bytes": (2**28, 2**44), "memory_bandwidth_bytes_per_s": (1e9, 1e15), "bf16_flops_per_s": (1e9, 1e18),
    "link_bandwidth_bytes_per_s": (1e7, 1e13), "kernel_latency_s": (1e-9, 1.0), "link_latency_s": (1e-9, 1.0),
}  # fmt: skip


class ProfileError(ValueError):
    """A card is not known, or its file is not a profile."""


class Figure(Frozen):
    """A number and how it came about; `assumed` figures hold for cards like this one, not for this one."""

    value: float = Field(gt=0, allow_inf_nan=False)
    kind: Literal["datasheet", "derived", "measured", "assumed"]
    source: str = Field(min_length=1)


class Share(Figure):
    """The part of a peak that programs attain."""

    value: float = Field(gt=0, le=1)


class Link(Frozen):
    """A PCI Express link: generation and lanes."""

    gen: int = Field(ge=3, le=6)
    width: Literal[1, 2, 4, 8, 16]


class TensorCores(Frozen):
    """What the arithmetic peak is made of: `count * flops_per_clock * boost_hz`, without sparsity."""

    count: int = Field(gt=0)
    flops_per_clock: int = Field(gt=0)
    boost_hz: float = Field(gt=0, allow_inf_nan=False)


class GpuProfile(Frozen):
    """One card, in bytes, seconds and FLOP/s: peaks first, then the factors that were seen or are assumed.

    Attributes:
        id: the file's name.
        nvml_names: regular expressions that match the whole name NVML gives the card, in any case.
        memory_bytes: what programs see, so without the part that inline ECC keeps.
        bf16_flops_per_s: dense, FP32 accumulation, with inputs of `matmul_dtype`.
        link_bandwidth_bytes_per_s: PCIe, one way, after line coding.
        memory_efficiency, flops_efficiency, link_efficiency: attained share of the peaks above.
        product_efficiency: share of the memory's bandwidth that products of weights and a few vectors attain.
        scan_efficiency: share of it that a scan's kernels attain on codes and scratch.
        kernel_latency_s: a small kernel of a decoder layer in a CUDA graph, from the end of the one before to its own.
        link_latency_s: one small pinned copy, waited for.
    """

    id: str
    name: str
    aliases: tuple[str, ...]
    nvml_names: tuple[str, ...]
    compute_capability: tuple[int, int]
    matmul_dtype: Literal["bf16", "fp16"]
    link: Link
    tensor_cores: TensorCores | None
    memory_bytes: Figure
    memory_bandwidth_bytes_per_s: Figure
    bf16_flops_per_s: Figure
    link_bandwidth_bytes_per_s: Figure
    memory_efficiency: Share
    product_efficiency: Share
    scan_efficiency: Share
    flops_efficiency: Share
    link_efficiency: Share
    kernel_latency_s: Figure
    link_latency_s: Figure

    @field_validator("nvml_names")
    @classmethod
    def _expressions(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError) as error:
                raise ValueError(f"expected regular expressions, got {pattern!r:.80}: {error}") from None
        return patterns

    @field_validator(*BOUNDS)
    @classmethod
    def _possible(cls, figure: Figure, info: ValidationInfo) -> Figure:
        low, high = BOUNDS[str(info.field_name)]
        if not low <= figure.value <= high:
            raise ValueError(f"expected a value of {low:g} to {high:g}, got {figure.value:g}")
        return figure

    def answers_to(self, name: str) -> bool:
        """Whether `name` is this card's id or an alias; case, spaces, dashes and underscores do not count."""
        return _plain(name) in {_plain(own) for own in (self.id, self.name, *self.aliases)}

    def is_card(self, gpu_name: str) -> bool:
        """Whether NVML calls this card `gpu_name`."""
        return any(re.fullmatch(pattern, gpu_name.strip(), re.IGNORECASE) for pattern in self.nvml_names)


def load(name: str) -> GpuProfile:
    """The profile with this id or alias.

    Raises:
        ProfileError: no such card (the message lists those there are), or a file is not a profile.
    """
    for profile in _all():
        if profile.answers_to(name):
            return profile
    raise ProfileError(
        f"gpu: expected one of {', '.join(known())}, got {name!r}; a profile of your own goes into {user_folder()}"
    )


def known() -> tuple[str, ...]:
    """Ids of all cards."""
    return tuple(sorted(profile.id for profile in _all()))


def matching(gpu_name: str) -> GpuProfile | None:
    """The profile of the card that NVML calls `gpu_name`, or None."""
    return next((profile for profile in _all() if profile.is_card(gpu_name)), None)


def user_folder() -> Path:
    """Where a user's own profiles lie."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "truffle/profiles"


def read(path: Path, over: Path | None = None) -> GpuProfile:
    """One profile file, whose entries replace those of `over` where that is given.

    Raises:
        ProfileError: it is not a profile, or its name is not its id.
    """
    try:
        profile = GpuProfile.model_validate(_content(over) | _content(path) if over else _content(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "file"
        raise ProfileError(f"{path}: {where}: {first['msg']}") from None
    if profile.id != path.stem:
        raise ProfileError(f"{path}: id: expected {path.stem!r} as the file is named, got {profile.id!r}")
    return profile


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ProfileError(f"{path}: expected JSON, got {error}") from None
    if not isinstance(content, dict):
        raise ProfileError(f"{path}: expected an object, got {type(content).__name__}")
    return content


def _all() -> list[GpuProfile]:
    shipped = {path.stem: path for path in sorted(FOLDER.glob("*.json"))}
    own = {path.stem: read(path, shipped.get(path.stem)) for path in sorted(user_folder().glob("*.json"))}
    found = [*own.values(), *(read(path) for name, path in shipped.items() if name not in own)]
    for one, other in itertools.combinations(found, 2):
        _require_apart(one, other)
    return found


def _require_apart(one: GpuProfile, other: GpuProfile) -> None:
    """Raise ProfileError where both answer to one name; the first is the user's own, if any is."""
    name = next((name for name in (one.id, one.name, *one.aliases) if other.answers_to(name)), None)
    if name is not None:
        path = user_folder() / f"{one.id}.json"
        raise ProfileError(f"{path}: aliases, id and name: expected none of another card's, got {name!r} of {other.id}")


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name).casefold()
