"""What the host's kernels take at work that was not timed, from a calibration's times at work that was.

A kernel's time at a thread count is a latency and a cost for each kind of work that it does (host_work.py), none of
them negative: the ones nearest to the times there are, each error taken in proportion. Between thread counts times lie
on a line over the logarithm of the count; more threads than were measured are no better than the most. Threads that
spin save a call what waking them takes, whatever it does.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from truffle.bench.host_work import Work
from truffle.bench.kernel_rates import KernelTime
from truffle.kernels.checks import expect
from truffle.model.config import FUSED, SEPARATE

LATENCY = "latency"


class HostKernels:
    """Times of one host's kernels, by what they are asked to do.

    Args:
        times: of a calibration; those with the instruction set that is measured at every thread count make the lines,
            the others tell how much slower theirs is.
        quantile: of the times: the median, or the fifth that other work has disturbed least.
    """

    def __init__(self, times: Sequence[KernelTime], quantile: str = "p50") -> None:
        expect(len(times) > 0, "host", "a calibration with times of kernels", "one without: calibrate the host anew")
        self.threads = tuple(sorted({made.threads for made in times}))
        self._widest = next(made.isa for made in times if made.threads == self.threads[0])
        self._times, self._quantile = times, quantile
        self._lines: dict[tuple[str, int, str], dict[str, float]] = {}

    def seconds(
        self,
        op: str,
        work: Work,
        threads: int,
        isa: str = "auto",
        store_format: str = "bfloat16",
        wait_policy: str = "park",
    ) -> float:
        """Seconds of a call.

        Raises:
            ArgumentError: the calibration has no times of that operation.
        """
        if wait_policy != "park":
            parked = self.seconds(op, work, threads, isa, store_format)
            return max(parked - self._waking(op, threads, store_format, wait_policy), 0.0)
        if op == FUSED:
            find, attend = SEPARATE
            parts = self.seconds(find, work, threads, isa) + self.seconds(attend, work, threads, isa, store_format)
            return self._fusing(threads) * parts
        below = max((count for count in self.threads if count <= threads), default=self.threads[0])
        above = min((count for count in self.threads if count >= threads), default=self.threads[-1])
        low, high = (self._at(op, work, count, store_format) for count in (below, above))
        between = math.log(max(threads, 1) / below) / math.log(above / below) if above > below else 0.0
        return math.exp((1 - between) * math.log(low) + between * math.log(high)) * self._slower(op, isa, store_format)

    def _at(self, op: str, work: Work, threads: int, store_format: str) -> float:
        key = op, threads, store_format
        if key not in self._lines:
            self._lines[key] = self._fitted(op, threads, store_format)
        line = self._lines[key]
        return line[LATENCY] + sum(cost * work.get(kind, 0.0) for kind, cost in line.items() if kind != LATENCY)

    def _fitted(self, op: str, threads: int, store_format: str) -> dict[str, float]:
        """Latency, and cost by kind of work."""
        times = self._select(op, threads, self._widest, store_format)
        expect(len(times) > 0, "host", f"a calibration with times of {op}", "one without: calibrate the host anew")
        kinds = [*times[0].work, LATENCY]  # of one time alone, a cost is made rather than a latency
        seconds = np.array([self._of(made) for made in times])
        amounts = np.array([[*(made.work[kind] for kind in kinds[:-1]), 1.0] for made in times])
        return dict(zip(kinds, _non_negative(amounts / seconds[:, None]), strict=True))

    def _of(self, made: KernelTime) -> float:
        return getattr(made.seconds, self._quantile)

    def _fusing(self, threads: int) -> float:
        """Time of the fused kernel over that of its parts, at the measured thread count that is nearest."""
        near = self._nearest(threads)
        finds, attends, fused = (self._select(op, near, self._widest, "bfloat16") for op in (*SEPARATE, FUSED))
        ratios = [
            self._of(both) / (self._of(find) + self._of(attend))
            for both in fused for find in finds for attend in attends
            if both.work == find.work | attend.work
        ]  # fmt: skip
        return float(np.median(ratios)) if ratios else 1.0

    def _waking(self, op: str, threads: int, store_format: str, wait_policy: str) -> float:
        """Seconds that a call with parked threads takes over one whose threads wait otherwise; 0 if not timed."""
        near = self._nearest(threads)
        parked, other = (self._select(op, near, self._widest, store_format, policy) for policy in ("park", wait_policy))
        saved = [self._of(a) - self._of(b) for a in parked for b in other if a.work == b.work]
        return max(float(np.median(saved)), 0.0) if saved else 0.0

    def _nearest(self, threads: int) -> int:
        return min(self.threads, key=lambda count: abs(math.log(count / max(threads, 1))))

    def _select(
        self, op: str, threads: int, isa: str, store_format: str, wait_policy: str = "park"
    ) -> list[KernelTime]:
        wanted = op, threads, isa, store_format, wait_policy
        return [
            made for made in self._times
            if (made.op, made.threads, made.isa, made.store_format, made.wait_policy) == wanted
        ]  # fmt: skip

    def _slower(self, op: str, isa: str, store_format: str) -> float:
        """Time with an instruction set over that with the widest, at the most threads; 1 where it was not timed."""
        ratios = [
            self._of(other) / self._of(best)
            for other in self._select(op, self.threads[-1], isa, store_format)
            for best in self._select(op, self.threads[-1], self._widest, store_format)
            if isa != self._widest and other.work == best.work
        ]
        return float(np.median(ratios)) if ratios else 1.0


def _non_negative(relative: np.ndarray) -> list[float]:
    """x >= 0 that takes `relative` @ x nearest to ones: of all ways to leave costs out the best, as there are few."""
    columns = relative.shape[1]
    scale = np.where(relative.max(axis=0) > 0, relative.max(axis=0), 1.0)
    best, least = [0.0] * columns, math.inf
    subsets = itertools.chain.from_iterable(itertools.combinations(range(columns), k) for k in range(1, columns + 1))
    for chosen in map(list, subsets):
        if len(chosen) > len(relative):
            continue
        found, *_ = np.linalg.lstsq(relative[:, chosen] / scale[chosen], np.ones(len(relative)), rcond=None)
        error = float(np.square(relative[:, chosen] @ (found / scale[chosen]) - 1).sum())
        if (found >= 0).all() and error < least - 1e-12:
            best, least = [0.0] * columns, error
            for column, value in zip(chosen, found / scale[chosen], strict=True):
                best[column] = float(value)
    return best
