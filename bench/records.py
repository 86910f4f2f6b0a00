"""Files of measurements: `{environment, command, records: [...]}`, each record a flat dictionary."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from truffle.bench.environment import environment
from truffle.kernels.checks import ArgumentError, expect

if TYPE_CHECKING:
    import pandas

Value = str | int | float | bool | None


def write_records(path: str | Path, records: Iterable[Mapping[str, Value]], command: str) -> None:
    """Write records with this environment; the file is replaced whole or not at all.

    Args:
        records: flat: each value a string, a finite number, a bool or None.
        command: the command line that measures them again.

    Raises:
        ArgumentError: a value is something else; the message names the record and the key.
    """
    records = [dict(record) for record in records]
    for index, record in enumerate(records):
        for key, value in record.items():
            _check(f"records[{index}][{key!r}]", value)
    content = {"environment": environment(), "command": command, "records": records}
    write_atomically(Path(path), json.dumps(content, indent=1, allow_nan=False) + "\n")


def read_records(path: str | Path) -> pandas.DataFrame:
    """The records of a file, one a row; `environment` and `command` are in the frame's `attrs`.

    Raises:
        ArgumentError: the file is not one of records.
    """
    import pandas

    try:
        content = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ArgumentError(f"{path}: expected a JSON file of records, got {error}") from None
    found = sorted(content) if isinstance(content, dict) else type(content).__name__
    expect(found == ["command", "environment", "records"], str(path), "environment, command and records", found)
    frame = pandas.DataFrame(content["records"])
    frame.attrs = {"environment": content["environment"], "command": content["command"]}
    return frame


def write_atomically(path: Path, text: str) -> None:
    """Write beside `path` and rename, so that no reader ever sees half a file. Folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _check(where: str, value: Any) -> None:
    expect(isinstance(value, Value), where, "a string, number, bool or None", f"{type(value).__name__} {value!r}")
    expect(not isinstance(value, float) or math.isfinite(value), where, "a finite number", value)
