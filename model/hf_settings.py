"""Which settings a transformers model is decoded with, and what prompts they were tuned for."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from truffle.kernels import hardware
from truffle.kernels.checks import ArgumentError, expect
from truffle.model import tuned as tuned_files
from truffle.model.config import METHODS, DecodeConfig, LshParameters, ModelShape, one_line
from truffle.model.runnable import runnable
from truffle.model.stale import stale
from truffle.model.tuned import TunedConfig

NAME = "truffle"
MODEL = f'a model with attn_implementation="{NAME}"'


@dataclass(frozen=True)
class Settings:
    """What is decoded with.

    Attributes:
        tuned: the file it comes from, if any, and `source` its name.
    """

    config: DecodeConfig
    tuned: TunedConfig | None = None
    source: str = ""

    def warn_if_far(self, context: int, batch: int) -> None:
        """Warn where a prompt of `context` tokens, or `batch` of them, is not what the tuned file is for."""
        if self.tuned is None:
            return
        match, size = self.tuned.match, self.tuned.config.execution.batch_size
        for what, theirs, ours, most in (
            ("context", self.tuned.workload.context, context, match.context_ratio),
            ("batch", size, batch, match.batch_ratio),
        ):
            if max(theirs, ours) > most * min(theirs, ours):
                message = f"tuned for {what} {theirs} and good to {most:g} times more or less, here it is {ours}"
                warnings.warn(f"{self.source}: other {what}: {message}", stacklevel=2)


def settings_of(
    config: Any, shape: ModelShape, decode: DecodeConfig | Mapping[str, Any] | None, tuned: str | Path | None
) -> Settings:
    """`decode`, or the file `tuned`, or else the entry `truffle` of a transformers config, or the paper's default.

    Of what was written down, maybe for another machine, only what can run here is taken, with a warning. A tuned file
    that is named here is taken for every context; `tuned.resolve` finds the nearest.

    Raises:
        ArgumentError: a setting that there is not or that is out of range, by name.
        TunedFileError: the tuned file cannot be read.
    """
    expect(decode is None or tuned is None, "tuned", "None beside decode", tuned)
    if tuned is not None:
        file = tuned_files.load(Path(tuned))
        taken = _runnable(str(tuned), file.config, stale(file, shape, hardware.detect()))
        return Settings(taken, file, str(tuned))
    if decode is not None:
        return Settings(_checked("decode", decode))
    return Settings(written(config, "config.json") or DecodeConfig(parameters=LshParameters()))


def written(config: Any, file: str) -> DecodeConfig | None:
    """The entry `truffle` of a config of transformers, as far as it can run here; `file` is where that is saved.

    Raises:
        ArgumentError: a setting that there is not or that is out of range, by name.
    """
    entry, source = getattr(config, NAME, None), f"{NAME} in {file}"
    return None if entry is None else _runnable(source, _checked(source, entry))


def _checked(source: str, given: Any) -> DecodeConfig:
    hint = " (a tuned file is given as tuned=)" if isinstance(given, str | Path) else ""
    kinds = isinstance(given, DecodeConfig | Mapping)
    expect(kinds, source, "a DecodeConfig, or a mapping that says what one does", f"{given!r}{hint}")
    if isinstance(given, Mapping) and isinstance(given.get("parameters", {}), Mapping):
        expect("method" in given, f"{source}: method", f"one of {', '.join(METHODS)}", "none")
    try:
        return DecodeConfig.model_validate(given)
    except ValidationError as error:
        raise ArgumentError(f"{source}: {one_line(error)}") from error


def _runnable(source: str, given: DecodeConfig, differing: tuple[str, ...] = ()) -> DecodeConfig:
    config, changed = runnable(given, hardware.detect())
    for message in (*differing, *changed):
        warnings.warn(f"{source}: {message}", stacklevel=5)
    return config
