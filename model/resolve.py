"""Which tuned config is for a model on a machine, and why: exact, nearest or compatible, never a silent fallback."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

from truffle.kernels.checks import expect
from truffle.kernels.hardware import HardwareProfile
from truffle.model.config import DecodeConfig, ModelShape
from truffle.model.runnable import runnable
from truffle.model.stale import stale
from truffle.model.tuned_file import TunedFileError, load
from truffle.model.tuned_schema import TunedConfig

NAME = "tuned.json"


class Resolution(NamedTuple):
    """A config, why it was taken, and what its user must know."""

    config: DecodeConfig
    reason: str
    warnings: tuple[str, ...]


class NoTunedConfig(TunedFileError):
    """No file is within its own match distance; the message says how far each is off."""


class _Candidate(NamedTuple):
    path: Path
    tuned: TunedConfig
    stale: tuple[str, ...]
    distance: float

    @property
    def rank(self) -> tuple[int, float, Path]:
        return len(self.stale), self.distance, self.path


def resolve(
    folder_or_file: Path | str, model: ModelShape, hardware: HardwareProfile, context: int, batch: int
) -> Resolution:
    """The config to decode with, from one tuned file or the best in a folder.

    *Exact*: made for this model, machine, context and batch. *Nearest*: context or batch are others, within the
    file's `match`. *Compatible*: it was made for something else, which `warnings` name; it runs, but its figures are
    not this machine's. What cannot run here at all is left to `auto`, with a warning.

    Args:
        folder_or_file: a tuned file, or a folder with `tuned.json` in it or in the folders right below.
        context: tokens of the prompt.
        batch: requests at once.

    Raises:
        NoTunedConfig: context or batch are farther away than every file allows, or a folder has no readable file.
        TunedFileError: the one file given cannot be read.
    """
    _require_count("context", "tokens", context)
    _require_count("batch", "requests", batch)
    expect(isinstance(model, ModelShape), "model", "a ModelShape", repr(model))
    known = isinstance(hardware, HardwareProfile)
    expect(known, "hardware", "a HardwareProfile, such as detect() gives", repr(hardware))
    place = Path(folder_or_file)
    read, unread = _read_folder(place) if os.path.isdir(place) else ({place: load(place)}, ())
    far = {path: _too_far(tuned, context, batch) for path, tuned in read.items()}
    near = [
        _Candidate(path, tuned, stale(tuned, model, hardware), _distance(tuned, context, batch))
        for path, tuned in read.items()
        if far[path] is None
    ]
    if not near:
        why = "; ".join([*(f"{path}: {reason}" for path, reason in far.items()), *unread])
        why = why or f"no {NAME} in it or in the folders below"
        raise NoTunedConfig(f"{place}: no tuned config for {context} tokens, batch {batch}: {why}")
    config, reason, warnings = _resolution(min(near, key=lambda found: found.rank), hardware, context, batch)
    return Resolution(config, reason, warnings + unread)


def _require_count(name: str, of: str, value: object) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    expect(whole, name, f"a whole number of {of}, at least 1", repr(value))


def _read_folder(folder: Path) -> tuple[dict[Path, TunedConfig], tuple[str, ...]]:
    """The tuned files of a folder, and why others that are there were not read."""
    found, unread = {}, []
    for path in sorted([*folder.glob(NAME), *folder.glob(f"*/{NAME}")]):
        try:
            if not path.resolve().is_relative_to(folder.resolve()):
                raise TunedFileError(f"{path}: leads out of the folder")
            found[path] = load(path)
        except TunedFileError as error:
            unread.append(f"not read: {error}")
    return found, tuple(unread)


def _resolution(chosen: _Candidate, hardware: HardwareProfile, context: int, batch: int) -> Resolution:
    config, changed = runnable(chosen.tuned.config, hardware)
    workload, size = chosen.tuned.workload, chosen.tuned.config.execution.batch_size
    made_for = f"{chosen.path}, tuned for {workload.context} tokens, batch {size}"
    asked = f"asked for {context}, batch {batch}"
    if chosen.stale or changed:
        warnings = chosen.stale + changed
        differing = ", ".join(warning.partition(":")[0] for warning in warnings)
        return Resolution(config, f"compatible: {made_for}, {asked}; stale: {differing}", warnings)
    kind = "nearest" if chosen.distance else "exact"
    return Resolution(config, f"{kind}: {made_for}" + (f", {asked}" if chosen.distance else ""), ())


def _too_far(tuned: TunedConfig, context: int, batch: int) -> str | None:
    match = tuned.match
    for name, theirs, ours, most in (
        ("context", tuned.workload.context, context, match.context_ratio),
        ("batch", tuned.config.execution.batch_size, batch, match.batch_ratio),
    ):
        if _ratio(theirs, ours) > most:
            return f"{name} {theirs} is more than {most:g}x away from {ours}"
    return None


def _distance(tuned: TunedConfig, context: int, batch: int) -> float:
    ratios = _ratio(tuned.workload.context, context), _ratio(tuned.config.execution.batch_size, batch)
    return sum(math.log(ratio) for ratio in ratios)


def _ratio(one: int, other: int) -> float:
    return max(one, other) / min(one, other)
