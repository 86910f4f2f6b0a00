"""What a point must keep to be recommended: limits on what was measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from truffle.autotune.record import TrialRecord
from truffle.bench.tasks.registry import TASKS
from truffle.kernels.checks import expect


@dataclass(frozen=True)
class Limits:
    """Each None, or empty, where there is none.

    Attributes:
        max_latency_ms: of a step, which gives every request of the batch a token.
        min_scores: 0 to 100, by task.
    """

    max_kl: float | None = None
    max_latency_ms: float | None = None
    min_scores: Mapping[str, float] = field(default_factory=dict)

    def with_kl(self, max_kl: float | None) -> Limits:
        """The same with another limit on KL."""
        return replace(self, max_kl=max_kl)

    def excess(self, record: TrialRecord) -> dict[str, float]:
        """By how much, of the limit, each limited figure that is known goes beyond it; 0 or less where it keeps it."""
        found = {}
        if self.max_kl is not None and record.kl is not None:
            found["kl"] = _over(record.kl, self.max_kl)
        if self.max_latency_ms is not None and record.step_ms is not None:
            found["latency"] = _over(record.step_ms, self.max_latency_ms)
        for task, score in _scores(record).items():
            found[task] = (self.min_scores[task] - score) / 100
        return found

    def broken(self, record: TrialRecord) -> str | None:
        """The first limit that the record does not keep, in words."""
        for name, over in self.excess(record).items():
            if over > 0:
                return self._words(name, record)
        if self.min_scores and record.scores is None and record.status == "complete":
            return f"{next(iter(self.min_scores))} was not asked: another point is no worse in KL and throughput"
        return None

    def _words(self, name: str, record: TrialRecord) -> str:
        if name == "kl":
            return f"KL {record.kl:.4f} is over the limit {self.max_kl:.4f}"
        if name == "latency":
            return f"{record.step_ms:.1f} ms a step is over the limit {self.max_latency_ms:g} ms"
        return f"{name} {_scores(record)[name]:.0f} is under the limit {self.min_scores[name]:g}"


def judge(record: TrialRecord, limits: Limits) -> TrialRecord:
    """The record with whether it may be recommended: it is complete, fits, and keeps the limits.

    As stored, `infeasible_because` speaks of memory only: the limit on KL may be learned after a trial.
    """
    if record.status != "complete" or record.kl is None:
        return record
    because = record.infeasible_because or limits.broken(record)
    return record.updated(feasible=because is None, infeasible_because=because)


def read_scores(given: list[str]) -> dict[str, float]:
    """The limits of options such as ``niah_single_1=90``.

    Raises:
        ArgumentError: it is none of the tasks, or no score.
    """
    found = {}
    for text in given:
        task, _, score = text.partition("=")
        expect(task in TASKS, "min_score", f"TASK=SCORE with one of {', '.join(TASKS)}", text)
        digits = score.replace(".", "", 1)
        is_score = digits.isascii() and digits.isdigit() and float(score) <= 100
        expect(is_score, "min_score", "a score of 0 to 100", text)
        found[task] = float(score)
    return found


def _over(value: float, limit: float) -> float:
    return value / limit - 1 if limit else value


def _scores(record: TrialRecord) -> dict[str, float]:
    return json.loads(record.scores) if record.scores else {}
