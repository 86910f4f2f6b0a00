"""Keeps the raw values that figures are made from, a line a measurement, as they are taken."""

from __future__ import annotations

import json
from pathlib import Path

from truffle.autotune.measuring import Bench, Fidelity, Measured
from truffle.autotune.record import describe
from truffle.model.config import DecodeConfig

SAMPLES = "samples.jsonl"


class Keeping:
    """A bench whose raw values are appended to a file.

    Args:
        path: of JSON Lines; a last line that a killed writer left unfinished is left alone.
    """

    def __init__(self, bench: Bench, path: Path) -> None:
        self._bench, self._path = bench, path
        self._begins_with = "\n" if _ends_within_a_line(path) else ""

    def measure(self, config: DecodeConfig, fidelity: Fidelity, repeat: int = 0) -> Measured:
        """See `measuring.Bench`."""
        found = self._bench.measure(config, fidelity, repeat)
        if found.samples:
            self._append(
                {"config": config.model_dump_json(), "label": describe(config)["label"], "fidelity": fidelity}
                | {"repeat": repeat, "samples": found.samples}
            )
        return found

    def _append(self, line: dict[str, object]) -> None:
        with self._path.open("a", encoding="utf-8") as out:
            out.write(f"{self._begins_with}{json.dumps(line)}\n")
        self._begins_with = ""


def _ends_within_a_line(path: Path) -> bool:
    return path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
