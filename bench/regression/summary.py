"""What a comparison is told as: a table on the terminal, a Markdown summary for a pull request, and JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.table import Table

from truffle.bench.regression.comparison import FAILED, Row, exit_code
from truffle.bench.regression.figures import told
from truffle.bench.regression.rounds import ARMS
from truffle.bench.tables import new_table

COLUMNS = ("benchmark", "verdict", "base", "candidate / base", "control / base", "rounds", "what changed")
MEANING = {0: "no regression", 1: "regression", 3: "inconclusive: too much noise"}


def table(rows: Sequence[Row]) -> Table:
    """One line a benchmark."""
    made = new_table(*COLUMNS)
    for row in rows:
        made.add_row(*_cells(row))
    return made


def headline(rows: Sequence[Row], threshold: float) -> str:
    """What was found, in a sentence."""
    found = ", ".join(f"{count} {status}" for status, count in Counter(row.status for row in rows).items())
    return f"{MEANING[exit_code(rows)]} at a threshold of {threshold:.3g} in time: {found}"


def markdown(rows: Sequence[Row], head: dict[str, Any]) -> str:
    """A summary for a pull request: what failed first, and what passed folded away."""
    passed = [row for row in rows if row.status == "same" and not row.changes]
    other = sorted((row for row in rows if row not in passed), key=lambda row: row.status not in FAILED)
    lines = [f"### Gate: {headline(rows, head['threshold'])}", ""]
    lines += [f"`{head['candidate']:.12}` against `{head['base']:.12}` on {head['environment']['cpu']['model']}.", ""]
    lines += _markdown_table(other) if other else []
    if passed:
        lines += ["", f"<details><summary>{len(passed)} passed</summary>", ""]
        lines += [*_markdown_table(passed), "", "</details>"]
    lines += ["", "Times are medians of rounds of fresh processes with their bounds; `control` is base against itself."]
    return "\n".join([*lines, f"`{head['command']}`", ""])


def record(rows: Sequence[Row], head: dict[str, Any]) -> dict[str, Any]:
    """All of it, each turn's times too, ready for JSON: a bound that is not known is null."""
    return {
        **head,
        "exit_code": exit_code(rows),
        "turn": list(ARMS),
        "benchmarks": [_finite(asdict(row) | {"base_us": row.base_us}) for row in rows],
    }


def _cells(row: Row) -> tuple[str, ...]:
    changed = "; ".join([*map(str, row.changes), *filter(None, [row.note])])
    if row.time is None or row.base_us is None:
        return row.name, row.status, "", "", "", "", changed
    time = row.time
    ratio = f"{time.ratio:.3f} ({_bounds(time.low, time.high)})"
    control = f"({_bounds(time.control_low, time.control_high)})"
    return row.name, row.status, f"{row.base_us:,.0f} us", ratio, control, told(time.rounds), changed


def _bounds(low: float, high: float) -> str:
    return f"{low:.2f} to {high:.2f}"


def _markdown_table(rows: Sequence[Row]) -> list[str]:
    cells = [COLUMNS, ("---",) * len(COLUMNS), *map(_cells, rows)]
    return ["| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in cells]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
