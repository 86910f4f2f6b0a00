"""Rounds in which points are measured in turn, until the fastest stands apart from the rest and from the default."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from statistics import mean, stdev
from typing import Any

from truffle.autotune.measuring import Bench, MeasureError, require_finite
from truffle.autotune.record import TrialRecord
from truffle.autotune.space import Space

LEAST_ROUNDS, MOST_ROUNDS = 3, 12
# Student's t, two-sided 99%, by degrees of freedom from 1 on. It is looked at after each round from the third on, and
# the contest may end at any: of 4,000 with equal points and 3% noise, 95% of the intervals held at their end, where
# those of the 95% quantiles did in 81%.
STUDENT = (63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169, 3.106)


class Contest:
    """A contest of a few points.

    What is compared is the ratio of two points in the same round, so that a machine that slows down does so for both.
    The default stays to the end, for all to be compared with; without one the first point does.

    Args:
        settled: whether rounds may end, by the records as they stand; by default, where one feasible point is left
            that is clearly faster or slower than the default.
    """

    def __init__(
        self,
        bench: Bench,
        default: TrialRecord | None,
        settled: Callable[[list[TrialRecord]], bool] | None = None,
    ) -> None:
        self._bench, self._default, self._asked = bench, default.number if default else None, settled
        self._turns: dict[int, list[dict[str, Any]]] = {}
        self._failed: dict[int, str] = {}
        self._behind: dict[int, int] = {}
        self._seconds: dict[int, float] = {}
        self._left_out: set[int] = set()

    def run(self, chosen: Sequence[TrialRecord], space: Space, end: float) -> list[TrialRecord]:
        """The records as measured anew; rounds are made until `end` of the monotonic clock, three at least.

        After the first, those stay that three rounds have time for, the fastest of them first, and one beside the
        default at least; the others' records come back as they were.
        """
        self._turns, live = {record.number: [] for record in chosen}, list(chosen)
        for made in range(1, MOST_ROUNDS + 1):
            for record in _rotated(live, made):
                self._take_turn(record, space)
            live = [record for record in live if record.number not in self._failed]
            live = self._affordable(live, end - time.monotonic()) if made == 1 else live
            if made >= LEAST_ROUNDS:
                live = self._still_in(live)
                if time.monotonic() >= end or self._settled(live):
                    break
        return [self._confirmed(record) for record in chosen]

    def _take_turn(self, record: TrialRecord, space: Space) -> None:
        turns, started = self._turns[record.number], time.monotonic()
        try:
            found = self._bench.measure(space.config_of(record), "throughput", record.repeats + len(turns))
            turns.append(require_finite(found).figures)
        except MeasureError as error:
            self._failed[record.number] = str(error)
        self._seconds[record.number] = time.monotonic() - started

    def _affordable(self, live: list[TrialRecord], seconds: float) -> list[TrialRecord]:
        """Those whose further turns of the least rounds take no more than that; the fastest and the default do."""
        racing = sorted((r for r in live if r.number != self._default), key=lambda r: -self.rates(r.number)[0])
        kept = {record.number for record in live} - {record.number for record in racing[1:]}
        left = seconds / (LEAST_ROUNDS - 1) - sum(self._seconds[number] for number in kept)
        for record in racing[1:]:
            left -= self._seconds[record.number]
            if left < 0:
                self._left_out |= {other.number for other in racing[1:]} - kept
                break
            kept.add(record.number)
        return [record for record in live if record.number in kept]

    def rates(self, number: int) -> list[float]:
        """Tokens a second of a point, by round."""
        return [turn["tokens_per_s"] for turn in self._turns[number]]

    def _still_in(self, live: list[TrialRecord]) -> list[TrialRecord]:
        """Without those that the leader is clearly ahead of, or a default that could be kept."""
        racing = [record for record in live if record.feasible and record.number != self._default]
        if not racing:
            return live
        reference = self._reference(live)
        leader = max(racing, key=lambda record: mean(self.ratios(record.number, reference)))
        ahead = [leader.number, *(r.number for r in live if r.number == self._default and r.feasible)]
        for number in (record.number for record in racing):
            by = next((other for other in ahead if other != number and self.gain(other, number)[0] > 1), None)
            if by is not None:
                self._behind[number] = by
        return [record for record in live if record.number not in self._behind]

    def _reference(self, live: list[TrialRecord]) -> int:
        numbers = [record.number for record in live]
        return next((number for number in numbers if number == self._default), numbers[0])

    def _settled(self, live: list[TrialRecord]) -> bool:
        if self._asked:
            return self._asked([self._confirmed(record) for record in live])
        racing = [record.number for record in live if record.number != self._default]
        if len(racing) == 1 and len(live) == 2 and self._default is not None:
            low, high = self.gain(racing[0], self._default)
            return not low <= 1 <= high
        return len(live) <= 1

    def ratios(self, number: int, other: int) -> list[float]:
        """Logarithms of the ratio of two points' throughput, by the rounds that both were in."""
        return [math.log(a / b) for a, b in zip(self.rates(number), self.rates(other), strict=False)]

    def gain(self, number: int, other: int) -> tuple[float, float]:
        """95% interval of the ratio of two points' throughput, by the rounds that both were in."""
        low, high = interval(self.ratios(number, other))
        return math.exp(low), math.exp(high)

    def _confirmed(self, record: TrialRecord) -> TrialRecord:
        number = record.number
        if number in self._left_out:
            return record
        if number in self._failed:
            because = f"failed when it was measured again: {self._failed[number]}"
            return record.updated(feasible=False, infeasible_because=because)
        turns = self._turns[number]
        timed = [name for name, value in turns[0].items() if isinstance(value, float)]
        figures: dict[str, Any] = {name: mean(turn[name] for turn in turns) for name in timed}
        low, high = interval(self.rates(number))
        if turns[0]["throughput_kind"] == "estimated":  # what a model is wrong by no repetition tells
            half = (figures["tokens_per_s_high"] - figures["tokens_per_s_low"]) / 2
            low, high = min(low, figures["tokens_per_s"] - half), max(high, figures["tokens_per_s"] + half)
        figures |= {"tokens_per_s_low": max(low, 0.0), "tokens_per_s_high": high, **self._beside_the_default(number)}
        return record.updated(**figures, repeats=len(turns), confirmed=True, behind=self._behind.get(number))

    def _beside_the_default(self, number: int) -> dict[str, float]:
        """The gain over a default that took its turns as well."""
        default = self._default
        if default is None or default == number or default in self._failed or not self._turns.get(default):
            return {}
        logs = self.ratios(number, default)
        if len(logs) < LEAST_ROUNDS:
            return {}
        low, high = self.gain(number, default)
        return {"gain": math.exp(mean(logs)), "gain_low": low, "gain_high": high}


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95% interval of the mean, whichever round it is looked at in; of one value, itself."""
    middle = mean(values)
    if len(values) == 1:
        return middle, middle
    half = STUDENT[min(len(values) - 1, len(STUDENT)) - 1] * stdev(values) / math.sqrt(len(values))
    return middle - half, middle + half


def _rotated(live: list[TrialRecord], by: int) -> list[TrialRecord]:
    """Another first each round, so that nobody always follows the same."""
    at = by % len(live) if live else 0
    return live[at:] + live[:at]
