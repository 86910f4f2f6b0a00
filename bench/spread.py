"""Repeated measurements as three quantiles."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable

from truffle.kernels.hardware import Frozen


class Spread(Frozen):
    """20th, 50th and 80th percentile of `repeats` measurements, in the unit that the field's name states."""

    p20: float
    p50: float
    p80: float
    repeats: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The spread of at least two values."""
        values = list(values)
        p20, _, _, p80 = statistics.quantiles(values, n=5, method="inclusive")
        return cls(p20=p20, p50=statistics.median(values), p80=p80, repeats=len(values))

    @classmethod
    def rate(cls, amount: float, durations_s: Iterable[float]) -> Spread:
        """The spread of `amount` (bytes, operations) a second."""
        return cls.of(amount / duration for duration in durations_s)


def durations_s(
    run: Callable[[], object],
    seconds: float,
    repeats: int = 5,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Time calls of `run`, after an untimed one, for `seconds` and at least `repeats` times."""
    run()
    taken: list[float] = []
    end = clock() + seconds
    while len(taken) < repeats or clock() < end:
        start = clock()
        run()
        taken.append(clock() - start)
    return taken
