"""Files of measurements, `{environment, command, records}`, that a report is given beside its study."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from .record import RecordError, checked, clean, read_json, shown

Kind = TypeVar("Kind")
OTHERS = {  # files of ours without records, by keys that they have
    "a study": {"schema_version", "trials"},
    "tuned settings": {"schema_version", "config"},
    "a profile of a host": {"schema_version", "rates"},
    "a backtest": {"errors", "steps", "quantile"},
    "a grid": {"parts", "step_ms"},
}


@dataclass(frozen=True)
class Source:
    """Where rows came from: the file's name, the command that measures them again, the CPU and the GPU."""

    name: str
    command: str
    machine: str


@dataclass(frozen=True)
class Measured:
    """Rows of all files, each with its file's name under "file", and what the files say of themselves."""

    rows: tuple[dict, ...] = ()
    sources: tuple[Source, ...] = ()

    def machine(self, files: Iterable[str]) -> str:
        """The machines that these files are from, "" where none is told."""
        asked = set(files)
        return "; ".join(dict.fromkeys(s.machine for s in self.sources if s.name in asked and s.machine))

    def of(self, kind: type[Kind], *ops: str) -> list[Kind]:
        """The rows of these operations as `kind`, a dataclass whose fields are the record's own.

        Raises:
            RecordError: a field has another type; the message names the file, the row and the field.
        """
        found = [row for row in self.rows if row.get("op") in ops]
        return [kind(**_checked(kind, row, f"{row['file']}: records[{row['row']}]")) for row in found]


def load(paths: Iterable[Path]) -> Measured:
    """Reads files as `--json` of python -m truffle.bench writes them; raises RecordError naming the file.

    Other files of this project's are left out, which is said on stderr.
    """
    rows, sources = [], []
    for path in map(Path, paths):
        content = clean(read_json(path))
        records = content.get("records")
        if records is None and (kind := _other(content)):
            print(f"truffle.reports: {path} is {kind} and has no records: left out", file=sys.stderr)
            continue
        if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
            raise RecordError(f"{path}: records must be a list of objects, got {shown(records)}")
        rows += [record | {"file": path.name, "row": i} for i, record in enumerate(records)]
        sources.append(Source(path.name, str(content.get("command") or ""), _machine(content.get("environment"))))
    return Measured(tuple(rows), tuple(sources))


def _other(content: dict) -> str | None:
    return next((kind for kind, keys in OTHERS.items() if keys <= content.keys()), None)


def _checked(kind: Any, row: dict, where: str) -> dict:
    return {f.name: checked(row.get(f.name), f.type, f"{where}.{f.name}") for f in fields(kind)}


def _machine(environment) -> str:
    """CPU and cards in a few words, empty where the file does not tell."""
    around = environment if isinstance(environment, dict) else {}
    cpu, gpus = around.get("cpu"), around.get("gpus")
    found = [cpu] if isinstance(cpu, dict) else []
    words = [f"{part.get('model')}, {part.get('usable_cpus')} CPUs" for part in found]
    words += [str(gpu.get("name")) for gpu in gpus or [] if isinstance(gpu, dict)] if isinstance(gpus, list) else []
    return ", ".join(words)
