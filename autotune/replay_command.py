"""python -m autotune replay: judges the search on recorded grids."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from truffle.autotune import grid
from truffle.autotune.grid_space import GridSpace, space_of
from truffle.autotune.search_quality import Outcome, Truth, drawn_at_random, searched, summarised
from truffle.bench.records import write_records
from truffle.kernels.checks import expect

WAYS: dict[str, Callable[[GridSpace, Truth, int, int], Outcome]] = {"search": searched, "random": drawn_at_random}


def run(arguments: argparse.Namespace) -> int:
    """Search each grid `seeds` times in both ways, and print how near they came."""
    expect(arguments.seeds >= 1, "seeds", "at least 1", arguments.seeds)
    expect(0 < arguments.share <= 1, "share", "more than 0, and 1 at most", arguments.share)
    records = [record for path in arguments.files for record in judged(path, arguments.share, arguments.seeds)]
    Console(highlight=False).print(_table(records))
    if arguments.json:
        write_records(arguments.json, records, arguments.command_line)
    return 0


def judged(path: Path, share: float, seeds: int) -> list[dict[str, Any]]:
    """A record for each way of searching the grid."""
    found = grid.load(path)
    expect(not found.missing, str(path), "a grid that is recorded whole", f"{len(found.missing)} settings missing")
    space = space_of(found, path)
    truth, budget = Truth(space), max(1, int(share * len(found.settings)))
    common = {"grid": path.stem, "source": found.source, "settings": len(found.settings), "evaluations": budget,
              "seeds": seeds}  # fmt: skip
    return [
        {**common, "way": name, **summarised([way(space, truth, budget, seed) for seed in range(seeds)])}
        for name, way in WAYS.items()
    ]


def _table(records: list[dict[str, Any]]) -> Table:
    table = Table("grid", "evaluations", "way", "short of the best", "at worst", "within 3% after", "claimed - true",
                  "unconfirmed", box=None, pad_edge=False)  # fmt: skip
    for r in records:
        after = f"{r['near_after']:g} ({r['near']} of {r['seeds']})" if r["near_after"] else f"never ({r['near']})"
        of = f"{r['evaluations']} of {r['settings']}"
        shares = (f"{r[name]:.1%}" for name in ("regret", "worst_regret"))
        flattered = (f"{r[name]:+.1%}" for name in ("claimed", "searched"))
        table.add_row(r["grid"], of, r["way"], *shares, after, *flattered)
    return table
