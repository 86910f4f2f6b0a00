"""Base against candidate: figures first, then a screening of all benchmarks, then a trial of those it did not clear."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from truffle.bench.regression.figures import Change, changes
from truffle.bench.regression.rounds import arms, ask_all, measure
from truffle.bench.regression.rule import Streams, Verdict, in_two_stages
from truffle.kernels.checks import expect

FAILED = {"slower", "worse", "gone", "redefined", "broken"}
UNCERTAIN = "uncertain"


@dataclass
class Row:
    """What was found of one benchmark.

    Attributes:
        status: one of FAILED, UNCERTAIN, or what passes: "same", "new", "mended", "retired".
        note: why, where neither figures nor times say it.
        changes: figures that are not what they were.
        time: what the times say, of all rounds of the last stage it was in.
        turns: those times in seconds (base, candidate, control), by round.
    """

    name: str
    status: str
    note: str = ""
    changes: list[Change] = field(default_factory=list)
    time: Verdict | None = None
    turns: list[Any] = field(default_factory=list)

    @property
    def base_us(self) -> float | None:
        """Median of base's turns."""
        return statistics.median(turn[0] for turns in self.turns for turn in turns) * 1e6 if self.turns else None


def compare(
    trees: Mapping[str, Path],
    kinds: Collection[str] | None,
    threshold: float,
    retired: Collection[str],
    say: Callable[[str], None],
) -> list[Row]:
    """One row a benchmark of the `kinds` (None: all), of either revision; those `retired` may be gone or redefined.

    Raises:
        ArgumentError: neither revision has a benchmark of a kind in `kinds`, or base none of a name in `retired`.
    """
    rows = {row.name: row for row in _figures(trees, kinds, retired, say)}
    _time(rows, trees, threshold, say)
    for row in rows.values():
        if any(change.worse for change in row.changes):
            row.status = "worse"
    return sorted(rows.values(), key=lambda row: row.name)


def exit_code(rows: Sequence[Row]) -> int:
    """0 no regression, 1 a regression, 3 too much noise to tell."""
    found = {row.status for row in rows}
    return 1 if found & FAILED else 3 if UNCERTAIN in found else 0


def _time(rows: dict[str, Row], trees: Mapping[str, Path], threshold: float, say: Callable[[str], None]) -> None:
    """Add what times say to the rows that are "same" by now."""
    broken: dict[str, dict[str, str]] = {}

    def measured(names: Sequence[str], rounds: int) -> Streams:
        times = measure(trees, names, rounds, say)
        broken.update(times.broken)
        return times.streams

    timed = [name for name, row in rows.items() if row.status == "same"]
    verdicts, streams = in_two_stages(timed, measured, threshold)
    for name, verdict in verdicts.items():
        rows[name].status, rows[name].time, rows[name].turns = verdict.call, verdict, [*streams[name]]
    for name, errors in broken.items():
        rows[name].status, rows[name].note = _breakage(errors)


def _figures(
    trees: Mapping[str, Path], kinds: Collection[str] | None, retired: Collection[str], say: Callable[[str], None]
) -> list[Row]:
    """Rows before anything is timed: "same" is what is to be timed."""
    say("figures that are the same at every run")
    with arms(trees) as running:
        known = {arm: _names(answer) for arm, answer in ask_all(running, do="names").items()}
        _check_retired(retired, known["base"])
        base, candidate = _of_kinds(kinds, known["base"], known["candidate"])
        rows = [_missing(name, retired, candidate, base) for name in base if name not in candidate]
        rows += [Row(name, "new", "base has none") for name in candidate if name not in base]
        for name in base:
            if name in candidate:
                rows.append(_row(name, ask_all(running, do="figures", name=name), retired))
    return rows


def _names(answer: dict[str, Any]) -> list[str]:
    if "error" in answer:
        raise RuntimeError(f"benchmarks cannot be listed: {answer['error']}")
    return answer["names"]


def _check_retired(retired: Collection[str], base: Collection[str]) -> None:
    for name in retired:
        expect(name in base, "retired", f"some of base's {', '.join(base)}", repr(name))


def _of_kinds(kinds: Collection[str] | None, *revisions: list[str]) -> tuple[list[str], ...]:
    """The names of each revision that are of the `kinds`: one that only a revision has may be asked for too."""
    if kinds is None:
        return revisions
    known = sorted({_kind(name) for names in revisions for name in names})
    for kind in kinds:
        expect(kind in known, "ops", f"some of {', '.join(known)}", repr(kind))
    return tuple([name for name in names if _kind(name) in kinds] for names in revisions)


def _kind(name: str) -> str:
    return name.partition("/")[0]


def _missing(name: str, retired: Collection[str], candidate: list[str], base: list[str]) -> Row:
    instead = [other for other in candidate if _kind(other) == _kind(name) and other not in base]
    note = f"renamed to {' or '.join(instead)}?" if instead else "the candidate has none"
    return Row(name, "retired" if name in retired else "gone", note)


def _row(name: str, answers: dict[str, dict[str, Any]], retired: Collection[str]) -> Row:
    errors = {arm: answer["error"] for arm, answer in answers.items() if "error" in answer}
    if errors:
        return Row(name, *_breakage(errors))
    if answers["base"]["workload"] != answers["candidate"]["workload"]:
        return Row(name, "retired" if name in retired else "redefined", "another workload than base's")
    return Row(name, "same", changes=changes(*(answers[arm]["figures"] for arm in ("base", "candidate", "control"))))


def _breakage(errors: Mapping[str, str]) -> tuple[str, str]:
    """Status and note: broken by the candidate, mended by it, or out of order in both."""
    note = "; ".join(f"in {arm}: {error}" for arm, error in errors.items() if arm != "control" or "base" not in errors)
    if "candidate" not in errors:
        return "mended", note
    return ("broken" if len(errors) == 1 else UNCERTAIN), note
