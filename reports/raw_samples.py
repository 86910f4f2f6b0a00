"""The raw values of a study's measurements, a row a value."""

import json
from pathlib import Path
from typing import Any

from .record import Study


def raw_samples(folder: Path, study: Study) -> list[dict[str, Any]]:
    """Rows of folder/samples.jsonl, as they were taken; none where there is no such file.

    A row has the trial's number (none of exact ways) and label, the fidelity that was asked for, which measurement of
    it this was (`repeat`), the value's name, its place among those of one measurement (`index`) and itself.
    """
    path = folder / "samples.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    numbers = {trial.config: trial.number for trial in reversed(study.trials) if trial.config}
    return [row for line in lines if (kept := _read(line)) for row in _rows(kept, numbers.get(kept["config"]))]


def _read(line: str) -> dict[str, Any] | None:
    """What a line says; None of one that a killed writer left unfinished."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _rows(kept: dict[str, Any], trial: int | None) -> list[dict[str, Any]]:
    common = {"trial": trial, "label": kept["label"], "fidelity": kept["fidelity"], "repeat": kept["repeat"]}
    named = ((name, index, value) for name, values in kept["samples"].items() for index, value in enumerate(values))
    return [{**common, "name": name, "index": index, "value": value} for name, index, value in named]
