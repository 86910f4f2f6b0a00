"""Measures a point from cheap to expensive, and stops where it is known that it cannot be recommended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from truffle.autotune.evaluate import accuracy_key
from truffle.autotune.limits import Limits
from truffle.autotune.measuring import ACCURACY_FIGURES, Bench, Fidelity, require_finite
from truffle.autotune.record import TrialRecord
from truffle.model.config import DecodeConfig

LEAST_POINTS, SAFETY = 4, 0.5


class RuledOut(Exception):
    """A point that is not measured to the end.

    Attributes:
        record: what is known of it.
        excess: by how much, of the limit, it goes beyond each, by name.
    """

    def __init__(self, record: TrialRecord, reason: str, excess: dict[str, float]) -> None:
        super().__init__(reason)
        self.record, self.excess = record, excess


@dataclass(frozen=True)
class Ladder:
    """One point's way up.

    Attributes:
        others: records of the study, judged.
        whole: whether it is measured to the end whatever is found.
        timed: whether throughput is measured too.
    """

    bench: Bench
    limits: Limits
    others: Sequence[TrialRecord]
    whole: bool
    timed: bool = True

    def climb(self, config: DecodeConfig, record: TrialRecord) -> TrialRecord:
        """The record with all its figures.

        Raises:
            RuledOut: it cannot keep a limit.
            MeasureError: it cannot be measured.
        """
        key = accuracy_key(config)
        same = next((other for other in self.others if other.status == "complete" and _key(other) == key), None)
        if same is None:
            record = self._foretold(self._measured(config, record, "statistics"), "screen_error")
        if self.timed:
            record = self._kept(self._measured(config, record, "throughput"))
        if same is None:
            record = self._foretold(self._measured(config, record, "output_error"), "output_error")
            record = self._measured(config, record, "kl")
        else:
            record = record.updated(**{name: getattr(same, name) for name in ACCURACY_FIGURES})
        return self._asked_tasks(config, record)

    def _measured(self, config: DecodeConfig, record: TrialRecord, fidelity: Fidelity) -> TrialRecord:
        return record.updated(**require_finite(self.bench.measure(config, fidelity)).figures)

    def _kept(self, record: TrialRecord) -> TrialRecord:
        excess, broken = self.limits.excess(record), self.limits.broken(record)
        if broken and not self.whole:
            raise RuledOut(record, broken, excess)
        return record

    def _foretold(self, record: TrialRecord, name: str) -> TrialRecord:
        """The record, if the KL that its error leads to may keep the limit."""
        found = least_kl(name, getattr(record, name), self.others)
        if self.whole or found is None or self.limits.max_kl is None or found[0] <= self.limits.max_kl:
            return record
        kl, points = found
        reason = (
            f"an output error of {getattr(record, name):.3f} leads to a KL of {kl:.4f} at least, by {points} points"
        )
        raise RuledOut(
            record, f"{reason}; the limit is {self.limits.max_kl:.4f}", self.limits.excess(record.updated(kl=kl))
        )

    def _asked_tasks(self, config: DecodeConfig, record: TrialRecord) -> TrialRecord:
        """Tasks take longest: only a point that keeps the other limits, and may be on the front, is asked."""
        keeps = record.infeasible_because is None and not any(over > 0 for over in self.limits.excess(record).values())
        if not self.limits.min_scores or record.scores or not keeps or any(_no_worse(o, record) for o in self.others):
            return record
        return self._measured(config, record, "tasks")


def least_kl(name: str, error: float | None, others: Sequence[TrialRecord]) -> tuple[float, int] | None:
    """A KL that a point of this error hardly goes below, and by how many points that is known; None where by few.

    To first order logits move with the outputs, and KL with the square of that: a half of the least KL over squared
    error that other points had.
    """
    known = {_key(other): other for other in others if other.status == "complete" and getattr(other, name)}
    ratios = [other.kl / getattr(other, name) ** 2 for other in known.values() if other.kl]
    if error is None or len(ratios) < LEAST_POINTS:
        return None
    return SAFETY * min(ratios) * error**2, len(ratios)


def _key(record: TrialRecord) -> str:
    return accuracy_key(DecodeConfig.model_validate_json(record.config)) if record.config else ""


def _no_worse(other: TrialRecord, record: TrialRecord) -> bool:
    if not other.feasible or other.kl is None or record.kl is None:
        return False
    return other.kl <= record.kl and other.merit >= record.merit
