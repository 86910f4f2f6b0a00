"""What `python -m truffle.bench gate` does: is this revision slower, less accurate or hungrier than base?"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from pathlib import Path

from truffle.kernels.checks import expect


def add_gate_arguments(gate: argparse.ArgumentParser) -> None:
    gate.add_argument("--base", required=True, metavar="REV", help="revision to compare with")
    gate.add_argument("--candidate", metavar="REV", help="(the files as they are, new ones included)")
    gate.add_argument("--ops", type=_listed, metavar="OP[,OP]", help="operations, or decode for decode steps (all)")
    gate.add_argument("--threshold", default="10%", help="how much slower is too slow (%(default)s)")
    gate.add_argument(
        "--retired", type=_listed, default=(), metavar="NAME[,NAME]", help="benchmarks that may be gone or redefined"
    )
    gate.add_argument("--json", type=Path, metavar="FILE", help="write all that was found, each turn's times too")
    gate.add_argument("--markdown", type=Path, metavar="FILE", help="write a summary for a pull request")
    gate.set_defaults(run=run_gate)


def run_gate(a: argparse.Namespace) -> int:
    """Exit status: 0 no regression, 1 a regression, 3 inconclusive; wrong usage raises, for 2."""
    from truffle.bench.environment import environment
    from truffle.bench.records import write_atomically
    from truffle.bench.regression import comparison, summary, trees
    from truffle.bench.tables import show

    for argument in ("json", "markdown"):
        _check_output(argument, getattr(a, argument))
    threshold = share(a.threshold)
    base = trees.commit_of(a.base, "base")
    candidate = trees.commit_of(a.candidate, "candidate") if a.candidate else trees.working_tree()
    _say("building both revisions")
    with trees.built({"base": base, "candidate": candidate}) as built:
        rows = comparison.compare(built, a.ops, threshold, a.retired, _say)
    show(summary.table(rows))
    print(summary.headline(rows, threshold))
    head = {"base": base, "candidate": candidate, "threshold": threshold, "command": a.command_line}
    head["environment"] = environment()
    if a.json:
        write_atomically(a.json, json.dumps(summary.record(rows, head), indent=1, allow_nan=False) + "\n")
    if a.markdown:
        write_atomically(a.markdown, summary.markdown(rows, head))
    return comparison.exit_code(rows)


def share(text: str) -> float:
    """``10%`` or ``0.1``, above 0."""
    number = re.fullmatch(r"(\d*\.?\d+)(%?)", text.strip())
    found = float(number[1]) / (100 if number[2] else 1) if number else 0.0
    expect(0 < found <= 10, "threshold", "a share such as 10% or 0.1", repr(text))
    return found


def _listed(text: str) -> list[str]:
    return text.split(",")


def _check_output(argument: str, path: Path | None) -> None:
    """What takes minutes to find has to have a place to go."""
    if path:
        fits = os.access(path.parent, os.W_OK) and path.parent.is_dir() and not path.is_dir()
        expect(fits, argument, "a file in a folder that exists and can be written to", path)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)
