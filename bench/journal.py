"""Records that are kept one by one as they are measured, so that what was interrupted goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from truffle.bench.records import Value, write_atomically
from truffle.kernels.checks import ArgumentError

Record = dict[str, Value]


class Journal:
    """Records by their settings, a line each in a file, or in memory only.

    Args:
        path: made with the first record; a last line that was cut off is dropped.
        settings: names of what tells records apart.

    Raises:
        ArgumentError: the file holds something else.
    """

    def __init__(self, path: Path | None, settings: tuple[str, ...]) -> None:
        self._path, self._settings = path, settings
        self._found = {self._key(record): record for record in (_read(path) if path and path.exists() else [])}

    def find(self, settings: Mapping[str, Value]) -> Record | None:
        """The record with these settings, if there is one."""
        return self._found.get(self._key(settings))

    def add(self, record: Record) -> None:
        """Keep a record."""
        self._found[self._key(record)] = record
        if self._path:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps(record, allow_nan=False) + "\n")

    def _key(self, record: Mapping[str, Value]) -> tuple[Value, ...]:
        return tuple(record.get(name) for name in self._settings)


def _read(path: Path) -> list[Record]:
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    try:
        records = [json.loads(line) for line in whole.splitlines()]
    except ValueError as error:
        raise ArgumentError(f"{path}: expected a record a line, got {error}") from None
    if not all(isinstance(record, dict) for record in records):
        raise ArgumentError(f"{path}: expected a record a line, got something else")
    if whole != text:
        write_atomically(path, whole)
    return records
