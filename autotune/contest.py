"""Rounds in which points are measured in turn, until the fastest stands apart from the rest and from the default."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Any

from truffle.autotune.measuring import Bench, MeasureError, require_finite
from truffle.autotune.record import TrialRecord
from truffle.autotune.space import Space

LEAST_ROUNDS, MOST_ROUNDS = 3, 12
# Student's t, 97.5%, by degrees of freedom from 1 on (a contest has no more than MOST_ROUNDS - 1).
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201)


class Contest:
    """A contest of a few points.

    What is compared is the ratio of two points in the same round, so that a machine that slows down does so for both.
    """

    def __init__(self, bench: Bench, default: TrialRecord | None) -> None:
        self._bench, self._default = bench, default.number if default else None
        self._turns: dict[int, list[dict[str, Any]]] = {}
        self._failed: dict[int, str] = {}

    def run(self, chosen: Sequence[TrialRecord], space: Space, end: float) -> list[TrialRecord]:
        """The records as measured anew; rounds are made until `end` of the monotonic clock, three at least."""
        self._turns, live = {record.number: [] for record in chosen}, list(chosen)
        for made in range(1, MOST_ROUNDS + 1):
            for record in _rotated(live, made):
                self._take_turn(record, space)
            live = [record for record in live if record.number not in self._failed]
            if made >= LEAST_ROUNDS:
                live = self._still_in(live)
                if time.monotonic() >= end or self._settled(live):
                    break
        return [self._confirmed(record) for record in chosen]

    def _take_turn(self, record: TrialRecord, space: Space) -> None:
        turns = self._turns[record.number]
        try:
            found = self._bench.measure(space.config_of(record), "throughput", record.repeats + len(turns))
            turns.append(require_finite(found).figures)
        except MeasureError as error:
            self._failed[record.number] = str(error)

    def _rates(self, number: int) -> list[float]:
        return [turn["tokens_per_s"] for turn in self._turns[number]]

    def _still_in(self, live: list[TrialRecord]) -> list[TrialRecord]:
        """Without those that the leader is clearly ahead of; the default stays, to be compared with."""
        if not live:
            return live
        leader = self._leader(live)
        return [r for r in live if r.number == self._default or not self._ahead(leader.number, r.number)]

    def _settled(self, live: list[TrialRecord]) -> bool:
        """Whether one is left, or one and the default that it is clearly faster or slower than."""
        if len(live) <= 1:
            return True
        low, high = self.gain(live[0].number, live[1].number)
        return len(live) == 2 and self._default in [r.number for r in live] and not low <= 1 <= high

    def _leader(self, live: list[TrialRecord]) -> TrialRecord:
        return max(live, key=lambda record: mean(self._rates(record.number)))

    def _ahead(self, number: int, other: int) -> bool:
        return number != other and self.gain(number, other)[0] > 1

    def gain(self, number: int, other: int) -> tuple[float, float]:
        """95% interval of the ratio of two points' throughput, by the rounds that both were in."""
        pairs = zip(self._rates(number), self._rates(other), strict=False)
        low, high = interval([math.log(one / two) for one, two in pairs])
        return math.exp(low), math.exp(high)

    def _confirmed(self, record: TrialRecord) -> TrialRecord:
        if record.number in self._failed:
            because = f"failed when it was measured again: {self._failed[record.number]}"
            return record.updated(feasible=False, infeasible_because=because)
        turns = self._turns[record.number]
        timed = [name for name, value in turns[0].items() if isinstance(value, float)]
        figures: dict[str, Any] = {name: mean(turn[name] for turn in turns) for name in timed}
        low, high = interval(self._rates(record.number))
        if turns[0]["throughput_kind"] == "estimated":  # what a model is wrong by no repetition tells
            half = (figures["tokens_per_s_high"] - figures["tokens_per_s_low"]) / 2
            low, high = min(low, figures["tokens_per_s"] - half), max(high, figures["tokens_per_s"] + half)
        figures |= {"tokens_per_s_low": max(low, 0.0), "tokens_per_s_high": high}
        default = self._default
        if default is not None and default != record.number and self._turns.get(default):
            figures["gain_low"], figures["gain_high"] = self.gain(record.number, default)
        return record.updated(**figures, repeats=len(turns), confirmed=True)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95% interval of the mean; of one value, itself."""
    middle = mean(values)
    if len(values) == 1:
        return middle, middle
    half = STUDENT[min(len(values) - 1, len(STUDENT)) - 1] * stdev(values) / math.sqrt(len(values))
    return middle - half, middle + half


def _rotated(live: list[TrialRecord], by: int) -> list[TrialRecord]:
    """Another first each round, so that nobody always follows the same."""
    at = by % len(live) if live else 0
    return live[at:] + live[:at]
