"""Reads and writes tuned files. What is read may come from anywhere, and nothing in it is believed unchecked."""

from __future__ import annotations

import json
import os
import stat
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from truffle.model.schema import one_line
from truffle.model.tuned_schema import SCHEMA_VERSION, TunedConfig

MOST_BYTES = 4 << 20
MOST_CHARACTERS = 400


class TunedFileError(ValueError):
    """A tuned file that cannot be read, with the reason in one line."""


def save(tuned: TunedConfig, path: Path) -> None:
    """Write atomically, so that a reader never sees half a file."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(tuned.model_dump_json(indent=2) + "\n")
    os.replace(temporary, path)


def load(path: Path | str) -> TunedConfig:
    """Read a tuned file.

    Raises:
        TunedFileError: not a file, too large, not JSON, another schema version, or an unknown or wrong key, by name.
    """
    try:
        return _parse(_read(Path(path)))
    except ValidationError as error:
        raise TunedFileError(f"{path}: {_shown(one_line(error))}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise TunedFileError(f"{path}: {_shown(str(error))}") from error


def _read(path: Path) -> str:
    if path.exists() and not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device might never end
        raise ValueError("expected a file")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"expected at most {MOST_BYTES} bytes")
    return content.decode("utf-8")


def _parse(content: str) -> TunedConfig:
    data = json.loads(content, parse_constant=_refuse_constant, object_pairs_hook=_object)
    version = data.get("schema_version") if isinstance(data, dict) else None
    if version != SCHEMA_VERSION:
        newer = isinstance(version, int) and version > SCHEMA_VERSION
        advice = ", which takes a newer truffle" if newer else ""
        raise ValueError(f"schema_version: expected {SCHEMA_VERSION}, got {version!r}{advice}")
    tuned = TunedConfig.model_validate(data)
    _require_as_written(data, tuned.model_dump(mode="json"), "")
    return tuned


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{twice}: is there more than once")
    return found


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _require_as_written(given: Any, taken: Any, where: str) -> None:
    """Raise where a value was taken for another, such as a text for the number in it, which not every reader does."""
    if isinstance(given, dict):
        for name, value in given.items():
            _require_as_written(value, taken[name], f"{where}.{name}" if where else name)
    elif isinstance(given, list):
        for index, (value, other) in enumerate(zip(given, taken, strict=True)):
            _require_as_written(value, other, f"{where}.{index}")
    elif given != taken or isinstance(given, bool) != isinstance(taken, bool):
        raise ValueError(f"{where}: expected {taken!r}, got {given!r}")


def _shown(message: str) -> str:
    """One line, printable and short, whatever the file holds."""
    line = "".join(letter if letter.isprintable() else " " for letter in message)
    return line if len(line) <= MOST_CHARACTERS else line[:MOST_CHARACTERS] + " ..."
