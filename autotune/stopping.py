"""When a search ends, and what ends it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import takewhile

from truffle.autotune.record import TrialRecord

NOTHING_NEW_IN_A_ROW, FAILED_IN_A_ROW, STILL_IN_A_ROW = 200, 5, 24
MOVED = 0.01
TRIALS, TIMEOUT, EXHAUSTED, FAILURES, STILL = (
    "trials", "timeout", "space exhausted", "failures", "the front no longer moves",
)  # fmt: skip


class Stopping:
    """Budgets and what makes more trials pointless.

    Args:
        trials: finished trials in total.
        timeout_s: seconds from now.
        first: trials before this number are of earlier runs, and say nothing of whether this one gets on.
    """

    def __init__(self, trials: int, timeout_s: float, first: int = 0) -> None:
        self._trials, self._end, self._first = trials, time.monotonic() + timeout_s, first

    def reason(self, records: Sequence[TrialRecord]) -> str | None:
        """Why to stop after these, judged, by number; None to go on."""
        if sum(record.status == "complete" for record in records) >= self._trials:
            return TRIALS
        if time.monotonic() >= self._end:
            return TIMEOUT
        latest = [record for record in reversed(records) if record.number >= self._first]
        if len(list(takewhile(lambda r: r.status in ("pruned", "repeat"), latest))) >= NOTHING_NEW_IN_A_ROW:
            return EXHAUSTED
        if len(list(takewhile(lambda r: r.status == "failed", latest))) >= FAILED_IN_A_ROW:
            return FAILURES
        return STILL if trials_since_move(records, self._first) >= STILL_IN_A_ROW else None


def trials_since_move(records: Sequence[TrialRecord], first: int) -> int:
    """Trials that the sampler chose and that finished, or were given up for what was measured, since one moved the
    front of feasible points: 1% more throughput at no more KL than another, or 1% less KL at no less throughput."""
    front: list[TrialRecord] = []
    since = 0
    for record in records:
        if record.feasible and not any(_near(known, record) for known in front):
            front.append(record)
            since = 0
        elif record.number >= first and record.origin == "search" and _was_measured(record):
            since += 1
    return since


def _was_measured(record: TrialRecord) -> bool:
    return record.status in ("complete", "repeat") or (record.status == "pruned" and record.screen_error is not None)


def _near(known: TrialRecord, record: TrialRecord) -> bool:
    """Whether a point is at most a little worse in both than what is known."""
    more = known.merit >= record.merit - MOVED * abs(record.merit)
    return more and (known.kl or 0.0) <= (record.kl or 0.0) * (1 + MOVED)
